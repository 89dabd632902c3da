"""The ledgers that the contract is checked against, and the servers behind two of them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from ml_metadata.metadata_store.pywrap.metadata_store_extension import metadata_store as native
from ml_metadata.proto import metadata_store_pb2 as pb
from ml_metadata.proto import metadata_store_service_pb2 as service_pb

from tfx_encore.metadata.journal_ledger import JournalLedger
from tfx_encore.metadata.ledger import Ledger
from tfx_encore.metadata.memory_ledger import MemoryLedger
from tfx_encore.metadata.mlmd_connection import (
    GrpcConnection,
    MysqlConnection,
    SqliteConnection,
    connection_config,
)
from tfx_encore.metadata.mlmd_ledger import MlmdLedger
from tfx_encore.schemas.records import Cause, RecordDraft, SelectAll

USER, PASSWORD = "encore", "correct horse"
# Where MariaDB's packages keep these, and what the files' names begin with: since 11, before.
_SHARES = {Path("/usr/share/mariadb"): "mariadb", Path("/usr/share/mysql"): "mysql"}
_SYSTEM_TABLES = ("system_tables.sql", "performance_tables.sql", "system_tables_data.sql")


@dataclass(frozen=True)
class Subject:
    """A kind of ledger under test. Each `open` gives a new instance over the same content."""

    kind: str
    open: Callable[[], Ledger]
    gives_all_sequences: bool = False
    connection: Any = None


@dataclass(frozen=True)
class MariaDb:
    """A running MariaDB server."""

    process: subprocess.Popen[bytes]
    port: int
    home: Path

    def connection(self, database: str, **changes: Any) -> MysqlConnection:
        described = {"host": "127.0.0.1", "port": self.port, "user": USER, "password": PASSWORD}
        return MysqlConnection(**{**described, "database": database, **changes})


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _options(home: Path) -> list[str]:
    program = shutil.which("mariadbd") or "/usr/sbin/mariadbd"
    options = [program, "--no-defaults", f"--datadir={home / 'data'}", "--skip-log-bin"]
    return [*options, "--user=root"] if os.geteuid() == 0 else options


def _make_data(home: Path) -> None:
    """Makes the system tables, as mariadb-install-db does, which needs the client's package."""
    (home / "data").mkdir()
    lines = ["create database mysql;", "use mysql;"]
    share, prefix = next(pair for pair in _SHARES.items() if pair[0].is_dir())
    tables = [(share / f"{prefix}_{name}").read_text() for name in _SYSTEM_TABLES]
    script = "\n".join([*lines, *tables])
    subprocess.run(
        [*_options(home), "--bootstrap"],
        input=script.encode(),
        check=True,
        capture_output=True,
        timeout=60,
    )


def _start(home: Path, port: int) -> subprocess.Popen[bytes]:
    accounts = [f"'{USER}'@'{host}'" for host in ("localhost", "127.0.0.1")]
    lines = [f"CREATE OR REPLACE USER {name} IDENTIFIED BY '{PASSWORD}';" for name in accounts]
    lines += [f"GRANT ALL ON *.* TO {name};" for name in accounts]
    (home / "init.sql").write_text("\n".join(lines) + "\n")
    with (home / "server.log").open("ab") as log:
        return subprocess.Popen(
            [
                *_options(home),
                f"--socket={home / 's'}",
                f"--port={port}",
                "--bind-address=127.0.0.1",
                f"--pid-file={home / 'pid'}",
                f"--init-file={home / 'init.sql'}",
                "--innodb-flush-log-at-trx-commit=2",
                "--innodb-buffer-pool-size=32M",
                # The default from 11.6.2 on: a reader who meets another's change has to begin anew.
                "--loose-innodb-snapshot-isolation=ON",
            ],
            stdout=log,
            stderr=log,
        )


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"mariadbd ended with {process.returncode}: {log.read_text()}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"mariadbd did not listen within 60 s: {log.read_text()}")


@pytest.fixture(scope="session")
def start_mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., MariaDb]]:
    """Returns a function that starts a MariaDB server of its own, or again one that was stopped.

    All are stopped at the end.
    """
    started: list[subprocess.Popen[bytes]] = []

    def start(again: MariaDb | None = None) -> MariaDb:
        home = again.home if again else tmp_path_factory.mktemp("mariadb")
        if again is None:
            _make_data(home)
        port = again.port if again else _free_port()
        process = _start(home, port)
        started.append(process)
        _wait_until_it_listens(process, port, home / "server.log")
        return MariaDb(process, port, home)

    yield start
    for process in started:
        process.terminate()
    for process in started:
        process.wait(timeout=30)


@pytest.fixture(scope="session")
def mariadb(start_mariadb: Callable[..., MariaDb]) -> MariaDb:
    """The server that most tests share, each with a database of its own."""
    return start_mariadb()


class GrpcServer:
    """An ML Metadata gRPC server: each call goes to the store inside the ml_metadata wheel."""

    def __init__(self, config: Any) -> None:
        options = pb.MigrationOptions().SerializeToString()
        self._store = native.CreateMetadataStore(config.SerializeToString(), options)
        self._lock = threading.Lock()
        self.calls: list[str] = []
        self.sent = 0
        service = service_pb.DESCRIPTOR.services_by_name["MetadataStoreService"]
        handlers = {
            method.name: grpc.unary_unary_rpc_method_handler(self._handler(method.name))
            for method in service.methods
        }
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service.full_name, handlers),)
        )
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def _handler(self, method: str) -> Callable[[bytes, grpc.ServicerContext], bytes]:
        codes = {code.value[0]: code for code in grpc.StatusCode}

        def handle(request: bytes, context: grpc.ServicerContext) -> bytes:
            with self._lock:
                self.calls.append(method)
                reply, message, status = getattr(native, method)(self._store, request)
            self.sent += len(reply)
            if status:
                context.abort(codes[status], message.decode())
            return bytes(reply)

        return handle

    def stop(self) -> None:
        self._server.stop(grace=None).wait()


@pytest.fixture
def grpc_server(tmp_path: Path) -> Iterator[GrpcServer]:
    """A gRPC server over a SQLite store of its own."""
    (tmp_path / "grpc").mkdir()
    path = str(tmp_path / "grpc" / "metadata.db")
    server = GrpcServer(connection_config(SqliteConnection(path=path)))
    yield server
    server.stop()


def _mlmd(kind: str, connection: Any) -> Subject:
    return Subject(kind, lambda: MlmdLedger(connection), connection=connection)


def _subject(request: pytest.FixtureRequest) -> Subject:
    tmp_path: Path = request.getfixturevalue("tmp_path")
    if request.param == "memory":
        ledger = MemoryLedger()
        return Subject("memory", lambda: ledger)
    if request.param == "journal":
        root = tmp_path / "releases"
        return Subject("journal", lambda: JournalLedger(root), gives_all_sequences=True)
    if request.param == "mlmd-sqlite":
        return _mlmd("mlmd-sqlite", SqliteConnection(path=str(tmp_path / "mlmd" / "metadata.db")))
    if request.param == "mlmd-mysql":
        server: MariaDb = request.getfixturevalue("mariadb")
        return _mlmd("mlmd-mysql", server.connection(f"t_{uuid.uuid4().hex}"))
    port = request.getfixturevalue("grpc_server").port
    return _mlmd("mlmd-grpc", GrpcConnection(host="127.0.0.1", port=port))


_MYSQL = pytest.param("mlmd-mysql", marks=pytest.mark.service("mariadbd"))


@pytest.fixture(params=["memory", "journal", "mlmd-sqlite", _MYSQL, "mlmd-grpc"])
def subject(request: pytest.FixtureRequest) -> Subject:
    """Every kind of ledger, empty."""
    return _subject(request)


@pytest.fixture(params=["memory", "mlmd-sqlite", _MYSQL, "mlmd-grpc"])
def open_subject(request: pytest.FixtureRequest) -> Subject:
    """Every kind of ledger that takes records numbered elsewhere, empty."""
    return _subject(request)


@pytest.fixture(params=["mlmd-sqlite", _MYSQL])
def shared_store(request: pytest.FixtureRequest) -> Subject:
    """The ML Metadata stores that several processes open by themselves."""
    return _subject(request)


@pytest.fixture
def draft() -> Callable[..., RecordDraft]:
    """Returns a function that makes a draft; any field can be given."""

    def make(model: str = "taxi", **fields: Any) -> RecordDraft:
        given = {
            "cause": Cause.MANUAL,
            "selector": SelectAll(),
            "reason": "wrong fares",
            "created_by": "ada",
            **fields,
        }
        return RecordDraft(model=model, **given)

    return make
