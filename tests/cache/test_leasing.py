"""Leases: of several processes that share a remote tier one computes a row."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tfx_encore.cache.cache_policy import CachePolicy
from tfx_encore.cache.entry import Entry
from tfx_encore.cache.inference_cache import InferenceCache
from tfx_encore.cache.invalidation import InvalidationState
from tfx_encore.cache.memory_store import MemoryStore
from tfx_encore.cache.observer import CacheObserver
from tfx_encore.schemas.errors import ConfigError, StoreUnavailableError


class Leases:
    """Leases kept in this process: who asks first holds; others look some times, then give up."""

    def __init__(self, looks: int = 200) -> None:
        self.held: set[bytes] = set()
        self.looks = looks
        self.asked: list[list[bytes]] = []
        self.fails: Exception | None = None

    async def compute_once(self, keys: Sequence[bytes], store: Any, compute: Any) -> list[Entry]:
        self.asked.append(list(keys))
        if self.fails is not None:
            raise self.fails
        mine = [key for key in keys if key not in self.held]
        self.held |= set(mine)
        found: dict[bytes, Entry] = {}
        try:
            if mine:
                entries = await compute(mine)
                found.update(zip(mine, entries, strict=True))
                await store.put_many(entries)
        finally:
            self.held -= set(mine)
        left = [key for key in keys if key not in found]
        for _ in range(self.looks):
            entries = await store.get_many(left)
            found.update((e.key, e) for e in entries if e is not None)
            left = [key for key in left if key not in found]
            if not left:
                break
            await asyncio.sleep(0.001)
        if left:
            found.update(zip(left, await compute(left), strict=True))
        return [found[key] for key in keys]


class Failures(CacheObserver):
    def __init__(self) -> None:
        self.tiers: list[str] = []

    def tier_failed(self, tier: str, error: BaseException) -> None:
        self.tiers.append(tier)


@pytest.fixture
def leases() -> Leases:
    return Leases()


@pytest.fixture
def failures() -> Failures:
    return Failures()


@pytest.fixture
def make(clock, leases, remote, failures) -> Callable[..., InferenceCache]:
    """Makes a cache as another process has it: only the remote tier and the leases are shared."""

    def made(**given: Any) -> InferenceCache:
        state = InvalidationState("taxi", 60.0, clock)
        state.confirm(clock())
        return InferenceCache(
            "taxi",
            [MemoryStore(2**20)],
            given.pop("remote", remote),
            lease=given.pop("lease", leases),
            policy=CachePolicy(lifetime_jitter=0.0),
            state=state,
            observer=failures,
            wall_clock=clock,
            steady_clock=clock,
            **given,
        )

    return made


async def ask(cache: InferenceCache, model: Any, *rows: Any) -> list[tuple[bytes, str]]:
    answers = await cache.get_or_compute(rows, model)
    return [(answer.data, answer.source) for answer in answers]


def test_of_two_processes_one_computes_and_both_answer(make, model, request_for, leases):
    first, second, rows = make(), make(), [request_for(a=n) for n in range(4)]

    async def play() -> list[Any]:
        model.gate = asyncio.Event()
        one = asyncio.create_task(ask(first, model, *rows[:3]))
        await asyncio.sleep(0.01)
        two = asyncio.create_task(ask(second, model, *rows[1:]))
        await asyncio.sleep(0.01)
        model.gate.set()
        return [await one, await two]

    one, two = asyncio.run(play())
    assert one == [(model.says(row), "computed") for row in rows[:3]]
    sources = ["remote", "remote", "computed"]
    assert two == [(model.says(row), s) for row, s in zip(rows[1:], sources, strict=True)]
    assert sorted(model.rows) == sorted(row.row for row in rows)
    assert leases.held == set()
    assert second.find(rows[1]) is not None


def test_who_waited_in_vain_computes(make, model, request_for, leases):
    cache, row = make(), request_for(a=1)
    leases.held.add(row.key)  # of a process that died
    leases.looks = 3
    assert asyncio.run(ask(cache, model, row)) == [(model.says(row), "computed")]


def test_what_is_computed_here_does_not_wait_for_what_others_compute(
    make, model, request_for, leases
):
    cache, mine, other = make(), request_for(a=1), request_for(a=2)
    leases.held.add(other.key)

    async def play() -> str:
        both = asyncio.create_task(ask(cache, model, mine, other))
        await asyncio.sleep(0.02)
        (found,) = await asyncio.wait_for(ask(cache, model, mine), 1)
        assert not both.done()
        leases.looks = 0
        both.cancel()
        await cache.close()
        return found[1]

    assert asyncio.run(play()) == "memory"


@pytest.mark.parametrize("error", [StoreUnavailableError("down"), ValueError("a lie")])
def test_a_lease_that_fails_costs_computing(make, model, request_for, leases, failures, error):
    leases.fails = error
    row = request_for(a=1)
    assert asyncio.run(ask(make(), model, row)) == [(model.says(row), "computed")]
    assert failures.tiers == ["lease"]


def test_while_the_remote_tier_is_left_alone_leases_are_too(
    make, model, request_for, remote, leases
):
    cache = make()
    remote.fails = StoreUnavailableError("down")

    async def play() -> int:
        for number in range(5):
            await ask(cache, model, request_for(a=number))
            await cache.drain()
        asked = len(leases.asked)
        for number in range(5, 10):
            await ask(cache, model, request_for(a=number))
        return len(leases.asked) - asked

    assert asyncio.run(play()) == 0
    assert len(model.calls) == 10


def test_what_the_model_raises_reaches_everyone_and_the_lease_is_given_back(
    make, model, request_for, leases, failures
):
    cache, row = make(), request_for(a=1)
    model.fails = ValueError("no")

    async def play() -> list[Any]:
        tasks = [ask(cache, model, row) for _ in range(2)]
        return await asyncio.gather(*tasks, return_exceptions=True)

    assert asyncio.run(play()) == [model.fails, model.fails]
    assert (leases.held, failures.tiers, len(model.calls)) == (set(), [], 1)


@pytest.mark.parametrize("lie", ["row", "fingerprint", "generation", "expired"])
def test_what_others_left_is_judged_as_any_answer(make, model, request_for, leases, remote, lie):
    cache, row = make(), request_for(a=1)
    changes = {
        "row": {"row": b"other"},
        "fingerprint": {"fingerprint": "f9"},
        "generation": {"generation": 5},
        "expired": {"expires_at": 1.0},
    }
    entry = Entry(row.key, row.row, b"theirs", "f1", "answer", 0, 0.0, 0.0, 1.0)
    leases.held.add(row.key)
    leases.looks = 5

    async def play() -> list[tuple[bytes, str]]:
        task = asyncio.create_task(ask(cache, model, row))
        await asyncio.sleep(0.002)
        remote.entries[row.key] = entry._replace(**changes[lie])
        return await task

    assert asyncio.run(play()) == [(model.says(row), "computed")]


def test_what_others_left_is_not_taken_on_old_knowledge(
    make, model, request_for, leases, remote, clock
):
    cache, row = make(), request_for(a=1)
    leases.held.add(row.key)
    leases.looks = 5

    async def play() -> list[tuple[bytes, str]]:
        task = asyncio.create_task(ask(cache, model, row))
        while not leases.asked:  # by then the remote tier was looked into, and had nothing
            await asyncio.sleep(0.0002)
        remote.entries[row.key] = Entry(
            row.key, row.row, b"theirs", "f1", "answer", 0, 0.0, 0.0, 1.0
        )
        clock.now += 61.0
        return await task

    assert asyncio.run(play()) == [(model.says(row), "computed")]


def test_rows_that_share_a_key_are_computed_without_a_lease(make, model, request_for, leases):
    cache, first = make(), request_for(a=1)
    second = request_for(a=2)._replace(key=first.key)
    answers = asyncio.run(ask(cache, model, first, second))
    assert answers == [(model.says(row), "computed") for row in (first, second)]
    assert leases.asked == []


def test_what_was_computed_is_written_before_the_lease_is_given_back(
    make, model, request_for, leases, remote
):
    cache, row = make(), request_for(a=1)

    async def play() -> None:
        remote.gate = asyncio.Event()
        remote.gate.set()
        task = asyncio.create_task(ask(cache, model, row))
        model.gate = asyncio.Event()
        await asyncio.sleep(0.01)
        remote.gate.clear()
        model.gate.set()
        await asyncio.wait_for(task, 1)  # the caller does not wait for the write
        assert leases.held == {row.key}
        remote.gate.set()
        await cache.drain()
        assert leases.held == set()
        assert row.key in remote.entries

    asyncio.run(play())


def test_a_lease_without_a_remote_tier_is_refused(make):
    with pytest.raises(ConfigError, match="remote tier"):
        make(remote=None)
