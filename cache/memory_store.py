"""The memory tier: entries in this process, within a budget of bytes. No IO here.

Its contract is `cache.entry.LocalStore`; used from one thread, the event loop's.
"""

from __future__ import annotations

import random
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from tfx_encore.cache.entry import Entry
from tfx_encore.cache.eviction import Shelf, make_shelf

# Bytes that an entry takes beyond its own byte strings (their object headers included): tuple,
# numbers, node, places in dictionary, queue and ghost list. Measured on CPython 3.10 with
# tracemalloc; `tests/cache/test_memory_store.py` measures it again.
_OVERHEAD = {("lru", False): 715, ("s3fifo", False): 560, ("lru", True): 420, ("s3fifo", True): 350}

_PACKED = struct.Struct("<HBQddfI")
_READ = _PACKED.unpack_from
_PACKED_SIZE = _PACKED.size
_new = tuple.__new__  # what Entry(...) does, without its call; for each hit
_BYTES_HEADER = sys.getsizeof(b"")
_KINDS: tuple[Literal["answer", "rejection"], ...] = ("answer", "rejection")


class MemoryStore:
    """Entries as objects, or packed into bytes where memory is short.

    Args:
        budget_bytes: memory at most, all overhead included.
        eviction: `lru` or `s3fifo`, see `cache.eviction`.
        packed: one byte string for each entry: less memory, slower hits, cost to 24 bits.
        max_entry_bytes: key, row and answer of one entry at most.
        on_evict: told how many entries were evicted, each time.

    Raises:
        ConfigError: no such rule of eviction.
    """

    name = "memory"
    blocking = False
    """Removing never waits for a disk or another process."""

    def __init__(
        self,
        budget_bytes: int,
        *,
        eviction: Literal["lru", "s3fifo"] = "s3fifo",
        packed: bool = False,
        max_entry_bytes: int | None = None,
        on_evict: Callable[[int], None] | None = None,
    ) -> None:
        self.budget_bytes = budget_bytes
        self._max_entry = budget_bytes if max_entry_bytes is None else max_entry_bytes
        self._packed = packed
        # Beside its bytes: what the entry takes, and the headers of two or three byte strings.
        self._overhead = _OVERHEAD[(eviction, packed)] + (
            2 * _BYTES_HEADER + _PACKED.size if packed else 3 * _BYTES_HEADER
        )
        self._on_evict = on_evict
        self.evictions = 0
        self._names: list[str] = []
        self._places: dict[str, int] = {}
        self._counts: list[int] = []  # entries of each name
        left = self._packed_left if packed else self._left
        self._shelf: Shelf[Any] = make_shelf(eviction, budget_bytes, self._evicted, left)
        self._read = self._shelf.get

    def get(self, key: bytes) -> Entry | None:
        """Returns the entry under `key`, or None."""
        value = self._read(key)
        if value is None or not self._packed:
            return value
        return self._unpack(key, value)

    def put(self, entry: Entry) -> bool:
        """Keeps an entry, replacing one of the same key; False if it is too large to keep."""
        return self._put(entry, warm=False)

    def put_warm(self, entry: Entry) -> bool:
        """The same, for an entry that is known to be asked for often."""
        return self._put(entry, warm=True)

    def remove(self, keys: Sequence[bytes]) -> int:
        """Removes entries; returns how many were there."""
        return sum(self._shelf.pop(key) is not None for key in keys)

    def clear(self, fingerprint: str | None = None) -> int:
        """Removes all entries, or those of one fingerprint; returns how many."""
        return self.erase(lambda entry: fingerprint in (None, entry.fingerprint))

    def erase(self, covered: Callable[[Entry], bool]) -> int:
        """Removes the entries for which `covered` is true; returns how many."""
        return self.remove([entry.key for entry in self._entries() if covered(entry)])

    def fingerprints(self) -> dict[str, int]:
        """Returns how many entries there are of each fingerprint; counted all along."""
        counts = zip(self._names, self._counts, strict=True)
        return {name: count for name, count in counts if count}

    def sample(self, count: int, fingerprint: str | None = None) -> list[Entry]:
        """Returns up to `count` entries at random, of one fingerprint or of all; looks at all."""
        keys = [e.key for e in self._entries() if fingerprint in (None, e.fingerprint)]
        chosen = set(random.sample(keys, min(count, len(keys))))
        return [entry for entry in self._entries() if entry.key in chosen]

    def __len__(self) -> int:
        return len(self._shelf)

    @property
    def bytes_used(self) -> int:
        """Bytes that the entries take, overhead included: an estimate within some percent."""
        return self._shelf.used

    def close(self) -> None:
        """Lets go of the memory."""
        self.clear()

    def _put(self, entry: Entry, warm: bool) -> bool:
        key, row, answer, fingerprint = entry[:4]
        size = len(key) + len(row) + len(answer)
        if size > self._max_entry:
            self._shelf.pop(key)
            return False
        place = self._places.get(fingerprint)
        if place is None:
            place = self._places[fingerprint] = len(self._names)
            self._names.append(fingerprint)
            self._counts.append(0)
        value: object = entry
        if self._packed:
            value = self._pack(entry, place)
        elif (name := self._names[place]) is not fingerprint:
            value = entry._replace(fingerprint=name)  # one copy for all entries
        put = self._shelf.put_warm if warm else self._shelf.put
        kept = put(key, value, size + self._overhead)
        self._counts[place] += kept
        return kept

    def _entries(self) -> Iterator[Entry]:
        """Yields all; looking does not count as asking."""
        if not self._packed:
            return (value for _, value in self._shelf.items())
        return (self._unpack(key, value) for key, value in self._shelf.items())

    def _evicted(self, _: object) -> None:
        self.evictions += 1
        if self._on_evict is not None:
            self._on_evict(1)

    def _left(self, value: Entry) -> None:
        self._counts[self._places[value.fingerprint]] -= 1

    def _packed_left(self, value: bytes) -> None:
        self._counts[value[0] | value[1] << 8] -= 1

    @staticmethod
    def _pack(entry: Entry, place: int) -> bytes:
        _, row, answer, _, kind, generation, computed_at, expires_at, cost_us = entry
        head = _PACKED.pack(
            place,
            _KINDS.index(kind),
            generation,
            computed_at,
            expires_at,
            cost_us,
            len(row),
        )
        return b"".join((head, row, answer))

    def _unpack(self, key: bytes, data: bytes) -> Entry:
        place, kind, generation, computed_at, expires_at, cost_us, rows = _READ(data)
        answer_at = _PACKED_SIZE + rows
        return _new(
            Entry,
            (
                key,
                data[_PACKED_SIZE:answer_at],
                data[answer_at:],
                self._names[place],
                _KINDS[kind],
                generation,
                computed_at,
                expires_at,
                cost_us,
            ),
        )
