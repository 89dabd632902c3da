"""The artifact type as TFX registers it and as the ledger does, in either order."""

from __future__ import annotations

import pytest

from tfx_encore.metadata.mlmd_connection import SqliteConnection, connection_config
from tfx_encore.metadata.mlmd_ledger import MlmdLedger
from tfx_encore.metadata.mlmd_records import payload_of

NOW = "2026-11-20T18:50:46.000000Z"


@pytest.fixture
def connection(tmp_path):
    return SqliteConnection(path=str(tmp_path / "metadata.db"))


@pytest.fixture
def orchestrate(connection, tmp_path):
    """Returns a function that publishes records as the output of a component that succeeded."""
    from ml_metadata.proto import metadata_store_pb2 as pb
    from tfx.orchestration.metadata import Metadata
    from tfx.orchestration.portable import execution_publish_utils as publishing

    from tfx_encore.schemas.artifacts import CacheInvalidation

    def publish(records):
        artifact = CacheInvalidation()
        artifact.uri = str(tmp_path)
        artifact.set_string_custom_property("model", "taxi")
        artifact.set_int_custom_property("records", len(records))
        artifact.set_int_custom_property("first_sequence", records[0].sequence)
        artifact.set_int_custom_property("last_sequence", records[-1].sequence)
        artifact.set_string_custom_property("payload", payload_of(records))
        kind = pb.ExecutionType(name="tfx_encore.VersionedPusher")
        with Metadata(connection_config(connection)) as handle:
            execution = publishing.register_execution(handle, kind, contexts=[])
            outputs = {"invalidations": [artifact]}
            publishing.publish_succeeded_execution(handle, execution.id, [], outputs)

    return publish


def test_the_ledger_reads_and_adds_to_what_tfx_published_first(connection, orchestrate, draft):
    published = [draft().numbered(1, NOW), draft().numbered(2, NOW)]
    orchestrate(published)
    ledger = MlmdLedger(connection)
    assert list(ledger.records("taxi")) == published
    appended = ledger.append(draft())
    assert list(MlmdLedger(connection).records("taxi")) == [*published, appended]
    assert ledger.acknowledge(published[0], "gateway").sequence == 1


def test_tfx_publishes_into_a_store_that_the_ledger_made(connection, orchestrate, draft):
    ledger = MlmdLedger(connection)
    appended = ledger.append(draft())
    published = [draft().numbered(2, NOW)]
    orchestrate(published)
    assert list(ledger.records("taxi")) == [appended, *published]
    assert list(MlmdLedger(connection).records("taxi")) == [appended, *published]
