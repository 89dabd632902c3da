"""The numbers of the other workers behind the same ports, for one page of metrics. asyncio."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from tfx_encore.gateway.admin import ask_worker
from tfx_encore.gateway.metrics_numbers import without_gauges
from tfx_encore.gateway.runtime_folder import socket_path, sockets
from tfx_encore.schemas.errors import EncoreError

log = logging.getLogger("tfx_encore.gateway")

_SECONDS = 2.0


class Siblings:
    """Asks the other workers, and remembers what those that ended had counted.

    Args:
        folder: of the workers' sockets.
        worker: number of this worker.
    """

    def __init__(self, folder: Path, worker: int) -> None:
        self._folder = folder
        self._mine = socket_path(folder, worker)
        self._last: dict[Path, tuple[int, bytes]] = {}
        self._ended: list[bytes] = []

    async def states(self) -> list[bytes]:
        """Returns the newest state of each, and the counts of those that ended."""
        paths = [path for path in sockets(self._folder) if path != self._mine]
        found = await asyncio.gather(*(asyncio.to_thread(_ask, path) for path in paths))
        for path, state in zip(paths, found, strict=True):
            if state is not None:
                self._note(path, *state)
        silent = [last for path, (_, last) in self._last.items() if path not in paths]
        return [
            *(last for path, (_, last) in self._last.items() if path in paths),
            *map(without_gauges, silent),
            *self._ended,
        ]

    def _note(self, path: Path, pid: int, state: bytes) -> None:
        """A successor counts from nought: what its predecessor counted is kept, so sums grow."""
        before = self._last.get(path)
        if before is not None and before[0] != pid:
            self._ended.append(without_gauges(before[1]))
        self._last[path] = (pid, state)


def _ask(path: Path) -> tuple[int, bytes] | None:
    try:
        replies = ask_worker(path, {"command": "metrics"}, _SECONDS)
    except EncoreError as error:
        log.warning("a worker gave no metrics socket=%s reason=%r", path.name, str(error))
        return None
    return (replies[0]["pid"], replies[0]["state"].encode()) if replies else None
