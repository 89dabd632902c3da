"""One writer at a time in a release directory."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tfx_encore.schemas.errors import ReleaseBusyError

_POLL_SECONDS = 0.02


@contextmanager
def exclusive(path: Path, timeout_seconds: float) -> Iterator[None]:
    """Holds an advisory lock (flock) on `path`; the kernel frees it when the process dies.

    Raises:
        ReleaseBusyError: another process held it for all of `timeout_seconds`.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        _acquire(descriptor, path, timeout_seconds)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: Path, timeout_seconds: float) -> None:
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
        else:
            return
        if time.monotonic() >= deadline:
            raise ReleaseBusyError(
                f"another process is changing {path.parent} (waited {timeout_seconds:g} s); "
                "try again when it has finished, or raise lock_timeout_seconds"
            )
        time.sleep(_POLL_SECONDS)
