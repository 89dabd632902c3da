"""The embedded tier: entries in an LMDB file that survives a restart and is shared by processes.

Its contract is `cache.entry.LocalStore`. Reading takes no lock. Writing is done by a thread of the
store's own, in batches, so that neither the disk nor another process that holds LMDB's one write
lock ever holds up the caller; what was put is found at once. Where writing cannot keep up, puts are
dropped and counted: a miss later. `remove`, `clear` and `erase` do wait (`blocking`).

A file that is damaged, cut short, too large or of another version is begun anew, at opening and
while in use. A file that somebody cuts short while it is open ends the process by SIGBUS, as with
any mapped file; the next start begins it anew.
"""

from __future__ import annotations

import os
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice, takewhile
from pathlib import Path
from typing import Any

import lmdb

from tfx_encore.cache.crypto import ValueCipher
from tfx_encore.cache.entry import Entry
from tfx_encore.cache.entry_codec import decode_entry, encode_entry
from tfx_encore.cache.lmdb_file import RANK_BYTES, LmdbFile, compact, open_file
from tfx_encore.schemas.errors import DataError, StoreUnavailableError

SMALLEST = 8 * 2**20
"""Bytes below which LMDB's copies of pages leave no room for entries."""

# Of the budget; the rest is what LMDB needs to copy pages while it writes.
_SOFT_LIMIT = 0.65
_BATCH_SHARE = 32
_BATCH_ENTRIES = 256
_BYTES_PER_BATCHED = 128 * 1024  # of budget: each entry written makes LMDB copy some pages
_EVICTED_AT_ONCE = 16
_PENDING_ENTRIES = 4096
_READ_AT_ONCE = 256
_RETRY_SECONDS = 5.0
_KEY_BYTES = 400  # LMDB takes keys of up to 511 bytes, a rank included
_RANK = struct.Struct(">Q")
_NEVER = 2**63

# Errors after which the file itself is not to be trusted.
_DAMAGE = (
    lmdb.CorruptedError,
    lmdb.InvalidError,
    lmdb.PageNotFoundError,
    lmdb.PanicError,
    lmdb.VersionMismatchError,
)


class LmdbStore:
    """Entries in one directory.

    Entries are evicted in the order in which they expire; those that never do come last, the
    oldest first. Open a directory once in a process, and not across a fork. `get` and `put` are
    called from one thread; `remove`, `clear`, `erase`, `flush` and `close` from any.

    Args:
        directory: see `cache.lmdb_file`.
        budget_bytes: size of the file at most; at least `SMALLEST`.
        max_entry_bytes: key, row and answer of one entry at most; a 32nd of the budget in any case.
        cipher: seals the values, see `cache.crypto`.
        flush_seconds: how long a put may wait for others before all are written.
        clock: seconds since 1970.
        on_evict: told how many entries were evicted, each time, from the writing thread.

    Raises:
        StoreUnavailableError: a file can be neither opened nor begun there.
    """

    name = "lmdb"
    blocking = True
    """`remove`, `clear` and `erase` wait for the disk and for other processes."""

    def __init__(
        self,
        directory: str | os.PathLike[str],
        budget_bytes: int,
        *,
        max_entry_bytes: int | None = None,
        cipher: ValueCipher | None = None,
        flush_seconds: float = 0.05,
        clock: Callable[[], float] = time.time,
        on_evict: Callable[[int], None] | None = None,
    ) -> None:
        self.budget_bytes = max(budget_bytes, SMALLEST)
        self._max_entry = min(
            max_entry_bytes or self.budget_bytes, self.budget_bytes // _BATCH_SHARE
        )
        self._directory = Path(directory)
        self._cipher = cipher
        self._flush_seconds = flush_seconds
        self._clock = clock
        self._on_evict = on_evict
        self.evictions = 0
        self.dropped = 0
        self.failures = 0
        self._file = open_file(self._directory, self.budget_bytes)
        self._retired: list[LmdbFile] = []
        self.rebuilds = int(self._file.replaced)
        self._must_reopen = False
        self._is_damaged = False
        self._retry_at = 0.0
        self._writing = threading.RLock()  # held by whoever writes, or replaces the file
        self._change = threading.Condition()  # of `_pending`; a key of None is to be removed
        self._pending: dict[bytes, Entry | None] = {}
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def get(self, key: bytes) -> Entry | None:
        """Returns the entry under `key`, or None."""
        try:
            return self._pending[key]
        except KeyError:
            pass
        if self._retired:
            self._close_retired()
        if self._must_reopen and not self._reopen():
            return None
        file = self._file
        try:
            with file.env.begin(db=file.entries, buffers=True) as txn:
                value: Any = txn.get(key)
                if value is None:
                    return None
                entry = self._decode(value[RANK_BYTES:], key)
        except lmdb.Error as error:
            self._note(error)
            return None
        if entry is None:
            self._enqueue(key, None)
        return entry

    def put(self, entry: Entry) -> bool:
        """Keeps an entry, replacing one of the same key; False if it is too large, or dropped."""
        key = entry.key
        if not 0 < len(key) <= _KEY_BYTES or entry.size > self._max_entry:
            self._enqueue(key, None)
            return False
        if len(self._pending) >= _PENDING_ENTRIES and key not in self._pending:
            self.dropped += 1
            return False
        if self._retired:
            self._close_retired()
        if self._must_reopen:
            self._reopen()
        self._enqueue(key, entry)
        return True

    def remove(self, keys: Sequence[bytes]) -> int:
        """Removes entries; returns how many were there.

        Raises:
            StoreUnavailableError: the file cannot be written now.
        """
        with self._writing:
            with self._change:
                unwritten = [self._pending.pop(key, None) is not None for key in keys]
            with self._transaction() as txn:
                held = [self._file.delete(txn, key) for key in keys]
        return sum(map(any, zip(held, unwritten, strict=True)))

    def clear(self, fingerprint: str | None = None) -> int:
        """Removes all entries, or those of one fingerprint; returns how many.

        Raises:
            StoreUnavailableError: the file cannot be written now.
        """
        return self._remove_where(lambda entry: fingerprint in (None, entry.fingerprint))

    def erase(self, covered: Callable[[Entry], bool]) -> int:
        """Removes the entries for which `covered` is true, and every trace of what was removed.

        Entries that cannot be read are removed too. The file is copied without its free pages, so
        that this takes as long as writing what remains.

        Raises:
            StoreUnavailableError: the file cannot be written now.
        """
        with self._writing:
            if self._must_reopen or not self._file.is_current():
                self._reopen()
            count = self._remove_where(covered)
            new = compact(self._file, self._directory, self.budget_bytes)
            # Another thread may be reading the old file: the next reader closes it.
            self._retired.append(self._file)
            self._file = new
        return count

    def fingerprints(self) -> dict[str, int]:
        """Returns how many entries there are of each fingerprint; reads all of them."""
        return dict(Counter(entry.fingerprint for entry in self._walk(b"")))

    def sample(self, count: int, fingerprint: str | None = None) -> list[Entry]:
        """Returns up to `count` entries, of one fingerprint or of all, from a place at random on.

        Keys are digests, so that neighbours have nothing in common. Reads all entries if there are
        not so many of the fingerprint.
        """
        start = os.urandom(32)
        walk = chain(self._walk(start), takewhile(lambda e: e.key < start, self._walk(b"")))
        fitting = (entry for entry in walk if fingerprint in (None, entry.fingerprint))
        return list(islice(fitting, count))

    def _walk(self, start: bytes) -> Iterator[Entry]:
        """Yields what has been written, from a key on, in their order; from any thread."""
        self.flush()
        at: bytes | None = start
        while at is not None:
            found, at = self._some_from(at)
            yield from found

    def _some_from(self, start: bytes) -> tuple[list[Entry], bytes | None]:
        """Entries from a key on, and where to go on; None at the end, or if the file is damaged.

        A long reading would keep LMDB from using its pages again, and the writer waits meanwhile.
        """
        found: list[Entry] = []
        with self._writing:
            if self._must_reopen:
                return found, None
            file = self._file
            try:
                with file.env.begin(db=file.entries) as txn, txn.cursor() as cursor:
                    if not cursor.set_range(start):
                        return found, None
                    items: Any = islice(cursor.iternext(), _READ_AT_ONCE)
                    key = None
                    for key, value in items:
                        entry = self._decode(value[RANK_BYTES:], key)
                        if entry is not None:
                            found.append(entry)
            except lmdb.Error as error:
                self._note(error)
                return found, None
        return found, None if key is None else key + b"\0"

    def __len__(self) -> int:
        with self._change:
            pending = dict(self._pending)
        file = self._file
        with file.env.begin(db=file.entries) as txn:
            count = file.count(txn)
            for key, entry in pending.items():
                count += int(entry is not None) - int(txn.get(key) is not None)
        return count

    @property
    def bytes_used(self) -> int:
        """Bytes of the pages in use; the file may be larger, up to the budget."""
        with self._file.env.begin() as txn:
            return self._file.bytes_used(txn)

    def flush(self) -> None:
        """Writes what waits to be written."""
        for _ in range(len(self._pending)):
            if self._pending and not self._must_reopen:
                self._write_batch()

    def close(self) -> None:
        """Writes what waits, then closes the file.

        If another process keeps the write lock for ten seconds, what waits is lost.
        """
        self._closing.set()
        with self._change:
            self._change.notify_all()
        if self._thread is not None:
            self._thread.join(10.0)
        if self._writing.acquire(timeout=1.0):
            self._close_retired()
            self._file.env.close()
            self._writing.release()

    def _enqueue(self, key: bytes, entry: Entry | None) -> None:
        with self._change:
            self._pending[key] = entry
            if self._thread is None:
                self._thread = threading.Thread(target=self._write, name="lmdb-writer", daemon=True)
                self._thread.start()
            self._change.notify()

    def _write(self) -> None:
        """The writing thread."""
        while True:
            with self._change:
                while not self._pending and not self._closing.is_set():
                    self._change.wait()
                if not self._pending:
                    return
            self._closing.wait(self._flush_seconds)
            if self._must_reopen:
                # Reopening is the caller's: nothing else may be using the file then.
                if self._closing.wait(0.1):
                    return
                continue
            self._write_batch()
            if not self._file.is_current():
                self._must_reopen = True

    def _write_batch(self) -> None:
        with self._writing:
            batch = self._next_batch()
            try:
                self._write_entries(batch)
            except lmdb.MapFullError:
                self._write_after_eviction(batch)
            except lmdb.Error as error:
                self._note(error)
                self.dropped += len(batch)
            self._forget(batch)

    def _next_batch(self) -> dict[bytes, Entry | None]:
        batch: dict[bytes, Entry | None] = {}
        most = min(_BATCH_ENTRIES, self.budget_bytes // _BYTES_PER_BATCHED)
        size = 0
        with self._change:
            for key, entry in self._pending.items():
                size += 256 + (entry.size if entry else 0)
                if batch and (size > self.budget_bytes // _BATCH_SHARE or len(batch) >= most):
                    break
                batch[key] = entry
        return batch

    def _forget(self, batch: dict[bytes, Entry | None]) -> None:
        """Takes what was written from what waits, unless it was put again meanwhile."""
        with self._change:
            for key, entry in batch.items():
                if self._pending.get(key, self) is entry:
                    del self._pending[key]

    def _write_entries(self, batch: dict[bytes, Entry | None]) -> None:
        file, evicted = self._file, 0
        with file.env.begin(write=True) as txn:
            for key, entry in batch.items():
                value = self._encode(entry)
                if value is None or entry is None:
                    file.delete(txn, key)
                else:
                    file.write(txn, key, self._rank(entry), value)
            if file.bytes_used(txn) > _SOFT_LIMIT * self.budget_bytes:
                # Pages are freed long after entries are, so going on until they are would evict
                # far too many; the holes are filled by what is written next.
                evicted = file.evict(txn, len(batch) + 8)
        self._count_evicted(evicted)

    def _write_after_eviction(self, batch: dict[bytes, Entry | None]) -> None:
        """Makes room in a file that is full of pages that could not be used again yet."""
        try:
            self._file.env.reader_check()
            # An eighth, a little at a time: evicting too needs pages to copy.
            for _ in range(len(self) // (8 * _EVICTED_AT_ONCE) + 1):
                with self._file.env.begin(write=True) as txn:
                    self._count_evicted(self._file.evict(txn, _EVICTED_AT_ONCE))
            self._write_entries(batch)
        except lmdb.MapFullError:
            # Not even room for evicting: a stopped reader keeps the old pages. Begin anew.
            self.failures += 1
            self.dropped += len(batch)
            self._is_damaged = self._must_reopen = True
        except lmdb.Error as error:
            self._note(error)
            self.dropped += len(batch)

    def _count_evicted(self, count: int) -> None:
        self.evictions += count
        if count and self._on_evict is not None:
            self._on_evict(count)

    def _remove_where(self, covered: Callable[[Entry], bool]) -> int:
        with self._writing:
            self.flush()
            file = self._file
            with self._transaction() as txn:
                with txn.cursor(db=file.entries) as cursor:
                    held: Any = cursor
                    doomed = [
                        key
                        for key, value in held
                        if (entry := self._decode(value[RANK_BYTES:], key)) is None
                        or covered(entry)
                    ]
                return sum(file.delete(txn, key) for key in doomed)

    @contextmanager
    def _transaction(self) -> Iterator[lmdb.Transaction]:
        """A writing transaction whose failure is the caller's to know."""
        if self._must_reopen:
            raise StoreUnavailableError(f"{self._directory}: the file is being replaced")
        try:
            with self._file.env.begin(write=True) as txn:
                yield txn
        except lmdb.Error as error:
            self._note(error)
            raise StoreUnavailableError(f"{self._directory}: {error}") from error

    def _reopen(self) -> bool:
        """Opens the file again, or a new one; True if there is one to go on with.

        Called by those who `get` and `put`, so that nobody else reads the file meanwhile; if
        somebody writes, the next caller tries again.
        """
        if time.monotonic() < self._retry_at or not self._writing.acquire(blocking=False):
            return False
        try:
            self._file.env.close()
            self._file = open_file(self._directory, self.budget_bytes, anew=self._is_damaged)
        except StoreUnavailableError:
            self.failures += 1
            self._retry_at = time.monotonic() + _RETRY_SECONDS
            return False
        else:
            self.rebuilds += int(self._file.replaced)
            self._must_reopen = self._is_damaged = False
            return True
        finally:
            self._writing.release()

    def _close_retired(self) -> None:
        while self._retired:
            self._retired.pop().env.close()

    def _note(self, error: lmdb.Error) -> None:
        self.failures += 1
        if isinstance(error, _DAMAGE):
            self._is_damaged = self._must_reopen = True
        elif isinstance(error, (lmdb.MapResizedError, lmdb.BadRslotError)):
            self._must_reopen = True

    def _rank(self, entry: Entry) -> bytes:
        if entry.expires_at:
            micros = min(max(int(entry.expires_at * 1e6), 0), _NEVER - 1)
        else:
            micros = _NEVER + int(self._clock() * 1e6)
        return _RANK.pack(micros)

    def _encode(self, entry: Entry | None) -> bytes | None:
        if entry is None:
            return None
        try:
            value = encode_entry(entry)
        except DataError:
            self.failures += 1
            return None
        return value if self._cipher is None else self._cipher.seal(value, entry.key)

    def _decode(self, value: bytes, key: bytes) -> Entry | None:
        if self._cipher is None:
            return decode_entry(value, key)
        opened = self._cipher.open(bytes(value), key)
        return None if opened is None else decode_entry(opened, key)
