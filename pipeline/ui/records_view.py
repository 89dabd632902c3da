"""Invalidation records and who has applied them. No IO here."""

from __future__ import annotations

from dataclasses import dataclass

from tfx_encore.pipeline.ui.found import Records
from tfx_encore.schemas.records import Acknowledgement, InvalidationRecord


@dataclass(frozen=True)
class RecordRow:
    """A record with its acknowledgements.

    Attributes:
        record: the record.
        acknowledgements: who has applied it, and when.
        waiting: consumers known from other records that have not applied it.
    """

    record: InvalidationRecord
    acknowledgements: tuple[Acknowledgement, ...]
    waiting: tuple[str, ...]


@dataclass(frozen=True)
class Consumer:
    """Someone who follows the records.

    Attributes:
        name: as `gateway@host-1`.
        sequence: of the newest record that it has applied.
        behind: how many newer records there are.
        at: when it applied that record.
    """

    name: str
    sequence: int
    behind: int
    at: str


@dataclass(frozen=True)
class RecordsView:
    """The page of records, newest first."""

    rows: tuple[RecordRow, ...]
    consumers: tuple[Consumer, ...]
    problems: tuple[str, ...]


def records_view(found: Records) -> RecordsView:
    """All records, newest first, and how far each consumer is."""
    consumers = _consumers(found)
    by_sequence: dict[int, list[Acknowledgement]] = {}
    for ack in found.acknowledgements:
        by_sequence.setdefault(ack.sequence, []).append(ack)
    rows = [
        _row(record, by_sequence.get(record.sequence, []), consumers)
        for record in reversed(found.found)
    ]
    return RecordsView(tuple(rows), consumers, found.problems)


def _row(
    record: InvalidationRecord, acks: list[Acknowledgement], consumers: tuple[Consumer, ...]
) -> RecordRow:
    """A consumer that has applied a newer record has no need of this one: it began after it."""
    done = {ack.consumer for ack in acks}
    waiting = [c.name for c in consumers if c.name not in done and c.sequence < record.sequence]
    first: dict[str, Acknowledgement] = {}
    for ack in acks:
        first.setdefault(ack.consumer, ack)
    return RecordRow(record, tuple(first.values()), tuple(waiting))


def _consumers(found: Records) -> tuple[Consumer, ...]:
    newest: dict[str, Acknowledgement] = {}
    for ack in found.acknowledgements:
        known = newest.get(ack.consumer)
        if known is None or ack.sequence > known.sequence:
            newest[ack.consumer] = ack
    last = found.found[-1].sequence if found.found else 0
    return tuple(
        Consumer(name, ack.sequence, max(0, last - ack.sequence), ack.acknowledged_at)
        for name, ack in sorted(newest.items())
    )
