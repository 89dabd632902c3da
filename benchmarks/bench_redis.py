"""Batch reads of the shared tier, sealed beside plain beside a bare MGET, and memory for a row."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tfx_encore.cache.answers import encode_answer
from tfx_encore.cache.crypto import KeyRing
from tfx_encore.cache.entry import Entry
from tfx_encore.cache.keys import KeyMaker
from tfx_encore.cache.redis_config import RedisConfig
from tfx_encore.cache.redis_store import RedisStore
from tfx_encore.cache.rows import cell, encode_row

FINGERPRINT = "5d" * 32
BATCHES = (1, 10, 100)
CALLERS = 64
PAYMENTS = ["Cash", "Credit Card", "Unknown", "No Charge"]
COMPANIES = ["Taxi Affiliation Services", "Dispatch Taxi Affiliation", "Blue Ribbon Taxi", ""]


def taxi_entries(count: int) -> list[Entry]:
    """Entries of rows like those of the Chicago Taxi model, 17 features and one score each."""
    rng = np.random.default_rng(0)
    maker = KeyMaker(FINGERPRINT, "serving_default")
    now = time.time()
    return [_entry(rng, maker, now) for _ in range(count)]


def _entry(rng: Any, maker: KeyMaker, now: float) -> Entry:
    floats = {
        name: rng.normal()
        for name in ("trip_miles", "trip_seconds", "fare", "pickup_latitude", "pickup_longitude")
    } | {name: rng.normal() for name in ("dropoff_latitude", "dropoff_longitude")}
    integers = {
        name: int(rng.integers(0, 1_000_000))
        for name in ("trip_start_timestamp", "trip_start_month", "trip_start_day")
    } | {
        name: int(rng.integers(1, 77))
        for name in ("trip_start_hour", "pickup_community_area", "dropoff_community_area")
    }
    integers |= {"pickup_census_tract": 0, "dropoff_census_tract": 17_031_081_500}
    texts = {"payment_type": PAYMENTS[rng.integers(4)], "company": COMPANIES[rng.integers(4)]}
    cells = {name: cell([value], "float32") for name, value in floats.items()}
    cells |= {name: cell([value], "int64") for name, value in integers.items()}
    cells |= {name: cell([value]) for name, value in texts.items()}
    row = encode_row(cells)
    answer = encode_answer({"outputs": cell([float(rng.random())], "float32")})
    return Entry(maker.key(row), row, answer, FINGERPRINT, "answer", 12, now, now + 86_400, 31.0)


@contextmanager
def redis_server() -> Iterator[int]:
    """A server on a free port of loopback, without persistence; yields the port."""
    program = shutil.which("redis-server")
    if program is None:
        raise RuntimeError("redis-server is not installed; tools/services installs it")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with tempfile.TemporaryDirectory() as folder:
        command = [
            program,
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            folder,
        ]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            _wait_for(port)
            yield port
        finally:
            process.kill()
            process.wait()


def _wait_for(port: int) -> None:
    end = time.monotonic() + 20
    while not _listens(port):
        if time.monotonic() > end:
            raise RuntimeError("redis-server did not start within 20 s")
        time.sleep(0.01)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def _microseconds(call: Callable[[], Awaitable[Any]]) -> float:
    begun = time.perf_counter()
    await call()
    return (time.perf_counter() - begun) * 1e6


async def _reads(stores: dict[str, RedisStore], entries: list[Entry], rounds: int) -> list[Any]:
    """One row of the table for each size of a batch; the ways take turns in every round."""
    table = []
    for size in BATCHES:
        times: dict[str, list[float]] = {name: [] for name in (*stores, "bare MGET")}
        for number in range(rounds):
            part = [entries[(number * size + at) % len(entries)] for at in range(size)]
            keys = [entry.key for entry in part]
            for name, store in stores.items():
                times[name].append(await _microseconds(lambda s=store, k=keys: s.get_many(k)))
            client = stores["plain"].link.client
            names = [f"encore:plain:{key.hex()}" for key in keys]
            times["bare MGET"].append(
                await _microseconds(lambda c=client, n=names: c.execute_command("MGET", *n))
            )
        median = {name: statistics.median(values) for name, values in times.items()}
        table.append(
            {
                "rows in the batch": size,
                **{f"{name}, us": round(value) for name, value in median.items()},
                "sealed / plain": round(median["sealed"] / median["plain"], 2),
                "plain / bare": round(median["plain"] / median["bare MGET"], 2),
                "plain p99, us": round(float(np.percentile(times["plain"], 99))),
                "plain, us a row": round(median["plain"] / size, 1),
            }
        )
    return table


async def _rows_a_second(store: RedisStore, entries: list[Entry], seconds: float) -> float:
    """Reads of one row each by many callers at once."""
    end = time.perf_counter() + seconds
    done = 0

    async def caller(at: int) -> None:
        nonlocal done
        while time.perf_counter() < end:
            at = (at + CALLERS) % len(entries)
            found = await store.get_many([entries[at].key], deadline_ms=5_000)
            assert found == [entries[at]]
            done += 1

    await asyncio.gather(*(caller(number) for number in range(CALLERS)))
    return done / seconds


async def _memory(store: RedisStore) -> int:
    """Bytes that the server has allocated."""
    info = await store.link.client.info("memory")
    return int(info["used_memory"])


async def _measure(port: int, quick: bool) -> dict[str, Any]:
    count, rounds = (2_000, 100) if quick else (50_000, 1_000)
    entries = taxi_entries(count)
    config = RedisConfig(
        url=f"redis://127.0.0.1:{port}", read_deadline_ms=5_000, write_deadline_ms=60_000
    )
    ring = KeyRing({1: os.urandom(32)})
    stores = {
        "plain": RedisStore(config, "plain"),
        "sealed": RedisStore(config, "sealed", cipher=ring),
    }
    a_row: dict[str, int] = {}
    for name, store in stores.items():
        before = await _memory(store)
        for at in range(0, count, 1_000):
            assert await store.put_many(entries[at : at + 1_000]) == min(1_000, count - at)
        a_row[name] = round((await _memory(store) - before) / count)
    assert await stores["plain"].get_many([entries[0].key]) == entries[:1]
    assert await stores["sealed"].get_many([entries[0].key]) == entries[:1]
    rows = await _reads(stores, entries, rounds)
    speed = await _rows_a_second(stores["plain"], entries, 0.5 if quick else 3.0)
    content = statistics.mean(entry.size for entry in entries)
    for store in stores.values():
        await store.close()
    return {
        "title": "Redis: batch reads, encryption, memory",
        "rows": rows,
        "notes": [
            "One caller, loopback, redis-server and the client on the same machine; the three ways "
            "take turns in every round; medians. A bare MGET is redis.asyncio with hiredis, values "
            "thrown away; the store also has a deadline, checks and decodes.",
            f"{CALLERS} callers at once, one row each: {speed:,.0f} rows a second in one process.",
            f"Memory for each cached taxi row, all of Redis's overhead included (growth "
            f"of used_memory over {count:,} rows): {a_row['plain']} bytes plain, "
            f"{a_row['sealed']} sealed; "
            f"key, row and answer are {content:.0f} of them.",
        ],
    }


def run(quick: bool) -> dict[str, Any]:
    """Measures reads and memory against a server of its own."""
    with redis_server() as port:
        return asyncio.run(_measure(port, quick))


if __name__ == "__main__":
    print(json.dumps(run("--quick" in sys.argv), indent=1))
