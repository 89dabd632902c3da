"""Sources say which versions of which models are wanted; here: those under a base path. asyncio.

As tensorflow_serving/sources/storage_path/file_system_storage_path_source.cc. A file system may
hang: it is only ever looked at in threads, and each model's base path in a task of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from tfx_encore.gateway.errors import ServingError, invalid, not_found
from tfx_encore.gateway.models.aspirations import Aspirations
from tfx_encore.gateway.models.file_set import FileSet, file_set
from tfx_encore.gateway.models.version_policy import VersionPolicy, find_versions
from tfx_encore.schemas.errors import EncoreError

log = logging.getLogger("tfx_encore.gateway")


class VersionSink(Protocol):
    """What a source tells, and asks: `manager.ModelManager`."""

    def aspire(self, model: str, aspirations: Aspirations) -> None:
        """Says what is wanted of a model from now on."""
        ...

    def remove(self, model: str) -> None:
        """Serves a model no more."""
        ...

    def trouble(self, model: str, reason: str) -> None:
        """Says why it is not known now what is wanted; empty when it is known again."""
        ...

    def failed(self, model: str) -> Mapping[int, tuple[str, FileSet]]:
        """Versions that could not be loaded: path, and the files that were there then."""
        ...

    def try_again(self, model: str, version: int) -> None:
        """Loads a version that failed, now."""
        ...


class Source(Protocol):
    """Whoever knows what is to be served."""

    async def start(self, sink: Any) -> None:
        """Looks once, and goes on looking.

        Raises:
            EncoreError: it cannot be served at all.
        """
        ...

    def poke(self) -> None:
        """Looks at once."""
        ...

    async def reload(self, config: Any) -> None:
        """Serves what a `tensorflow.serving.ModelServerConfig` says.

        Raises:
            ServingError: it cannot be.
        """
        ...

    async def close(self) -> None:
        """Stops looking."""
        ...


class Watch:
    """Looks again and again.

    Args:
        look: what is done.
        seconds: pause between two looks; 0 to look once and then only when poked; negative to look
            only when poked.
        name: of what is looked at, for the log.
    """

    def __init__(self, look: Callable[[], Awaitable[None]], seconds: float, name: str) -> None:
        self._look = look
        self._seconds = seconds
        self._name = name
        self._poked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Looks once, unless it is never to look, and begins."""
        if self._seconds >= 0:
            await self._once()
        self._task = asyncio.create_task(self._run())

    def poke(self) -> None:
        """Looks at once."""
        self._poked.set()

    async def close(self) -> None:
        """Stops."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        pause = self._seconds if self._seconds > 0 else None
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._poked.wait(), pause)
            self._poked.clear()
            await self._once()

    async def _once(self) -> None:
        try:
            await self._look()
        except Exception:
            # One look that fails must not be the last one.
            log.exception("look failed at=%s", self._name)


class Once:
    """Logs a problem when it begins, changes or ends, not at every look."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._said = ""

    def say(self, problem: str) -> None:
        """Tells the log, unless it knows; empty for no problem."""
        if problem and problem != self._said:
            log.error("source problem model=%s problem=%r", self._model, problem)
        elif self._said and not problem:
            log.info("source problem over model=%s", self._model)
        self._said = problem


class Retries:
    """Has versions that failed tried again when their directory has changed and come to rest.

    Args:
        sink: knows which failed.
        model: whose versions.
    """

    def __init__(self, sink: VersionSink, model: str) -> None:
        self._sink = sink
        self._model = model
        self._seen: dict[int, FileSet] = {}

    async def look(self, threads: ThreadPoolExecutor) -> None:
        """Compares what is there with what was there at the failed load and at the last look."""
        failed = self._sink.failed(self._model)
        self._seen = {number: seen for number, seen in self._seen.items() if number in failed}
        for number, (path, tried) in failed.items():
            found = await asyncio.get_running_loop().run_in_executor(threads, file_set, path)
            if found != tried and self._seen.get(number) == found:
                log.info("files changed model=%s version=%d: loading again", self._model, number)
                self._sink.try_again(self._model, number)
            self._seen[number] = found


class BasePath:
    """The versions under one base path, as a version policy wants them. Blocking; no asyncio.

    Args:
        model: the model's name.
        path: the base path.
        policy: which versions are wanted.
    """

    def __init__(self, model: str, path: str, policy: VersionPolicy) -> None:
        self.model = model
        self.path = path
        self.policy = policy
        self._warned: tuple[str, ...] = ()

    def wanted(self) -> dict[int, str]:
        """Returns version -> path of what is there and wanted.

        Raises:
            ServingError: INVALID_ARGUMENT, the base path is not there or cannot be read.
        """
        try:
            found = find_versions(entry.name for entry in Path(self.path).iterdir())
        except OSError as error:
            raise self._unreadable(error) from error
        wanted = self.policy.wanted(found.versions)
        self._warn(found.ignored, tuple(map(str, self.policy.missing(found.versions))), wanted)
        return {number: f"{self.path.rstrip('/')}/{name}" for number, name in wanted.items()}

    def require(self) -> None:
        """Checks that there is a version (`--fail_if_no_model_versions_found`).

        Raises:
            ServingError: NOT_FOUND, there is none; INVALID_ARGUMENT as `wanted`.
        """
        if not self.wanted():
            raise not_found(
                f"Unable to find a numerical version path for servable {self.model} at: {self.path}"
            )

    def _unreadable(self, error: OSError) -> ServingError:
        is_gone = isinstance(error, FileNotFoundError)
        reason = f"NOT_FOUND: {self.path} not found" if is_gone else f"UNKNOWN: {error}"
        return invalid(
            f"Could not find base path {self.path} for servable {self.model} with error {reason}"
        )

    def _warn(
        self, ignored: tuple[str, ...], missing: tuple[str, ...], wanted: Mapping[int, str]
    ) -> None:
        """Says once what is odd about the base path."""
        lines = [f"directory {name} is ignored: another one means the same" for name in ignored]
        lines += [f"version {number} is to be served, but is not there" for number in missing]
        if not wanted:
            lines.append("no directory is named by a number, as 1")
        odd = tuple(lines)
        if odd != self._warned:
            for line in odd:
                log.warning("base path model=%s path=%s: %s", self.model, self.path, line)
        self._warned = odd


class PolledSource:
    """Follows what is wanted of one model.

    Args:
        sink: told what is wanted.
        model: the model's name.
        read: returns what is wanted, or None if that has not changed; runs in a thread.
        seconds: pause between two looks, as `Watch`.
        threads: where it runs.
    """

    def __init__(
        self,
        sink: VersionSink,
        model: str,
        read: Callable[[], Aspirations | None],
        seconds: float,
        threads: ThreadPoolExecutor,
    ) -> None:
        self._sink = sink
        self._model = model
        self._read = read
        self._threads = threads
        self._retries = Retries(sink, model)
        self._once = Once(model)
        self._watch = Watch(self.look, seconds, model)

    async def start(self) -> None:
        """Looks once, and goes on looking."""
        await self._watch.start()

    def poke(self) -> None:
        """Looks at once."""
        self._watch.poke()

    async def close(self) -> None:
        """Stops looking; what is wanted stays wanted."""
        await self._watch.close()

    async def look(self) -> None:
        """Says what is wanted now; if that cannot be known, what is served stays."""
        problem, wanted = "", None
        try:
            wanted = await asyncio.get_running_loop().run_in_executor(self._threads, self._read)
        except EncoreError as error:
            problem = str(error)
        tell(self._sink, self._model, wanted, problem)
        self._once.say(problem)
        await self._retries.look(self._threads)


def tell(sink: VersionSink, model: str, wanted: Aspirations | None, problem: str) -> None:
    """Tells what a look has found: news, nothing new, or a problem."""
    sink.trouble(model, problem)
    if wanted is not None:
        sink.aspire(model, wanted)
