"""The ledger: a port for invalidation records and their acknowledgements. No IO here.

A ledger holds, for each model, records with the sequences 1, 2, 3... and who has applied which.
Adapters: `memory_ledger`, `mlmd_ledger`, `journal_ledger`. All keep the same contract, which
`tests/metadata/ledger` checks against each of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

from tfx_encore.schemas.errors import LedgerError
from tfx_encore.schemas.records import Acknowledgement, InvalidationRecord, RecordDraft

# Names are compared without regard to case by MySQL's default collation and by some file systems.
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789._-@")

# A follower asks for this many records at a time, so that catching up needs bounded memory.
PAGE = 500


@runtime_checkable
class Ledger(Protocol):
    """Where invalidation records are kept. Safe to use from several threads and processes.

    Every method raises LedgerUnavailableError if the store cannot be reached now,
    LedgerVersionError if another version of its software wrote it, and LedgerError if what it
    holds cannot be read.
    """

    def append(self, draft: RecordDraft) -> InvalidationRecord:
        """Gives the draft the model's next sequence and keeps it.

        Of any number of concurrent appenders each gets a sequence of its own, without gaps.
        """
        ...

    def publish(self, record: InvalidationRecord) -> bool:
        """Keeps a record whose sequence was given elsewhere. Repeating it changes nothing.

        Returns:
            True if the record is new here, False if it was there already.

        Raises:
            LedgerError: a different record holds that place, or this ledger gives the sequences
                itself and has never given this one.
        """
        ...

    def records(
        self, model: str, *, after: int = 0, limit: int | None = None
    ) -> tuple[InvalidationRecord, ...]:
        """Returns the records with a sequence above `after`, ascending, at most `limit` of them.

        A record that is not there yet leaves a gap; `follow` waits for it. A model or a store
        that does not exist has no records.
        """
        ...

    def models(self) -> tuple[str, ...]:
        """Returns the names of the models that have records, sorted."""
        ...

    def acknowledge(self, record: InvalidationRecord, consumer: str) -> Acknowledgement:
        """Notes that `consumer` has applied `record`.

        Returns:
            The acknowledgement; when the consumer had acknowledged the record before, that first
            one, unchanged.

        Raises:
            LedgerError: the ledger does not hold this record.
        """
        ...

    def acknowledgements(
        self, model: str, *, sequence: int | None = None
    ) -> tuple[Acknowledgement, ...]:
        """Returns who applied what, by sequence and then consumer; of one record if given."""
        ...


def cursor_of(ledger: Ledger, model: str, consumer: str) -> int:
    """Returns the highest sequence that `consumer` has acknowledged; 0 if none.

    A consumer that acknowledges each record of `follow` before it takes the next restarts here.
    """
    mine = (ack.sequence for ack in ledger.acknowledgements(model) if ack.consumer == consumer)
    return max(mine, default=0)


def without_gap(
    records: Sequence[InvalidationRecord], after: int
) -> tuple[InvalidationRecord, ...]:
    """Returns the leading records whose sequences are after + 1, after + 2..."""
    ready = (record for step, record in enumerate(records, 1) if record.sequence == after + step)
    return tuple(ready)


def follow(
    ledger: Ledger,
    model: str,
    *,
    after: int = 0,
    poll_seconds: float = 1.0,
    gap_seconds: float = 300.0,
    stop: Callable[[], bool] = lambda: False,
    sleep: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[InvalidationRecord]:
    """Yields the records of a model in order, without a gap and without repetition, as they come.

    A record published before its predecessor waits for it: an orchestrator publishes a push only
    when the component has ended, and by then the command may have published a later record.

    Args:
        ledger: where to read.
        model: whose records.
        after: the last sequence already applied; `cursor_of` tells it after a restart.
        poll_seconds: pause between two looks that found nothing.
        gap_seconds: how long to wait for a missing record while a later one is there.
        stop: asked before each look and each record; True ends the iteration.
        sleep: how to pause; pass `event.wait` to be woken early.
        clock: a clock in seconds that never goes back.

    Raises:
        LedgerError: a record was still missing after `gap_seconds`. Records before it have been
            yielded, records after it have not. Also whatever `ledger.records` raises; follow again
            from the last record that was applied.
    """
    cursor, gap_since = after, None
    while not stop():
        found = ledger.records(model, after=cursor, limit=PAGE)
        ready = without_gap(found, cursor)
        for record in ready:
            if stop():
                return
            cursor = record.sequence
            yield record
        if ready:
            gap_since = None
            continue
        gap_since = (gap_since if gap_since is not None else clock()) if found else None
        if gap_since is not None and clock() - gap_since >= gap_seconds:
            raise _missing(model, cursor + 1, found[0].sequence, gap_seconds)
        sleep(poll_seconds)


def _missing(model: str, sequence: int, later: int, waited: float) -> LedgerError:
    return LedgerError(
        f"model {model!r}: record {sequence} is missing although record {later} is there, and did "
        f"not come within {waited:g} s; publish it from the release journal (`reconcile`), then "
        f"follow again after {sequence - 1}"
    )


def conflict(held: InvalidationRecord, offered: InvalidationRecord) -> LedgerError:
    """Returns the error for a second, different record at a place that is taken."""
    return LedgerError(
        f"record {held.record_id} is already {held.cause.value} by {held.created_by} at "
        f"{held.created_at} ({held.reason!r}); refused the different {offered.cause.value} by "
        f"{offered.created_by} at {offered.created_at} ({offered.reason!r}): append it instead, "
        f"so that it gets a sequence of its own"
    )


def not_held(record: InvalidationRecord, held: InvalidationRecord | None) -> LedgerError:
    """Returns the error for acknowledging a record that the ledger does not hold."""
    if held is None:
        return LedgerError(
            f"record {record.record_id} is not in this ledger, so it cannot be acknowledged; "
            f"publish it first (`reconcile` copies the release journal)"
        )
    return LedgerError(
        f"record {record.record_id} in this ledger is {held.cause.value} at {held.created_at}, "
        f"not the {record.cause.value} at {record.created_at} that was to be acknowledged; read "
        f"the record again from this ledger and apply that one"
    )


def safe_name(text: str) -> str:
    """Returns `text` as a name that stays unique where names ignore case, accents or slashes.

    Lower-case letters, digits and `._-@` stay; every other byte of the UTF-8 text becomes `%xx`.
    A leading dot is escaped too, so that the name can be a file's.

    Raises:
        LedgerError: the text is empty.
    """
    if not text:
        raise LedgerError("an empty name was given for a model or a consumer; give it a name")
    escaped = "".join(
        char if char in _PLAIN else "".join(f"%{byte:02x}" for byte in char.encode())
        for char in text
    )
    return f"%2e{escaped[1:]}" if escaped.startswith(".") else escaped
