"""Stores as the cache sees them: one that fails, lies or is slow costs misses. asyncio.

A tier returns entries whose key is the one asked for; everything else about an entry is for the
cache to judge.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from tfx_encore.cache.breaker import CircuitBreaker
from tfx_encore.cache.cache_policy import CachePolicy
from tfx_encore.cache.entry import Entry, LocalStore, RemoteStore
from tfx_encore.cache.observer import CacheObserver
from tfx_encore.cache.selection import matcher
from tfx_encore.cache.stats import TierStats
from tfx_encore.schemas.errors import StoreUnavailableError
from tfx_encore.schemas.records import InvalidationRecord, SelectAll, SelectFingerprint

T = TypeVar("T")


class _Tier:
    """What local and remote tiers have in common: a name, a breaker, who hears of failures."""

    def __init__(
        self,
        name: str,
        policy: CachePolicy,
        clock: Callable[[], float],
        observer: CacheObserver,
    ) -> None:
        self.name = name
        self.breaker = CircuitBreaker(
            policy.breaker, clock, lambda state: observer.breaker_moved(name, state)
        )
        self._observer = observer
        self.hits = 0
        self.hit_bytes = 0

    def _failed(self, error: Exception) -> None:
        self.breaker.failed()
        self._observer.tier_failed(self.name, error)

    def _not_removed(self, error: Exception) -> StoreUnavailableError:
        self._failed(error)
        return StoreUnavailableError(f"{self.name}: nothing was removed: {error}")


class LocalTier(_Tier):
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
        super().__init__(store.name, policy, clock, observer)
        self.store = store
        self._get = store.get
        self._put = store.put
        self.is_blocking = bool(getattr(store, "blocking", False))
        self._told_evictions = self._evictions()

    def get(self, key: bytes) -> Entry | None:
        """Returns the entry under a key, or None."""
        breaker = self.breaker
        if not breaker.is_closed and not breaker.allows():
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
        if not self.breaker.is_closed and not self.breaker.allows():
            return
        try:
            self._put(entry)
        except Exception as error:  # noqa: BLE001
            self._failed(error)
            return
        if self._evictions() != self._told_evictions:
            self.tell_evictions()

    def tell_evictions(self) -> None:
        """Tells the observer of evictions that it has not heard of."""
        now = self._evictions()
        if now > self._told_evictions:
            self._observer.evicted(self.name, now - self._told_evictions)
        self._told_evictions = now

    def stats(self) -> TierStats:
        """Returns what it holds and has given; cheap."""
        self.tell_evictions()
        # What would look at every entry of a file is left to `fingerprints`.
        count = None if self.is_blocking else getattr(self.store, "fingerprints", None)
        entries: int | None = None
        used: int | None = None
        of: dict[str, int] | None = None
        try:
            entries, used, of = len(self.store), self.store.bytes_used, count and count()
        except Exception as error:  # noqa: BLE001 - a store that is just being replaced
            self._failed(error)
        return TierStats(
            self.name,
            *(entries, used, getattr(self.store, "budget_bytes", None), of),
            *(self.hits, self.hit_bytes, self._told_evictions, self.breaker.state),
        )

    async def fingerprints(self) -> dict[str, int]:
        """Returns how many entries there are of each fingerprint; none if the store cannot tell.

        Raises:
            StoreUnavailableError: they cannot be looked at now.
        """
        return await self._look("fingerprints", {})

    async def sample(self, count: int, fingerprint: str | None = None) -> list[Entry]:
        """Returns up to `count` entries at random; none if the store cannot.

        Args:
            count: how many.
            fingerprint: whose; None for any.

        Raises:
            StoreUnavailableError: they cannot be looked at now.
        """
        return await self._look("sample", [], count, fingerprint)

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

    async def _look(self, name: str, nothing: T, *given: Any) -> T:
        method: Callable[..., T] | None = getattr(self.store, name, None)
        if method is None:
            return nothing
        try:
            if self.is_blocking:
                return await asyncio.to_thread(method, *given)
            return method(*given)
        except Exception as error:
            self._failed(error)
            raise StoreUnavailableError(f"{self.name}: {error}") from error

    def _evictions(self) -> int:
        return getattr(self.store, "evictions", 0)

    async def _run(self, method: Callable[[Any], int], argument: object) -> None:
        try:
            if self.is_blocking:
                await asyncio.to_thread(method, argument)
            else:
                method(argument)
        except Exception as error:
            raise self._not_removed(error) from error


class RemoteTier(_Tier):
    """A store behind a network.

    A store that says `read_seconds` and `write_seconds` keeps these bounds itself, as RedisStore
    does by its configuration; any other is held to the policy's.

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
        super().__init__(store.name, policy, clock, observer)
        self.store = store
        self._is_bounded = hasattr(store, "read_seconds") and hasattr(store, "write_seconds")
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
            found = await self._bounded(self.store.get_many(keys), self._read_seconds)
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

    def put_later(
        self, entries: Sequence[Entry], still: Callable[[Entry], bool]
    ) -> asyncio.Task[None] | None:
        """Writes entries without keeping anyone waiting; drops them if too much is under way.

        Args:
            entries: to be written.
            still: asked of each entry just before: whether it is worth keeping.

        Returns:
            The write; None if there is none.
        """
        if not entries:
            return None
        if len(self._writes) >= self._max_writes:
            self._observer.writes_dropped(self.name, len(entries))
            return None
        task = asyncio.get_running_loop().create_task(self._put(entries, still))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
        return task

    def stats(self) -> TierStats:
        """Returns what it has given; what it holds is for its server to say."""
        nothing = (None, None, None, None)
        return TierStats(self.name, *nothing, self.hits, self.hit_bytes, 0, self.breaker.state)

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
        if isinstance(record.selector, SelectAll):
            await self.clear(None)
        elif isinstance(record.selector, SelectFingerprint):
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

    async def _bounded(self, call: Awaitable[T], seconds: float) -> T:
        return await (call if self._is_bounded else within(call, seconds))

    async def _put(self, entries: Sequence[Entry], still: Callable[[Entry], bool]) -> None:
        kept = [entry for entry in entries if still(entry)]
        if not kept or not self.breaker.allows():
            return
        try:
            await self._bounded(self.store.put_many(kept), self._write_seconds)
        except Exception as error:  # noqa: BLE001
            self._failed(error)
        else:
            self.breaker.succeeded()

    async def _run(self, call: Awaitable[int]) -> None:
        try:
            await call
        except Exception as error:
            raise self._not_removed(error) from error


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
