"""Stores as the cache sees them: one that fails, lies or is slow costs misses. asyncio.

A tier returns entries whose key is the one asked for; everything else about an entry is for the
cache to judge.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from tfx_encore.cache.breaker import BreakerState, CircuitBreaker
from tfx_encore.cache.cache_policy import CachePolicy
from tfx_encore.cache.entry import Entry, LocalStore, RemoteStore
from tfx_encore.cache.observer import CacheObserver
from tfx_encore.cache.selection import matcher
from tfx_encore.schemas.errors import StoreUnavailableError
from tfx_encore.schemas.records import InvalidationRecord, SelectFingerprint

T = TypeVar("T")


class LocalTier:
    """A store in this process or on this host.

    Args:
        store: the store.
        policy: for the circuit breaker.
        clock: seconds, never going back.
        observer: told of failures.
    """

    def __init__(
        self,
        store: LocalStore,
        policy: CachePolicy,
        clock: Callable[[], float],
        observer: CacheObserver,
    ) -> None:
        self.store = store
        self.name = store.name
        self.breaker = CircuitBreaker(
            policy.breaker, clock, lambda state: observer.breaker_moved(store.name, state)
        )
        self._observer = observer
        self._get = store.get
        self.is_blocking = bool(getattr(store, "blocking", False))

    def get(self, key: bytes) -> Entry | None:
        """Returns the entry under a key, or None."""
        breaker = self.breaker
        if breaker.state is not BreakerState.CLOSED and not breaker.allows():
            return None
        try:
            entry = self._get(key)
            if entry is not None and entry.key != key:
                entry = None
        except Exception as error:  # noqa: BLE001 - whatever a store does, it costs a miss
            self._failed(error)
            return None
        if breaker.failures:
            breaker.succeeded()
        return entry

    def put(self, entry: Entry) -> None:
        """Keeps an entry if the store can."""
        if not self.breaker.allows():
            return
        try:
            self.store.put(entry)
        except Exception as error:  # noqa: BLE001
            self._failed(error)

    def drop(self, key: bytes) -> None:
        """Removes an entry that is of no use any more, if that takes no waiting."""
        if self.is_blocking:
            return
        try:
            self.store.remove([key])
        except Exception as error:  # noqa: BLE001
            self._failed(error)

    async def erase(self, record: InvalidationRecord) -> None:
        """Removes what a record covers; all there is, if the store cannot look at its entries.

        Raises:
            StoreUnavailableError: it could not.
        """
        erase = getattr(self.store, "erase", None)
        if erase is not None:
            await self._run(erase, matcher(record))
        else:
            await self._run(self.store.clear, None)

    async def clear(self, fingerprint: str | None) -> None:
        """Removes everything, or what is of a fingerprint.

        Raises:
            StoreUnavailableError: it could not.
        """
        await self._run(self.store.clear, fingerprint)

    def close(self) -> None:
        """Closes the store."""
        self.store.close()

    async def _run(self, method: Callable[[Any], int], argument: object) -> None:
        try:
            if self.is_blocking:
                await asyncio.to_thread(method, argument)
            else:
                method(argument)
        except Exception as error:
            self._failed(error)
            raise StoreUnavailableError(f"{self.name}: nothing was removed: {error}") from error

    def _failed(self, error: Exception) -> None:
        self.breaker.failed()
        self._observer.tier_failed(self.name, error)


class RemoteTier:
    """A store behind a network.

    Args:
        store: the store.
        policy: for the circuit breaker, the longest read and write, and how many writes may be
            under way.
        clock: seconds, never going back.
        observer: told of failures.
    """

    def __init__(
        self,
        store: RemoteStore,
        policy: CachePolicy,
        clock: Callable[[], float],
        observer: CacheObserver,
    ) -> None:
        self.store = store
        self.name = store.name
        self.breaker = CircuitBreaker(
            policy.breaker, clock, lambda state: observer.breaker_moved(store.name, state)
        )
        self._observer = observer
        self._read_seconds = policy.remote_timeout_seconds
        self._write_seconds = policy.remote_write_timeout_seconds
        self._max_writes = policy.max_pending_writes
        self._writes: set[asyncio.Task[None]] = set()

    async def get_many(self, keys: Sequence[bytes]) -> list[Entry | None]:
        """Returns the entries under `keys`, in their order; None where there is none."""
        nothing: list[Entry | None] = [None] * len(keys)
        if not keys or not self.breaker.allows():
            return nothing
        try:
            found = await within(self.store.get_many(keys), self._read_seconds)
            entries = list(found)
            if len(entries) != len(keys):
                raise StoreUnavailableError(f"{len(entries)} entries for {len(keys)} keys")
        except Exception as error:  # noqa: BLE001 - whatever a store does, it costs a miss
            self._failed(error)
            return nothing
        self.breaker.succeeded()
        return [
            entry if isinstance(entry, Entry) and entry.key == key else None
            for entry, key in zip(entries, keys, strict=True)
        ]

    def put_later(self, entries: Sequence[Entry], still: Callable[[Entry], bool]) -> None:
        """Writes entries without keeping anyone waiting; drops them if too much is under way.

        Args:
            entries: to be written.
            still: asked of each entry just before: whether it is worth keeping.
        """
        if not entries:
            return
        if len(self._writes) >= self._max_writes:
            self._observer.writes_dropped(self.name, len(entries))
            return
        task = asyncio.get_running_loop().create_task(self._put(entries, still))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def drain(self) -> None:
        """Waits for the writes that are under way."""
        if self._writes:
            await asyncio.wait(set(self._writes))

    async def erase(self, record: InvalidationRecord) -> None:
        """Removes what a record covers; all there is, if the store cannot look at its entries.

        Raises:
            StoreUnavailableError: it could not.
        """
        await self.drain()
        erase = getattr(self.store, "erase", None)
        if isinstance(record.selector, SelectFingerprint):
            await self.clear(record.selector.fingerprint)
        elif erase is not None:
            await self._run(erase(matcher(record)))
        else:
            await self.clear(None)

    async def clear(self, fingerprint: str | None) -> None:
        """Removes everything, or what is of a fingerprint.

        Raises:
            StoreUnavailableError: it could not.
        """
        await self.drain()
        await self._run(self.store.clear(fingerprint))

    async def close(self) -> None:
        """Waits for writes, then closes the store."""
        await self.drain()
        try:
            await within(self.store.close(), self._write_seconds)
        except Exception as error:  # noqa: BLE001
            self._observer.tier_failed(self.name, error)

    async def _put(self, entries: Sequence[Entry], still: Callable[[Entry], bool]) -> None:
        kept = [entry for entry in entries if still(entry)]
        if not kept or not self.breaker.allows():
            return
        try:
            await within(self.store.put_many(kept), self._write_seconds)
        except Exception as error:  # noqa: BLE001
            self._failed(error)
        else:
            self.breaker.succeeded()

    async def _run(self, call: Awaitable[int]) -> None:
        try:
            await call
        except Exception as error:
            self._failed(error)
            raise StoreUnavailableError(f"{self.name}: nothing was removed: {error}") from error

    def _failed(self, error: Exception) -> None:
        self.breaker.failed()
        self._observer.tier_failed(self.name, error)


async def within(call: Awaitable[T], seconds: float) -> T:
    """Returns what a call returns, if it does within a time.

    Unlike `asyncio.wait_for` it does not wait for a call that ignores its cancellation.

    Raises:
        TimeoutError: it did not; it has been told to stop.
    """
    task = asyncio.ensure_future(call)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if not done:
        task.add_done_callback(_ignore)
        task.cancel()
        raise TimeoutError(f"no answer within {seconds:g} s")
    return task.result()


def _ignore(task: asyncio.Future[Any]) -> None:
    if not task.cancelled():
        task.exception()
