"""What has been read of the ledger in ML Metadata so far. No IO here.

Records and acknowledgements never change, so nothing that is kept here grows stale.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tfx_encore.metadata.mlmd_records import RECORD_TYPE, Summary
from tfx_encore.schemas.errors import LedgerError
from tfx_encore.schemas.records import Acknowledgement, InvalidationRecord


@dataclass(frozen=True)
class Fault:
    """An artifact whose records cannot be had from it, and whether they may come another way."""

    said: Summary
    error: LedgerError
    may_heal: bool = True


@dataclass
class Shelf:
    """Records, where each came from, what could not be read, and acknowledgements.

    Attributes:
        records: model -> sequence -> record.
        homes: (model, sequence) -> id of the artifact that holds the record.
        faults: artifact id -> why its records could not be taken.
        acks: (model, sequence, consumer) -> acknowledgement.
    """

    records: dict[str, dict[int, InvalidationRecord]] = field(default_factory=dict)
    homes: dict[tuple[str, int], int] = field(default_factory=dict)
    faults: dict[int, Fault] = field(default_factory=dict)
    acks: dict[tuple[str, int, str], Acknowledgement] = field(default_factory=dict)

    def of(self, model: str) -> dict[int, InvalidationRecord]:
        """The model's records by sequence; empty if it has none."""
        return self.records.get(model, {})

    def has_gap(self) -> bool:
        """True if a record is missing below one that is here, of any model."""
        return any(held and len(held) < max(held) for held in self.records.values())

    def last(self, model: str) -> int:
        """The highest sequence taken, be its record readable or not."""
        faults = self.faults.values()
        unreadable = (fault.said.last or 0 for fault in faults if fault.said.model == model)
        return max([0, *self.of(model), *unreadable])

    def take(self, artifact_id: int, records: tuple[InvalidationRecord, ...]) -> LedgerError | None:
        """Files the records of an artifact; one that came before, both ways, is kept once.

        Returns:
            An error if two artifacts disagree on a record; the one read first stays.
        """
        for record in records:
            held = self.records.setdefault(record.model, {}).setdefault(record.sequence, record)
            home = self.homes.setdefault((record.model, record.sequence), artifact_id)
            if held != record:
                return _disagreement(home, artifact_id, record)
        return None

    def raise_faults(self, model: str, after: int) -> None:
        """Raises the first fault that may hide a record of `model` above `after`."""
        for fault in self.faults.values():
            said = fault.said
            if said.model not in (None, model) or (said.last is not None and said.last <= after):
                continue
            if not self._healed(fault):
                raise fault.error

    def _healed(self, fault: Fault) -> bool:
        """True if every record that an unreadable artifact names has come another way."""
        said = fault.said
        if not fault.may_heal or said.model is None or said.first is None or said.last is None:
            return False
        named = range(said.first, said.last + 1)
        return len(named) > 0 and self.of(said.model).keys() >= set(named)


def _disagreement(first: int, second: int, record: InvalidationRecord) -> LedgerError:
    return LedgerError(
        f"{RECORD_TYPE} artifacts {first} and {second} hold different records for "
        f"{record.record_id}; compare them with the release journal, set the state of the wrong "
        f"artifact to ABANDONED and start again"
    )
