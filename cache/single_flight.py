"""One computation for each thing asked for at once, within a process. asyncio, one event loop.

Whoever asks first leads: it settles the flight. Whoever asks while the answer is under way waits
for the same flight. A failure reaches all of them. Each caller waits on one future of its own,
however many flights it waits for, so that a caller that is cancelled leaves the others and the
computation alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Hashable, Iterable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Wait(Generic[T]):
    """A caller's wait for flights; filled by `SingleFlight`."""

    __slots__ = ("_errors", "_future", "_left", "_results")

    def __init__(self, flights: int) -> None:
        self._left = flights
        self._results: list[T | None] = [None] * flights
        self._errors: dict[int, BaseException] | None = None
        self._future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def results(self) -> list[T]:
        """Returns the results, once all are there; raises the first error in their order."""
        if self._left:
            await self._future
        if self._errors:
            raise self._errors[min(self._errors)]
        return self._results  # type: ignore[return-value]

    def succeed(self, place: int, result: T) -> None:
        """Notes the result of one flight."""
        self._results[place] = result
        self._left -= 1
        if not self._left and not self._future.done():
            self._future.set_result(None)

    def fail(self, place: int, error: BaseException) -> None:
        """Notes the error of one flight."""
        if self._errors is None:
            self._errors = {}
        self._errors[place] = error
        self._left -= 1
        if not self._left and not self._future.done():
            self._future.set_result(None)


class SingleFlight(Generic[K, T]):
    """Flights that are under way, by key: who waits for each, and where they want it."""

    def __init__(self) -> None:
        self._flights: dict[K, list[tuple[Wait[T], int]]] = {}

    def __len__(self) -> int:
        """How many keys are under way."""
        return len(self._flights)

    def begin(self, keys: Iterable[K]) -> list[K]:
        """Begins the flights that are not under way; the caller must settle them, in this order."""
        mine = [key for key in keys if key not in self._flights]
        for key in mine:
            self._flights[key] = []
        return mine

    def join(self, keys: Collection[K]) -> tuple[list[K], Wait[T]]:
        """Joins flights, and begins those that are not under way.

        Args:
            keys: each key once.

        Returns:
            The keys that this caller must settle, in their order, and what it waits on for all.
        """
        flights = self._flights
        wait: Wait[T] = Wait(len(keys))
        mine: list[K] = []
        for place, key in enumerate(keys):
            waits = flights.get(key)
            if waits is None:
                flights[key] = [(wait, place)]
                mine.append(key)
            else:
                waits.append((wait, place))
        return mine, wait

    def settle(self, key: K, result: T) -> None:
        """Gives all who wait for a key its result."""
        for wait, place in self._flights.pop(key, ()):
            wait.succeed(place, result)

    def fail(self, keys: Iterable[K], error: BaseException) -> None:
        """Gives all who wait for any of these keys the error; those settled before keep theirs."""
        for key in keys:
            for wait, place in self._flights.pop(key, ()):
                wait.fail(place, error)
