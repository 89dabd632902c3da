"""One computation at a time, and everyone who waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from tfx_encore.cache.single_flight import SingleFlight


def run(play: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(play, 5))


def test_who_asks_first_leads_and_all_get_the_result_where_they_asked_for_it():
    async def play() -> None:
        flights: SingleFlight[str, int] = SingleFlight()
        mine, first = flights.join(["a", "b"])
        others, second = flights.join(["c", "b", "a"])
        assert (mine, others) == (["a", "b"], ["c"])
        for key, result in (("b", 2), ("c", 3), ("a", 1)):
            flights.settle(key, result)
        assert await first.results() == [1, 2]
        assert await second.results() == [3, 2, 1]
        assert len(flights) == 0

    run(play())


def test_results_are_waited_for_until_the_last_is_there():
    async def play() -> list[int]:
        flights: SingleFlight[str, int] = SingleFlight()
        _, wait = flights.join(["a", "b"])
        task = asyncio.create_task(wait.results())
        flights.settle("a", 1)
        await asyncio.sleep(0.01)
        assert not task.done()
        flights.settle("b", 2)
        return await task

    assert run(play()) == [1, 2]


def test_a_caller_that_is_cancelled_leaves_the_others():
    async def play() -> list[int]:
        flights: SingleFlight[str, int] = SingleFlight()
        waits = [flights.join(["a", "b"])[1] for _ in range(3)]
        tasks = [asyncio.create_task(wait.results()) for wait in waits]
        await asyncio.sleep(0)
        tasks[0].cancel()
        flights.settle("a", 1)
        tasks[2].cancel()
        flights.settle("b", 2)
        return await tasks[1]

    assert run(play()) == [1, 2]


def test_the_first_error_in_the_order_of_the_keys_is_raised_once_all_are_done():
    async def play() -> None:
        flights: SingleFlight[str, int] = SingleFlight()
        _, wait = flights.join(["a", "b", "c"])
        task = asyncio.create_task(wait.results())
        flights.fail(["c"], ValueError("late"))
        flights.settle("a", 1)
        await asyncio.sleep(0.01)
        assert not task.done()
        flights.fail(["b"], KeyError("first"))
        with pytest.raises(KeyError, match="first"):
            await task

    run(play())


def test_a_flight_that_ended_is_begun_anew_and_ending_it_twice_changes_nothing():
    async def play() -> list[int]:
        flights: SingleFlight[str, int] = SingleFlight()
        _, failed = flights.join(["a"])
        flights.fail(["a"], ValueError("no"))
        flights.settle("a", 9)
        mine, wait = flights.join(["a"])
        assert mine == ["a"]
        flights.settle("a", 1)
        flights.fail(["a"], ValueError("late"))
        with pytest.raises(ValueError, match="no"):
            await failed.results()
        return await wait.results()

    assert run(play()) == [1]


def test_beginning_without_waiting_lets_others_join():
    async def play() -> list[int]:
        flights: SingleFlight[str, int] = SingleFlight()
        assert flights.begin(["a", "b"]) == ["a", "b"]
        assert flights.begin(["b", "c"]) == ["c"]
        mine, wait = flights.join(["b"])
        assert mine == []
        flights.settle("b", 2)
        return await wait.results()

    assert run(play()) == [2]


def test_an_error_that_nobody_waits_for_any_more_is_not_reported():
    async def play() -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, what: told.append(what))
        flights: SingleFlight[str, int] = SingleFlight()
        _, wait = flights.join(["a"])
        task = asyncio.create_task(wait.results())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        flights.fail(["a"], ValueError("no"))
        del wait, task
        await asyncio.sleep(0)
        return told

    assert run(play()) == []
