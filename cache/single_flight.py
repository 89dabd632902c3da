"""One computation for each thing asked for at once, within a process. asyncio, one event loop.

Whoever asks first leads: it gets the futures to fill. Whoever asks while the answer is under way
gets the same future. A failure reaches all of them. A caller that is cancelled leaves the others
and the computation alone, as long as futures are waited for with `wait_for_all`, which never
cancels them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Iterable, Sequence
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class SingleFlight(Generic[K, T]):
    """Futures of what is under way, by key."""

    def __init__(self) -> None:
        self._flights: dict[K, asyncio.Future[T]] = {}

    def __len__(self) -> int:
        """How many keys are under way."""
        return len(self._flights)

    def join(self, keys: Iterable[K]) -> tuple[list[K], list[asyncio.Future[T]]]:
        """Joins flights, and begins those that are not under way.

        Args:
            keys: each key once.

        Returns:
            The keys that this caller must settle, in their order, and a future for each key.
        """
        loop = asyncio.get_running_loop()
        mine: list[K] = []
        futures = []
        for key in keys:
            future = self._flights.get(key)
            if future is None:
                future = self._flights[key] = loop.create_future()
                future.add_done_callback(_retrieve)
                mine.append(key)
            futures.append(future)
        return mine, futures

    def settle(self, key: K, result: T) -> None:
        """Gives all who wait for a key its result."""
        future = self._flights.pop(key, None)
        if future is not None and not future.done():
            future.set_result(result)

    def fail(self, keys: Iterable[K], error: BaseException) -> None:
        """Gives all who wait for any of these keys the error; those settled before keep theirs."""
        for key in keys:
            future = self._flights.pop(key, None)
            if future is not None and not future.done():
                future.set_exception(error)


async def wait_for_all(futures: Sequence[asyncio.Future[T]]) -> list[T]:
    """Returns the results in order, or raises the first error in order.

    Cancelling the caller does not cancel the futures.
    """
    pending = [future for future in futures if not future.done()]
    if pending:
        await asyncio.wait(pending)
    return [future.result() for future in futures]


def _retrieve(future: asyncio.Future[T]) -> None:
    """Looks at the error, so that asyncio does not report it where every caller was cancelled."""
    if not future.cancelled():
        future.exception()
