"""How invalidation records look in ML Metadata: artifacts, executions and their properties.

An artifact of type `tfx_encore.CacheInvalidation` holds the records of one push or of one command
as JSON Lines: in its property `payload` when they are short, else in `records.jsonl` under its uri.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_metadata.proto import metadata_store_pb2 as pb

from tfx_encore.metadata.ledger import safe_name
from tfx_encore.schemas.errors import DataError, LedgerError
from tfx_encore.schemas.records import Acknowledgement, InvalidationRecord
from tfx_encore.schemas.serial import from_json, to_json

RECORD_TYPE = "tfx_encore.CacheInvalidation"
RECORDER_TYPE = "tfx_encore.RecordCacheInvalidation"
APPLY_TYPE = "ApplyCacheInvalidation"
RECORDS_FILE = "records.jsonl"

# MySQL keeps names in 255 characters. Packets and gRPC messages are bounded too: a payload of this
# size fits every store.
MAX_NAME = 255
MAX_PAYLOAD_BYTES = 1 << 20


@dataclass(frozen=True)
class Summary:
    """What an artifact says of its records; None where it says nothing."""

    model: str | None
    records: int | None
    first: int | None
    last: int | None


def payload_of(records: Sequence[InvalidationRecord]) -> str:
    """Returns the records as JSON Lines in ASCII, so that any character set of a database fits."""
    return "".join(json.dumps(json.loads(to_json(r)), sort_keys=True) + "\n" for r in records)


def record_name(model: str, sequence: int) -> str:
    """Returns the unique name of a record's artifact, as `taxi/000012`."""
    return _bounded(f"{safe_name(model)}/{sequence:06d}")


def apply_name(model: str, sequence: int, consumer: str) -> str:
    """Returns the unique name of an acknowledgement, as `taxi/000012/gateway@host-1`."""
    return _bounded(f"{safe_name(model)}/{sequence:06d}/{safe_name(consumer)}")


def _bounded(name: str) -> str:
    if len(name) > MAX_NAME:
        raise LedgerError(
            f"the name {name[:60]!r}... has {len(name)} characters, ML Metadata keeps {MAX_NAME}; "
            f"use a shorter name for the model or the consumer"
        )
    return name


def artifact_of(record: InvalidationRecord, type_id: int) -> Any:
    """Returns the artifact that holds this one record, not stored yet."""
    payload = payload_of([record])
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise LedgerError(
            f"record {record.record_id} has {len(payload)} bytes, at most {MAX_PAYLOAD_BYTES} go "
            f"into ML Metadata; split its keys over several records"
        )
    artifact = pb.Artifact(
        type_id=type_id,
        name=record_name(record.model, record.sequence),
        state=pb.Artifact.LIVE,
    )
    _set_strings(artifact, model=record.model, cause=record.cause.value, payload=payload)
    _set_ints(
        artifact,
        records=1,
        first_sequence=record.sequence,
        last_sequence=record.sequence,
    )
    return artifact


def recorder_of(record: InvalidationRecord, type_id: int, recorded_by: str) -> Any:
    """Returns the execution that brought the record into the store."""
    execution = pb.Execution(type_id=type_id, last_known_state=pb.Execution.COMPLETE)
    execution.name = record_name(record.model, record.sequence)
    _set_strings(
        execution,
        model=record.model,
        cause=record.cause.value,
        created_by=record.created_by,
        recorded_by=recorded_by,
    )
    _set_ints(execution, sequence=record.sequence)
    return execution


def application_of(ack: Acknowledgement, type_id: int) -> Any:
    """Returns the execution that says that a consumer has applied a record."""
    execution = pb.Execution(type_id=type_id, last_known_state=pb.Execution.COMPLETE)
    execution.name = apply_name(ack.model, ack.sequence, ack.consumer)
    _set_strings(
        execution,
        model=ack.model,
        consumer=ack.consumer,
        acknowledged_at=ack.acknowledged_at,
    )
    _set_ints(execution, sequence=ack.sequence)
    return execution


def acknowledgement_in(execution: Any) -> Acknowledgement:
    """Returns the acknowledgement that an execution holds.

    Raises:
        LedgerError: a property is missing; names the execution.
    """
    properties = execution.custom_properties
    model, consumer = _text(properties, "model"), _text(properties, "consumer")
    sequence = _number(properties, "sequence")
    if model is None or consumer is None or sequence is None:
        raise LedgerError(
            f"{APPLY_TYPE} execution {execution.id} lacks model, consumer or sequence; it was not "
            f"written by this program"
        )
    at = _text(properties, "acknowledged_at") or ""
    return Acknowledgement(model=model, sequence=sequence, consumer=consumer, acknowledged_at=at)


def summary_of(artifact: Any) -> Summary:
    """Returns what the artifact says of its records without opening them."""
    properties = artifact.custom_properties
    return Summary(
        model=_text(properties, "model"),
        records=_number(properties, "records"),
        first=_number(properties, "first_sequence"),
        last=_number(properties, "last_sequence"),
    )


def records_in(artifact: Any, read_text: Callable[[str], str]) -> tuple[InvalidationRecord, ...]:
    """Returns the records of an artifact, in the order they were written.

    Args:
        artifact: as ML Metadata gives it.
        read_text: reads the file of a uri; raises OSError if it cannot.

    Raises:
        LedgerError: they are missing, unreadable, or not what the artifact says of them.
    """
    summary = summary_of(artifact)
    if summary.records == 0:
        return ()
    where = f"{RECORD_TYPE} artifact {artifact.id} ({summary.model or 'model unknown'})"
    payload = _text(artifact.custom_properties, "payload")
    text = payload or _file_text(artifact.uri, where, read_text)
    try:
        lines = [line for line in text.split("\n") if line.strip()]
        records = tuple(from_json(InvalidationRecord, line, source=where) for line in lines)
    except DataError as error:
        raise LedgerError(
            f"{error}; publish the right records from the release journal (`reconcile`)"
        ) from error
    _check(records, summary, where)
    return records


def read_local_text(uri: str) -> str:
    """Reads a UTF-8 file of this host, given as a path or a `file://` uri."""
    return Path(uri.removeprefix("file://")).read_text(encoding="utf-8")


def _file_text(uri: str, where: str, read_text: Callable[[str], str]) -> str:
    path = f"{uri.rstrip('/')}/{RECORDS_FILE}"
    if not uri:
        raise LedgerError(f"{where} has neither a payload nor a uri; {_HEAL}")
    try:
        return read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise LedgerError(f"{where}: {path} cannot be read: {reason}; {_HEAL}") from error


_HEAL = "restore it, or publish the records from the release journal (`reconcile`)"


def _check(records: Sequence[InvalidationRecord], summary: Summary, where: str) -> None:
    """Compares what was found with what the artifact says of it, where it says something."""
    first, last = (records[0].sequence, records[-1].sequence) if records else (None, None)
    models = {record.model for record in records}
    said = (summary.records, summary.first, summary.last)
    found = (len(records), first, last)
    names = ("records", "first_sequence", "last_sequence")
    for name, stated, actual in zip(names, said, found, strict=True):
        if stated is not None and stated != actual:
            raise LedgerError(f"{where} says {name} = {stated} but holds {actual}; {_HEAL}")
    if len(models) > 1 or (summary.model is not None and models - {summary.model}):
        raise LedgerError(f"{where} holds records of {sorted(models)}; {_HEAL}")


def _set_strings(node: Any, **values: str) -> None:
    for name, value in values.items():
        node.custom_properties[name].string_value = value


def _set_ints(node: Any, **values: int) -> None:
    for name, value in values.items():
        node.custom_properties[name].int_value = value


def _text(properties: Any, name: str) -> str | None:
    if name not in properties or properties[name].WhichOneof("value") != "string_value":
        return None
    return str(properties[name].string_value)


def _number(properties: Any, name: str) -> int | None:
    """Returns a whole number. Kubeflow gives ints back as floats, some tools as text."""
    if name not in properties:
        return None
    kind = properties[name].WhichOneof("value")
    if kind not in ("int_value", "double_value", "string_value"):
        return None
    try:
        return int(float(getattr(properties[name], kind)))
    except ValueError:
        return None
