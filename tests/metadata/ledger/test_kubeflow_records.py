"""The same pushes give the same records by Kubeflow's ML Metadata over gRPC and by the journal.

What reaches ML Metadata is what Kubeflow's launcher makes of VersionedPusher's output: its entry
point's ExecutorOutput, recorded as `RecordArtifact` in kubeflow/pipelines `backend/src/v2/metadata`
does, with numbers as doubles, metadata of its own, and a URI that only the launcher can read.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tfx_encore.metadata.journal_ledger import JournalLedger
from tfx_encore.metadata.mlmd_connection import GrpcConnection
from tfx_encore.metadata.mlmd_ledger import MlmdLedger
from tfx_encore.metadata.reconcile import reconcile
from tfx_encore.metadata.release_push import PushRequest
from tfx_encore.metadata.releases import ReleaseDirectory
from tfx_encore.schemas.records import Cause

Launch = Callable[[Any], None]


@pytest.fixture
def ledgers(grpc_server: Any, tmp_path: Path) -> tuple[MlmdLedger, JournalLedger]:
    """The two ledgers that a gateway on Kubeflow may follow."""
    connection = GrpcConnection(host="127.0.0.1", port=grpc_server.port)
    return MlmdLedger(connection), JournalLedger(tmp_path / "releases")


@pytest.fixture
def launch(grpc_server: Any, tmp_path: Path) -> Launch:
    """Publishes the output of one VersionedPusher as Kubeflow's launcher does."""
    from google.protobuf import json_format
    from ml_metadata.metadata_store import metadata_store
    from ml_metadata.proto import metadata_store_pb2 as pb
    from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_entrypoint_utils as entry

    from tfx_encore.components.versioned_pusher.executor import _write_records
    from tfx_encore.metadata.mlmd_connection import connection_config
    from tfx_encore.schemas.artifacts import CacheInvalidation

    connection = GrpcConnection(host="127.0.0.1", port=grpc_server.port)
    store = metadata_store.MetadataStore(connection_config(connection))

    def publish(result: Any) -> None:
        artifact = CacheInvalidation()
        artifact.uri = str(tmp_path / "minio" / "invalidation")
        _write_records(artifact, "taxi", result.records, repeated=result.repeated)
        said = entry.translate_executor_output({"invalidation": [artifact]}, {})
        output = json.loads(json_format.MessageToJson(said["invalidation"].artifacts[0]))
        kind = store.put_artifact_type(pb.ArtifactType(name="tfx_encore.CacheInvalidation"))
        recorded = pb.Artifact(
            type_id=kind, uri="minio://bucket/invalidation", state=pb.Artifact.LIVE
        )
        added = {"display_name": "invalidation", "store_session_info": "{}"}
        for name, value in {**output["metadata"], **added}.items():
            if isinstance(value, str):
                recorded.custom_properties[name].string_value = value
            else:
                recorded.custom_properties[name].double_value = float(value)
        store.put_artifacts([recorded])

    return publish


@pytest.fixture
def releases(tmp_path: Path) -> ReleaseDirectory:
    return ReleaseDirectory(tmp_path / "releases", "taxi")


def test_pushes_on_kubeflow_give_the_same_records_either_way(
    ledgers: Any, launch: Launch, releases: ReleaseDirectory, make_model: Callable[[str], Path]
) -> None:
    mlmd, journal = ledgers
    for content in ("a", "b", "c", "b"):
        launch(releases.push(PushRequest(make_model(content))))
    records = journal.records("taxi")
    assert [record.cause for record in records] == [Cause.MODEL_PUSHED] * len(records)
    assert len(records) >= 2
    assert mlmd.records("taxi") == records
    assert mlmd.models() == journal.models() == ("taxi",)
    assert mlmd.records("taxi", after=1, limit=1) == journal.records("taxi", after=1, limit=1)


def test_a_first_release_is_no_record_either_way(
    ledgers: Any, launch: Launch, releases: ReleaseDirectory, make_model: Callable[[str], Path]
) -> None:
    launch(releases.push(PushRequest(make_model("a"))))
    assert [ledger.records("taxi") for ledger in ledgers] == [(), ()]


def test_records_that_a_command_wrote_reach_kubeflows_store_beside_those_of_pushes(
    ledgers: Any, launch: Launch, releases: ReleaseDirectory, make_model: Any, draft: Any
) -> None:
    mlmd, journal = ledgers
    launch(releases.push(PushRequest(make_model("a"))))
    launch(releases.push(PushRequest(make_model("b"))))
    by_hand = releases.append_record(draft())
    assert reconcile(journal, mlmd, "taxi") == (by_hand,)
    assert reconcile(journal, mlmd, "taxi") == ()
    launch(releases.push(PushRequest(make_model("c"))))
    assert mlmd.records("taxi") == journal.records("taxi")


def test_a_push_that_was_never_published_is_made_up_for_from_the_journal(
    ledgers: Any, launch: Launch, releases: ReleaseDirectory, make_model: Any
) -> None:
    mlmd, journal = ledgers
    launch(releases.push(PushRequest(make_model("a"))))
    lost = releases.push(PushRequest(make_model("b")))
    launch(releases.push(PushRequest(make_model("c"))))
    assert reconcile(journal, mlmd, "taxi") == lost.records
    assert mlmd.records("taxi") == journal.records("taxi")


def test_who_applied_a_record_is_known_either_way(
    ledgers: Any, launch: Launch, releases: ReleaseDirectory, make_model: Any
) -> None:
    for content in ("a", "b"):
        launch(releases.push(PushRequest(make_model(content))))
    said = []
    for ledger in ledgers:
        (record,) = ledger.records("taxi")
        ledger.acknowledge(record, "gateway@pod-1")
        said.append([(a.sequence, a.consumer) for a in ledger.acknowledgements("taxi")])
    assert said[0] == said[1] == [(1, "gateway@pod-1")]
