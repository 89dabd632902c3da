"""The inference cache: tiers, one call of the model, and what it survives."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tfx_encore.cache.breaker import BreakerPolicy
from tfx_encore.cache.cache_policy import CachePolicy
from tfx_encore.cache.inference_cache import InferenceCache
from tfx_encore.cache.keys import KeyMaker
from tfx_encore.cache.memory_store import MemoryStore
from tfx_encore.cache.observer import CacheObserver
from tfx_encore.cache.row_request import Computed, transformed_row
from tfx_encore.schemas.errors import ModelError, StoreUnavailableError


class Counts(CacheObserver):
    """Counts what the cache tells."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.states: list[str] = []

    def hit(self, tier: str, kind: str) -> None:
        self.seen[f"hit {tier} {kind}"] += 1

    def missed(self, rows: int) -> None:
        self.seen["missed"] += rows

    def coalesced(self, rows: int) -> None:
        self.seen["coalesced"] += rows

    def computed(self, rows: int, seconds: float) -> None:
        self.seen["computed"] += rows

    def withdrawn(self, tier: str) -> None:
        self.seen[f"withdrawn {tier}"] += 1

    def not_stored(self, entries: int) -> None:
        self.seen["not stored"] += entries

    def refreshing(self, rows: int) -> None:
        self.seen["refreshing"] += rows

    def tier_failed(self, tier: str, error: BaseException) -> None:
        self.seen[f"failed {tier}"] += 1

    def breaker_moved(self, tier: str, state: Any) -> None:
        self.states.append(state.value)

    def writes_dropped(self, tier: str, entries: int) -> None:
        self.seen["dropped"] += entries


@pytest.fixture
def counts() -> Counts:
    return Counts()


@pytest.fixture
def make(clock, counts) -> Callable[..., InferenceCache]:
    """Makes a cache of one memory store, unless told otherwise."""

    def made(**given: Any) -> InferenceCache:
        policy = given.pop("policy", {})
        return InferenceCache(
            "taxi",
            given.pop("local", [MemoryStore(2**20)]),
            given.pop("remote", None),
            policy=CachePolicy(**({"lifetime_jitter": 0.0} | policy)),
            observer=counts,
            wall_clock=clock,
            chance=lambda: 0.5,
            **given,
        )

    return made


def test_a_row_is_computed_once_and_then_found(make, model, request_for, counts):
    cache, row = make(), request_for(a=1)

    async def ask() -> list[bytes]:
        return [(await cache.get_or_compute([row], model))[0].data for _ in range(3)]

    assert asyncio.run(ask()) == [model.says(row)] * 3
    assert model.rows == [row.row]
    assert counts.seen == {"missed": 1, "computed": 1, "hit memory raw": 2}


def test_answers_come_in_the_order_of_the_rows_whatever_was_found(make, model, request_for):
    cache = make()
    rows = [request_for(a=n) for n in (3, 1, 2, 1, 3)]

    async def ask() -> list[bytes]:
        await cache.get_or_compute([request_for(a=1)], model)
        return [answer.data for answer in await cache.get_or_compute(rows, model)]

    assert asyncio.run(ask()) == [model.says(row) for row in rows]


def test_the_missing_rows_go_to_the_model_in_one_call_each_once_in_order(make, model, request_for):
    cache = make()
    rows = [request_for(a=n) for n in (5, 1, 5, 9, 1, 2)]

    async def ask() -> None:
        await cache.get_or_compute([request_for(a=1)], model)
        await cache.get_or_compute(rows, model)

    asyncio.run(ask())
    assert model.calls[1] == [rows[0], rows[3], rows[5]]


def test_no_rows_are_no_answers_and_no_call(make, model):
    assert asyncio.run(make().get_or_compute([], model)) == []
    assert model.calls == []


def test_an_entry_of_the_same_key_and_another_row_is_not_an_answer(make, model, request_for):
    cache = make()
    first = request_for(a=1)
    second = request_for(a=2)._replace(key=first.key)

    async def ask() -> list[bytes]:
        await cache.get_or_compute([first], model)
        both = await cache.get_or_compute([second, first, second], model)
        return [answer.data for answer in both]

    assert asyncio.run(ask()) == [model.says(row) for row in (second, first, second)]


def test_an_answer_of_another_fingerprint_is_never_served(make, model, request_for, remote):
    store = MemoryStore(2**20)
    cache = make(local=[store], remote=remote)
    old, new = request_for("f1", a=1), request_for("f2", a=1)

    async def ask() -> bytes:
        await cache.get_or_compute([old], model)
        # A store that files the old answer under the new key does not get away with it.
        lie = store.get(old.key)._replace(key=new.key)
        store.put(lie)
        remote.entries[new.key] = lie
        return (await cache.get_or_compute([new], model))[0].data

    assert asyncio.run(ask()) == model.says(new)


def test_a_model_that_is_not_the_one_asked_is_an_error_and_not_stored(make, request_for):
    store = MemoryStore(2**20)
    cache = make(local=[store])

    async def other(requests: Any) -> list[Computed]:
        return [Computed(b"x", "f2") for _ in requests]

    with pytest.raises(ModelError, match="'f2' answered a row that was asked of 'f1'"):
        asyncio.run(cache.get_or_compute([request_for(a=1)], other))
    assert len(store) == 0


def test_a_model_that_forgets_rows_is_an_error(make, request_for):
    async def forgetful(requests: Any) -> list[Computed]:
        return [Computed(b"x", "f1")]

    with pytest.raises(ModelError, match="1 answers for 2 rows"):
        asyncio.run(make().get_or_compute([request_for(a=1), request_for(a=2)], forgetful))


# --- tiers ---------------------------------------------------------------------------------------


def test_what_a_slower_tier_has_is_put_into_the_faster_ones(make, model, request_for, remote):
    first, second = MemoryStore(2**20), MemoryStore(2**20)
    row = request_for(a=1)

    async def ask() -> list[str]:
        warm = make(remote=remote)
        await warm.get_or_compute([row], model)
        await warm.drain()
        cache = make(local=[first, second], remote=remote)
        return [(await cache.get_or_compute([row], model))[0].source for _ in range(2)]

    assert asyncio.run(ask()) == ["remote", "memory"]
    assert first.get(row.key) == second.get(row.key) == remote.entries[row.key]
    assert len(model.calls) == 1


def test_the_remote_tier_is_asked_once_for_all_rows_and_only_for_the_missing(
    make, model, request_for, remote
):
    cache = make(remote=remote)
    rows = [request_for(a=n) for n in (1, 2, 3, 2)]

    async def ask() -> None:
        await cache.get_or_compute([rows[0]], model)
        await cache.get_or_compute(rows, model)
        await cache.drain()

    asyncio.run(ask())
    assert remote.reads[1:] == [[rows[1].key, rows[2].key]]
    assert set(remote.entries) == {row.key for row in rows}


@pytest.mark.parametrize(
    "lie",
    [
        lambda found: found[:-1],
        lambda found: [*found, None],
        lambda found: ["nonsense"] * len(found),
        lambda found: None,
        lambda found: [entry and entry._replace(key=b"x" * 32) for entry in found],
        lambda found: [entry and entry._replace(row=b"other") for entry in found],
        lambda found: list(reversed(found)),
    ],
)
def test_a_lying_remote_tier_costs_misses(make, model, request_for, remote, lie):
    rows = [request_for(a=n) for n in range(2)]

    async def ask() -> list[bytes]:
        warm = make(remote=remote)
        await warm.get_or_compute(rows, model)
        await warm.drain()
        remote.answer = lie
        cache = make(remote=remote)
        return [answer.data for answer in await cache.get_or_compute(rows, model)]

    assert asyncio.run(ask()) == [model.says(row) for row in rows]
    assert len(model.calls) == 2


def test_a_dead_remote_tier_costs_misses_and_then_is_not_asked_for_a_while(
    make, model, request_for, remote, counts
):
    steady = [0.0]
    cache = make(
        remote=remote,
        policy={"breaker": BreakerPolicy(failures=2, open_seconds=5.0)},
        steady_clock=lambda: steady[0],
    )
    remote.fails = StoreUnavailableError("down")

    async def ask(number: int) -> None:
        answers = await cache.get_or_compute([request_for(a=number)], model)
        assert answers[0].data == model.says(request_for(a=number))
        await cache.drain()

    async def play() -> None:
        await ask(1)
        await ask(2)
        reads = len(remote.reads)
        await ask(3)
        assert len(remote.reads) == reads
        remote.fails = None
        steady[0] = 6.0
        await ask(4)
        assert len(remote.reads) == reads + 1

    asyncio.run(play())
    assert counts.states == ["open", "half-open", "closed"]


def test_a_slow_remote_tier_is_not_waited_for(make, model, request_for, remote, counts):
    cache = make(remote=remote, policy={"remote_timeout_seconds": 0.01})

    async def play() -> str:
        remote.gate = asyncio.Event()
        answers = await asyncio.wait_for(cache.get_or_compute([request_for(a=1)], model), 5)
        remote.gate.set()
        return answers[0].source

    assert asyncio.run(play()) == "computed"
    assert counts.seen["failed remote"] == 1


def test_a_remote_tier_that_states_its_own_bounds_is_left_to_keep_them(
    make, model, request_for, remote, counts
):
    remote.read_seconds = remote.write_seconds = 5.0
    cache = make(remote=remote, policy={"remote_timeout_seconds": 0.001})
    row = request_for(a=1)

    async def play() -> str:
        await make(remote=remote).get_or_compute([row], model)
        await asyncio.sleep(0)
        remote.gate = asyncio.Event()
        task = asyncio.create_task(cache.get_or_compute([row], model))
        await asyncio.sleep(0.05)
        remote.gate.set()
        return (await task)[0].source

    assert asyncio.run(play()) == "remote"
    assert "failed remote" not in counts.seen


def test_writes_to_a_remote_tier_that_hangs_are_dropped_beyond_a_number(
    make, model, request_for, remote, counts
):
    cache = make(remote=remote, policy={"max_pending_writes": 2, "remote_timeout_seconds": 0.001})

    async def play() -> None:
        remote.gate = asyncio.Event()
        for number in range(5):
            await cache.get_or_compute([request_for(a=number)], model)
        remote.gate.set()
        await cache.drain()

    asyncio.run(play())
    assert counts.seen["dropped"] == 3


def test_a_local_store_that_raises_costs_misses(make, model, request_for, counts):
    class Broken(MemoryStore):
        def get(self, key: bytes) -> Any:
            raise OSError("disk")

        put = remove = get

    cache = make(local=[Broken(2**20)])

    async def ask() -> list[bytes]:
        return [(await cache.get_or_compute([request_for(a=1)], model))[0].data for _ in range(9)]

    assert set(asyncio.run(ask())) == {model.says(request_for(a=1))}
    assert len(model.calls) == 9
    assert counts.states == ["open"]


def test_an_entry_beyond_the_bound_is_answered_but_not_kept(make, model, request_for):
    store = MemoryStore(2**20)
    cache = make(local=[store], policy={"max_entry_bytes": 64})

    asyncio.run(cache.get_or_compute([request_for(a="x" * 100)], model))
    assert len(store) == 0


# --- time ----------------------------------------------------------------------------------------


def test_an_answer_is_not_served_once_it_has_expired(make, model, request_for, clock):
    cache, row = make(policy={"lifetime_seconds": 100.0, "early_refresh": 0.0}), request_for(a=1)

    async def ask(now: float) -> str:
        clock.now = now
        return (await cache.get_or_compute([row], model))[0].source

    async def play() -> list[str]:
        return [await ask(now) for now in (0.0, 99.9, 100.0, 199.9)]

    assert asyncio.run(play()) == ["computed", "memory", "computed", "memory"]


def test_a_rejection_is_remembered_for_a_short_time(make, model, request_for, clock, counts):
    cache, row = make(policy={"rejection_seconds": 5.0}), request_for(a=1)
    model.refuses.add(row.row)

    async def ask(now: float) -> tuple[str, str]:
        clock.now = now
        (answer,) = await cache.get_or_compute([row], model)
        return answer.entry.kind, answer.source

    async def play() -> list[tuple[str, str]]:
        return [await ask(now) for now in (0.0, 4.9, 5.1)]

    sources = ["computed", "memory", "computed"]
    assert asyncio.run(play()) == [("rejection", source) for source in sources]
    assert counts.seen["hit memory negative"] == 1


def test_rejections_are_not_kept_where_the_policy_says_so(make, model, request_for):
    cache, row = make(policy={"rejection_seconds": 0.0}), request_for(a=1)
    model.refuses.add(row.row)

    async def ask() -> list[str]:
        return [(await cache.get_or_compute([row], model))[0].source for _ in range(2)]

    assert asyncio.run(ask()) == ["computed", "computed"]


def test_an_answer_about_to_expire_is_served_and_computed_anew_behind_it(
    make, model, request_for, clock, counts
):
    cache = make(policy={"lifetime_seconds": 100.0, "early_refresh_floor_seconds": 10.0})
    row = request_for(a=1)

    async def ask(now: float) -> str:
        clock.now = now
        source = (await cache.get_or_compute([row], model))[0].source
        await cache.drain()
        return source

    async def play() -> list[str]:
        # With chance 0.5 an answer is due 10 * ln 2 = 6.93 seconds before it expires.
        return [await ask(now) for now in (0.0, 93.0, 93.1, 150.0, 186.0)]

    assert asyncio.run(play()) == ["computed", *["memory"] * 4]
    assert len(model.calls) == 2
    assert counts.seen["refreshing"] == 1


def test_an_early_refresh_that_fails_leaves_the_answer_until_it_expires(
    make, model, request_for, clock
):
    cache = make(policy={"lifetime_seconds": 100.0, "early_refresh_floor_seconds": 10.0})
    row = request_for(a=1)

    async def play() -> list[str]:
        await cache.get_or_compute([row], model)
        model.fails = ModelError("out of memory")
        clock.now += 95.0
        first = await cache.get_or_compute([row], model)
        await cache.drain()
        clock.now += 1.0
        second = await cache.get_or_compute([row], model)
        await cache.drain()
        return [first[0].source, second[0].source]

    assert asyncio.run(play()) == ["memory", "memory"]


def test_find_leaves_a_row_that_is_due_to_get_or_compute(make, model, request_for, clock):
    cache = make(policy={"lifetime_seconds": 100.0, "early_refresh_floor_seconds": 10.0})
    row = request_for(a=1)
    assert cache.find(row) is None
    asyncio.run(cache.get_or_compute([row], model))
    assert cache.find(row).data == model.says(row)
    clock.now += 95.0
    assert cache.find(row) is None


# --- at once -------------------------------------------------------------------------------------


def test_requests_at_once_for_the_same_row_share_one_computation(make, model, request_for, counts):
    cache = make()
    rows = [request_for(a=n) for n in range(4)]

    async def play() -> list[list[bytes]]:
        model.gate = asyncio.Event()
        asked = [[rows[0], rows[1]], [rows[1], rows[2]], [rows[2], rows[0]], [rows[3]]]
        tasks = [asyncio.create_task(cache.get_or_compute(part, model)) for part in asked]
        await asyncio.sleep(0.01)
        model.gate.set()
        return [[answer.data for answer in await task] for task in tasks]

    answers = asyncio.run(play())
    assert answers[1] == [model.says(rows[1]), model.says(rows[2])]
    assert sorted(model.rows) == sorted(row.row for row in rows)
    assert counts.seen["coalesced"] == 3


def test_a_failure_reaches_everyone_who_waits_and_is_not_remembered(make, model, request_for):
    cache, row = make(), request_for(a=1)

    async def play() -> list[Any]:
        model.gate = asyncio.Event()
        model.fails = ModelError("out of memory")
        tasks = [asyncio.create_task(cache.get_or_compute([row], model)) for _ in range(3)]
        await asyncio.sleep(0.01)
        model.gate.set()
        failed = await asyncio.gather(*tasks, return_exceptions=True)
        model.fails = None
        return [*failed, (await cache.get_or_compute([row], model))[0].data]

    *failed, answer = asyncio.run(play())
    assert [str(error) for error in failed] == ["out of memory"] * 3
    assert answer == model.says(row)


@pytest.mark.parametrize("cancelled", [0, 1])
def test_a_caller_that_goes_away_does_not_stop_the_others(make, model, request_for, cancelled):
    cache, row = make(), request_for(a=1)

    async def play() -> list[Any]:
        model.gate = asyncio.Event()
        tasks = [asyncio.create_task(cache.get_or_compute([row], model)) for _ in range(2)]
        await asyncio.sleep(0.01)
        tasks[cancelled].cancel()
        await asyncio.sleep(0.01)
        model.gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = asyncio.run(play())
    assert isinstance(results[cancelled], asyncio.CancelledError)
    assert results[1 - cancelled][0].data == model.says(row)
    assert len(model.calls) == 1


def test_what_a_caller_that_went_away_asked_for_is_kept(make, model, request_for):
    cache, row = make(), request_for(a=1)

    async def play() -> str:
        model.gate = asyncio.Event()
        task = asyncio.create_task(cache.get_or_compute([row], model))
        await asyncio.sleep(0.01)
        task.cancel()
        model.gate.set()
        await cache.drain()
        return cache.find(row).source

    assert asyncio.run(play()) == "memory"


def test_closing_tells_those_who_wait(make, model, request_for):
    cache = make()

    async def play() -> Any:
        model.gate = asyncio.Event()
        tasks = [asyncio.create_task(cache.get_or_compute([request_for(a=1)], model))]
        await asyncio.sleep(0.01)
        await cache.close()
        return (await asyncio.gather(*tasks, return_exceptions=True))[0]

    assert "closed" in str(asyncio.run(play()))


# --- transformed keys ----------------------------------------------------------------------------


@pytest.fixture
def half(request_for) -> Any:
    """A transformation that sees only half of `a`."""

    async def transform(requests: Any) -> list[Any]:
        from tfx_encore.cache.rows import cell, decode_row, encode_row, to_array

        made = []
        for request in requests:
            value = int(to_array(decode_row(request.row)["a"]))
            row = encode_row({"half": cell(value // 2)})
            maker = KeyMaker(request.fingerprint, request.signature)
            made.append(None if value < 0 else transformed_row(maker, row))
        return made

    return transform


def test_rows_that_transform_alike_share_an_answer(make, model, request_for, half, counts, remote):
    cache = make(transform=half, remote=remote)

    async def play() -> list[tuple[str, str]]:
        asked = [request_for(a=n) for n in (2, 3, 3, 4)]
        found = [(await cache.get_or_compute([row], model))[0] for row in asked]
        return [(answer.source, answer.matched) for answer in found]

    assert asyncio.run(play()) == [
        ("computed", "raw"),
        ("memory", "transformed"),
        ("memory", "raw"),
        ("computed", "raw"),
    ]
    assert counts.seen["hit memory transformed"] == 1


def test_a_transformed_answer_is_found_in_the_remote_tier(make, model, request_for, half, remote):
    async def play() -> tuple[str, str]:
        warm = make(transform=half, remote=remote)
        await warm.get_or_compute([request_for(a=2)], model)
        await warm.drain()
        cold = make(transform=half, remote=remote)
        (answer,) = await cold.get_or_compute([request_for(a=3)], model)
        return answer.source, answer.matched

    assert asyncio.run(play()) == ("remote", "transformed")
    assert len(model.calls) == 1


def test_a_row_without_a_transformed_key_is_computed(make, model, request_for, half):
    cache = make(transform=half)

    async def play() -> list[str]:
        return [(await cache.get_or_compute([request_for(a=n)], model))[0].source for n in (-1, -2)]

    assert asyncio.run(play()) == ["computed", "computed"]


@pytest.mark.parametrize("made", [[], [None, None], "fails", [("k", b"not marked")]])
def test_a_transformation_that_misbehaves_costs_misses(make, model, request_for, made):
    async def transform(requests: Any) -> Any:
        if made == "fails":
            raise ValueError("no such vocabulary")
        from tfx_encore.cache.row_request import TransformedRow

        return [item and TransformedRow(*item) for item in made]

    cache, row = make(transform=transform), request_for(a=1)
    assert asyncio.run(cache.get_or_compute([row], model))[0].data == model.says(row)
