"""What every ledger of nights keeps to, and what holds for ML Metadata's alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tfx_encore.metadata.journal_night_ledger import JournalNightLedger
from tfx_encore.metadata.mlmd_connection import SqliteConnection
from tfx_encore.metadata.mlmd_night_ledger import MlmdNightLedger
from tfx_encore.metadata.night_ledger import NightLedger, reconcile
from tfx_encore.metadata.night_store import RECORD, NightStore
from tfx_encore.schemas.decisions import Outcome
from tfx_encore.schemas.errors import LedgerError
from tfx_encore.schemas.nights import NightAction, NightRecord
from tfx_encore.schemas.serial import to_json

NIGHT = NightRecord(
    "taxi",
    "2016-01-12",
    Outcome.BLOCK,
    "cached_path: Größe falsch",
    actions=(NightAction("retrain", "so"), NightAction("rewarm", "so")),
    created_at="2016-01-13T02:00:00.000000Z",
)


class Kept:
    """A ledger, and how a revision gets into the release directory it may depend on."""

    def __init__(self, ledger: NightLedger, commit: Callable[[NightRecord], None]) -> None:
        self.ledger = ledger
        self.commit = commit

    def publish(self, record: NightRecord) -> bool:
        self.commit(record)
        return self.ledger.publish(record)


@pytest.fixture(params=["mlmd", "journal"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kept]:
    store = NightStore(tmp_path, "taxi")

    def commit(record: NightRecord) -> None:
        with store.writing():
            store.commit(record.date, {RECORD: to_json(record).encode()})

    if request.param == "journal":
        yield Kept(JournalNightLedger(tmp_path), commit)
        return
    ledger = MlmdNightLedger(SqliteConnection(path=str(tmp_path / "metadata.sqlite")))
    yield Kept(ledger, commit)
    ledger.close()


def test_nothing_is_there_at_first(kept: Kept) -> None:
    assert dict(kept.ledger.revisions("taxi")) == {}
    assert kept.ledger.record("taxi", "2016-01-12") is None


def test_what_was_published_is_given_back_whole(kept: Kept) -> None:
    kept.publish(NIGHT)
    assert kept.ledger.record("taxi", "2016-01-12") == NIGHT
    assert kept.ledger.record("other", "2016-01-12") is None


def test_the_highest_revision_counts(kept: Kept) -> None:
    second = replace(NIGHT, revision=2, outcome=Outcome.OK)
    other = replace(NIGHT, date="2016-01-13")
    for record in (NIGHT, second, other):
        kept.publish(record)
    assert dict(kept.ledger.revisions("taxi")) == {"2016-01-12": 2, "2016-01-13": 1}
    assert kept.ledger.record("taxi", "2016-01-12") == second


def test_a_revision_that_is_there_is_not_published_again(kept: Kept) -> None:
    kept.publish(NIGHT)
    assert kept.ledger.publish(NIGHT) is False
    assert reconcile([NIGHT], kept.ledger) == ()


@pytest.fixture
def mlmd(tmp_path: Path) -> Iterator[MlmdNightLedger]:
    ledger = MlmdNightLedger(SqliteConnection(path=str(tmp_path / "metadata.sqlite")))
    yield ledger
    ledger.close()


def test_reading_makes_no_store(mlmd: MlmdNightLedger, tmp_path: Path) -> None:
    assert dict(mlmd.revisions("taxi")) == {}
    assert not (tmp_path / "metadata.sqlite").exists()


def test_only_what_is_missing_is_published(mlmd: MlmdNightLedger) -> None:
    mlmd.publish(NIGHT)
    later = replace(NIGHT, date="2016-01-13")
    assert reconcile([NIGHT, later], mlmd) == (later,)


def test_two_processes_publish_a_revision_once(mlmd: MlmdNightLedger, tmp_path: Path) -> None:
    other = MlmdNightLedger(SqliteConnection(path=str(tmp_path / "metadata.sqlite")))
    mlmd.publish(NIGHT)
    assert other.publish(NIGHT) is False
    other.close()


def test_an_artifact_says_in_short_what_the_record_holds(mlmd: MlmdNightLedger) -> None:
    mlmd.publish(NIGHT)
    with mlmd._store.reading() as store:
        (artifact,) = store.get_artifacts_by_type("tfx_encore.NightDecision")
        (execution,) = store.get_executions_by_type("tfx_encore.RecordNight")
    said: dict[str, Any] = {n: v.string_value for n, v in artifact.custom_properties.items()}
    assert (said["outcome"], said["actions"], said["date"]) == (
        "BLOCK", "retrain,rewarm", "2016-01-12",
    )  # fmt: skip
    assert said["payload"].isascii()
    assert execution.name == "taxi/2016-01-12/1"


def test_the_journal_takes_no_revision_that_it_has_not_numbered(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="commit it there instead"):
        JournalNightLedger(tmp_path).publish(NIGHT)
