"""Trying again while another writer of an ML Metadata store is in the way, for a bounded time."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from tfx_encore.metadata.mlmd_errors import is_contention
from tfx_encore.schemas.errors import LedgerError, LedgerUnavailableError

T = TypeVar("T")

PATIENCE_SECONDS = 30.0
_PAUSE_SECONDS = 0.02


def until_done(
    attempt: Callable[[], T | None],
    *,
    seconds: float = PATIENCE_SECONDS,
    lost: str = "another writer was first, again and again; try again",
) -> T:
    """Repeats an attempt that lost a race, or met another's transaction, for a bounded time.

    Args:
        attempt: returns None if it lost a race. It is made again as a whole: a database that
            refuses one statement has undone the transaction.
        seconds: how long to go on.
        lost: what the error says if it still loses its race then.

    Raises:
        LedgerError: it lost its race all the time.
        LedgerUnavailableError: the store is gone, or was busy all the time.
    """
    deadline = time.monotonic() + seconds
    while True:
        busy: LedgerUnavailableError | None = None
        try:
            done = attempt()
        except LedgerUnavailableError as error:
            done, busy = None, error
            if not is_contention(error):
                raise
        if done is not None:
            return done
        if time.monotonic() > deadline:
            raise busy or LedgerError(lost)
        time.sleep(random.uniform(0, 2 * _PAUSE_SECONDS))  # noqa: S311 - spreads the writers
