"""How a gateway's log looks: one line an event on standard error."""

from __future__ import annotations

import logging
import sys
import time
from typing import TextIO

NAME = "tfx_encore.gateway"


class _Lines(logging.Formatter):
    """`2026-11-20T18:50:46.123Z INFO  worker=1 version ready model=taxi version=2`."""

    def __init__(self, worker: int | None) -> None:
        super().__init__()
        self._worker = "" if worker is None else f"worker={worker} "

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        # An event is one line, whatever a client has put into a name.
        event = record.getMessage().replace("\n", "\\n").replace("\r", "\\r")
        line = f"{moment}.{int(record.msecs):03d}Z {record.levelname:<7} {self._worker}{event}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def configure(level: str, *, worker: int | None = None, stream: TextIO | None = None) -> None:
    """Sends the gateway's events to a stream.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        worker: number of this process if there are several.
        stream: standard error if left out.
    """
    log = logging.getLogger(NAME)
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_Lines(worker))
    log.handlers[:] = [handler]
    log.propagate = False
    log.setLevel(level.upper())
