"""The ledger of nights that a release directory carries with it: its night folders themselves."""

from __future__ import annotations

import os
from collections.abc import Mapping

from tfx_encore.metadata.night_store import NightStore
from tfx_encore.schemas.errors import LedgerError
from tfx_encore.schemas.nights import NightRecord


class JournalNightLedger:
    """A `NightLedger` over the nights of a release directory; it numbers revisions itself.

    Args:
        root: the directory that holds all models' releases.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = root

    def publish(self, record: NightRecord) -> bool:
        """Returns False if the night holds this revision or a later one; it takes no other."""
        held = self.record(record.model, record.date)
        if held is None or held.revision < record.revision:
            raise LedgerError(
                f"night {record.date} of {record.model} has no revision {record.revision} in "
                f"{self._root}, which numbers revisions itself; commit it there instead"
            )
        return False

    def revisions(self, model: str) -> Mapping[str, int]:
        """Date -> the revision that is kept; earlier ones are gone."""
        return {record.date: record.revision for record in NightStore(self._root, model).records()}

    def record(self, model: str, date: str) -> NightRecord | None:
        """The record of a night; None if there is none."""
        store = NightStore(self._root, model)
        return store.record(date) if store.has(date) else None
