"""The file of the LMDB tier: how it is opened, checked, replaced, and laid out.

    <directory>/entries-000001.lmdb        and -lock beside it; of several, the highest number is it
    <directory>/opening                    locked by whoever opens or replaces a file

A file is never repaired or replaced in its place: the next number is begun, and the old one
unlinked. Processes that still use the old one are undisturbed and notice (`is_current`).

In the file: `about` (format), `entries` (key -> rank, value), `ranks` (rank, key -> nothing). A
rank is 8 bytes, big-endian; entries are evicted in its order.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import lmdb

from tfx_encore.schemas.errors import StoreUnavailableError

FORMAT = b"1"
RANK_BYTES = 8

_NAME = re.compile(r"entries-(\d{6,})\.lmdb")
_OPEN_SECONDS = 10.0
_PAGE = 4096


class _UnfitError(Exception):
    """The file is not one that this version can go on with."""


class LmdbFile:
    """An open file.

    Attributes:
        path: of the file.
        env: LMDB's environment.
        is_new: True if the file was begun now.
        replaced: True if it was begun because the one before was unfit.
    """

    def __init__(self, path: Path, env: lmdb.Environment, is_new: bool) -> None:
        self.path = path
        self.env = env
        self.is_new = is_new
        self.replaced = False
        about = env.open_db(b"about")
        self.entries = env.open_db(b"entries")
        self.ranks = env.open_db(b"ranks")
        with env.begin(db=about, write=is_new) as txn:
            if is_new:
                txn.put(b"format", FORMAT)
            elif txn.get(b"format") != FORMAT:
                raise _UnfitError(f"format {txn.get(b'format')!r}")

    def is_current(self) -> bool:
        """False once another process has put a new file in its place."""
        return self.path.exists()

    def bytes_used(self, txn: lmdb.Transaction) -> int:
        """Bytes of the pages that hold entries and ranks."""
        used = 0
        for db in (self.entries, self.ranks):
            stat = txn.stat(db)
            pages = stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
            used += pages * stat["psize"]
        return used

    def count(self, txn: lmdb.Transaction) -> int:
        """Number of entries."""
        return int(txn.stat(self.entries)["entries"])

    def write(self, txn: lmdb.Transaction, key: bytes, rank: bytes, value: bytes) -> None:
        """Puts a value under a key, instead of what is there."""
        self.delete(txn, key)
        txn.put(key, rank + value, db=self.entries)
        txn.put(rank + key, b"", db=self.ranks)

    def delete(self, txn: lmdb.Transaction, key: bytes) -> bool:
        """Deletes what is under a key; True if there was anything."""
        held: Any = txn.pop(key, db=self.entries)
        if held is None:
            return False
        txn.delete(held[:RANK_BYTES] + key, db=self.ranks)
        return True

    def evict(self, txn: lmdb.Transaction, count: int) -> int:
        """Deletes up to `count` entries of the lowest ranks; returns how many."""
        with txn.cursor(db=self.ranks) as cursor:
            doomed: list[Any] = list(islice(cursor.iternext(values=False), count))
        for item in doomed:
            txn.delete(item, db=self.ranks)
            txn.delete(item[RANK_BYTES:], db=self.entries)
        return len(doomed)


def open_file(directory: Path, budget: int, *, anew: bool = False) -> LmdbFile:
    """Opens the file of a directory; begins a new one if there is none that will do.

    Args:
        directory: made if it does not exist.
        budget: size of the file at most, in bytes.
        anew: begin a new file in any case.

    Raises:
        StoreUnavailableError: the directory cannot be written, or another process keeps it.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with _opening(directory):
            return _open_or_begin(directory, budget, anew)
    except (OSError, lmdb.Error) as error:
        raise StoreUnavailableError(
            f"{directory}: no LMDB file can be kept here: {error}"
        ) from error


def compact(file: LmdbFile, directory: Path, budget: int) -> LmdbFile:
    """Copies what is live into a new file, opens that, and unlinks the old one.

    LMDB keeps the bytes of what was deleted in free pages; a copy has none. The caller closes
    `file` once nobody reads it; only then does the system let go of its bytes.

    Raises:
        StoreUnavailableError: the copy cannot be written; the old file is still open.
    """
    try:
        with _opening(directory):
            target = directory / f"entries-{_newest(directory)[0] + 1:06d}.lmdb"
            part = target.with_suffix(".part")
            with part.open("wb") as copy:
                file.env.copyfd(copy.fileno(), compact=True)
                os.fsync(copy.fileno())
            part.rename(target)
            new = _open(target, budget, is_new=False)
            _remove_others(directory, target)
            return new
    except (OSError, lmdb.Error, _UnfitError) as error:
        raise StoreUnavailableError(f"{directory}: cannot be compacted: {error}") from error


def _open_or_begin(directory: Path, budget: int, anew: bool) -> LmdbFile:
    number, path = _newest(directory)
    unfit = anew
    if path is not None and not anew:
        try:
            return _open(path, budget, is_new=False)
        except (lmdb.Error, _UnfitError):
            unfit = True
    target = directory / f"entries-{number + 1:06d}.lmdb"
    file = _open(target, budget, is_new=True)
    file.replaced = unfit and path is not None
    _remove_others(directory, target)
    return file


def _open(path: Path, budget: int, is_new: bool) -> LmdbFile:
    map_size = budget // _PAGE * _PAGE
    if not is_new and not 2 * _PAGE <= path.stat().st_size <= map_size:
        raise _UnfitError(f"{path.stat().st_size} bytes")
    env = lmdb.open(
        str(path),
        map_size=map_size,
        subdir=False,
        max_dbs=3,
        max_readers=1024,
        max_spare_txns=4,
        metasync=False,
        readahead=False,
    )
    try:
        # LMDB trusts the file's head: reading a page beyond a file cut short ends the process.
        pages = env.info()["last_pgno"] + 1
        if not is_new and pages * env.stat()["psize"] > path.stat().st_size:
            raise _UnfitError("cut short")
        env.reader_check()
        return LmdbFile(path, env, is_new)
    except BaseException:
        env.close()
        raise


def _newest(directory: Path) -> tuple[int, Path | None]:
    found = [
        (int(match[1]), path)
        for path in directory.iterdir()
        if (match := _NAME.fullmatch(path.name))
    ]
    return max(found, default=(0, None))


def _remove_others(directory: Path, kept: Path) -> None:
    for path in directory.glob("entries-*"):
        if path.name not in (kept.name, f"{kept.name}-lock"):
            path.unlink(missing_ok=True)


@contextmanager
def _opening(directory: Path) -> Iterator[None]:
    """Holds the directory's lock; the kernel lets go of it if this process dies."""
    with (directory / "opening").open("wb") as handle:
        _lock(handle, directory)
        yield


def _lock(handle: Any, directory: Path) -> None:
    deadline = time.monotonic() + _OPEN_SECONDS
    while not _try_lock(handle):
        if time.monotonic() > deadline:
            raise StoreUnavailableError(
                f"{directory}: another process has been opening it for {_OPEN_SECONDS:g} s; "
                "see who holds the file `opening`"
            )
        time.sleep(0.02)


def _try_lock(handle: Any) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
