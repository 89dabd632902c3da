"""A crash between push and publication leaves a record in the journal only."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tfx_encore.metadata.journal_ledger import JournalLedger
from tfx_encore.metadata.mlmd_connection import SqliteConnection
from tfx_encore.metadata.mlmd_ledger import MlmdLedger
from tfx_encore.metadata.reconcile import reconcile
from tfx_encore.metadata.releases import ReleaseDirectory
from tfx_encore.schemas.errors import LedgerError


@pytest.fixture
def journal(tmp_path):
    return JournalLedger(tmp_path / "releases")


@pytest.fixture
def ledger(tmp_path):
    return MlmdLedger(SqliteConnection(path=str(tmp_path / "metadata.db")))


def test_what_only_the_journal_has_is_published_in_order(journal, ledger, draft):
    records = [journal.append(draft(reason=f"reason {n}")) for n in range(5)]
    ledger.publish(records[1])
    ledger.publish(records[3])
    assert reconcile(journal, ledger, "taxi") == (records[0], records[2], records[4])
    assert list(ledger.records("taxi")) == records


def test_doing_it_again_publishes_nothing(journal, ledger, draft):
    journal.append(draft())
    assert len(reconcile(journal, ledger, "taxi")) == 1
    assert reconcile(journal, ledger, "taxi") == ()


def test_nothing_recorded_means_nothing_published_and_no_store_made(journal, ledger, tmp_path):
    assert reconcile(journal, ledger, "taxi") == ()
    assert not (tmp_path / "metadata.db").exists()


def test_other_models_are_left_alone(journal, ledger, draft):
    journal.append(draft("bikes"))
    assert reconcile(journal, ledger, "taxi") == ()
    assert ledger.models() == ()


def test_a_ledger_that_says_otherwise_is_an_error(journal, ledger, draft):
    records = [journal.append(draft()), journal.append(draft())]
    ledger.publish(replace(records[1], reason="something else"))
    with pytest.raises(LedgerError, match="taxi/000002 is already MANUAL"):
        reconcile(journal, ledger, "taxi")
    assert len(ledger.records("taxi")) == 2


def test_an_entry_that_was_written_but_never_committed_is_not_published(
    journal, ledger, draft, tmp_path
):
    first = journal.append(draft())
    folder = tmp_path / "releases" / "taxi" / "journal"
    entry = (folder / "000001.json").read_text().replace('"sequence": 1', '"sequence": 2')
    (folder / "000002.json").write_text(entry)
    assert reconcile(journal, ledger, "taxi") == (first,)


def test_acknowledgements_in_the_journal_survive_the_next_push_and_are_no_leftovers(
    journal, draft, tmp_path
):
    record = journal.append(draft())
    ack = journal.acknowledge(record, "gateway@host-1")
    releases = ReleaseDirectory(tmp_path / "releases", "taxi")
    assert releases.leftovers() == []
    assert releases.verify() == []
    releases.repair()
    journal.append(draft())
    assert journal.acknowledgements("taxi") == (ack,)
    folder = tmp_path / "releases" / "taxi" / "journal" / "acknowledgements" / "gateway@host-1"
    assert [path.name for path in folder.iterdir()] == ["000001.json"]


def test_a_damaged_acknowledgement_is_named(journal, draft, tmp_path):
    record = journal.append(draft())
    journal.acknowledge(record, "gateway")
    (path,) = (tmp_path / "releases").rglob("gateway/000001.json")
    path.chmod(0o644)
    path.write_text("{")
    with pytest.raises(LedgerError, match=r"gateway/000001.json: .*remove the file"):
        journal.acknowledgements("taxi")


def test_a_damaged_journal_is_a_ledger_error(journal, draft, tmp_path):
    journal.append(draft())
    (tmp_path / "releases" / "taxi" / "journal" / "000001.json").unlink()
    with pytest.raises(LedgerError, match=r"000001.json is missing"):
        journal.records("taxi")
