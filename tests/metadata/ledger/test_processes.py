"""Several processes over one ML Metadata store."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise

import pytest

from tfx_encore.metadata.ledger import cursor_of

_OPEN = """
import sys
from pydantic import TypeAdapter
from tfx_encore.metadata.mlmd_connection import MlmdConnection
from tfx_encore.metadata.mlmd_ledger import MlmdLedger
from tfx_encore.schemas.records import Cause, RecordDraft, SelectAll
ledger = MlmdLedger(TypeAdapter(MlmdConnection).validate_json(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
"""

APPEND = (
    _OPEN
    + """
for n in range(50):
    draft = RecordDraft("taxi", Cause.MANUAL, SelectAll(), f"{sys.argv[2]} {n}", sys.argv[2])
    print(ledger.append(draft).sequence, flush=True)
"""
)

ACKNOWLEDGE = (
    _OPEN
    + """
for record in ledger.records("taxi"):
    print(ledger.acknowledge(record, "gateway").acknowledged_at, flush=True)
"""
)

FOLLOW = (
    _OPEN
    + """
from tfx_encore.metadata.ledger import cursor_of, follow
after = cursor_of(ledger, "taxi", "gateway")
for record in follow(ledger, "taxi", after=after, poll_seconds=0.01):
    print(record.sequence, flush=True)
    ledger.acknowledge(record, "gateway")
"""
)


def _json(connection):
    """The description as JSON; pydantic writes stars for a password."""
    plain = connection.model_dump(mode="json")
    if connection.kind == "mysql":
        plain["password"] = connection.password.get_secret_value()
    return json.dumps(plain)


@pytest.fixture
def start():
    """Returns a function that starts a program over a store and waits until it is ready."""
    processes = []

    def run(code, connection, name):
        process = subprocess.Popen(
            [sys.executable, "-c", code, _json(connection), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout.readline() == "ready\n", process.communicate()[1]
        return process

    yield run
    for process in processes:
        process.kill()
        process.wait()


def _together(processes):
    """Lets the processes go at once and returns the lines that each printed."""
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    return [output.split() for output, _ in outputs]


def test_two_processes_that_append_at_once_leave_no_gap_and_no_duplicate(shared_store, start):
    processes = [start(APPEND, shared_store.connection, name) for name in ("ada", "bob")]
    ada, bob = ([int(line) for line in lines] for lines in _together(processes))
    assert sorted(ada + bob) == list(range(1, 101))
    records = shared_store.open().records("taxi")
    assert [record.sequence for record in records] == list(range(1, 101))
    for name in ("ada", "bob"):
        own = [record.reason for record in records if record.created_by == name]
        assert own == [f"{name} {n}" for n in range(50)]


def test_two_processes_that_acknowledge_at_once_leave_one_acknowledgement(
    shared_store, start, draft
):
    ledger = shared_store.open()
    for _ in range(30):
        ledger.append(draft())
    processes = [start(ACKNOWLEDGE, shared_store.connection, name) for name in ("1", "2")]
    first, second = _together(processes)
    kept = [ack.acknowledged_at for ack in ledger.acknowledgements("taxi")]
    assert len(kept) == 30
    assert first == second == kept


def test_a_follower_killed_at_any_moment_goes_on_where_it_acknowledged(shared_store, start, draft):
    ledger, seen = shared_store.open(), []
    for _ in range(40):
        ledger.append(draft())
    for lines in (7, 1, 13, 19):
        follower = start(FOLLOW, shared_store.connection, "gateway")
        follower.stdin.write("\n")
        follower.stdin.flush()
        part = [int(follower.stdout.readline()) for _ in range(lines)]
        follower.kill()
        follower.wait()
        expected = cursor_of(ledger, "taxi", "gateway")
        assert part == list(range(part[0], part[0] + lines))
        assert part[-1] - 1 <= expected
        seen.append((part[0], expected))
    for (_, acknowledged), (start_again, _) in pairwise(seen):
        assert start_again == acknowledged + 1
