"""The cache as a library: row keys, hits by tier, memory for each row, eviction rules."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import random
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfx_encore.cache.answers import decode_answer, decode_batch, encode_answer
from tfx_encore.cache.entry import Entry
from tfx_encore.cache.inference_cache import InferenceCache
from tfx_encore.cache.keys import KeyMaker
from tfx_encore.cache.lmdb_store import LmdbStore
from tfx_encore.cache.memory_store import MemoryStore
from tfx_encore.cache.row_request import Computed, RowRequest
from tfx_encore.cache.rows import Cell, cell, encode_row
from tfx_encore.cache.trace_replay import choose

MODEL_SECONDS = 300e-6
FINGERPRINT = "sha256:" + "ab" * 32
COMPANIES = ["Flash Cab", "Taxi Affiliation Services", "Blue Ribbon Taxi Association Inc.", ""]


def taxi_row(rng: random.Random) -> dict[str, Cell]:
    """A row of the Chicago Taxi example: 17 features, as a Predict request has them."""
    floats = ("trip_miles", "fare", "trip_seconds", "pickup_latitude", "pickup_longitude")
    floats += ("dropoff_latitude", "dropoff_longitude")
    ints = ("trip_start_hour", "trip_start_day", "trip_start_month", "pickup_community_area")
    ints += ("dropoff_community_area", "pickup_census_tract", "dropoff_census_tract")
    ints += ("trip_start_timestamp",)
    row = {name: cell(np.float32([rng.random() * 100])) for name in floats}
    row |= {name: cell(np.int64([rng.randint(0, 2**31)])) for name in ints}
    row["company"] = cell([rng.choice(COMPANIES)])
    row["payment_type"] = cell([rng.choice(["Cash", "Credit Card"])])
    return row


def entries_of(count: int) -> list[Entry]:
    rng, maker = random.Random(1), KeyMaker(FINGERPRINT, "serving_default")
    made = []
    for _ in range(count):
        row = encode_row(taxi_row(rng))
        answer = encode_answer({"outputs": cell(np.float32([rng.random()]))})
        times = (1e9 + rng.random(), 9e9 + rng.random(), 50 * rng.random())
        made.append(Entry(maker.key(row), row, answer, FINGERPRINT, "answer", 0, *times))
    return made


def microseconds(work: Callable[[], Any], calls: int, repeats: int) -> float:
    """Median over repeats of the time of one of the calls that `work` makes."""
    times = []
    for _ in range(repeats):
        begun = time.thread_time()
        work()
        times.append((time.thread_time() - begun) / calls * 1e6)
    return statistics.median(times)


def key_row(repeats: int) -> dict[str, Any]:
    rng = random.Random(2)
    rows = [taxi_row(rng) | {f"more_{n}": cell(n) for n in range(3)} for _ in range(500)]
    maker = KeyMaker(FINGERPRINT, "serving_default")
    took = microseconds(lambda: [maker.key(encode_row(row)) for row in rows], 500, repeats)
    return {"what": "row key of 20 features, from its cells", "us": took, "bound us": 10}


def decoding(entries: Sequence[Entry], repeats: int) -> list[dict[str, Any]]:
    answers = [entry.answer for entry in entries[:1000]]
    batches = [answers[at : at + 100] for at in range(0, len(answers), 100)]
    took = {
        "an answer of one float, as cells": (lambda: [decode_answer(a) for a in answers], 1000),
        "an answer of one float, as an array": (
            lambda: [decode_batch([a]) for a in answers],
            1000,
        ),
        "100 such answers, as an array": (lambda: [decode_batch(b) for b in batches], 10),
    }
    return [
        {"what": f"reading {what}", "us": microseconds(work, calls, repeats)}
        for what, (work, calls) in took.items()
    ]


def hits(name: str, store: Any, entries: Sequence[Entry], bound: float, repeats: int) -> list[Any]:
    for entry in entries:
        store.put(entry)
    if hasattr(store, "flush"):
        store.flush()
    entries = random.Random(3).sample(entries, len(entries))
    keys = [entry.key for entry in entries]
    get = store.get
    took = microseconds(lambda: [get(key) for key in keys], len(keys), repeats)
    cache = InferenceCache("taxi", [store])
    found = statistics.median(finding(cache, entries) for _ in range(repeats))
    return [
        {"what": f"{name}: get from the store", "us": took, "bound us": bound},
        {"what": f"{name}: find, with every check", "us": found, "bound us": bound},
    ]


def finding(cache: InferenceCache, entries: Sequence[Entry]) -> float:
    """Microseconds of a `find`; the request was made just before, as the gateway makes it."""
    seconds, find = 0.0, cache.find
    for at in range(0, len(entries), 50):
        requests = [
            RowRequest(bytes(bytearray(e.key)), bytes(bytearray(e.row)), e.fingerprint, "s")
            for e in entries[at : at + 50]
        ]
        begun = time.thread_time()
        answers = [find(request) for request in requests]
        seconds += time.thread_time() - begun
        assert None not in answers
    return seconds / len(entries) * 1e6


def misses(entries: Sequence[Entry], repeats: int) -> list[dict[str, Any]]:
    """What the cache adds to misses, beside a model that is awaited and takes a fixed time."""
    requests = [RowRequest(e.key, e.row, e.fingerprint, "serving_default") for e in entries[:1000]]

    async def at_once(rows: Sequence[RowRequest]) -> list[Computed]:
        return [Computed(b"x" * 40, row.fingerprint) for row in rows]

    async def slowly(rows: Sequence[RowRequest]) -> list[Computed]:
        end = time.thread_time() + MODEL_SECONDS
        await asyncio.sleep(0)  # as a batch is waited for
        while time.thread_time() < end:
            pass
        return await at_once(rows)

    async def with_cache(compute: Any, rows: int) -> None:
        cache = InferenceCache("taxi", [MemoryStore(2**26)])
        for at in range(0, len(requests), rows):
            await cache.get_or_compute(requests[at : at + rows], compute)

    async def alone(compute: Any) -> None:
        for request in requests:
            await compute([request])

    made = []
    for name, loop in event_loops():

        def timed(work: Callable[[], Any], calls: int, loop: Any = loop) -> float:
            return microseconds(lambda: loop(work()), calls, repeats)

        model, calls = timed(lambda: alone(at_once), 1000), len(requests)
        one = timed(lambda: with_cache(at_once, 1), calls) - model
        many = timed(lambda: with_cache(at_once, 100), calls // 100) - model
        ratio = timed(lambda: with_cache(slowly, 1), calls) / timed(lambda: alone(slowly), calls)
        made += [
            {"what": f"miss of one row, {name}: what the cache adds", "us": one},
            {"what": f"miss of 100 rows, {name}: what the cache adds", "us": many},
            {
                "what": f"miss, {name}: with the cache / a model of 300 us alone",
                "ratio": ratio,
                "bound ratio": 1.05,
            },
        ]
    return made


def event_loops() -> list[tuple[str, Callable[[Any], Any]]]:
    """Asyncio's own loop, and the gateway's where it is installed."""
    found: list[tuple[str, Callable[[Any], Any]]] = [("asyncio", asyncio.run)]
    with contextlib.suppress(ImportError):
        import uvloop

        found.append(("uvloop", uvloop.run))
    return found


def bytes_of(make: Callable[[], Any], entries: int) -> float:
    """Bytes that a row really takes in memory, containers included."""
    gc.collect()
    tracemalloc.start()
    try:
        store = make()
        for entry in entries_of(entries):
            store.put(entry)
        del entry
        gc.collect()
        return tracemalloc.get_traced_memory()[0] / len(store)
    finally:
        tracemalloc.stop()


def memory(count: int, folder: Path) -> list[dict[str, Any]]:
    entries = entries_of(1)
    rows = [{"what": "taxi row: key, row and answer alone", "bytes": float(entries[0].size)}]
    for eviction in ("s3fifo", "lru"):
        for packed in (False, True):
            took = bytes_of(
                lambda e=eviction, p=packed: MemoryStore(2**32, eviction=e, packed=p), count
            )
            name = f"memory, {eviction}{', packed' if packed else ''}"
            rows.append({"what": f"{name}: a taxi row with all overhead", "bytes": took})
    store = LmdbStore(folder / "bytes", 2**28)
    for at, entry in enumerate(entries_of(count)):
        store.put(entry)
        if at % 1000 == 0:
            store.flush()
    store.flush()
    rows.append({"what": "LMDB: a taxi row, pages of the file", "bytes": store.bytes_used / count})
    store.close()
    return rows


def replayed(length: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(4)
    weights = 1 / np.arange(1, 100_001) ** 0.9
    rows = []
    for name, scans in (("Zipf 0.9", 0.0), ("Zipf 0.9, 30% seen once", 0.3)):
        picks = rng.choice(100_000, size=length, p=weights / weights.sum())
        once = rng.random(length) < scans
        trace = [
            ((1 << 40 | at if single else int(pick)).to_bytes(8, "big"), 900)
            for at, (pick, single) in enumerate(zip(picks, once, strict=True))
        ]
        rows += [
            {"what": f"{name}, room for 10%: {result.rule}", "hit rate": result.hit_rate}
            for result in choose(trace, 10_000 * 900)
        ]
    return rows


def run(quick: bool) -> dict[str, Any]:
    """Measures everything; about 40 s, 5 s if quick."""
    count, repeats = (2_000, 5) if quick else (20_000, 15)
    entries = entries_of(count)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lmdb = LmdbStore(folder / "hits", 2**28)
        rows = [
            key_row(repeats),
            *decoding(entries, repeats),
            *hits("memory", MemoryStore(2**30), entries, 2, repeats),
            *hits("memory, packed", MemoryStore(2**30, packed=True), entries, 2, repeats),
            *hits("LMDB", lmdb, entries[:4000], 10, repeats),
            *misses(entries, repeats),
            *memory(count, folder),
            *replayed(50_000 if quick else 400_000),
        ]
        lmdb.close()
    return {
        "title": "Cache: keys, hits, memory",
        "rows": rows,
        "notes": [
            "Times are the processor's: medians over repeats of the mean over all rows.",
            "Hits come in random order: the entry is seldom in the processor's cache, the row is.",
            "A miss: what `get_or_compute` takes beyond awaiting the same model by itself.",
            "Bytes in memory are what tracemalloc counts for the store and its entries.",
            "`find` checks key, row, fingerprint, expiry and withdrawal, and tells the observer.",
        ],
    }


if __name__ == "__main__":
    print(json.dumps(run(quick=False), indent=1))
