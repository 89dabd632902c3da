"""Where the decision records of nights are listed for other tools: a port. No IO here.

The nights themselves are in the `NightStore`. A ledger holds a copy of each record, so that whoever
reads ML Metadata (or what takes its place) finds them without knowing our folders.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from tfx_encore.schemas.nights import NightRecord


class NightLedger(Protocol):
    """Decision records of nights, by model, date and revision."""

    def publish(self, record: NightRecord) -> bool:
        """Keeps a record; False if this revision is there already.

        Raises:
            LedgerUnavailableError: the store cannot be reached now.
            LedgerError: it refuses.
        """
        ...

    def revisions(self, model: str) -> Mapping[str, int]:
        """Date -> the highest revision that is kept."""
        ...

    def record(self, model: str, date: str) -> NightRecord | None:
        """The highest revision of a night; None if there is none.

        Raises:
            LedgerError: it cannot be read.
        """
        ...


def reconcile(records: Iterable[NightRecord], ledger: NightLedger) -> tuple[NightRecord, ...]:
    """Publishes every record that the ledger lacks; returns those.

    Args:
        records: of one model.
        ledger: where they go.
    """
    records = tuple(records)
    if not records:
        return ()
    known = ledger.revisions(records[0].model)
    missing = [r for r in records if known.get(r.date, 0) < r.revision]
    return tuple(record for record in missing if ledger.publish(record))
