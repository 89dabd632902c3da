"""Copies journal records that the ledger lacks. No IO here.

The journal is written with the push, the ledger by the orchestrator after it. A crash between the
two leaves a record that only the journal holds; this publishes it.
"""

from __future__ import annotations

from tfx_encore.metadata.ledger import Ledger
from tfx_encore.schemas.records import InvalidationRecord


def reconcile(journal: Ledger, ledger: Ledger, model: str) -> tuple[InvalidationRecord, ...]:
    """Publishes in `ledger`, in order, each record of `model` that only `journal` has.

    Running it again, or twice at once, or while the orchestrator publishes the same records,
    changes nothing more.

    Returns:
        The records that were new to the ledger.

    Raises:
        LedgerError: the ledger holds a different record at one of the places; records before it
            have been published.
    """
    return tuple(record for record in journal.records(model) if ledger.publish(record))
