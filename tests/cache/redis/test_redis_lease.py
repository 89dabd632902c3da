"""Leases: one process computes a row, and nobody depends on its doing so."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from tfx_encore.cache.entry import Entry
from tfx_encore.cache.inference_cache import InferenceCache
from tfx_encore.cache.memory_store import MemoryStore
from tfx_encore.cache.redis_config import RedisConfig
from tfx_encore.cache.redis_lease import LeasePolicy, RedisLease, compute_once
from tfx_encore.cache.redis_store import RedisStore
from tfx_encore.cache.row_request import Computed, RowRequest
from tfx_encore.schemas.errors import StoreUnavailableError

service = pytest.mark.service("redis-server")

POLICY = LeasePolicy(lease_ms=5_000, wait_ms=3_000)
Process = tuple[RedisStore, RedisLease]


def with_processes(
    config: RedisConfig,
    count: int,
    use: Callable[[list[Process]], Awaitable[Any]],
    policy: LeasePolicy = POLICY,
) -> Any:
    """Stores and leases that share nothing but the server, as those of several processes."""

    async def run() -> Any:
        stores = [RedisStore(config, "taxi") for _ in range(count)]
        try:
            return await use([(store, RedisLease(store.link, "taxi", policy)) for store in stores])
        finally:
            for store in stores:
                await store.close()

    return asyncio.run(run())


@service
def test_a_lease_is_held_by_one_until_it_is_released(server, config_of) -> None:
    async def use(processes: list[Process]) -> None:
        (_, mine), (_, other) = processes
        held = await mine.acquire([b"a", b"b"])
        assert [item.key for item in held if item] == [b"a", b"b"]
        taken, free = await other.acquire([b"b", b"c"])
        assert (taken, free and free.key) == (None, b"c")
        assert await other.acquire([b"a"]) == [None]
        assert await mine.release([item for item in held if item]) == 2
        assert await other.acquire([b"a"]) != [None]
        assert await mine.acquire([]) == []

    with_processes(config_of(server), 2, use)


@service
def test_a_late_holder_does_not_release_anothers_lease(server, config_of) -> None:
    async def use(processes: list[Process]) -> None:
        (_, mine), (_, other) = processes
        (late,) = await mine.acquire([b"a"])
        await asyncio.sleep(0.1)
        (now,) = await other.acquire([b"a"])
        assert late is not None
        assert now is not None
        assert await mine.release([late]) == 0
        assert await mine.acquire([b"a"]) == [None]
        assert await other.release([now]) == 1

    with_processes(config_of(server), 2, use, LeasePolicy(lease_ms=60, wait_ms=10))


@service
def test_processes_that_miss_the_same_rows_compute_each_once(server, config_of, entry_of) -> None:
    keys = [entry_of(n).key for n in range(30)]
    entries = {entry_of(n).key: entry_of(n) for n in range(30)}
    computed: Counter[bytes] = Counter()

    async def compute(missing: Sequence[bytes]) -> list[Entry]:
        computed.update(missing)
        await asyncio.sleep(0.05)
        return [entries[key] for key in missing]

    async def use(processes: list[Process]) -> None:
        # Each asks for its own part of the rows; the parts overlap.
        asked = [keys[at : at + 20] for at in (0, 5, 10, 0, 3)]
        answers = await asyncio.gather(
            *(
                compute_once(part, lease, store, compute)
                for part, (store, lease) in zip(asked, processes, strict=True)
            )
        )
        assert answers == [[entries[key] for key in part] for part in asked]
        assert computed == Counter(keys)

    with_processes(config_of(server), 5, use)
    assert list(server.client.scan_iter("encore-lease:*")) == []


@service
def test_a_holder_that_dies_costs_no_more_than_the_lease(server, config_of, entry_of) -> None:
    async def compute(missing: Sequence[bytes]) -> list[Entry]:
        return [entry_of(1) for _ in missing]

    async def use(processes: list[Process]) -> float:
        (_, dead), (store, lease) = processes
        assert await dead.acquire([entry_of(1).key]) != [None]
        begun = time.monotonic()
        assert await compute_once([entry_of(1).key], lease, store, compute) == [entry_of(1)]
        return time.monotonic() - begun

    policy = LeasePolicy(lease_ms=300, wait_ms=300)
    assert with_processes(config_of(server), 2, use, policy) < 0.6


@service
def test_a_holder_whose_model_fails_lets_the_others_go_at_once(server, config_of, entry_of) -> None:
    async def fails(missing: Sequence[bytes]) -> list[Entry]:
        await asyncio.sleep(0.05)
        raise ValueError("the model is broken")

    async def works(missing: Sequence[bytes]) -> list[Entry]:
        return [entry_of(1) for _ in missing]

    async def use(processes: list[Process]) -> float:
        (one, first), (two, second) = processes
        key = entry_of(1).key
        failing = asyncio.ensure_future(compute_once([key], first, one, fails))
        while not await first._leased([key]):
            await asyncio.sleep(0.001)
        begun = time.monotonic()
        assert await compute_once([key], second, two, works) == [entry_of(1)]
        with pytest.raises(ValueError, match="the model is broken"):
            await failing
        return time.monotonic() - begun

    assert with_processes(config_of(server), 2, use) < 1.0


@service
def test_what_another_has_just_finished_is_not_computed_again(server, config_of, entry_of) -> None:
    async def compute(missing: Sequence[bytes]) -> list[Entry]:
        raise AssertionError(missing)

    async def use(processes: list[Process]) -> None:
        ((store, lease),) = processes
        await store.put_many([entry_of(1)])
        assert await compute_once([entry_of(1).key], lease, store, compute) == [entry_of(1)]

    with_processes(config_of(server), 1, use)


def test_without_redis_everything_is_computed(entry_of) -> None:
    async def compute(missing: Sequence[bytes]) -> list[Entry]:
        return [entry_of(1) for _ in missing]

    async def use(processes: list[Process]) -> None:
        ((store, lease),) = processes
        key = entry_of(1).key
        assert await compute_once([key], lease, store, compute) == [entry_of(1)]
        assert await lease.wait([key], store) == [None]
        with pytest.raises(StoreUnavailableError):
            await lease.acquire([key])

    with_processes(RedisConfig(url="redis://127.0.0.1:1"), 1, use)


@service
def test_a_full_server_lets_everyone_compute(start_server, config_of, entry_of) -> None:
    server = start_server("--maxmemory", "1mb", "--maxmemory-policy", "noeviction")

    async def compute(missing: Sequence[bytes]) -> list[Entry]:
        return [entry_of(1) for _ in missing]

    async def use(processes: list[Process]) -> None:
        (one, first), (two, second) = processes
        for store, lease in ((one, first), (two, second)):
            answer = await compute_once([entry_of(1).key], lease, store, compute)
            assert answer == [entry_of(1)]

    with_processes(config_of(server), 2, use)


# --- in an InferenceCache ------------------------------------------------------------------------


class _SlowModel:
    """Answers after a while; counts the rows."""

    def __init__(self) -> None:
        self.rows: Counter[bytes] = Counter()

    async def __call__(self, requests: Sequence[RowRequest]) -> list[Computed]:
        self.rows.update(request.row for request in requests)
        await asyncio.sleep(0.1)
        return [Computed(b"of " + request.row, request.fingerprint) for request in requests]


def _caches(processes: list[Process]) -> list[InferenceCache]:
    return [
        InferenceCache("taxi", [MemoryStore(2**20)], store, lease=lease)
        for store, lease in processes
    ]


_ROWS = [RowRequest(bytes([n]) * 32, b"row %d" % n, "f1", "s") for n in range(20)]


@service
def test_caches_that_miss_the_same_rows_compute_each_once(server, config_of) -> None:
    model = _SlowModel()

    async def use(processes: list[Process]) -> None:
        caches = _caches(processes)
        asked = [cache.get_or_compute(_ROWS, model) for cache in caches]
        for answers in await asyncio.gather(*asked):
            assert [answer.data for answer in answers] == [b"of " + r.row for r in _ROWS]
        for cache in caches:
            await cache.drain()

    with_processes(config_of(server), 3, use)
    assert model.rows == {row.row: 1 for row in _ROWS}


@service
def test_without_redis_each_process_computes_and_nothing_fails(start_server, config_of) -> None:
    server, model = start_server(), _SlowModel()

    async def use(processes: list[Process]) -> None:
        caches = _caches(processes)
        await caches[0].get_or_compute(_ROWS[:1], model)
        server.kill()
        for at in range(1, 10):
            asked = [cache.get_or_compute(_ROWS[at : at + 1], model) for cache in caches]
            for (answer,) in await asyncio.gather(*asked):
                assert answer.source == "computed"
        assert not any(cache.remote and cache.remote.breaker.is_closed for cache in caches)
        for cache in caches:
            await cache.drain()

    with_processes(config_of(server), 2, use)
    assert set(model.rows.values()) == {1, 2}
