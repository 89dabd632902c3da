"""What ml_metadata's errors mean, as errors of our tree."""

from __future__ import annotations

from typing import NoReturn

from ml_metadata import errors

from tfx_encore.schemas.errors import LedgerError, LedgerUnavailableError, LedgerVersionError

# Words by which a database says that it is busy or gone, not that the request is wrong.
_BUSY = (
    "database is locked",
    "table is locked",
    "deadlock found",
    "lock wait timeout",
    "record has changed since last read",  # MariaDB, where innodb_snapshot_isolation is on
)
_GONE = (
    "lost connection",
    "server has gone away",
    "can't connect",
    "too many connections",
    "mysql_real_connect failed",
)
_UNAVAILABLE = (
    errors.UnavailableError,
    errors.DeadlineExceededError,
    errors.AbortedError,
    errors.CancelledError,
)


def raise_mapped(error: Exception, name: str) -> NoReturn:
    """Raises the error of our tree for one that ml_metadata raised on a call.

    Args:
        error: an `ml_metadata.errors.StatusError`.
        name: what a person would call the store.
    """
    message = reason_of(error)
    if isinstance(error, _UNAVAILABLE) or is_transient(message):
        raise LedgerUnavailableError(
            f"{name} cannot be reached now: {message or type(error).__name__}; check that the "
            f"server runs, then try again"
        ) from error
    if isinstance(error, errors.FailedPreconditionError) and "version" in message:
        raise LedgerVersionError(
            f"{name} was written by another version of ml-metadata: {message}; use that version"
        ) from error
    raise LedgerError(f"{name} refused: {type(error).__name__}: {message}") from error


def is_transient(message: str) -> bool:
    """True if the same call may succeed later."""
    text = message.lower()
    return any(words in text for words in (*_BUSY, *_GONE))


def is_contention(error: LedgerUnavailableError) -> bool:
    """True if another writer was in the way, so that trying again at once is right."""
    text = str(error).lower()
    aborted = isinstance(error.__cause__, errors.AbortedError)
    return aborted or any(words in text for words in _BUSY)


def reason_of(error: Exception) -> str:
    """Returns what the store said, one line of at most 300 characters, without its SQL."""
    text = str(error).strip()
    if text.startswith("mysql_query"):  # the whole query, then `errno: ..., error: ...`
        text = text.rpartition(", error: ")[2]
    return text.partition("\n")[0][:300]
