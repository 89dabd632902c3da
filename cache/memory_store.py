"""The memory tier: entries in this process, within a budget of bytes. No IO here.

Its contract is `cache.entry.LocalStore`; used from one thread, the event loop's.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Sequence
from typing import Literal

from tfx_encore.cache.entry import Entry
from tfx_encore.cache.eviction import make_shelf

# Bytes that an entry takes beyond its own byte strings (their object headers included): tuple,
# numbers, node, places in dictionary, queue and ghost list. Measured on CPython 3.10 with
# tracemalloc; `tests/cache/test_memory_store.py` measures it again.
_OVERHEAD = {("lru", False): 715, ("s3fifo", False): 560, ("lru", True): 420, ("s3fifo", True): 350}

_PACKED = struct.Struct("<HBQddfI")
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
        self._overhead = _OVERHEAD[(eviction, packed)]
        self._on_evict = on_evict
        self.evictions = 0
        self._names: list[str] = []
        self._places: dict[str, int] = {}
        self._shelf = make_shelf(eviction, budget_bytes, self._evicted)
        self._read = self._shelf.get

    def get(self, key: bytes) -> Entry | None:
        """Returns the entry under `key`, or None."""
        value = self._read(key)
        if value is None or not self._packed:
            return value  # type: ignore[return-value]
        return self._unpack(key, value)  # type: ignore[arg-type]

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
        if self._packed:
            doomed = [
                key
                for key, value in self._shelf.items()
                if covered(self._unpack(key, value))  # type: ignore[arg-type]
            ]
        else:
            doomed = [
                key
                for key, value in self._shelf.items()
                if covered(value)  # type: ignore[arg-type]
            ]
        return self.remove(doomed)

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
        if entry.size > self._max_entry:
            self._shelf.pop(entry.key)
            return False
        value = self._pack(entry) if self._packed else self._shared(entry)
        size = self._overhead + sys.getsizeof(entry.key) + _size(value)
        put = self._shelf.put_warm if warm else self._shelf.put
        return put(entry.key, value, size)

    def _evicted(self, _: object) -> None:
        self.evictions += 1
        if self._on_evict is not None:
            self._on_evict(1)

    def _place(self, fingerprint: str) -> int:
        place = self._places.get(fingerprint)
        if place is None:
            place = self._places[fingerprint] = len(self._names)
            self._names.append(fingerprint)
        return place

    def _shared(self, entry: Entry) -> Entry:
        """The entry with the one copy of its fingerprint that all entries share."""
        name = self._names[self._place(entry.fingerprint)]
        return entry if name is entry.fingerprint else entry._replace(fingerprint=name)

    def _pack(self, entry: Entry) -> bytes:
        _, row, answer, fingerprint, kind, generation, computed_at, expires_at, cost_us = entry
        head = _PACKED.pack(
            *(self._place(fingerprint), _KINDS.index(kind), generation),
            *(computed_at, expires_at, cost_us, len(row)),
        )
        return b"".join((head, row, answer))

    def _unpack(self, key: bytes, data: bytes) -> Entry:
        place, kind, generation, computed_at, expires_at, cost_us, rows = _PACKED.unpack_from(data)
        answer_at = _PACKED.size + rows
        return Entry(
            *(key, data[_PACKED.size : answer_at], data[answer_at:], self._names[place]),
            *(_KINDS[kind], generation, computed_at, expires_at, cost_us),
        )


def _size(value: bytes | Entry) -> int:
    """Bytes of the byte strings that a value holds beside its key, headers included."""
    if isinstance(value, bytes):
        return sys.getsizeof(value)
    return sys.getsizeof(value.row) + sys.getsizeof(value.answer)
