"""The cache as a library: row keys, hits by tier, memory for each row, eviction rules."""

from __future__ import annotations

import asyncio
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

from tfx_encore.cache.answers import encode_answer
from tfx_encore.cache.entry import Entry
from tfx_encore.cache.inference_cache import InferenceCache
from tfx_encore.cache.keys import KeyMaker
from tfx_encore.cache.lmdb_store import LmdbStore
from tfx_encore.cache.memory_store import MemoryStore
from tfx_encore.cache.row_request import Computed, RowRequest
from tfx_encore.cache.rows import Cell, cell, encode_row
from tfx_encore.cache.trace_replay import choose

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
        begun = time.perf_counter()
        work()
        times.append((time.perf_counter() - begun) / calls * 1e6)
    return statistics.median(times)


def key_row(repeats: int) -> dict[str, Any]:
    rng = random.Random(2)
    rows = [taxi_row(rng) | {f"more_{n}": cell(n) for n in range(3)} for _ in range(500)]
    maker = KeyMaker(FINGERPRINT, "serving_default")
    took = microseconds(lambda: [maker.key(encode_row(row)) for row in rows], 500, repeats)
    return {"what": "row key of 20 features, from its cells", "us": took, "bound us": 10}


def hits(name: str, store: Any, entries: Sequence[Entry], bound: float, repeats: int) -> list[Any]:
    for entry in entries:
        store.put(entry)
    if hasattr(store, "flush"):
        store.flush()
    keys = [entry.key for entry in entries]
    random.Random(3).shuffle(keys)
    get = store.get
    took = microseconds(lambda: [get(key) for key in keys], len(keys), repeats)
    cache = InferenceCache("taxi", [store])
    requests = [RowRequest(e.key, e.row, e.fingerprint, "serving_default") for e in entries]
    found = microseconds(
        lambda: [cache.find(request) for request in requests], len(requests), repeats
    )
    assert all(cache.find(request) for request in requests[:10])
    return [
        {"what": f"{name}: get from the store", "us": took, "bound us": bound},
        {"what": f"{name}: find, with every check", "us": found},
    ]


def added_to_a_miss(entries: Sequence[Entry], repeats: int) -> dict[str, Any]:
    requests = [RowRequest(e.key, e.row, e.fingerprint, "serving_default") for e in entries[:500]]

    async def compute(rows: Sequence[RowRequest]) -> list[Computed]:
        return [Computed(b"x" * 40, row.fingerprint) for row in rows]

    async def misses() -> None:
        cache = InferenceCache("taxi", [MemoryStore(2**26)])
        for request in requests:
            await cache.get_or_compute([request], compute)

    took = microseconds(lambda: asyncio.run(misses()), len(requests), repeats)
    return {"what": "miss of one row: all that the cache adds", "us": took}


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
            *hits("memory", MemoryStore(2**30), entries, 2, repeats),
            *hits("memory, packed", MemoryStore(2**30, packed=True), entries, 2, repeats),
            *hits("LMDB", lmdb, entries[:4000], 10, repeats),
            added_to_a_miss(entries, repeats),
            *memory(count, folder),
            *replayed(50_000 if quick else 400_000),
        ]
        lmdb.close()
    return {
        "title": "Cache: keys, hits, memory",
        "rows": rows,
        "notes": [
            "Times are medians over repeats of the mean over all rows, keys in random order.",
            "Bytes in memory are what tracemalloc counts for the store and its entries.",
            "`find` checks key, row, fingerprint, expiry and withdrawal, and tells the observer.",
        ],
    }


if __name__ == "__main__":
    print(json.dumps(run(quick=False), indent=1))
