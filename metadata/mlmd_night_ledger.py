"""The ledger of nights in ML Metadata.

A record is an artifact of type `tfx_encore.NightDecision`, and comes in two ways: as the output of
NightRecorder, which TFX publishes, and by `publish` here, with an execution of type
`tfx_encore.RecordNight`: nights that were judged again, that had no traffic, or whose actions were
carried out. The second way names its artifact `<model>/<date>/<revision>`; names are unique by
type, so no revision is published twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ml_metadata import errors
from ml_metadata.proto import metadata_store_pb2 as pb

from tfx_encore.metadata.ledger import safe_name
from tfx_encore.metadata.mlmd_contention import until_done
from tfx_encore.metadata.mlmd_listing import TypeListing
from tfx_encore.metadata.mlmd_records import MAX_PAYLOAD_BYTES
from tfx_encore.metadata.mlmd_store import MlmdStore
from tfx_encore.schemas.errors import DataError, LedgerError
from tfx_encore.schemas.nights import NightRecord
from tfx_encore.schemas.serial import from_json, to_json

DECISION_TYPE = "tfx_encore.NightDecision"
RECORDER_TYPE = "tfx_encore.RecordNight"

_NOT_PUBLISHED = frozenset({pb.Artifact.PENDING, pb.Artifact.ABANDONED, pb.Artifact.REFERENCE})


class MlmdNightLedger:
    """A `NightLedger` in ML Metadata.

    Args:
        connection: an `MlmdConnection`, one of ml_metadata's own configurations, or an
            `MlmdStore` to share.
    """

    def __init__(self, connection: Any) -> None:
        self._store = connection if isinstance(connection, MlmdStore) else MlmdStore(connection)
        self._listing = TypeListing("artifact", DECISION_TYPE)
        self._found: dict[tuple[str, str], tuple[int, Any]] = {}

    def publish(self, record: NightRecord) -> bool:
        """Keeps a record with its execution, in one transaction; False if it is there already."""
        if self.revisions(record.model).get(record.date, 0) >= record.revision:
            return False
        return until_done(lambda: self._put(record))

    def revisions(self, model: str) -> Mapping[str, int]:
        """Date -> the highest revision that is kept."""
        self._look()
        return {date: found[0] for (name, date), found in self._found.items() if name == model}

    def record(self, model: str, date: str) -> NightRecord | None:
        """The highest revision of a night; None if there is none."""
        self._look()
        if (model, date) not in self._found:
            return None
        artifact = self._found[model, date][1]
        payload = artifact.custom_properties["payload"].string_value
        try:
            return from_json(NightRecord, payload, source=f"artifact {artifact.id}")
        except DataError as error:
            raise LedgerError(
                f"{error}; the night itself is in the release directory, folder nights/{date}"
            ) from error

    def close(self) -> None:
        """Lets go of the connection. The next call opens it again."""
        self._store.close()

    def _put(self, record: NightRecord) -> bool:
        name = f"{safe_name(record.model)}/{record.date}/{record.revision}"
        with self._store.writing() as store:
            kind = _type_id(store.get_artifact_type, store.put_artifact_type, _ARTIFACT_TYPE)
            by = _type_id(store.get_execution_type, store.put_execution_type, _EXECUTION_TYPE)
            artifact = pb.Artifact(type_id=kind, name=name, state=pb.Artifact.LIVE)
            _set(artifact, properties_of(record))
            execution = pb.Execution(type_id=by, name=name, last_known_state=pb.Execution.COMPLETE)
            _set(execution, {"model": record.model, "date": record.date})
            step = pb.Event.Path.Step(key="decision")
            event = pb.Event(type=pb.Event.OUTPUT, path=pb.Event.Path(steps=[step]))
            try:
                store.put_execution(execution, [(artifact, event)], [])
            except errors.AlreadyExistsError:
                return False
        return True

    def _look(self) -> None:
        for artifact in self._store.look(self._listing.fresh):
            if artifact.state in _NOT_PUBLISHED:
                continue
            said = artifact.custom_properties
            key = (said["model"].string_value, said["date"].string_value)
            # Of TFX on Kubeflow, whole numbers come back as floats.
            number = said["revision"]
            revision = int(number.int_value or number.double_value)
            if revision > self._found.get(key, (0, None))[0]:
                self._found[key] = (revision, artifact)
            self._listing.settle(artifact.id)


def properties_of(record: NightRecord) -> dict[str, str | int]:
    """What the artifact of a record says of it (see `schemas.artifacts.NightDecision`)."""
    # In ASCII, so that any character set of a database fits.
    payload = json.dumps(json.loads(to_json(record)), sort_keys=True, separators=(",", ":"))
    found: dict[str, str | int] = {
        "model": record.model,
        "date": record.date,
        "outcome": record.outcome.value,
        "reason": record.reason,
        "revision": record.revision,
        "actions": ",".join(action.kind for action in record.actions),
    }
    if len(payload) <= MAX_PAYLOAD_BYTES:
        found["payload"] = payload
    return found


_ARTIFACT_TYPE = pb.ArtifactType(name=DECISION_TYPE)
_EXECUTION_TYPE = pb.ExecutionType(name=RECORDER_TYPE)


def _set(node: Any, values: Mapping[str, str | int]) -> None:
    for name, value in values.items():
        if isinstance(value, int):
            node.custom_properties[name].int_value = value
        else:
            node.custom_properties[name].string_value = value


def _type_id(get: Any, put: Any, wanted: Any) -> int:
    """Returns the id of a type. One that TFX or another process registered is taken as it is."""
    try:
        return int(get(wanted.name).id)
    except errors.NotFoundError:
        pass
    try:
        return int(put(wanted, can_add_fields=True, can_omit_fields=True))
    except errors.AlreadyExistsError:
        return int(get(wanted.name).id)
