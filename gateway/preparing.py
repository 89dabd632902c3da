"""Makes a version ready to answer: loaded, replayed, planned, warmed. asyncio.

Nothing of a version is seen by a client before all of this is done, and nothing of it that fails
touches the version that is being served.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from tfx_encore.gateway.batching import Alone, Batcher
from tfx_encore.gateway.batching_parameters import BatchingParameters
from tfx_encore.gateway.batching_port import Runner
from tfx_encore.gateway.errors import Code, ServingError
from tfx_encore.gateway.model_cache import ModelCache
from tfx_encore.gateway.model_port import LoadedModel, ModelLoader
from tfx_encore.gateway.models.cache_config import CacheConfig
from tfx_encore.gateway.models.cacheability import plans
from tfx_encore.gateway.models.manager import Aspired
from tfx_encore.gateway.models.warmup import replay
from tfx_encore.gateway.observer import GatewayObserver
from tfx_encore.gateway.servable import Servable
from tfx_encore.gateway.transformed import TransformedKeys
from tfx_encore.metadata.fingerprint import fingerprint_saved_model
from tfx_encore.metadata.night_snapshots import snapshots_of
from tfx_encore.metadata.releases import ReleaseDirectory
from tfx_encore.schemas.errors import EncoreError
from tfx_encore.schemas.release import Certificate, Manifest

log = logging.getLogger("tfx_encore.gateway")


@dataclass(frozen=True)
class PreparingOptions:
    """What is the same for every version.

    Attributes:
        cache: which signatures are cached, and how.
        merged: how misses of several requests are batched.
        merge_uncached: True if requests that are not cached are batched too, as TensorFlow Serving
            does with `--enable_batching`.
        warm_up_iterations: how often the warm-up file is replayed; 0 for not at all.
    """

    cache: CacheConfig
    merged: BatchingParameters
    merge_uncached: bool = False
    warm_up_iterations: int = 1


class Preparer:
    """Makes servables.

    Args:
        loader: loads models.
        options: the same for every version.
        cache_of: returns the cache of a model, opened. Given the model's name and the release
            directory that its versions are in, if it is one.
        transforms: learns of each version's transformed rows.
        observer: told of batches.
    """

    def __init__(
        self,
        loader: ModelLoader,
        options: PreparingOptions,
        cache_of: Callable[[str, ReleaseDirectory | None], Awaitable[ModelCache]],
        transforms: TransformedKeys,
        observer: GatewayObserver,
    ) -> None:
        self._loader = loader
        self._options = options
        self._cache_of = cache_of
        self._transforms = transforms
        self._observer = observer

    async def prepare(self, aspired: Aspired) -> Servable:
        """Returns a version that is ready to answer.

        Raises:
            ServingError: it cannot be served; says why in one line.
        """
        begun = time.monotonic()
        releases = release_directory(aspired)
        fingerprint, manifest = await asyncio.to_thread(_identify, aspired, releases)
        model = await self._loader.load(aspired.model, aspired.version, aspired.path)
        try:
            servable = await self._servable(aspired, model, fingerprint, manifest, releases)
        except BaseException:
            await model.close()
            raise
        log.info(
            "version ready model=%s version=%d fingerprint=%s warmed=%d seconds=%.1f",
            *(aspired.model, aspired.version, fingerprint, servable.warmed),
            time.monotonic() - begun,
        )
        return servable

    async def _servable(
        self,
        aspired: Aspired,
        model: LoadedModel,
        fingerprint: str,
        manifest: Manifest | None,
        releases: ReleaseDirectory | None,
    ) -> Servable:
        options = self._options
        for _ in range(options.warm_up_iterations):
            await replay(model, aspired.path, self._observer)
        certificate: Certificate | None = manifest.certificate if manifest else None
        setting = options.cache.setting(aspired.model)
        planned = await plans(model, aspired.path, certificate, setting)
        is_cached = any(plan.mode != "off" for plan in planned.values())
        cache = await self._cache_of(aspired.model, releases) if is_cached else None
        merged: Runner = Batcher(model, options.merged, self._observer)
        alone: Runner = (
            merged if options.merge_uncached else Alone(model, options.merged, self._observer)
        )
        servable = Servable(
            model,
            fingerprint,
            plans=planned,
            cache=cache.cache if cache else None,
            merged=merged,
            alone=alone,
            path=aspired.path,
        )
        if cache is not None:
            await self._warm(servable, cache, aspired, releases)
        return servable

    async def _warm(
        self,
        servable: Servable,
        cache: ModelCache,
        aspired: Aspired,
        releases: ReleaseDirectory | None,
    ) -> None:
        by_rows = [name for name, plan in servable.plans.items() if plan.mode == "rows"]
        found: tuple[Path, ...] = ()
        if releases is not None:
            home, version = releases.path, aspired.version
            found = snapshots_of(home.parent, home.name, version, servable.fingerprint)
        newest = found[0] if found else None
        await self._transforms.learn(servable.fingerprint, aspired.path, by_rows, newest)
        shared = self._transforms.of(servable.fingerprint)
        for snapshot in found if by_rows else ():  # a damaged one gives way to the one before
            report = await cache.warm(snapshot, servable.fingerprint, shared)
            if report is not None:
                servable.warmed = report.entries - report.withdrawn
            if report is not None or not await cache.established(0.0):
                break


def release_directory(aspired: Aspired) -> ReleaseDirectory | None:
    """Returns the release directory that a version is in; None if it is in a plain base path."""
    home = Path(aspired.path).parent
    if not (home / "labels.json").is_file():
        return None
    return ReleaseDirectory(home.parent, home.name)


def _identify(aspired: Aspired, releases: ReleaseDirectory | None) -> tuple[str, Manifest | None]:
    """Returns the fingerprint of what lies there, and what its release says of it.

    Raises:
        ServingError: the content is not what was pushed.
    """
    try:
        fingerprint = fingerprint_saved_model(aspired.path)
        manifest = releases.manifest(aspired.version) if releases else None
    except EncoreError as error:
        raise ServingError(Code.NOT_FOUND, str(error)) from error
    if manifest is not None and manifest.fingerprint != fingerprint:
        raise ServingError(
            Code.DATA_LOSS,
            f"{aspired.path} has changed since it was pushed: its content is {fingerprint}, its "
            f"manifest says {manifest.fingerprint}; push it as a new version",
        )
    return fingerprint, manifest
