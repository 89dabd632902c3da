"""The gateway in one process: models, caches, wire services, put together and taken apart. asyncio.

What is served is listened for only once every model that was there at the start has loaded or
failed, as TensorFlow Serving does, so that no client meets a half-started server.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
from pathlib import Path
from typing import Any

import yaml

from tfx_encore.cache.crypto import load_key_ring
from tfx_encore.cache.follower import LedgerPort
from tfx_encore.gateway.batching_parameters import BatchingParameters, unbounded
from tfx_encore.gateway.batching_parameters_file import read_batching_parameters
from tfx_encore.gateway.cache_book import CacheBook
from tfx_encore.gateway.errors import ServingError
from tfx_encore.gateway.metrics import GatewayMetrics
from tfx_encore.gateway.model_cache import CacheParts, ModelCache
from tfx_encore.gateway.model_port import ModelLoader
from tfx_encore.gateway.models.cache_config import CacheConfig
from tfx_encore.gateway.models.config_source import ConfigSource, SourcePolicy
from tfx_encore.gateway.models.local_model import LocalLoader
from tfx_encore.gateway.models.manager import ManagerPolicy, ModelManager, close_servable
from tfx_encore.gateway.models.releases_source import ReleasesSource
from tfx_encore.gateway.models.sources import Source
from tfx_encore.gateway.models.upstream_model import UpstreamLoader
from tfx_encore.gateway.monitoring_config import metrics_path
from tfx_encore.gateway.preparing import Preparer, PreparingOptions
from tfx_encore.gateway.request_log import TfRecordRequestLog
from tfx_encore.gateway.request_log_policy import RequestLogPolicy
from tfx_encore.gateway.rest.listen import Listener as RestListener
from tfx_encore.gateway.rest.listen import serve_rest
from tfx_encore.gateway.rest.log_converter import make_converter
from tfx_encore.gateway.rest.service import RestService
from tfx_encore.gateway.routing import Router
from tfx_encore.gateway.routing_board import RoutingBoard
from tfx_encore.gateway.rpc.health import Health
from tfx_encore.gateway.rpc.server import MAX_MESSAGE_BYTES, GrpcListener, serve_grpc
from tfx_encore.gateway.rpc.service import GrpcService
from tfx_encore.gateway.servable import Servable
from tfx_encore.gateway.server_admin import ServerAdmin
from tfx_encore.gateway.settings import GatewaySettings, Opener
from tfx_encore.gateway.siblings import Siblings
from tfx_encore.gateway.signature import Signature
from tfx_encore.gateway.status import VersionState
from tfx_encore.gateway.tls import read_ssl_config
from tfx_encore.gateway.transformed import TransformedKeys
from tfx_encore.metadata.journal_ledger import JournalLedger
from tfx_encore.metadata.releases import ReleaseDirectory
from tfx_encore.schemas.errors import ConfigError

log = logging.getLogger("tfx_encore.gateway")

_RELEASES_POLL_SECONDS = 0.2


class GatewayServer:
    """Everything that one process serves.

    Args:
        settings: what is served, and how.
        board: by which several workers agree; None for one process alone.
        worker: number of this process, from 0.

    Raises:
        ConfigError: a file that the settings name cannot be read, or says what cannot be.
    """

    def __init__(
        self, settings: GatewaySettings, *, board: RoutingBoard | None = None, worker: int = 0
    ) -> None:
        self.settings = settings
        self.worker = worker
        self.rest_port = self.grpc_port = 0
        self.consumer = settings.consumer + (f"/{worker}" if settings.workers > 1 else "")
        self.is_draining = False
        self.caches = CacheBook(self._open_cache)
        self.transforms = TransformedKeys()
        self._board = board
        self._config = _cache_config(settings)
        self._ledger = _ledger(settings)
        self.router = Router(board.behind, board.catch_up) if board else Router()
        if board is not None:
            board.attach(self.router.publish)
        self.metrics = GatewayMetrics(probe=self.caches.metrics)
        self.request_log = self._make_log()
        self._loader = _loader(settings)
        self.manager = self._make_manager()
        self._siblings = Siblings(board.folder, worker) if board else None
        self._services: list[RestService | GrpcService] = []
        self._listeners: list[RestListener | GrpcListener] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Loads what is there, then listens.

        Raises:
            EncoreError: nothing can be served, or a port cannot be listened on.
        """
        if self._board is not None:
            self._tasks.append(asyncio.create_task(self._board.run()))
        if self.request_log is not None:
            self.request_log.start()
        await self.manager.follow(self._source())
        with contextlib.suppress(ServingError):  # what failed is in its status, and in the log
            await self.manager.settled(self.manager.names())
        while self._is_loading():
            await asyncio.sleep(0.05)
        if self._board is not None:
            await self._board.admitted()
        await self._listen()
        # What is here now stays: a collection of all of it would hold up every request for long.
        gc.collect()
        gc.freeze()
        log.info(
            "serving rest_port=%d grpc_port=%d models=%s",
            *(self.rest_port, self.grpc_port, ",".join(self.manager.names())),
        )

    async def stop(self, grace_seconds: float) -> None:
        """Stops listening, lets what is under way end, lets go of everything.

        Args:
            grace_seconds: time for requests under way.
        """
        self.is_draining = True
        await asyncio.sleep(self.settings.lame_duck_seconds)
        await asyncio.gather(*(listener.close(grace_seconds) for listener in self._listeners))
        for service in self._services:
            if isinstance(service, RestService):
                service.close()
        await self.manager.close()
        await self.caches.close()
        if self.request_log is not None:
            await self.request_log.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._board is not None:
            self._board.close()
        if isinstance(self._loader, LocalLoader):
            self._loader.close()

    async def admin(self, command: dict[str, Any]) -> dict[str, Any]:
        """Answers a request of `encore cache` (`admin_messages`).

        Raises:
            EncoreError: it cannot be done.
        """
        return await ServerAdmin(self).answer(command)

    def ready(self) -> tuple[bool, str]:
        """Tells whether requests should come here, and in one line what is missing."""
        if self.is_draining:
            return False, "draining"
        return self.manager.ready()

    def _is_loading(self) -> bool:
        """True while a version that is wanted has neither loaded nor failed."""
        unsettled = (VersionState.START, VersionState.LOADING)
        for name in self.manager.names():
            with contextlib.suppress(ServingError):  # nothing is known of it yet
                if any(status.state in unsettled for status in self.manager.status(name)):
                    return True
        return False

    def poke(self) -> None:
        """Looks for versions, labels and records now."""
        self.manager.poke()
        for cache in self.caches.opened():
            cache.wake()

    # --- making the parts ------------------------------------------------------------------------

    def _make_manager(self) -> ModelManager:
        settings = self.settings
        # Without --enable_batching nothing is refused that TensorFlow Serving would not refuse.
        parameters = BatchingParameters() if settings.enable_batching else unbounded()
        if settings.batching_parameters_file:
            parameters = read_batching_parameters(settings.batching_parameters_file)
        options = PreparingOptions(
            cache=self._config,
            merged=parameters,
            merge_uncached=settings.enable_batching,
            warm_up_iterations=settings.warmup_iterations,
        )
        preparer = Preparer(self._loader, options, self.caches.get, self.transforms, self.metrics)
        policy = ManagerPolicy(
            num_load_threads=settings.num_load_threads,
            max_num_load_retries=settings.max_num_load_retries,
            load_retry_interval_micros=settings.load_retry_interval_micros,
        )
        return ModelManager(
            self.router,
            preparer.prepare,
            self.metrics,
            policy,
            agree=self._board.agree if self._board else None,
            close=self._close_servable,
        )

    def _source(self) -> Source:
        settings = self.settings
        if settings.releases is not None:
            return ReleasesSource(
                settings.releases, seconds=_RELEASES_POLL_SECONDS, only=settings.model_name
            )
        policy = SourcePolicy(
            file_system_poll_wait_seconds=settings.file_system_poll_wait_seconds,
            model_config_file_poll_wait_seconds=settings.model_config_file_poll_wait_seconds,
            allow_version_labels_for_unavailable_models=(
                settings.allow_version_labels_for_unavailable_models
            ),
            force_allow_any_version_labels_for_unavailable_models=(
                settings.force_allow_any_version_labels_for_unavailable_models
            ),
        )
        if settings.model_config_file:
            return ConfigSource(policy, file=settings.model_config_file)
        return ConfigSource(policy, config=_one_model(settings))

    def _make_log(self) -> TfRecordRequestLog | None:
        settings = self.settings
        if not settings.request_log_dir:
            return None
        policy = RequestLogPolicy(
            directory=Path(settings.request_log_dir),
            rate=settings.request_log_rate,
            max_per_minute=settings.request_log_max_per_minute,
            rotate_seconds=settings.request_log_rotate_seconds,
            keep_days=settings.request_log_keep_days,
        )
        return TfRecordRequestLog(
            policy,
            converter=make_converter(self._signature_of),
            observer=self.metrics,
            knows=lambda model: bool(self.router.routes(model).versions),
        )

    def _signature_of(self, model: str, version: int, name: str) -> Signature | None:
        servable = self.router.routes(model).versions.get(version)
        return servable.model.signatures.get(name) if servable else None

    async def _open_cache(self, model: str, releases: ReleaseDirectory | None) -> ModelCache:
        """Opens the cache of a model, when its first version that is cached is made ready."""
        settings = self.settings
        parts = CacheParts(
            directory=Path(settings.cache_dir) if settings.cache_dir else None,
            redis=settings.redis,
            redis_lease=settings.redis_lease,
            key_ring=load_key_ring(settings.encryption) if settings.encryption else None,
            consumer=self.consumer,
            poll_seconds=settings.ledger_poll_seconds,
            worker=self.worker,
        )
        cache = ModelCache(
            model,
            self._config.setting(model).policy,
            parts,
            ledger=self._ledger_of(releases),
            ledger_model=releases.model if releases else model,
            observer=self.metrics.cache(model),
            transform=self.transforms,
            on_erase=self._clear_raw,
        )
        await cache.open()
        return cache

    def _ledger_of(self, releases: ReleaseDirectory | None) -> LedgerPort | None:
        if self.settings.ledger != "journal":
            return self._ledger
        return JournalLedger(releases.path.parent) if releases else None

    def _clear_raw(self) -> None:
        for service in self._services:
            service.raw.clear()

    async def _close_servable(self, servable: Servable) -> None:
        await close_servable(servable)
        for service in self._services:
            if isinstance(service, GrpcService):
                service.sweep()  # whole responses let go of the version; REST looks by itself
        others = self.router.routes(servable.name).versions.values()
        if all(other.fingerprint != servable.fingerprint for other in others):
            self.transforms.forget(servable.fingerprint)
            if servable.path and not Path(servable.path).exists():
                await self.caches.forget(servable.name, servable.fingerprint)

    # --- listening -------------------------------------------------------------------------------

    async def _listen(self) -> None:
        settings = self.settings
        shares = settings.workers > 1
        if settings.rest_api_port is not None:
            rest = self._rest()
            port = settings.rest_api_port
            try:
                listener = await serve_rest(rest, settings.host, port, reuse_port=shares)
            except OSError as error:
                raise ConfigError(
                    f"{settings.host}:{port} cannot be listened on: {error.strerror}",
                    key="rest_api_port",
                ) from error
            self._add(rest, listener)
            self.rest_port = listener.port
        if settings.port is not None or settings.grpc_socket_path:
            await self._listen_grpc(shares=shares)

    async def _listen_grpc(self, *, shares: bool) -> None:
        settings = self.settings
        grpc = GrpcService(
            self.router,
            self.manager,
            self.metrics,
            self.request_log,
            headers=settings.cache_headers,
            raw_bytes=settings.raw_cache_bytes,
        )
        listener = await serve_grpc(
            grpc,
            settings.host,
            settings.port,
            tls=read_ssl_config(settings.ssl_config_file) if settings.ssl_config_file else None,
            max_message_bytes=settings.max_body_bytes or MAX_MESSAGE_BYTES,
            reuse_port=shares,
            channel_arguments=settings.channel_arguments(),
            uds=settings.grpc_socket_path,
            health=Health(lambda: self.ready()[0])
            if settings.enable_grpc_healthcheck_service
            else None,
        )
        self._add(grpc, listener)
        self.grpc_port = listener.port

    def _rest(self) -> RestService:
        settings = self.settings
        paths = ["/metrics"]
        if settings.monitoring_config_file:
            path = metrics_path(settings.monitoring_config_file)
            paths += [path] if path else []
        return RestService(
            self.router,
            self.manager,
            self.metrics,
            self.request_log,
            headers=settings.cache_headers,
            metrics=self._metrics_page,
            ready=lambda: self.ready()[0],
            max_body_bytes=settings.max_body_bytes,
            raw_bytes=settings.raw_cache_bytes,
            metrics_paths=paths,
            timeout_seconds=settings.rest_api_timeout_in_ms / 1000,
            cors=settings.rest_api_enable_cors_support,
        )

    def _add(self, service: RestService | GrpcService, listener: Any) -> None:
        self._services.append(service)
        self._listeners.append(listener)

    async def _metrics_page(self) -> tuple[str, bytes]:
        """The metrics of this worker, and of all that share its ports."""
        if self._siblings is not None:
            self.metrics.merge(await self._siblings.states())
        return self.metrics.render()


# --- what the settings say -----------------------------------------------------------------------


def _cache_config(settings: GatewaySettings) -> CacheConfig:
    if settings.cache_config is None:
        return CacheConfig()
    document = yaml.safe_load(Path(settings.cache_config).read_text(encoding="utf-8"))
    return CacheConfig.parse(document, settings.cache_config)


def _loader(settings: GatewaySettings) -> ModelLoader:
    if settings.upstream is not None:
        return UpstreamLoader(settings.upstream)
    return LocalLoader(
        threads=max(2, os.cpu_count() or 1),
        intra_op=settings.intra_op_threads,
        inter_op=settings.inter_op_threads,
    )


def _ledger(settings: GatewaySettings) -> LedgerPort | None:
    if isinstance(settings.ledger, Opener):
        opened: LedgerPort = settings.ledger.open()
        return opened
    return None


def _one_model(settings: GatewaySettings) -> Any:
    from tensorflow_serving.config import model_server_config_pb2

    config = model_server_config_pb2.ModelServerConfig()
    config.model_config_list.config.add(
        name=settings.model_of_base_path,
        base_path=settings.model_base_path,
        model_platform="tensorflow",
    )
    return config
