"""Of several processes one computes a row; the others wait a while for it. asyncio.

A lease only saves work: an answer that came by waiting is judged as any other of the remote tier,
and whatever goes wrong with leases costs a computation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from tfx_encore.cache.computing import Computing
from tfx_encore.cache.entry import Entry, SharedEntries
from tfx_encore.cache.invalidation import InvalidationState
from tfx_encore.cache.lookup import Lookup
from tfx_encore.cache.observer import CacheObserver
from tfx_encore.cache.row_request import Answer, Compute, RowRequest, TransformedRow
from tfx_encore.cache.tiers import RemoteTier

Make = Callable[[Sequence[bytes]], Awaitable[Sequence[Entry]]]
"""Computes the entries of row keys, in their order."""


class Lease(Protocol):
    """Says which process computes what; `cache.redis_lease.RedisLease` does."""

    async def compute_once(
        self, keys: Sequence[bytes], store: SharedEntries, compute: Make
    ) -> list[Entry]:
        """Returns the entries of row keys, by `compute` or, after a bounded wait, from `store`.

        Args:
            keys: each once.
            store: where those who computed left their entries.
            compute: called for the keys that no other process computes, and for those that it
                left undone.
        """
        ...


class Leasing:
    """Computes rows that are in no tier under leases.

    Args:
        lease: who computes what.
        remote: the tier that the processes share; leases are left alone while it fails.
        lookup: finds what others have computed.
        computing: calls the model.
        state: what has been withdrawn; on old knowledge nothing is taken from others.
        observer: told when a lease fails.
    """

    def __init__(
        self,
        lease: Lease,
        remote: RemoteTier,
        lookup: Lookup,
        computing: Computing,
        *,
        state: InvalidationState,
        observer: CacheObserver,
    ) -> None:
        self._lease = lease
        self._remote = remote
        self.lookup = lookup
        self.computing = computing
        self.state = state
        self._observer = observer

    def serves(self, requests: Sequence[RowRequest]) -> bool:
        """True if leases are to be used for these rows now."""
        keys = {request.key for request in requests}
        return (
            self._remote.breaker.is_closed
            and self.state.is_current()
            and len(keys) == len(requests)
        )

    async def call(
        self,
        requests: Sequence[RowRequest],
        compute: Compute,
        shared: Sequence[TransformedRow | None],
        settle: Callable[[int, Answer], None],
    ) -> None:
        """Computes rows, or takes over what other processes compute meanwhile.

        Args:
            requests: rows with different keys.
            compute: the model.
            shared: as `Computing.call` has it.
            settle: called once for each row as soon as its answer is there, with its place.

        Raises:
            Exception: whatever `compute` raised.
        """
        work = _Work(self, requests, compute, shared, settle)
        try:
            await self._lease.compute_once([request.key for request in requests], work, work.make)
        except Exception as error:
            if error is work.error:
                raise
            self._observer.tier_failed("lease", error)
        left = [request.key for request in requests if request.key not in work.done]
        if left:
            await work.make(left)


class _Work:
    """The rows of one call: computes them, and is the store in which a lease looks for them."""

    def __init__(
        self,
        leasing: Leasing,
        requests: Sequence[RowRequest],
        compute: Compute,
        shared: Sequence[TransformedRow | None],
        settle: Callable[[int, Answer], None],
    ) -> None:
        self._leasing = leasing
        self._requests = requests
        self._compute = compute
        self._shared = shared
        self._settle = settle
        self._places = {request.key: place for place, request in enumerate(requests)}
        self._write: asyncio.Task[None] | None = None
        self.done: set[bytes] = set()
        self.error: Exception | None = None

    async def make(self, keys: Sequence[bytes]) -> list[Entry]:
        """Computes rows; whoever waits for them in this process has them on return."""
        places = [self._places[key] for key in keys]
        requests = [self._requests[place] for place in places]
        shared = [self._shared[place] for place in places] if self._shared else ()
        try:
            answers, self._write = await self._leasing.computing.call(
                requests, self._compute, shared
            )
        except Exception as error:
            self.error = error
            raise
        for key, answer in zip(keys, answers, strict=True):
            self._end(key, answer)
        return [answer.entry for answer in answers]

    async def get_many(self, keys: Sequence[bytes]) -> list[Entry | None]:
        """Looks in the remote tier; what answers its row now is settled."""
        nothing: list[Entry | None] = [None] * len(keys)
        if not self._leasing.state.is_current():
            return nothing
        requests = [self._requests[self._places[key]] for key in keys]
        answers = await self._leasing.lookup.find_remote(requests)
        if not self._leasing.state.is_current():  # no longer, that may have taken a while
            return nothing
        for key, answer in zip(keys, answers, strict=True):
            if answer is not None:
                self._end(key, answer)
        return [answer and answer.entry for answer in answers]

    async def put_many(self, entries: Sequence[Entry]) -> int:
        """Waits until what was computed has been written, which began when it was."""
        if self._write is not None:
            await asyncio.wait({self._write})
        return len(entries)

    def _end(self, key: bytes, answer: Answer) -> None:
        if key not in self.done:
            self.done.add(key)
            self._settle(self._places[key], answer)
