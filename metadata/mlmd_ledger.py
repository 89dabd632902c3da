"""The ledger in ML Metadata, over SQLite, MySQL or gRPC.

Records arrive in two ways: as the output artifact of VersionedPusher, which the orchestrator
publishes with the execution, and by `append` and `publish` here. The second way names its artifact
`<model>/<sequence>`; names are unique by type, and so no two appenders take one sequence.
"""

from __future__ import annotations

import getpass
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from ml_metadata import errors
from ml_metadata.proto import metadata_store_pb2 as pb

from tfx_encore.metadata.ledger import conflict, not_held
from tfx_encore.metadata.mlmd_contention import PATIENCE_SECONDS, until_done
from tfx_encore.metadata.mlmd_listing import TypeListing
from tfx_encore.metadata.mlmd_records import (
    APPLY_TYPE,
    RECORD_TYPE,
    RECORDER_TYPE,
    acknowledgement_in,
    application_of,
    apply_name,
    artifact_of,
    read_local_text,
    recorder_of,
    records_in,
    summary_of,
)
from tfx_encore.metadata.mlmd_shelf import Fault, Shelf
from tfx_encore.metadata.mlmd_store import MlmdStore
from tfx_encore.schemas.clock import utc_now
from tfx_encore.schemas.errors import LedgerError
from tfx_encore.schemas.records import Acknowledgement, InvalidationRecord, RecordDraft

T = TypeVar("T")

# An artifact in one of these states is not, or not yet, the output of an execution that succeeded.
_NOT_PUBLISHED = frozenset({pb.Artifact.PENDING, pb.Artifact.ABANDONED, pb.Artifact.REFERENCE})

# While a record is missing, the whole type is listed again this often.
_RELIST_SECONDS = 5.0


class MlmdLedger:
    """A `Ledger` in ML Metadata.

    The first look lists all records of the store (0.2 s for ten thousand) and keeps them; each
    later one reads a page of the newest artifacts (a few milliseconds).

    Args:
        connection: an `MlmdConnection`, one of ml_metadata's own configurations, or an
            `MlmdStore` to share.
        recorded_by: who writes, for lineage; the user and host if not given.
        read_text: reads the `records.jsonl` of a uri; local files unless given.
        clock: gives the time of records and acknowledgements.
    """

    def __init__(
        self,
        connection: Any,
        *,
        recorded_by: str | None = None,
        read_text: Callable[[str], str] = read_local_text,
        clock: Callable[[], str] = utc_now,
    ) -> None:
        self._store = connection if isinstance(connection, MlmdStore) else MlmdStore(connection)
        self._recorded_by = recorded_by or f"{getpass.getuser()}@{socket.gethostname()}"
        self._read_text = read_text
        self._clock = clock
        self._lock = threading.RLock()
        self._artifacts = TypeListing("artifact", RECORD_TYPE)
        self._applications = TypeListing("execution", APPLY_TYPE)
        self._shelf = Shelf()
        self._relist_at = 0.0

    def append(self, draft: RecordDraft) -> InvalidationRecord:
        """Gives the draft the model's next sequence and keeps it.

        Only for models whose sequences are given here. Where there is a release directory its
        journal gives them: append there, then `publish`.
        """

        def attempt() -> InvalidationRecord | None:
            self._read_records()
            self._shelf.raise_faults(draft.model, self._shelf.last(draft.model))
            record = draft.numbered(self._shelf.last(draft.model) + 1, self._clock())
            return record if self._put(record) else None

        with self._lock:
            return self._until_done(attempt, f"append to model {draft.model!r}")

    def publish(self, record: InvalidationRecord) -> bool:
        """Keeps a record whose sequence was given elsewhere."""

        def attempt() -> bool | None:
            if record.sequence not in self._shelf.of(record.model):
                self._read_records()
            held = self._shelf.of(record.model).get(record.sequence)
            if held is None:
                return True if self._put(record) else None
            if held != record:
                raise conflict(held, record)
            return False

        with self._lock:
            return self._until_done(attempt, f"publish {record.record_id}")

    def records(
        self, model: str, *, after: int = 0, limit: int | None = None
    ) -> tuple[InvalidationRecord, ...]:
        """Returns the records above `after`, ascending, at most `limit`."""
        with self._lock:
            self._read_records()
            self._shelf.raise_faults(model, after)
            held = self._shelf.of(model)
            wanted = sorted(sequence for sequence in held if sequence > after)[:limit]
            return tuple(held[sequence] for sequence in wanted)

    def models(self) -> tuple[str, ...]:
        """Returns the names of the models that have records, sorted."""
        with self._lock:
            self._read_records()
            return tuple(sorted(self._shelf.records))

    def acknowledge(self, record: InvalidationRecord, consumer: str) -> Acknowledgement:
        """Notes that `consumer` has applied `record`; the first time counts."""
        apply_name(record.model, record.sequence, consumer)
        key = (record.model, record.sequence, consumer)
        with self._lock:
            if record.sequence not in self._shelf.of(record.model):
                self._read_records()
            held = self._shelf.of(record.model).get(record.sequence)
            if held != record:
                raise not_held(record, held)
            if key not in self._shelf.acks:
                ack = Acknowledgement(*key, acknowledged_at=self._clock())
                self._shelf.acks[key] = self._until_done(
                    lambda: self._put_acknowledgement(ack), f"acknowledge {record.record_id}"
                )
            return self._shelf.acks[key]

    def acknowledgements(
        self, model: str, *, sequence: int | None = None
    ) -> tuple[Acknowledgement, ...]:
        """Returns who applied what, by sequence and then consumer."""
        with self._lock:
            self._read_acknowledgements()
            return tuple(
                ack
                for (name, number, _), ack in sorted(self._shelf.acks.items())
                if name == model and sequence in (None, number)
            )

    def close(self) -> None:
        """Lets go of the connection. The next call opens it again."""
        self._store.close()

    def _read_records(self) -> None:
        self._take_records(everything=False)
        if self._shelf.has_gap() and time.monotonic() >= self._relist_at:
            self._relist_at = time.monotonic() + _RELIST_SECONDS
            self._take_records(everything=True)

    def _take_records(self, *, everything: bool) -> None:
        found = self._store.look(lambda store: self._artifacts.fresh(store, everything=everything))
        for artifact in found:
            self._shelf.faults.pop(artifact.id, None)
            if artifact.state not in _NOT_PUBLISHED:
                self._take_artifact(artifact)

    def _take_artifact(self, artifact: Any) -> None:
        said = summary_of(artifact)
        try:
            disagreement = self._shelf.take(artifact.id, records_in(artifact, self._read_text))
        except LedgerError as error:
            self._shelf.faults[artifact.id] = Fault(said, error)
            return
        if disagreement is not None:
            self._shelf.faults[artifact.id] = Fault(said, disagreement, may_heal=False)
            return
        self._artifacts.settle(artifact.id)

    def _read_acknowledgements(self) -> None:
        for execution in self._store.look(self._applications.fresh):
            ack = acknowledgement_in(execution)
            self._shelf.acks[ack.model, ack.sequence, ack.consumer] = ack
            self._applications.settle(execution.id)

    def _put(self, record: InvalidationRecord) -> bool:
        """Stores a record with its execution, in one transaction. False if its name is taken."""
        with self._store.writing() as store:
            types = (_artifact_type(store, RECORD_TYPE), _execution_type(store, RECORDER_TYPE))
            artifact = artifact_of(record, types[0])
            execution = recorder_of(record, types[1], self._recorded_by)
            event = _event(pb.Event.OUTPUT, "record")
            try:
                _, ids, _ = store.put_execution(execution, [(artifact, event)], [])
            except errors.AlreadyExistsError:
                return False
        self._shelf.take(ids[0], (record,))
        self._artifacts.settle(ids[0])
        return True

    def _put_acknowledgement(self, ack: Acknowledgement) -> Acknowledgement:
        """Stores an acknowledgement linked to its record, or returns the one that was first."""
        with self._store.writing() as store:
            execution = application_of(ack, _execution_type(store, APPLY_TYPE))
            event = _event(pb.Event.INPUT, "record")
            event.artifact_id = self._shelf.homes[ack.model, ack.sequence]
            try:
                store.put_lineage_subgraph([execution], [], [], [(0, None, event)])
            except errors.AlreadyExistsError:
                return acknowledgement_in(
                    store.get_execution_by_type_and_name(APPLY_TYPE, execution.name)
                )
        return ack

    def _until_done(self, attempt: Callable[[], T | None], what: str) -> T:
        lost = (
            f"{what}: {self._store.name} says that the name is taken but shows no such record, for "
            f"{PATIENCE_SECONDS:g} s; look at the artifacts of type {RECORD_TYPE} that are not LIVE"
        )
        return until_done(attempt, lost=lost)


def _event(kind: Any, key: str) -> Any:
    return pb.Event(type=kind, path=pb.Event.Path(steps=[pb.Event.Path.Step(key=key)]))


def _artifact_type(store: Any, name: str) -> int:
    return _type_id(store.get_artifact_type, store.put_artifact_type, pb.ArtifactType(name=name))


def _execution_type(store: Any, name: str) -> int:
    return _type_id(store.get_execution_type, store.put_execution_type, pb.ExecutionType(name=name))


def _type_id(get: Callable[..., Any], put: Callable[..., int], wanted: Any) -> int:
    """Returns the id of a type. One that TFX or another process registered is taken as it is."""
    try:
        return int(get(wanted.name).id)
    except errors.NotFoundError:
        pass
    try:
        return int(put(wanted, can_add_fields=True, can_omit_fields=True))
    except errors.AlreadyExistsError:
        return int(get(wanted.name).id)
