"""The caches of all models of this process, opened when they are first needed. asyncio."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator

from tfx_encore.gateway.metrics_probe import ModelCacheStats
from tfx_encore.gateway.model_cache import ModelCache
from tfx_encore.metadata.releases import ReleaseDirectory
from tfx_encore.schemas.errors import EncoreError

Open = Callable[[str, "ReleaseDirectory | None"], Awaitable[ModelCache]]


class CacheBook:
    """One cache for each model, whatever number of its versions are loaded.

    Args:
        opened: opens the cache of a model.
    """

    def __init__(self, opened: Open) -> None:
        self._open = opened
        self._caches: dict[str, asyncio.Task[ModelCache]] = {}

    async def get(self, model: str, releases: ReleaseDirectory | None) -> ModelCache:
        """Returns a model's cache, opening it the first time.

        Raises:
            EncoreError: it cannot be opened; the next call tries again.
        """
        task = self._caches.get(model)
        if task is None or (task.done() and (task.cancelled() or task.exception())):
            opening = self._open(model, releases)
            task = self._caches[model] = asyncio.ensure_future(opening)
        return await asyncio.shield(task)

    def opened(self) -> Iterator[ModelCache]:
        """The caches that are open."""
        for task in self._caches.values():
            if task.done() and not task.cancelled() and task.exception() is None:
                yield task.result()

    def find(self, model: str) -> ModelCache | None:
        """Returns a model's cache if it is open."""
        return next((cache for cache in self.opened() if cache.model == model), None)

    async def forget(self, model: str, fingerprint: str) -> None:
        """Removes the answers of a version that retention has removed."""
        cache = self.find(model)
        if cache is not None:
            with contextlib.suppress(EncoreError):  # they are never served, and expire
                await cache.cache.forget(fingerprint)

    def metrics(self) -> list[ModelCacheStats]:
        """What the page of metrics says of each cache."""
        return [cache.stats() for cache in self.opened()]

    async def close(self) -> None:
        """Closes every cache."""
        for cache in list(self.opened()):
            await cache.close()
