"""A ledger in memory: for tests, and as the shortest statement of the contract. No IO here."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable

from tfx_encore.metadata.ledger import conflict, not_held, safe_name
from tfx_encore.schemas.clock import utc_now
from tfx_encore.schemas.records import Acknowledgement, InvalidationRecord, RecordDraft


class MemoryLedger:
    """A `Ledger` that ends with its process. Threads may share it."""

    def __init__(self, clock: Callable[[], str] = utc_now) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._records: defaultdict[str, dict[int, InvalidationRecord]] = defaultdict(dict)
        self._acks: dict[tuple[str, int, str], Acknowledgement] = {}

    def append(self, draft: RecordDraft) -> InvalidationRecord:
        """Gives the draft the model's next sequence and keeps it."""
        safe_name(draft.model)
        with self._lock:
            last = max(self._records[draft.model], default=0)
            record = draft.numbered(last + 1, self._clock())
            self._records[draft.model][record.sequence] = record
        return record

    def publish(self, record: InvalidationRecord) -> bool:
        """Keeps a record whose sequence was given elsewhere."""
        safe_name(record.model)
        with self._lock:
            shelf = self._records[record.model]
            is_new = record.sequence not in shelf
            held = shelf.setdefault(record.sequence, record)
        if held != record:
            raise conflict(held, record)
        return is_new

    def records(
        self, model: str, *, after: int = 0, limit: int | None = None
    ) -> tuple[InvalidationRecord, ...]:
        """Returns the records above `after`, ascending, at most `limit`."""
        with self._lock:
            held = self._records.get(model, {})
            return tuple(held[n] for n in sorted(held) if n > after)[:limit]

    def models(self) -> tuple[str, ...]:
        """Returns the names of the models that have records, sorted."""
        with self._lock:
            return tuple(sorted(model for model, held in self._records.items() if held))

    def acknowledge(self, record: InvalidationRecord, consumer: str) -> Acknowledgement:
        """Notes that `consumer` has applied `record`; the first time counts."""
        safe_name(consumer)
        with self._lock:
            held = self._records.get(record.model, {}).get(record.sequence)
            if held != record:
                raise not_held(record, held)
            ack = Acknowledgement(record.model, record.sequence, consumer, self._clock())
            return self._acks.setdefault((record.model, record.sequence, consumer), ack)

    def acknowledgements(
        self, model: str, *, sequence: int | None = None
    ) -> tuple[Acknowledgement, ...]:
        """Returns who applied what, by sequence and then consumer."""
        with self._lock:
            return tuple(
                ack
                for (name, number, _), ack in sorted(self._acks.items())
                if name == model and sequence in (None, number)
            )
