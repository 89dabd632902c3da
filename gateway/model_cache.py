"""The cache of one model in this process: stores, ledger's follower, snapshots. asyncio.

All versions of a model share it, since what a record withdraws, it withdraws of the model.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfx_encore.cache.cache_policy import CachePolicy
from tfx_encore.cache.checkpoint import FileCheckpoint
from tfx_encore.cache.crypto import KeyRing
from tfx_encore.cache.entry import LocalStore
from tfx_encore.cache.follower import Follower, LedgerPort
from tfx_encore.cache.inference_cache import InferenceCache
from tfx_encore.cache.invalidation import InvalidationState
from tfx_encore.cache.lmdb_store import LmdbStore
from tfx_encore.cache.memory_store import MemoryStore
from tfx_encore.cache.observer import CacheObserver
from tfx_encore.cache.redis_accelerator import InvalidationAccelerator
from tfx_encore.cache.redis_config import RedisConfig, safe_name
from tfx_encore.cache.redis_lease import RedisLease
from tfx_encore.cache.redis_store import RedisStore
from tfx_encore.cache.row_request import Transform
from tfx_encore.cache.snapshot_loader import LoadReport, Transformed, load_snapshot
from tfx_encore.gateway.metrics_probe import ModelCacheStats, TierStats
from tfx_encore.schemas.errors import EncoreError, StoreUnavailableError
from tfx_encore.schemas.records import InvalidationRecord

log = logging.getLogger("tfx_encore.gateway")


# What a kill loses costs misses; writing seldom costs the requests beside it less.
_FLUSH_SECONDS = 0.25


@dataclass(frozen=True)
class CacheParts:
    """What the caches of every model are made of.

    Attributes:
        directory: for stores that survive a restart; None for memory only.
        redis: the shared tier; None for none.
        redis_lease: whether one process at a time computes a row that several miss.
        key_ring: seals what is written to disk and to Redis; None for plain.
        consumer: who acknowledges records, as `gateway@host-1`.
        poll_seconds: pause between two looks at the ledger.
        worker: number of this process among those that share the directory.
    """

    directory: Path | None = None
    redis: RedisConfig | None = None
    redis_lease: bool = False
    key_ring: KeyRing | None = None
    consumer: str = "gateway"
    poll_seconds: float = 0.5
    worker: int = 0


class ModelCache:
    """The cache of one model.

    Args:
        model: the model's name, in the ledger and as a label of metrics.
        policy: what is kept and for how long.
        parts: what the stores are made of.
        ledger: where invalidation records are; None if nobody writes any.
        ledger_model: the model's name there, if it is served under another.
        observer: told what happens.
        transform: makes transformed rows, if any version has them.
        on_erase: lets go of whatever else holds answers (whole responses).

    Attributes:
        problem: why the last snapshot could not be loaded; empty if it could.
    """

    def __init__(
        self,
        model: str,
        policy: CachePolicy,
        parts: CacheParts,
        *,
        ledger: LedgerPort | None,
        ledger_model: str | None = None,
        observer: CacheObserver,
        transform: Transform | None = None,
        on_erase: Callable[[], None] = lambda: None,
    ) -> None:
        self.model = model
        self._parts = parts
        self._on_erase = on_erase
        age = policy.max_ledger_age_seconds if ledger is not None else None
        self.state = InvalidationState(ledger_model or model, age, time.monotonic)
        self._remote = self._make_remote()
        self.cache = InferenceCache(
            model,
            _local_stores(model, policy, parts),
            self._remote,
            policy=policy,
            state=self.state,
            transform=transform,
            observer=observer,
            lease=self._make_lease(),
        )
        self.follower = None if ledger is None else self._make_follower(ledger)
        self._accelerator = (
            InvalidationAccelerator(parts.redis, self.state.model)
            if parts.redis and ledger
            else None
        )
        self._tasks: list[asyncio.Task[None]] = []
        self.problem = ""

    async def open(self) -> None:
        """Begins to follow the ledger; reads it once before it returns, if it can be read."""
        if self.follower is None:
            return
        await self.follower.poll()
        self._report_trouble()
        self._tasks.append(asyncio.create_task(self.follower.run()))
        if self._accelerator is not None:
            self._tasks.append(asyncio.create_task(self._listen(self._accelerator)))

    async def close(self) -> None:
        """Stops following and closes the stores."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._accelerator is not None:
            await self._accelerator.close()
        await self.cache.close()

    def stats(self) -> ModelCacheStats:
        """What metrics ask."""
        tiers = [
            TierStats(
                tier.name,
                tier.bytes_used or 0,
                tier.fingerprints if tier.fingerprints is not None else {"": tier.entries or 0},
                is_shared=tier.name != "memory",
            )
            for tier in self.cache.stats()
        ]
        return ModelCacheStats(
            self.model,
            tiers,
            self.follower is not None,
            self.state.generation,
            self.state.seconds_since_last_read(),
        )

    def wake(self) -> None:
        """Looks at the ledger now."""
        if self.follower is not None:
            self.follower.wake()

    async def established(self, seconds: float) -> bool:
        """Waits until the ledger has been read once, for so long at most."""
        end = time.monotonic() + seconds
        while self.state.generation is None and time.monotonic() < end:
            self.wake()
            await asyncio.sleep(0.05)
        return self.state.generation is not None

    async def warm(
        self, snapshot: Path, fingerprint: str, transformed: Transformed | None = None
    ) -> LoadReport | None:
        """Loads a snapshot; None, and a line in the log, if it cannot be loaded.

        Args:
            snapshot: its directory.
            fingerprint: of the version that it warms.
            transformed: makes the transformed rows of that version.
        """
        self.problem = "" if await self.established(10.0) else "the ledger cannot be read"
        if not self.problem:
            try:
                return await load_snapshot(
                    self.cache, str(snapshot), fingerprint, transformed=transformed
                )
            except EncoreError as error:
                self.problem = str(error)
        log.warning("snapshot not loaded model=%s reason=%r", self.model, self.problem)
        return None

    def _make_lease(self) -> RedisLease | None:
        if self._remote is None or not self._parts.redis_lease:
            return None
        return RedisLease(self._remote.link, self.model)

    def _make_remote(self) -> RedisStore | None:
        if self._parts.redis is None:
            return None
        return RedisStore(self._parts.redis, self.model, cipher=self._parts.key_ring)

    def _make_follower(self, ledger: LedgerPort) -> Follower:
        parts = self._parts
        directory = parts.directory
        checkpoint = None
        if directory is not None:
            checkpoint = FileCheckpoint(_folder(directory, self.model) / f"ledger-{parts.worker}")
        return Follower(
            ledger,
            self.state,
            parts.consumer,
            erase=self._erase,
            forget=self._forget,
            checkpoint=checkpoint,
            poll_seconds=parts.poll_seconds,
        )

    async def _erase(self, record: InvalidationRecord) -> None:
        self._on_erase()
        await self.cache.erase(record)

    async def _forget(self) -> None:
        self._on_erase()
        await self.cache.forget()

    async def _listen(self, accelerator: InvalidationAccelerator) -> None:
        while True:
            await accelerator.wait(60.0)
            self.wake()

    def _report_trouble(self) -> None:
        error = self.follower.last_error if self.follower else None
        if error is not None:
            log.warning("ledger not read model=%s reason=%r", self.model, str(error))


def _folder(directory: Path, model: str) -> Path:
    name = safe_name(model)
    # Never hidden, never the folder above.
    folder = directory / (f"%2e{name[1:]}" if name.startswith(".") else name)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _local_stores(model: str, policy: CachePolicy, parts: CacheParts) -> Sequence[LocalStore]:
    stores: list[LocalStore] = []
    if policy.memory_bytes:
        stores.append(
            MemoryStore(
                policy.memory_bytes,
                eviction=policy.memory_eviction,
                packed=policy.memory_packed,
                max_entry_bytes=policy.max_entry_bytes,
            )
        )
    if policy.lmdb_bytes and parts.directory is not None:
        # A disk that refuses costs this tier, not the service.
        with contextlib.suppress(StoreUnavailableError):
            stores.append(
                LmdbStore(
                    _folder(parts.directory, model) / "answers",
                    policy.lmdb_bytes,
                    max_entry_bytes=policy.max_entry_bytes,
                    cipher=parts.key_ring,
                    flush_seconds=_FLUSH_SECONDS,
                )
            )
            return stores
        log.warning("no lmdb tier model=%s directory=%s", model, parts.directory)
    return stores
