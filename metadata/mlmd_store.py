"""An ML Metadata store: opening it safely, one call at a time, errors of our tree."""

from __future__ import annotations

import logging
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from ml_metadata import MetadataStore, errors
from ml_metadata.proto import metadata_store_pb2 as pb

from tfx_encore.metadata.mlmd_connection import (
    GrpcConnection,
    MysqlConnection,
    SqliteConnection,
    connection_config,
    describe,
)
from tfx_encore.metadata.mlmd_contention import until_done
from tfx_encore.metadata.mlmd_errors import is_contention, is_transient, raise_mapped, reason_of
from tfx_encore.schemas.errors import LedgerError, LedgerUnavailableError, LedgerVersionError

T = TypeVar("T")

_log = logging.getLogger(__name__)

# How long another process may take to make a store's tables. SQLite's are there in one moment, so
# that a database without them is soon known to be another program's.
_MAKING_SECONDS = 20.0
_MAKING_SECONDS_SQLITE_FILE = 2.0
_OPEN_PAUSE_SECONDS = 0.1
# How long a look goes on while others write: less than for writing, since followers look again.
_LOOK_SECONDS = 2.0


class MlmdStore:
    """One ML Metadata store, opened when it is first needed and again after a failure.

    Reading never creates anything: the file of a store that nobody has written to stays absent.
    Threads may share it; calls are made one at a time, as ml_metadata demands.

    Args:
        connection: a description, or one of ml_metadata's own configurations.
    """

    def __init__(self, connection: Any) -> None:
        described = isinstance(connection, (SqliteConnection, MysqlConnection, GrpcConnection))
        self.config = _tuned(connection_config(connection) if described else connection)
        self.name = describe(self.config)
        self._store: Any = None
        self._lock = threading.RLock()

    @contextmanager
    def reading(self) -> Iterator[Any]:
        """Yields the MetadataStore, or None if the store does not exist yet."""
        with self._lock, self._errors_mapped():
            yield self._opened(create=False)

    def look(self, get: Callable[[Any], list[T]]) -> list[T]:
        """Returns what `get` reads from the MetadataStore; [] if the store does not exist yet.

        Another writer's transaction can undo a look too, which is then made again.
        """

        def attempt() -> list[T]:
            with self.reading() as store:
                return get(store) if store else []

        return until_done(attempt, seconds=_LOOK_SECONDS)

    @contextmanager
    def writing(self) -> Iterator[Any]:
        """Yields the MetadataStore, which is created if need be.

        `ml_metadata.errors.AlreadyExistsError` passes through: it tells of a race.
        """
        with self._lock, self._errors_mapped():
            yield self._opened(create=True)

    def close(self) -> None:
        """Lets go of the connection. The next use opens it again."""
        with self._lock:
            self._store = None

    def _opened(self, *, create: bool) -> Any:
        if self._store is None:
            path = sqlite_path(self.config)
            if path is not None and not _has_content(path):
                if not create:
                    _log.info("nothing recorded yet: there is no metadata store at %s", path)
                    return None
                _make_folder(path)
            self._store = open_store(self.config)
        return self._store

    @contextmanager
    def _errors_mapped(self) -> Iterator[None]:
        try:
            yield
        except errors.AlreadyExistsError:
            raise
        except errors.StatusError as error:
            try:
                raise_mapped(error, self.name)
            except LedgerUnavailableError as unavailable:
                if not is_contention(unavailable):
                    self._store = None
                raise


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerError(
            f"the directory of the metadata store {path} cannot be made: {error.strerror}; name "
            f"another file in the configuration"
        ) from error


def sqlite_path(config: Any) -> Path | None:
    """Returns the file of a SQLite configuration; None for any other store or one in memory."""
    if isinstance(config, pb.MetadataStoreClientConfig) or config.WhichOneof("config") != "sqlite":
        return None
    uri = config.sqlite.filename_uri
    return None if uri in ("", ":memory:") or uri.startswith("file:") else Path(uri)


def _has_content(path: Path) -> bool:
    """False for an absent or empty file: the first writer makes the store."""
    if path.is_dir():
        raise LedgerError(f"{path} is a directory; name the metadata store's file in it")
    try:
        return path.stat().st_size > 0
    except (FileNotFoundError, NotADirectoryError):
        return False


def open_store(config: Any) -> Any:
    """Opens a store; waits a little while another process is busy making it.

    Args:
        config: one of ml_metadata's own configurations. A SQLite file that has content is opened
            read-only first: ml_metadata would add its tables to the database of another program.
            Nothing else may look into the file: closing it would drop the locks that ml_metadata
            holds on it in this process (https://sqlite.org/howtocorrupt.html, section 2.2).

    Raises:
        LedgerError: the file is no metadata store, or the server refuses the login.
        LedgerUnavailableError: there is no connection.
        LedgerVersionError: another version of ml-metadata wrote it.
    """
    began = time.monotonic()
    while True:
        waited = time.monotonic() - began
        try:
            if _needs_a_look_first(config):
                MetadataStore(_read_only(config))
            return MetadataStore(config)
        except RuntimeError as error:
            if waited >= _patience_seconds(str(error)):
                _raise_not_opened(error, config)
            time.sleep(random.uniform(0.5, 1.5) * _OPEN_PAUSE_SECONDS)  # noqa: S311


def _needs_a_look_first(config: Any) -> bool:
    path = sqlite_path(config)
    if path is None or not _has_content(path):
        return False
    # After a crash the journal must be rolled back, which a read-only connection cannot do.
    return not _has_content(path.with_name(f"{path.name}-journal"))


def _read_only(config: Any) -> Any:
    copy = pb.ConnectionConfig()
    copy.CopyFrom(config)
    copy.sqlite.connection_mode = pb.SqliteMetadataSourceConfig.READONLY
    return copy


# What a SQLite database without ml_metadata's tables says when it is opened read-only.
_NOT_ITS_TABLES = "readonly database"
# What a store says while another process is making its tables.
_MAKING = (
    "locked",
    "concurrent",
    "unique constraint",
    "duplicate",
    "already exists",
    "database exists",
    "deadlock",
)


def _patience_seconds(message: str) -> float:
    """How long to try again after this refusal; 0 if that cannot help."""
    text = message.lower()
    if _NOT_ITS_TABLES in text:
        return _MAKING_SECONDS_SQLITE_FILE
    return _MAKING_SECONDS if any(words in text for words in _MAKING) else 0.0


def _raise_not_opened(error: RuntimeError, config: Any) -> NoReturn:
    message, name = reason_of(error), describe(config)
    if "database version" in message:
        raise LedgerVersionError(
            f"{name} was written by another version of ml-metadata: {message.split('. ')[0]}. "
            f"Use that version of TFX, or make a copy of the store and upgrade the copy "
            f"(ml_metadata.MetadataStore(config, enable_upgrade_migration=True)), or name a new "
            f"store in the configuration"
        ) from error
    if "not a database" in message or _NOT_ITS_TABLES in message:
        raise LedgerError(
            f"{name} is not an ML Metadata store but another file; name the right file in the "
            f"configuration, or move this one away and the next release makes a new store"
        ) from error
    if "mysql_real_connect failed" in message and _listens(config):
        raise LedgerError(
            f"{name}: the server answers but refused this login; check user and password (method "
            f"mysql_native_password)"
        ) from error
    kind = LedgerUnavailableError if is_transient(message) else LedgerError
    raise kind(f"{name} cannot be opened: {message}; {_way_out(config)}") from error


def _listens(config: Any) -> bool:
    """True if there is a server: ml_metadata does not say why a connection failed."""
    try:
        socket.create_connection((config.mysql.host, config.mysql.port or 3306), timeout=3).close()
    except OSError:
        return False
    return True


def _way_out(config: Any) -> str:
    if config.HasField("mysql"):
        return "check that the server runs, host, port and the rights of this user"
    return "check that the directory exists and that this user may write to it"


def _tuned(config: Any) -> Any:
    """Returns a copy that fits a ledger, keeping what the configuration says for itself."""
    tuned = type(config)()
    tuned.CopyFrom(config)
    if isinstance(tuned, pb.MetadataStoreClientConfig):
        # A listing of ten thousand records is larger than gRPC's default of 4 MiB.
        if not tuned.channel_arguments.HasField("max_receive_message_length"):
            tuned.channel_arguments.max_receive_message_length = -1
    elif not tuned.HasField("retry_options"):
        # ml_metadata would sleep 2 s on average before it tries again; the ledger tries sooner.
        tuned.retry_options.max_num_retries = 1
    return tuned
