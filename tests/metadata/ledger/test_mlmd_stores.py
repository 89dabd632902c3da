"""Stores that are absent, foreign, of another version, locked out or down; and what looks cost."""

from __future__ import annotations

import logging
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest
from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as pb
from pydantic import TypeAdapter, ValidationError

from tfx_encore.metadata.mlmd_connection import (
    GrpcConnection,
    MlmdConnection,
    MysqlConnection,
    SqliteConnection,
    connection_config,
    describe,
)
from tfx_encore.metadata.mlmd_ledger import MlmdLedger
from tfx_encore.metadata.mlmd_records import RECORD_TYPE, artifact_of
from tfx_encore.schemas.errors import LedgerError, LedgerUnavailableError, LedgerVersionError

NOW = "2026-11-20T18:50:46.000000Z"
needs_mariadb = pytest.mark.service("mariadbd")


def _sqlite(path):
    return MlmdLedger(SqliteConnection(path=str(path)))


def test_reading_a_store_that_does_not_exist_says_so_and_creates_nothing(tmp_path, caplog):
    path = tmp_path / "deep" / "metadata.db"
    with caplog.at_level(logging.INFO):
        assert _sqlite(path).records("taxi") == ()
    assert f"no metadata store at {path}" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_reading_an_empty_file_leaves_it_empty(tmp_path):
    path = tmp_path / "metadata.db"
    path.touch()
    assert _sqlite(path).models() == ()
    assert _sqlite(path).acknowledgements("taxi") == ()
    assert path.stat().st_size == 0


def test_the_first_writer_makes_the_store_and_its_directory(tmp_path, draft):
    path = tmp_path / "deep" / "metadata.db"
    reader = _sqlite(path)
    assert reader.records("taxi") == ()
    record = _sqlite(path).append(draft())
    assert reader.records("taxi") == (record,)


def test_a_file_that_is_not_sqlite_is_refused_and_left_alone(tmp_path, draft):
    path = tmp_path / "metadata.db"
    path.write_text("hello world\n" * 1000)
    for use in (lambda: _sqlite(path).records("taxi"), lambda: _sqlite(path).append(draft())):
        with pytest.raises(LedgerError, match="is not an ML Metadata store"):
            use()
    assert path.read_text() == "hello world\n" * 1000


def test_another_programs_database_is_refused_and_left_alone(tmp_path, draft):
    path = tmp_path / "metadata.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE invoices (id)")
    before = path.read_bytes()
    with pytest.raises(LedgerError, match="is not an ML Metadata store"):
        _sqlite(path).append(draft())
    assert path.read_bytes() == before


@pytest.mark.parametrize(("version", "words"), [(9, "older"), (99, "greater")])
def test_a_store_of_another_version_is_refused_with_the_way_out(tmp_path, draft, version, words):
    path = tmp_path / "metadata.db"
    MetadataStore(connection_config(SqliteConnection(path=str(path))))
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE MLMDEnv SET schema_version = ?", (version,))
        db.commit()
    before = path.read_bytes()
    for use in (lambda: _sqlite(path).records("taxi"), lambda: _sqlite(path).append(draft())):
        with pytest.raises(LedgerVersionError, match=rf"{version} is {words}.*make a copy"):
            use()
    assert path.read_bytes() == before


def test_a_directory_in_the_place_of_the_file_is_an_error(tmp_path):
    with pytest.raises(LedgerError, match="is a directory"):
        _sqlite(tmp_path).records("taxi")


def test_a_place_where_no_file_can_be_made_is_an_error(tmp_path, draft):
    (tmp_path / "file").touch()
    with pytest.raises(LedgerError, match="cannot be made"):
        _sqlite(tmp_path / "file" / "metadata.db").append(draft())


LOCK = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.readline()
"""


def test_a_store_that_another_process_locks_is_waited_for(tmp_path, draft):
    path = tmp_path / "metadata.db"
    ledger = _sqlite(path)
    ledger.append(draft())
    # Another process, since locks of one process do not stand in its own way.
    with subprocess.Popen(
        [sys.executable, "-c", LOCK, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout.readline() == "locked\n"
        began = time.monotonic()
        threading.Timer(1.0, holder.communicate).start()
        assert ledger.append(draft()).sequence == 2
        assert time.monotonic() - began > 0.9


CRASH = """
import os, sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("PRAGMA cache_size = 1")
db.execute("UPDATE Artifact SET name = 'taxi/000009'")
rows = [("x" * 200 + str(n),) for n in range(2000)]
db.executemany("INSERT INTO Type (name, type_kind) VALUES (?, 1)", rows)
os._exit(9)
"""


def test_what_a_crashed_writer_left_half_done_is_undone(tmp_path, draft):
    path = tmp_path / "metadata.db"
    record = _sqlite(path).append(draft())
    subprocess.run([sys.executable, "-c", CRASH, str(path)], check=False)
    assert path.with_name("metadata.db-journal").stat().st_size > 0
    ledger = _sqlite(path)
    assert ledger.records("taxi") == (record,)
    assert ledger.append(draft()).sequence == 2


def test_a_grpc_server_that_is_down_is_unavailable():
    ledger = MlmdLedger(GrpcConnection(host="127.0.0.1", port=1, timeout_seconds=5))
    with pytest.raises(LedgerUnavailableError, match=r"gRPC 127.0.0.1:1 cannot be reached now"):
        ledger.records("taxi")


def test_a_mysql_server_that_is_down_is_unavailable():
    ledger = MlmdLedger(MysqlConnection(host="127.0.0.1", port=1, user="ada", database="mlmd"))
    with pytest.raises(LedgerUnavailableError, match=r"ada@127.0.0.1:1/mlmd .*server runs"):
        ledger.records("taxi")


@needs_mariadb
def test_a_wrong_password_is_not_mistaken_for_a_server_that_is_down(mariadb):
    ledger = MlmdLedger(mariadb.connection("mlmd", password="wrong"))
    with pytest.raises(LedgerError, match="refused this login") as caught:
        ledger.records("taxi")
    assert not isinstance(caught.value, LedgerUnavailableError)
    assert "wrong" not in str(caught.value)


@needs_mariadb
def test_a_server_that_goes_away_and_comes_back_loses_nothing(start_mariadb, draft):
    server = start_mariadb()
    ledger = MlmdLedger(server.connection("mlmd"))
    first = ledger.append(draft())
    server.process.terminate()
    server.process.wait()
    with pytest.raises(LedgerUnavailableError, match="cannot be"):
        ledger.append(draft())
    with pytest.raises(LedgerUnavailableError, match="cannot be"):
        ledger.records("taxi")
    start_mariadb(again=server)
    assert ledger.records("taxi") == (first,)
    assert ledger.append(draft()).sequence == 2


@pytest.fixture
def fill():
    """Returns a function that puts many records into a store at once."""

    def fill(connection, records):
        store = MetadataStore(connection_config(connection))
        type_id = store.put_artifact_type(pb.ArtifactType(name=RECORD_TYPE))
        store.put_artifacts([artifact_of(record, type_id) for record in records])

    return fill


def test_polls_of_two_thousand_records_read_a_page_each(grpc_server, draft, fill):
    connection = GrpcConnection(host="127.0.0.1", port=grpc_server.port)
    fill(connection, [draft().numbered(n, NOW) for n in range(1, 2001)])
    reader = MlmdLedger(connection)
    grpc_server.sent = 0
    assert len(reader.records("taxi")) == 2000
    whole, grpc_server.sent = grpc_server.sent, 0
    for _ in range(10):
        assert reader.records("taxi", after=2000) == ()
    assert grpc_server.sent / 10 < whole / 30
    MlmdLedger(connection).append(draft())
    grpc_server.calls.clear()
    assert [record.sequence for record in reader.records("taxi", after=2000)] == [2001]
    assert "GetArtifactsByType" not in grpc_server.calls


@pytest.mark.parametrize("count", [30, 300, 700])
def test_any_number_of_records_that_came_between_two_looks_is_found(tmp_path, draft, fill, count):
    connection = SqliteConnection(path=str(tmp_path / "metadata.db"))
    reader = MlmdLedger(connection)
    for start in (1, 1 + count):
        numbers = list(range(start, start + count))
        fill(connection, [draft().numbered(n, NOW) for n in numbers])
        assert [r.sequence for r in reader.records("taxi", after=start - 1)] == numbers


@pytest.mark.parametrize(
    ("described", "expected"),
    [
        ({"kind": "sqlite", "path": "/x/metadata.db"}, "SQLite /x/metadata.db"),
        (
            {"kind": "mysql", "host": "db", "user": "ada", "password": "s3", "database": "mlmd"},
            "MySQL ada@db:3306/mlmd",
        ),
        ({"kind": "grpc", "host": "metadata-grpc-service"}, "gRPC metadata-grpc-service:8080"),
    ],
)
def test_a_connection_is_described_without_its_password(described, expected):
    connection = TypeAdapter(MlmdConnection).validate_python(described)
    assert str(connection) == expected
    assert describe(connection_config(connection)) == expected
    assert "s3" not in repr(connection)


@pytest.mark.parametrize(
    "described",
    [
        {"kind": "oracle"},
        {"kind": "sqlite"},
        {"kind": "sqlite", "path": ""},
        {"kind": "sqlite", "path": "x", "pth": "y"},
        {"kind": "grpc", "host": "x", "port": 70000},
        {"kind": "mysql", "host": "x", "user": "y"},
    ],
)
def test_a_wrong_description_is_refused(described):
    with pytest.raises(ValidationError):
        TypeAdapter(MlmdConnection).validate_python(described)
