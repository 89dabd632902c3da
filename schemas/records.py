"""Invalidation records: which cached answers died, why, and who says so. No IO here."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Literal, Union

from pydantic import Field
from pydantic.dataclasses import dataclass


class Cause(str, Enum):
    """Why answers were withdrawn."""

    MODEL_PUSHED = "MODEL_PUSHED"
    ROLLED_BACK = "ROLLED_BACK"
    DATA_DRIFT = "DATA_DRIFT"
    MANUAL = "MANUAL"
    ERASURE = "ERASURE"


@dataclass(frozen=True)
class SelectAll:
    """Every cached answer of the model."""

    kind: Literal["all"] = "all"


@dataclass(frozen=True)
class SelectFingerprint:
    """Every cached answer of one fingerprint: what a push or a rollback withdraws."""

    fingerprint: str
    kind: Literal["fingerprint"] = "fingerprint"


@dataclass(frozen=True)
class SelectSlice:
    """Answers whose row lies in a slice: each named feature equals the value given.

    Values are compared as the text of the raw feature (`"Cash"`, `"8"`).
    """

    features: dict[str, str]
    kind: Literal["slice"] = "slice"


@dataclass(frozen=True)
class SelectKeys:
    """Exactly these row keys, in lower-case hexadecimal."""

    keys: tuple[str, ...]
    kind: Literal["keys"] = "keys"


Selector = Annotated[
    Union[SelectAll, SelectFingerprint, SelectSlice, SelectKeys], Field(discriminator="kind")
]


@dataclass(frozen=True)
class InvalidationRecord:
    """One withdrawal of cached answers of one model.

    Attributes:
        model: the model's name.
        sequence: 1, 2, 3... by model, without gaps; the order in which consumers apply records.
        cause: why.
        selector: which answers.
        reason: one line for a person.
        created_at: UTC, RFC 3339 with microseconds, as `2026-11-20T18:50:46.000000Z`.
        created_by: who or what, as `VersionedPusher` or a user's name.
        label: the label that moved, if one did.
        version_before: the version the label pointed at, if any.
        version_after: the version it points at now, if any.
        fingerprint_before: fingerprint of `version_before`.
        fingerprint_after: fingerprint of `version_after`.
    """

    model: str
    sequence: int
    cause: Cause
    selector: Selector
    reason: str
    created_at: str
    created_by: str
    label: str | None = None
    version_before: int | None = None
    version_after: int | None = None
    fingerprint_before: str | None = None
    fingerprint_after: str | None = None

    @property
    def record_id(self) -> str:
        """Unique name of the record, as `taxi/000012`. Sorts in sequence order."""
        return f"{self.model}/{self.sequence:06d}"


@dataclass(frozen=True)
class Acknowledgement:
    """A consumer's word that it has applied a record.

    Attributes:
        model: the model's name.
        sequence: the record's sequence.
        consumer: who applied it, as `gateway@host-1`.
        acknowledged_at: UTC, RFC 3339 with microseconds.
    """

    model: str
    sequence: int
    consumer: str
    acknowledged_at: str


@dataclass(frozen=True)
class RecordDraft:
    """A record before the journal or the ledger has given it its place.

    Attributes: as in `InvalidationRecord`.
    """

    model: str
    cause: Cause
    selector: Selector
    reason: str
    created_by: str
    label: str | None = None
    version_before: int | None = None
    version_after: int | None = None
    fingerprint_before: str | None = None
    fingerprint_after: str | None = None

    def numbered(self, sequence: int, created_at: str) -> InvalidationRecord:
        """Returns the record with its sequence and time of creation."""
        return InvalidationRecord(
            **{name: getattr(self, name) for name in self.__dataclass_fields__},
            sequence=sequence,
            created_at=created_at,
        )
