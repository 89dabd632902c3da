"""Following a ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tfx_encore.cache.follower import Follower
from tfx_encore.cache.invalidation import InvalidationState
from tfx_encore.schemas.errors import LedgerUnavailableError, StoreUnavailableError
from tfx_encore.schemas.records import Cause


class Line:
    """A checkpoint in memory."""

    def __init__(self) -> None:
        self.line: str | None = None

    def load(self) -> str | None:
        return self.line

    def save(self, line: str) -> None:
        self.line = line


@pytest.fixture
def done() -> list[Any]:
    """What the follower asked of the cache."""
    return []


@pytest.fixture
def follower(ledger, clock, done) -> Callable[..., Follower]:
    """Makes a follower of the fake ledger, with a state of its own."""

    def make(**given: Any) -> Follower:
        async def erase(record: Any) -> None:
            done.append(record.sequence)

        async def forget() -> None:
            done.append("forget")

        state = InvalidationState("taxi", 60.0, clock)
        defaults: dict[str, Any] = {"erase": erase, "forget": forget, "clock": clock}
        return Follower(ledger, state, "gateway@a", **(defaults | given))

    return make


def poll(made: Follower) -> bool:
    return asyncio.run(made.poll())


def test_it_applies_and_acknowledges_each_record_in_order(follower, ledger, record):
    ledger.held = [record(n) for n in (1, 2, 3)]
    made = follower()
    assert poll(made)
    assert made.state.generation == 3
    assert [ack.sequence for ack in ledger.acks.values()] == [1, 2, 3]
    assert {ack.consumer for ack in ledger.acks.values()} == {"gateway@a"}


def test_an_empty_ledger_establishes_the_state(follower):
    made = follower()
    assert made.seconds_since_last_read() is None
    assert poll(made)
    assert made.state.generation == 0
    assert made.state.is_current()


def test_more_records_than_a_page_are_all_applied(follower, ledger, record):
    ledger.held = [record(n, Cause.MODEL_PUSHED, fingerprint="f") for n in range(1, 1203)]
    made = follower()
    assert poll(made)
    assert made.state.generation == 1202


def test_a_ledger_that_cannot_be_reached_lets_the_state_grow_old(follower, ledger, clock):
    made = follower()
    poll(made)
    ledger.fails = LedgerUnavailableError("down")
    clock.now += 61.0
    assert not poll(made)
    assert not made.state.is_current()
    assert made.seconds_since_last_read() == 61.0
    assert made.failures == 1
    assert "down" in str(made.last_error)
    ledger.fails = None
    assert poll(made)
    assert made.state.is_current()
    assert made.last_error is None


def test_age_counts_from_before_the_reading(follower, ledger, clock):
    made = follower()
    read = ledger.records

    def slow(*args: Any, **kwargs: Any) -> Any:
        clock.now += 5.0
        return read(*args, **kwargs)

    ledger.records = slow
    poll(made)
    assert made.seconds_since_last_read() == 5.0


def test_a_gap_withdraws_at_once_but_does_not_count_as_read(follower, ledger, record, clock):
    made = follower()
    ledger.held = [record(1)]
    poll(made)
    clock.now += 50.0
    changes = made.state.changes
    ledger.held = [record(1), record(3)]
    assert not poll(made)
    assert "record 2 is missing" in str(made.last_error)
    assert made.state.generation == 1
    assert made.state.changes > changes
    assert made.seconds_since_last_read() == 50.0
    ledger.held = [record(n) for n in (1, 2, 3)]
    assert poll(made)
    assert made.state.generation == 3


def test_an_erasure_is_acknowledged_only_once_it_is_done(follower, ledger, record, done):
    tries = []

    async def erase(item: Any) -> None:
        tries.append(item.sequence)
        if len(tries) < 3:
            raise StoreUnavailableError("redis is down")

    ledger.held = [record(1), record(2, Cause.ERASURE), record(3)]
    made = follower(erase=erase)
    assert not poll(made)
    assert made.state.generation == 3
    assert made.state.is_current()
    assert [ack.sequence for ack in ledger.acks.values()] == [1]
    assert made.unfinished == 2
    poll(made)
    assert poll(made)
    assert tries == [2, 2, 2]
    assert [ack.sequence for ack in ledger.acks.values()] == [1, 2, 3]


def test_after_a_restart_what_was_acknowledged_is_not_erased_again(follower, ledger, record, done):
    ledger.held = [record(1, Cause.ERASURE), record(2, Cause.ERASURE)]
    poll(follower())
    assert done == [1, 2]
    ledger.held.append(record(3, Cause.ERASURE))
    again = follower()
    assert poll(again)
    assert done == [1, 2, 3]
    assert again.state.generation == 3


@pytest.mark.parametrize("now_held", [0, 1, 2])
def test_a_ledger_that_was_replaced_makes_everything_forgotten(
    follower, ledger, record, done, now_held
):
    ledger.held = [record(1), record(2)]
    made = follower()
    poll(made)
    ledger.held = [record(n, reason="another ledger") for n in range(1, now_held + 1)]
    assert poll(made)
    assert done == ["forget"]
    assert made.state.generation == now_held


def test_stores_filled_under_another_ledger_are_emptied_at_the_start(
    follower, ledger, record, done
):
    line = Line()
    ledger.held = [record(1), record(2)]
    poll(follower(checkpoint=line))
    poll(follower(checkpoint=line))
    assert done == []
    ledger.held = [record(1, reason="another ledger"), record(2, reason="another ledger")]
    made = follower(checkpoint=line)
    assert poll(made)
    assert done == ["forget"]
    assert made.state.is_current()
    poll(follower(checkpoint=line))
    assert done == ["forget"]


def test_nothing_is_served_until_stores_of_another_ledger_are_empty(follower, ledger, record):
    async def forget() -> None:
        raise StoreUnavailableError("redis is down")

    line = Line()
    ledger.held = [record(1)]
    poll(follower(checkpoint=line))
    ledger.held = []
    made = follower(checkpoint=line, forget=forget)
    assert not poll(made)
    assert not made.state.is_current()


def test_it_goes_on_following_and_can_be_woken(follower, ledger, record):
    made = follower(poll_seconds=30.0)

    async def play() -> int | None:
        task = asyncio.create_task(made.run())
        while not made.state.is_current():
            await asyncio.sleep(0.001)
        ledger.held = [record(1)]
        made.wake()
        while made.state.generation == 0:
            await asyncio.sleep(0.001)
        task.cancel()
        return made.state.generation

    assert asyncio.run(asyncio.wait_for(play(), 10)) == 1


def test_an_unforeseen_error_of_a_ledger_does_not_end_the_following(follower, ledger):
    made = follower()
    ledger.fails = RuntimeError("bug")
    assert not poll(made)
    ledger.fails = None
    assert poll(made)
