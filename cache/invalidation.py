"""Which answers are withdrawn: the state of a model's generations. No IO here.

Records of one model are applied in the order of their sequence, 1, 2, 3... An entry bears the
generation (sequence) that had been applied when it was computed. Record s withdraws entry e if and
only if s > e.generation, its cause kills, and its selector covers e (`cache.selection`).

    cause                      selector      what it does to entries
    MODEL_PUSHED, ROLLED_BACK  fingerprint   nothing: the label moved, and routing with it
    MODEL_PUSHED, ROLLED_BACK  any other     kills: whose answers they are could not be told
    DATA_DRIFT, MANUAL         any           kills
    ERASURE                    any           kills, and every tier must give up the bytes

Why a push kills nothing: keys hold the fingerprint, so that a request to the new model never finds
an answer of the old one, and the old answers stay true of the old model. Rolling back finds them
warm. See docs/adr/0005-what-a-record-withdraws.md.

A state that has not read its ledger to the end is unknown: nothing is valid. So is an entry of a
generation that the ledger has not reached: the ledger lost records, or another process is ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

from tfx_encore.cache.entry import Entry
from tfx_encore.cache.selection import cells_of, in_slice, is_transformed, key_set
from tfx_encore.schemas.errors import LedgerError
from tfx_encore.schemas.records import (
    Cause,
    InvalidationRecord,
    SelectFingerprint,
    SelectKeys,
    SelectSlice,
)

_Name = TypeVar("_Name", bound=Hashable)
_ROUTING = frozenset({Cause.MODEL_PUSHED, Cause.ROLLED_BACK})

# Beyond these the oldest selectors are widened to everything: bounded memory, more misses.
MAX_SLICES = 256
MAX_KEYS = 1_000_000


def kills(record: InvalidationRecord) -> bool:
    """True if a record withdraws the entries that it selects; False if only a label moved."""
    return record.cause not in _ROUTING or not isinstance(record.selector, SelectFingerprint)


def needs_erasure(record: InvalidationRecord) -> bool:
    """True if the bytes of the entries that it selects must leave every tier."""
    return record.cause is Cause.ERASURE


class InvalidationState:
    """What has been withdrawn of one model. Used from one thread.

    Args:
        model: the model's name.
        max_age_seconds: how long after the ledger was last read to its end answers are served;
            None if nobody writes invalidation records: everything is current from the start.
        clock: seconds, never going back.
    """

    def __init__(
        self, model: str, max_age_seconds: float | None, clock: Callable[[], float]
    ) -> None:
        self.model = model
        self._max_age = max_age_seconds
        self._clock = clock
        self._read_at: float | None = None
        self._changes = 0
        self.reset()
        if max_age_seconds is None:
            self._established = True

    def reset(self) -> None:
        """Forgets everything: unknown until the ledger has been read to its end again."""
        self._changes += 1
        self._established = False
        self._read_at = None
        self._applied = 0
        self._highest = 0  # of all that withdraws anything
        self._all = 0
        self._fingerprints: dict[str, int] = {}
        self._narrow = 0  # of keys and slices
        self._keys: dict[bytes, int] = {}
        self._slices: dict[tuple[tuple[str, str], ...], int] = {}

    @property
    def generation(self) -> int | None:
        """Sequence of the newest record applied in order; 0 before the first, None if unknown."""
        return self._applied if self._established else None

    @property
    def applied(self) -> int:
        """The same while the state is still unknown: where to go on reading."""
        return self._applied

    @property
    def changes(self) -> int:
        """A count that grows whenever a valid entry may have become invalid."""
        return self._changes

    def seconds_since_last_read(self) -> float | None:
        """Age of what is known; None if the ledger has not been read to its end."""
        return None if self._read_at is None else self._clock() - self._read_at

    def is_current(self) -> bool:
        """True if answers may be served: established, and not older than the stated bound."""
        if self._max_age is None or not self._established:
            return self._established
        return self._read_at is not None and self._clock() - self._read_at <= self._max_age

    def apply(self, record: InvalidationRecord) -> None:
        """Applies the next record.

        Raises:
            LedgerError: another model's, or not the next in sequence.
        """
        self._check_model(record)
        if record.sequence != self._applied + 1:
            raise LedgerError(
                f"record {record.record_id} cannot be applied after sequence {self._applied} of "
                f"{self.model!r}; apply them in order, or `reset` and read the ledger again"
            )
        self._withdraw(record)
        self._applied = record.sequence

    def withdraw_ahead(self, record: InvalidationRecord) -> None:
        """Withdraws what a record selects before its predecessors are known.

        The generation stays; what is computed until it arrives there is withdrawn too.

        Raises:
            LedgerError: the record is another model's.
        """
        self._check_model(record)
        if record.sequence > self._applied:
            self._withdraw(record)

    def confirm(self, read_at: float) -> None:
        """Notes that every record in the ledger at a moment has been applied.

        Args:
            read_at: by this state's clock, when the reading of the ledger began.
        """
        self._established = True
        self._read_at = read_at if self._read_at is None else max(read_at, self._read_at)

    def is_valid(self, entry: Entry) -> bool:
        """True if nothing known withdraws the entry; False while the state is unknown.

        Expiry, age of the ledger and routing are not judged here.
        """
        generation = entry.generation
        if not self._established or generation > self._applied:
            return False
        if generation >= self._highest:
            return True
        return not self._withdrawn(entry, generation)

    def judged(self, entry: Entry) -> Entry | None:
        """Returns a valid entry as `stamped` leaves it, None for one that is not."""
        if self._established and self._highest <= entry.generation <= self._applied:
            return entry  # what the two below would say, at once
        return self.stamped(entry) if self.is_valid(entry) else None

    def stamped(self, entry: Entry) -> Entry:
        """Returns a valid entry with the present generation, so that it is quick to judge again."""
        if entry.generation >= self._highest or self._highest > self._applied:
            return entry
        return entry._replace(generation=self._applied)

    def _withdrawn(self, entry: Entry, generation: int) -> bool:
        if generation < self._all or generation < self._fingerprints.get(entry.fingerprint, 0):
            return True
        if generation >= self._narrow:
            return False
        if is_transformed(entry.row) or generation < self._keys.get(entry.key, 0):
            return True
        newer = [dict(features) for features, at in self._slices.items() if generation < at]
        cells = cells_of(entry.row) if newer else None
        return any(in_slice(cells, features) for features in newer)

    def _check_model(self, record: InvalidationRecord) -> None:
        if record.model != self.model:
            raise LedgerError(f"record {record.record_id} is not of the model {self.model!r}")

    def _withdraw(self, record: InvalidationRecord) -> None:
        if not kills(record):
            return
        sequence, selector = record.sequence, record.selector
        self._changes += 1
        self._highest = max(self._highest, sequence)
        if isinstance(selector, SelectFingerprint):
            _raise(self._fingerprints, selector.fingerprint, sequence)
        elif isinstance(selector, SelectKeys) and (keys := key_set(selector.keys)) is not None:
            for key in keys:
                _raise(self._keys, key, sequence)
            self._narrow = max(self._narrow, sequence)
        elif isinstance(selector, SelectSlice):
            _raise(self._slices, tuple(sorted(selector.features.items())), sequence)
            self._narrow = max(self._narrow, sequence)
        else:
            self._all = max(self._all, sequence)
        self._compact()

    def _compact(self) -> None:
        """Drops what a wider record covers already; widens the oldest where there are too many."""
        self._all = max(self._all, _surplus(self._slices, MAX_SLICES))
        self._all = max(self._all, _surplus(self._keys, MAX_KEYS))
        if self._all:
            self._slices = _above(self._slices, self._all)
            self._keys = _above(self._keys, self._all)
            self._fingerprints = _above(self._fingerprints, self._all)


def _raise(floors: dict[_Name, int], name: _Name, sequence: int) -> None:
    floors[name] = max(floors.get(name, 0), sequence)


def _above(floors: Mapping[_Name, int], floor: int) -> dict[_Name, int]:
    return {name: sequence for name, sequence in floors.items() if sequence > floor}


def _surplus(floors: Mapping[_Name, int], limit: int) -> int:
    """The sequence up to which floors must be given up so that half the limit remains."""
    if len(floors) <= limit:
        return 0
    return sorted(floors.values(), reverse=True)[limit // 2]
