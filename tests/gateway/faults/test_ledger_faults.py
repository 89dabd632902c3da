"""The ledger cannot be read, and comes back; a record withdraws at once."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest

from tfx_encore.metadata.journal_ledger import JournalLedger
from tfx_encore.schemas.records import (
    Cause,
    InvalidationRecord,
    RecordDraft,
    SelectAll,
    SelectSlice,
)

BOUND = 3.0  # max_ledger_age_seconds of the gateway
STEP = 1_000_000


def _record(shared: Any, model: str, cause: Cause = Cause.MANUAL) -> InvalidationRecord:
    draft = RecordDraft(model, cause, SelectAll(), "a test", "a test")
    return shared.releases.directory(model).append_record(draft)


def _await_acknowledgement(shared: Any, record: InvalidationRecord, wait: Any) -> None:
    ledger = JournalLedger(shared.releases.root)
    wait(lambda: ledger.acknowledgements(record.model, sequence=record.sequence), "acknowledgement")


def _make_warm(gateway: Any, model: str, rows: range = range(5)) -> None:
    for _ in range(4):  # and known byte for byte
        replies = [gateway.predict(row, model=model) for row in rows]
    assert {reply.cache for reply in replies} == {"hit"}


def _age(gateway: Any, model: str) -> float:
    return float(gateway.count("encore_ledger_age_seconds", model=model))


def test_without_its_ledger_it_serves_hits_until_the_bound_and_then_misses(
    shared, load, wait
) -> None:
    gateway, model = shared.gateway, "ledger"
    _await_acknowledgement(shared, _record(shared, model), wait)
    _make_warm(gateway, model)
    entry = next(iter((shared.releases.root / model / "journal").glob("*.json")))
    content = entry.read_bytes()
    entry.chmod(0o644)
    entry.write_bytes(b"{ not a record")
    try:
        with load(gateway, model=model, rows=20, threads=2, pause_seconds=0.01) as client:
            seen = _observe_until_miss(gateway, model)
            client.go_on(50)
            assert gateway.predict(1, model=model).cache == "miss"  # nor is it kept meanwhile
            assert gateway.predict(1, model=model).cache == "miss"
            assert gateway.ask("/readyz").status == 200
            entry.write_bytes(content)
            wait(lambda: gateway.predict(1, model=model).cache == "hit", "hits again")
            client.go_on(50)
    finally:
        entry.write_bytes(content)
    client.check()
    assert "hit" in seen


def _observe_until_miss(gateway: Any, model: str) -> set[str]:
    """Asks until answers are withheld; each must be a hit below the bound, and a miss above it."""
    seen: set[str] = set()
    end = time.monotonic() + 60
    while time.monotonic() < end and "miss" not in seen:
        before = _age(gateway, model)
        reply = gateway.predict(1, model=model)
        after = _age(gateway, model)
        assert reply.json() == {"predictions": [1 + STEP]}
        if after < BOUND:
            assert reply.cache == "hit"
        if before > BOUND:
            assert reply.cache == "miss"
        seen.add(reply.cache)
    assert "miss" in seen
    return seen


def test_a_journal_that_lost_a_record_serves_nothing_it_cannot_vouch_for(shared, wait) -> None:
    gateway, model = shared.gateway, "journal"
    _await_acknowledgement(shared, _record(shared, model), wait)
    _make_warm(gateway, model)
    _record(shared, model)
    entry = shared.releases.root / model / "journal" / "000002.json"
    content = entry.read_bytes()
    entry.unlink()
    try:
        wait(lambda: gateway.predict(1, model=model).cache == "miss", "misses")
    finally:
        entry.write_bytes(content)
    wait(lambda: gateway.predict(1, model=model).cache == "hit", "hits again")


@pytest.mark.parametrize("cause", [Cause.MANUAL, Cause.DATA_DRIFT, Cause.ERASURE])
def test_after_a_record_is_acknowledged_no_answer_it_withdraws_is_given(
    shared, load, wait, cause: Cause
) -> None:
    gateway = shared.gateway
    with load(gateway, model="purged", threads=2, rows=50) as client:
        client.go_on(100)
        _make_warm(gateway, "purged", range(100, 105))
        _await_acknowledgement(shared, _record(shared, "purged", cause), wait)
        replies = [gateway.predict(row, model="purged") for row in range(100, 105)]
        client.go_on(100)
    client.check()
    assert [reply.cache for reply in replies] == ["miss"] * 5


def test_a_slice_withdraws_its_rows_and_no_other(shared, wait) -> None:
    gateway = shared.gateway
    _make_warm(gateway, "purged")
    draft = RecordDraft("purged", Cause.MANUAL, SelectSlice({"row": "3"}), "a test", "a test")
    record = shared.releases.directory("purged").append_record(draft)
    _await_acknowledgement(shared, record, wait)
    replies = [gateway.predict(row, model="purged").cache for row in range(5)]
    assert replies == ["hit", "hit", "hit", "miss", "hit"]


def test_the_purge_command_returns_once_the_gateway_has_withdrawn(shared) -> None:
    gateway = shared.gateway
    _make_warm(gateway, "purged")
    command = [sys.executable, "-m", "tfx_encore.pipeline.cli", "cache", "purge"]
    command += [f"--releases={shared.releases.root}", "--model=purged", "--selector=all"]
    command += [f"--cache_dir={shared.cache_dir}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "acknowledged by shared" in done.stdout
    assert [gateway.predict(row, model="purged").cache for row in range(5)] == ["miss"] * 5
