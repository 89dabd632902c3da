"""Records as an orchestrator publishes them: the output artifacts of VersionedPusher."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as pb

from tfx_encore.metadata.ledger import follow
from tfx_encore.metadata.memory_ledger import MemoryLedger
from tfx_encore.metadata.mlmd_connection import SqliteConnection, connection_config
from tfx_encore.metadata.mlmd_ledger import MlmdLedger
from tfx_encore.metadata.mlmd_records import RECORD_TYPE, payload_of
from tfx_encore.metadata.reconcile import reconcile
from tfx_encore.schemas.errors import LedgerError
from tfx_encore.schemas.records import SelectKeys
from tfx_encore.schemas.serial import to_json

NOW = "2026-11-20T18:50:46.000000Z"


@pytest.fixture
def connection(tmp_path):
    return SqliteConnection(path=str(tmp_path / "metadata.db"))


@pytest.fixture
def store(connection):
    return MetadataStore(connection_config(connection))


@pytest.fixture
def put(store):
    """Returns a function that puts an artifact as an orchestrator does, and gives its id."""

    def put(properties, *, uri="", state=pb.Artifact.LIVE, artifact_id=None):
        type_id = store.put_artifact_type(pb.ArtifactType(name=RECORD_TYPE))
        artifact = pb.Artifact(type_id=type_id, uri=str(uri), state=state, id=artifact_id)
        for name, value in properties.items():
            field = {str: "string_value", int: "int_value", float: "double_value"}[type(value)]
            setattr(artifact.custom_properties[name], field, value)
        return store.put_artifacts([artifact])[0]

    return put


@pytest.fixture
def records(draft):
    return tuple(draft(reason=f"reason {n}").numbered(n, NOW) for n in range(1, 6))


def _summary(records, **changes):
    return {
        "model": records[0].model,
        "records": len(records),
        "first_sequence": records[0].sequence,
        "last_sequence": records[-1].sequence,
        "cause": records[0].cause.value,
        **changes,
    }


def _lines(records):
    return "".join(f"{to_json(record)}\n" for record in records)


def test_one_artifact_may_hold_several_records(connection, put, records):
    put(_summary(records[:2], payload=_lines(records[:2])))
    put(_summary(records[2:], payload=_lines(records[2:])))
    assert MlmdLedger(connection).records("taxi") == records


def test_whole_numbers_come_back_from_kubeflow_as_floats(connection, put, records):
    numbers = {"records": 2.0, "first_sequence": 1.0, "last_sequence": 2.0}
    put({**_summary(records[:2], payload=_lines(records[:2])), **numbers})
    put({"model": "bikes", "records": 0.0})
    ledger = MlmdLedger(connection)
    assert ledger.records("taxi") == records[:2]
    assert ledger.models() == ("taxi",)


def test_the_first_release_withdraws_nothing_and_is_no_record(connection, put):
    put({"model": "taxi", "records": 0})
    ledger = MlmdLedger(connection)
    assert ledger.records("taxi") == ()
    assert ledger.models() == ()


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_long_records_are_read_from_the_file_under_the_uri(
    connection, put, draft, tmp_path, prefix
):
    keys = SelectKeys(tuple(f"{n:064x}" for n in range(5000)))
    record = draft(selector=keys, reason="naïve \u2028 日本").numbered(1, NOW)
    (tmp_path / "records.jsonl").write_text(_lines([record]), encoding="utf-8")
    put(_summary([record]), uri=f"{prefix}{tmp_path}")
    assert MlmdLedger(connection).records("taxi") == (record,)


def test_a_missing_file_is_named_until_it_is_back(connection, put, records, tmp_path):
    put(_summary(records[:1]), uri=tmp_path / "gone")
    ledger = MlmdLedger(connection)
    with pytest.raises(
        LedgerError, match=r"artifact 1 \(taxi\): .*/gone/records.jsonl .*reconcile"
    ):
        ledger.records("taxi")
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / "records.jsonl").write_text(_lines(records[:1]))
    assert ledger.records("taxi") == records[:1]


def test_a_missing_file_of_another_model_or_below_the_cursor_disturbs_nobody(
    connection, put, records, tmp_path
):
    put(_summary(records[:1]), uri=tmp_path / "gone")
    put(_summary(records[1:], payload=_lines(records[1:])))
    ledger = MlmdLedger(connection)
    assert ledger.records("bikes") == ()
    assert ledger.records("taxi", after=1) == records[1:]
    with pytest.raises(LedgerError, match="cannot be read"):
        ledger.records("taxi")


def test_nothing_is_appended_at_the_place_of_a_record_that_cannot_be_read(
    connection, put, records, draft, tmp_path
):
    put(_summary(records[:3]), uri=tmp_path / "gone")
    assert MlmdLedger(connection).append(draft()).sequence == 4


def test_records_from_the_journal_heal_a_missing_file(connection, put, records, tmp_path):
    put(_summary(records[:2]), uri=tmp_path / "gone")
    journal = MemoryLedger()
    for record in records:
        journal.publish(record)
    ledger = MlmdLedger(connection)
    assert reconcile(journal, ledger, "taxi") == records
    assert ledger.records("taxi") == records
    assert MlmdLedger(connection).records("taxi") == records


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"payload": "not JSON\n"}, "Invalid JSON"),
        ({"records": 2}, "says records = 2 but holds 1"),
        ({"first_sequence": 2}, "says first_sequence = 2 but holds 1"),
        ({"last_sequence": 4}, "says last_sequence = 4 but holds 1"),
        ({"payload": "\n"}, "says records = 1 but holds 0"),
        ({"model": "bikes"}, r"holds records of \['taxi'\]"),
        ({"payload": ""}, "neither a payload nor a uri"),
    ],
)
def test_an_artifact_that_contradicts_itself_is_an_error(
    connection, put, records, changes, message
):
    put(_summary(records[:1], payload=_lines(records[:1])) | changes)
    with pytest.raises(LedgerError, match=message):
        MlmdLedger(connection).records(changes.get("model", "taxi"))


def test_an_artifact_that_says_nothing_of_itself_concerns_every_model(connection, put):
    put({})
    with pytest.raises(LedgerError, match=r"artifact 1 \(model unknown\)"):
        MlmdLedger(connection).records("taxi")


def test_a_record_that_comes_both_ways_is_one_record(connection, put, records):
    ledger = MlmdLedger(connection)
    ledger.publish(records[0])
    put(_summary(records[:2], payload=_lines(records[:2])))
    assert ledger.publish(records[1]) is False
    assert ledger.records("taxi") == records[:2]
    assert MlmdLedger(connection).records("taxi") == records[:2]


def test_two_artifacts_that_disagree_are_an_error_that_names_both(connection, put, records, store):
    other = replace(records[0], reason="something else")
    put(_summary(records[:1], payload=_lines(records[:1])))
    second = put(_summary([other], payload=_lines([other])))
    ledger = MlmdLedger(connection)
    with pytest.raises(LedgerError, match=r"artifacts 1 and 2 hold different records .*000001"):
        ledger.records("taxi")
    with pytest.raises(LedgerError, match="already MANUAL"):
        ledger.publish(other)
    properties = _summary([other], payload=_lines([other]))
    put(properties, state=pb.Artifact.ABANDONED, artifact_id=second)
    assert ledger.records("taxi") == records[:1]


def test_outputs_of_an_execution_that_has_not_succeeded_do_not_count(connection, put, records):
    properties = _summary(records[:1], payload=_lines(records[:1]))
    pending = put({}, state=pb.Artifact.PENDING)
    put(properties, state=pb.Artifact.ABANDONED)
    ledger = MlmdLedger(connection)
    assert ledger.records("taxi") == ()
    put(properties, artifact_id=pending)
    assert ledger.records("taxi") == records[:1]


def test_an_artifact_that_ends_long_after_it_began_is_still_found(connection, put, records, store):
    pending = put({}, state=pb.Artifact.PENDING)
    ledger = MlmdLedger(connection)
    assert ledger.records("taxi") == ()
    type_id = store.put_artifact_type(pb.ArtifactType(name="Examples"))
    store.put_artifacts([pb.Artifact(type_id=type_id) for _ in range(250)])
    assert ledger.records("taxi") == ()
    put(_summary(records[:1], payload=_lines(records[:1])), artifact_id=pending)
    assert ledger.records("taxi") == records[:1]


def test_a_follower_goes_on_when_the_orchestrator_publishes_late(connection, put, records):
    ledger, late = MlmdLedger(connection), [records[0]]
    ledger.publish(records[1])

    def orchestrator_publishes(_seconds):
        (record,) = late
        put(_summary([record], payload=_lines([record])))

    followed = follow(MlmdLedger(connection), "taxi", sleep=orchestrator_publishes)
    assert [next(followed), next(followed)] == list(records[:2])


def test_an_acknowledgement_is_an_execution_with_the_record_as_its_input(
    connection, put, records, store
):
    artifact_id = put(_summary(records[:2], payload=_lines(records[:2])))
    MlmdLedger(connection).acknowledge(records[1], "gateway@host-1")
    (execution,) = store.get_executions_by_type("ApplyCacheInvalidation")
    (event,) = store.get_events_by_execution_ids([execution.id])
    assert (event.artifact_id, event.type) == (artifact_id, pb.Event.INPUT)
    assert execution.last_known_state == pb.Execution.COMPLETE
    assert execution.name == "taxi/000002/gateway@host-1"
    properties = execution.custom_properties
    assert properties["consumer"].string_value == "gateway@host-1"
    assert properties["model"].string_value == "taxi"
    assert properties["sequence"].int_value == 2
    assert store.get_artifacts_by_id([artifact_id])[0].custom_properties["records"].int_value == 2


def test_an_appended_record_is_the_output_of_an_execution_that_says_who(connection, draft, store):
    MlmdLedger(connection, recorded_by="bob@laptop").append(draft(created_by="ada"))
    (execution,) = store.get_executions_by_type("tfx_encore.RecordCacheInvalidation")
    (artifact,) = store.get_artifacts_by_type("tfx_encore.CacheInvalidation")
    (event,) = store.get_events_by_execution_ids([execution.id])
    assert (event.artifact_id, event.type) == (artifact.id, pb.Event.OUTPUT)
    assert artifact.name == "taxi/000001"
    assert execution.custom_properties["recorded_by"].string_value == "bob@laptop"
    assert execution.custom_properties["created_by"].string_value == "ada"


def test_payloads_are_ascii_whatever_the_text(draft):
    record = draft(reason="日本 \u2028 😀").numbered(1, NOW)
    assert payload_of([record, record]).isascii()
    assert payload_of([record, record]).count("\n") == 2


def test_a_record_too_large_for_the_store_is_refused_before_it_is_sent(connection, draft):
    keys = SelectKeys(tuple(f"{n:064x}" for n in range(20_000)))
    with pytest.raises(LedgerError, match=r"taxi/000001 has \d+ bytes, .*split its keys"):
        MlmdLedger(connection).append(draft(selector=keys))
    assert MlmdLedger(connection).records("taxi") == ()


def test_a_name_too_long_for_the_store_is_refused(connection, draft):
    with pytest.raises(LedgerError, match="shorter name"):
        MlmdLedger(connection).append(draft("T" * 100))
