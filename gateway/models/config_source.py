"""The source that a `tensorflow.serving.ModelServerConfig` describes. asyncio.

It comes from `--model_config_file`, from `--model_name` and `--model_base_path`, or from
HandleReloadConfigRequest; the newest one counts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tfx_encore.gateway.errors import ServingError, invalid
from tfx_encore.gateway.models.aspirations import Aspirations
from tfx_encore.gateway.models.manager import ModelManager
from tfx_encore.gateway.models.model_config import (
    ModelSettings,
    Served,
    check_config,
    in_file,
    parse_text,
    read_text,
    settings_of,
)
from tfx_encore.gateway.models.releases_source import ReleaseReader, is_release_directory
from tfx_encore.gateway.models.sources import BasePath, Once, PolledSource, Watch
from tfx_encore.schemas.errors import EncoreError

log = logging.getLogger("tfx_encore.gateway")


class SourcePolicy(BaseModel):
    """How a configuration and base paths are followed. The names are TensorFlow Serving's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file_system_poll_wait_seconds: float = Field(
        default=1.0,
        description="pause between two looks at a base path; 0 to look once; negative for never",
    )
    model_config_file_poll_wait_seconds: float = Field(
        default=0.0, description="pause between two looks at the file; 0 or negative to look once"
    )
    allow_version_labels_for_unavailable_models: bool = Field(
        default=False,
        description="a label that is not assigned yet may name a version that does not answer yet",
    )
    force_allow_any_version_labels_for_unavailable_models: bool = Field(
        default=False, description="any label may name a version that does not answer yet"
    )
    fail_if_no_model_versions_found: bool = Field(
        default=False, description="refuse a configuration with a model that has no version"
    )


class ConfigSource:
    """Follows the base paths that a configuration names.

    Args:
        policy: how.
        config: a `ModelServerConfig` to start with.
        file: holds the one to start with, instead.
    """

    def __init__(
        self, policy: SourcePolicy, *, config: Any = None, file: str | None = None
    ) -> None:
        if (config is None) == (file is None):
            raise ValueError("either a configuration or a file that holds one")
        self._policy = policy
        self._first = config
        self._file = file
        self._manager: ModelManager | None = None
        self._config: Any = None
        self._settings: dict[str, ModelSettings] = {}
        self._sources: dict[str, PolledSource] = {}
        self._lock = asyncio.Lock()
        # One more than the models, so that a base path that hangs holds up nobody else's.
        self._threads = ThreadPoolExecutor(16, "encore-base-path")
        self._once = Once(file or "")
        self._watch: Watch | None = None

    async def start(self, manager: ModelManager) -> None:
        """Begins to serve the configuration; does not wait until it is loaded.

        Raises:
            ConfigError: the file cannot be read, or says what cannot be; names the line.
            ServingError: the configuration that was given cannot be.
        """
        self._manager = manager
        if self._file is None:
            await self._apply(self._first)
            return
        await self._apply_file(self._file)
        seconds = self._policy.model_config_file_poll_wait_seconds
        if seconds > 0:
            self._watch = Watch(self._look_at_file, seconds, self._file)
            await self._watch.start()

    def poke(self) -> None:
        """Looks at everything at once."""
        if self._watch is not None:
            self._watch.poke()
        for source in self._sources.values():
            source.poke()

    async def reload(self, config: Any) -> None:
        """As `status.Models.reload`."""
        if config.WhichOneof("config") != "model_config_list":
            # model_servers/model_service_impl.cc, HandleReloadConfigRequest.
            raise invalid(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. Only "
                "ModelConfigList is currently supported"
            )
        # A client that goes away must not leave half of it done.
        new = await asyncio.shield(asyncio.ensure_future(self._apply(config)))
        await self._known_manager().settled(new)

    async def close(self) -> None:
        """Stops looking."""
        if self._watch is not None:
            await self._watch.close()
        for source in self._sources.values():
            await source.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    # --- the file --------------------------------------------------------------------------------

    async def _look_at_file(self) -> None:
        """Applies the file if it says something else than what is served; as server.cc polls it."""
        problem = ""
        try:
            await self._apply_file(self._file or "")
        except EncoreError as error:
            problem = str(error)
        self._once.say(problem)

    async def _apply_file(self, path: str) -> None:
        text = await asyncio.get_running_loop().run_in_executor(self._threads, read_text, path)
        config = parse_text(text, path)
        if config == self._config:
            return
        if config.WhichOneof("config") is None:
            log.info("model config is empty file=%s: nothing is done", path)
            return
        try:
            await self._apply(config)
        except ServingError as error:
            raise in_file(error, path, text) from error

    # --- applying --------------------------------------------------------------------------------

    def _known_manager(self) -> ModelManager:
        if self._manager is None:
            raise ValueError("not started")
        return self._manager

    async def _apply(self, config: Any) -> list[str]:
        """Serves a configuration; returns the models that are new.

        Raises:
            ServingError: it cannot be; nothing has changed.
        """
        async with self._lock:
            await self._check(config)
            settings = settings_of(config)
            before, self._settings, self._config = self._settings, settings, _copy(config)
            for name in before.keys() - settings.keys():
                await self._sources.pop(name).close()
                self._known_manager().remove(name)
            changed = [name for name in settings if settings[name] != before.get(name)]
            await asyncio.gather(*(self._follow(settings[name]) for name in changed))
            log.info("model config applied models=%d changed=%d", len(settings), len(changed))
            return [name for name in settings if name not in before]

    async def _check(self, config: Any) -> None:
        labels = {name: settings.labels for name, settings in self._settings.items()}
        policy = self._policy
        now = Served(
            self._config,
            labels,
            self._known_manager().is_available,
            allow_unavailable=policy.allow_version_labels_for_unavailable_models,
            allow_any=policy.force_allow_any_version_labels_for_unavailable_models,
        )
        check_config(config, now)
        if self._policy.fail_if_no_model_versions_found:
            for settings in settings_of(config).values():
                base = BasePath(settings.name, settings.base_path, settings.policy)
                await asyncio.get_running_loop().run_in_executor(self._threads, base.require)

    async def _follow(self, settings: ModelSettings) -> None:
        """Follows a model as it is configured now."""
        name, manager = settings.name, self._known_manager()
        if name in self._sources:
            await self._sources[name].close()
        manager.trouble(name, "")
        seconds = self._policy.file_system_poll_wait_seconds
        source = PolledSource(manager, name, _reader(settings), seconds, self._threads)
        self._sources[name] = source
        await source.start()


def _reader(settings: ModelSettings) -> Callable[[], Aspirations | None]:
    """Returns what reads the base path: once it was a release directory it stays one."""
    base = BasePath(settings.name, settings.base_path, settings.policy)
    labels = dict(settings.labels)
    release = None if settings.is_explicit else ReleaseReader(settings.base_path)
    is_release = False

    def read() -> Aspirations | None:
        nonlocal is_release
        if release is not None:
            is_release = is_release or is_release_directory(settings.base_path)
            if is_release:
                return release.read()
        return Aspirations(base.wanted(), labels)

    return read


def _copy(config: Any) -> Any:
    copy = type(config)()
    copy.CopyFrom(config)
    return copy
