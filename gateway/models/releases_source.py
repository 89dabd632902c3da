"""Sources that follow release directories: what a push made live is what is served. asyncio.

`labels.json` is replaced in one step and what it counts is on disk before, so a look at its stamp
is enough to know that nothing has changed.
"""

from __future__ import annotations

import asyncio
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from tfx_encore.gateway.errors import Code, ServingError
from tfx_encore.gateway.models.aspirations import Aspirations
from tfx_encore.gateway.models.sources import Once, Retries, VersionSink, Watch, tell
from tfx_encore.metadata.release_state import ReleaseState
from tfx_encore.metadata.releases import ReleaseDirectory, list_models
from tfx_encore.schemas.errors import EncoreError, ReleaseCorruptError

log = logging.getLogger("tfx_encore.gateway")

LABELS = "labels.json"
STABLE = "stable"


def wanted_of(state: ReleaseState, home: Path) -> Aspirations:
    """Returns what a release directory says is to be served."""
    served = state.served()
    default = state.labels.get(STABLE, max(served, default=None))
    versions = {version: str(home / str(version)) for version in served}
    return Aspirations(versions, dict(state.labels), default, release=True)


def is_release_directory(path: str) -> bool:
    """True if a base path is a release directory."""
    return (Path(path) / LABELS).is_file()


class ReleaseReader:
    """Reads one release directory, if it has changed. Blocking.

    Args:
        home: the directory of one model's releases.
    """

    def __init__(self, home: str | os.PathLike[str]) -> None:
        self._home = Path(home)
        self._stamp: tuple[int, int, int] | None = None

    def read(self) -> Aspirations | None:
        """Returns what is to be served; None if nothing has changed since it was last returned.

        Raises:
            ReleaseError: it cannot be known now.
            ConfigError: the directory's name cannot be a model's.
        """
        stamp = self._look()
        if stamp is not None and stamp == self._stamp:
            return None
        state = ReleaseDirectory(self._home.parent, self._home.name).state()
        if stamp is None:
            raise ReleaseCorruptError(
                f"{self._home / LABELS} is not there; what was served before stays"
            )
        self._stamp = stamp
        return wanted_of(state, self._home)

    def _look(self) -> tuple[int, int, int] | None:
        try:
            stat = (self._home / LABELS).stat()
        except OSError:
            return None  # reading it says better what is wrong
        return stat.st_ino, stat.st_mtime_ns, stat.st_size


class _Reading(NamedTuple):
    model: str
    wanted: Aspirations | None
    problem: str


class ReleasesSource:
    """Follows every release directory below a root; new ones are picked up.

    A directory that is removed, or becomes unreadable, goes on being served as it was: take its
    labels away first.

    Args:
        root: holds the release directories.
        seconds: pause between two looks; as `Watch`.
        only: the one model to serve; None for all.
    """

    def __init__(
        self, root: str | os.PathLike[str], seconds: float = 0.5, only: str | None = None
    ) -> None:
        self._root = Path(root).absolute()
        self._only = only
        self._readers: dict[str, ReleaseReader] = {}
        self._followed: dict[str, tuple[Once, Retries]] = {}
        self._sink: VersionSink | None = None
        self._threads = ThreadPoolExecutor(1, "encore-releases")
        self._watch = Watch(self._look, seconds, str(self._root))

    async def start(self, sink: VersionSink) -> None:
        """Looks once, and goes on looking."""
        self._sink = sink
        if not self._root.is_dir():
            log.warning("releases root=%s is not there yet; waiting for a first push", self._root)
        await self._watch.start()

    def poke(self) -> None:
        """Looks at once."""
        self._watch.poke()

    async def reload(self, config: Any) -> None:
        """Refuses: what is served is what was pushed.

        Raises:
            ServingError: FAILED_PRECONDITION, always.
        """
        del config
        raise ServingError(
            Code.FAILED_PRECONDITION,
            "Cannot transition to requested config. This server serves what is pushed to its "
            "release directories; push a version there or move a label (`encore label set`).",
        )

    async def close(self) -> None:
        """Stops looking."""
        await self._watch.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _look(self) -> None:
        sink = self._sink
        if sink is None:
            return
        readings = await asyncio.get_running_loop().run_in_executor(self._threads, self._read)
        for model, wanted, problem in readings:
            if model not in self._followed:
                self._followed[model] = Once(model), Retries(sink, model)
            tell(sink, model, wanted, problem)
            self._followed[model][0].say(problem)
        for _, retries in self._followed.values():
            await retries.look(self._threads)

    def _read(self) -> list[_Reading]:
        """Looks at every model's directory; in the thread."""
        for model in (self._only,) if self._only is not None else list_models(self._root):
            self._readers.setdefault(model, ReleaseReader(self._root / model))
        return [_read(model, reader) for model, reader in self._readers.items()]


def _read(model: str, reader: ReleaseReader) -> _Reading:
    try:
        return _Reading(model, reader.read(), "")
    except (EncoreError, OSError) as error:
        return _Reading(model, None, str(error))
