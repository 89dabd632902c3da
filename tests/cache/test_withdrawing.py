"""Invalidation records that meet a cache at work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tfx_encore.cache.inference_cache import InferenceCache
from tfx_encore.cache.invalidation import InvalidationState
from tfx_encore.cache.lmdb_store import LmdbStore
from tfx_encore.cache.memory_store import MemoryStore
from tfx_encore.schemas.errors import StoreUnavailableError
from tfx_encore.schemas.records import Cause


@pytest.fixture
def make(clock) -> Callable[..., InferenceCache]:
    def made(*local: Any, remote: Any = None) -> InferenceCache:
        state = InvalidationState("taxi", 60.0, clock)
        state.confirm(clock())
        stores = local or (MemoryStore(2**20),)
        return InferenceCache(
            "taxi", stores, remote, state=state, wall_clock=clock, steady_clock=clock
        )

    return made


async def ask(cache: InferenceCache, model: Any, *rows: Any) -> list[bytes]:
    return [answer.data for answer in await cache.get_or_compute(rows, model)]


async def held_up(cache: InferenceCache, model: Any, *rows: Any) -> asyncio.Task[list[bytes]]:
    """A request that waits for the model."""
    model.gate = asyncio.Event()
    task = asyncio.create_task(ask(cache, model, *rows))
    await asyncio.sleep(0.01)
    return task


def test_an_answer_computed_before_a_record_is_not_found_after_it(make, model, request_for, record):
    cache, row = make(), request_for(a=1)

    async def play() -> list[bytes]:
        task = await held_up(cache, model, row)
        await cache.apply(record(1))
        model.data = 1
        model.gate.set()
        return [*await task, *await ask(cache, model, row)]

    assert asyncio.run(play()) == [b"f1 %s 0" % row.row, b"f1 %s 1" % row.row]


def test_a_request_after_a_record_does_not_join_a_computation_from_before_it(
    make, model, request_for, record
):
    cache, row = make(), request_for(a=1)

    async def play() -> list[list[bytes]]:
        first = await held_up(cache, model, row)
        await cache.apply(record(1))
        model.data = 1
        second = asyncio.create_task(ask(cache, model, row))
        await asyncio.sleep(0.01)
        model.gate.set()
        return [await first, await second]

    assert asyncio.run(play()) == [[b"f1 %s 0" % row.row], [b"f1 %s 1" % row.row]]


def test_a_hit_withdrawn_while_the_rest_is_computed_is_computed_too(
    make, model, request_for, record
):
    cache, known, unknown = make(), request_for(a=1), request_for(a=2)

    async def play() -> list[bytes]:
        await ask(cache, model, known)
        task = await held_up(cache, model, known, unknown)
        await cache.apply(record(1, slice_of={"a": "1"}))
        model.data = 1
        model.gate.set()
        return await task

    assert asyncio.run(play()) == [b"f1 %s 1" % known.row, b"f1 %s 0" % unknown.row]


def test_a_rollback_finds_the_old_answers_at_once(make, model, request_for, record):
    cache, old, new = make(), request_for("f1", a=1), request_for("f2", a=1)

    async def play() -> None:
        await ask(cache, model, old)
        await cache.apply(record(1, Cause.MODEL_PUSHED, fingerprint="f1"))
        await ask(cache, model, new)
        await cache.apply(record(2, Cause.ROLLED_BACK, fingerprint="f2"))

    asyncio.run(play())
    assert cache.find(old).data == b"f1 %s 0" % old.row
    assert len(model.calls) == 2


def test_a_ledger_not_read_for_too_long_makes_every_row_a_miss(make, model, request_for, clock):
    cache, row = make(), request_for(a=1)

    async def play() -> None:
        for passed in (0.0, 60.0, 1.0, 1.0):
            clock.now += passed
            await ask(cache, model, row)

    asyncio.run(play())
    assert len(model.calls) == 3
    assert cache.find(row) is None
    cache.state.confirm(clock())
    assert cache.find(row) is not None


def test_before_the_ledger_is_read_nothing_is_served_or_kept(clock, model, request_for):
    store = MemoryStore(2**20)
    state = InvalidationState("taxi", 60.0, clock)
    cache = InferenceCache("taxi", [store], state=state, wall_clock=clock)
    row = request_for(a=1)
    assert asyncio.run(ask(cache, model, row)) == [b"f1 %s 0" % row.row]
    assert len(store) == 0


def test_an_erasure_takes_the_bytes_from_every_tier(
    make, model, request_for, record, remote, tmp_path
):
    memory, lmdb = MemoryStore(2**20), LmdbStore(tmp_path / "lmdb", 2**23)
    cache = make(memory, lmdb, remote=remote)
    gone, kept = request_for(who="ann-7431"), request_for(who="bob-2210")

    async def play() -> None:
        await ask(cache, model, gone, kept)
        await cache.drain()
        lmdb.flush()
        assert gone.key in remote.entries
        await cache.apply(record(1, Cause.ERASURE, slice_of={"who": "ann-7431"}))

    asyncio.run(play())
    assert memory.get(gone.key) is None
    assert lmdb.get(gone.key) is None
    assert gone.key not in remote.entries
    assert memory.get(kept.key) is not None
    data = b"".join(path.read_bytes() for path in (tmp_path / "lmdb").iterdir())
    assert b"ann-7431" not in data
    assert b"bob-2210" in data
    lmdb.close()


def test_an_erasure_that_a_tier_cannot_do_is_told_and_serves_nothing(
    make, model, request_for, record, remote
):
    cache, row = make(remote=remote), request_for(a=1)

    async def play() -> list[bytes]:
        await ask(cache, model, row)
        await cache.drain()
        remote.fails = StoreUnavailableError("down")
        erasure = record(1, Cause.ERASURE)
        with pytest.raises(StoreUnavailableError, match="down"):
            await cache.apply(erasure)
        remote.fails = None
        model.data = 1
        answers = await ask(cache, model, row)
        await cache.drain()
        await cache.erase(erasure)
        return answers

    assert asyncio.run(play()) == [b"f1 %s 1" % row.row]


def test_forgetting_a_fingerprint_leaves_the_others(make, model, request_for, remote):
    memory = MemoryStore(2**20)
    cache = make(memory, remote=remote)
    old, new = request_for("f1", a=1), request_for("f2", a=1)

    async def play() -> None:
        await ask(cache, model, old)
        await ask(cache, model, new)
        await cache.forget("f1")

    asyncio.run(play())
    assert memory.get(old.key) is None
    assert set(remote.entries) == {new.key}
    assert cache.find(new) is not None
