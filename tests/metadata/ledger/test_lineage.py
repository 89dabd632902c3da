"""Walking upstream from an artifact."""

from __future__ import annotations

import pytest
from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as pb

from tfx_encore.metadata.lineage import LineageLink, upstream
from tfx_encore.metadata.mlmd_connection import SqliteConnection, connection_config
from tfx_encore.metadata.mlmd_ledger import MlmdLedger
from tfx_encore.schemas.errors import LedgerError


@pytest.fixture
def connection(tmp_path):
    return SqliteConnection(path=str(tmp_path / "metadata.db"))


@pytest.fixture
def store(connection):
    return MetadataStore(connection_config(connection))


@pytest.fixture
def run(store):
    """Returns a function that records a component's run and gives the ids of its outputs."""

    def event(kind, key, index):
        steps = [pb.Event.Path.Step(key=key), pb.Event.Path.Step(index=index)]
        return pb.Event(type=kind, path=pb.Event.Path(steps=steps))

    def run(component, inputs, outputs, state=pb.Execution.COMPLETE):
        type_id = store.put_execution_type(pb.ExecutionType(name=component))
        execution = pb.Execution(type_id=type_id, last_known_state=state)
        execution.custom_properties["steps"].int_value = 200
        pairs = []
        for index, artifact_id in enumerate(inputs):
            (artifact,) = store.get_artifacts_by_id([artifact_id])
            pairs.append((artifact, event(pb.Event.INPUT, "in", index)))
        for name, artifact_id in outputs:
            kind = store.put_artifact_type(pb.ArtifactType(name=name))
            artifact = pb.Artifact(
                id=artifact_id, type_id=kind, uri=f"/data/{name}", state=pb.Artifact.LIVE
            )
            artifact.custom_properties["span"].double_value = 2.0
            pairs.append((artifact, event(pb.Event.OUTPUT, name, 0)))
        _, ids, _ = store.put_execution(execution, pairs, [])
        return ids[len(inputs) :]

    return run


def test_it_finds_everything_the_artifact_was_made_from_and_nothing_else(store, run):
    (examples,) = run("CsvExampleGen", [], [("Examples", None)])
    statistics, anomalies = run(
        "StatisticsGen", [examples], [("ExampleStatistics", None), ("ExampleAnomalies", None)]
    )
    (model,) = run("Trainer", [examples, statistics], [("Model", None)])
    (pushed,) = run("Pusher", [model], [("PushedModel", None)])
    run("Evaluator", [model], [("ModelEvaluation", None)])

    lineage = upstream(store, model)
    assert [artifact.type for artifact in lineage.artifacts] == [
        "Examples",
        "ExampleStatistics",
        "Model",
    ]
    assert [e.type for e in lineage.executions] == ["CsvExampleGen", "StatisticsGen", "Trainer"]
    assert lineage.executions[2].inputs == (
        LineageLink("in", 0, examples),
        LineageLink("in", 1, statistics),
    )
    assert anomalies in {link.artifact_id for link in lineage.executions[1].outputs}
    assert {e.type for e in upstream(store, pushed).executions} >= {"Pusher", "CsvExampleGen"}


def test_nodes_are_plain_values(store, run):
    (examples,) = run("CsvExampleGen", [], [("Examples", None)])
    lineage = upstream(store, examples)
    (artifact,) = lineage.of_type("Examples")
    (execution,) = lineage.executions
    assert (artifact.uri, artifact.state) == ("/data/Examples", "LIVE")
    assert artifact.properties == {"span": 2.0}
    assert execution.properties == {"steps": 200}
    assert execution.state == "COMPLETE"
    assert artifact.created_at.startswith("20")
    assert artifact.created_at.endswith("Z")


def test_an_artifact_that_two_executions_gave_has_both_upstream(store, run):
    (examples,) = run("CsvExampleGen", [], [("Examples", None)])
    run("CsvExampleGen", [], [("Examples", examples)], state=pb.Execution.CACHED)
    assert [e.state for e in upstream(store, examples).executions] == ["COMPLETE", "CACHED"]


def test_a_circle_is_walked_once(store, run):
    (model,) = run("Trainer", [], [("Model", None)])
    (cache,) = run("Warmer", [model], [("Cache", None)])
    run("Trainer", [cache], [("Model", model)])
    lineage = upstream(store, cache)
    assert [a.id for a in lineage.artifacts] == [model, cache]
    assert len(lineage.executions) == 3


def test_it_goes_no_deeper_than_asked(store, run):
    (first,) = run("A", [], [("X", None)])
    (second,) = run("B", [first], [("Y", None)])
    (third,) = run("C", [second], [("Z", None)])
    assert [e.type for e in upstream(store, third, max_steps=2).executions] == ["B", "C"]


def test_a_record_leads_to_the_execution_that_made_it(store, connection, draft):
    MlmdLedger(connection, recorded_by="bob").append(draft())
    (artifact,) = store.get_artifacts_by_type("tfx_encore.CacheInvalidation")
    (execution,) = upstream(store, artifact.id).executions
    assert execution.type == "tfx_encore.RecordCacheInvalidation"
    assert execution.properties["recorded_by"] == "bob"


def test_an_unknown_artifact_is_an_error(store):
    with pytest.raises(LedgerError, match="no artifact 99"):
        upstream(store, 99)
