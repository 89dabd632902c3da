"""The file by which workers agree: a table that is read without a lock and replaced under one.

    revision (u64) | heartbeat of each worker (f64) | table | table

Whoever changes the table holds a file lock, writes the copy that is not in use, and then the
revision, whose lowest bit says which copy is: a reader needs no lock, and a writer that dies
halfway has changed nothing. `agreement` says what the table means, `routing_board` who changes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from tfx_encore.gateway.agreement import Member, Table
from tfx_encore.schemas.errors import EncoreError

MAX_WORKERS = 64

_HEAD = 4096
_COPY = 2**20
_HEARTBEATS = 64
_MAGIC_AT = 8
_MAGIC = b"encore routes 1\0"
_LABEL = struct.Struct("<QII")  # revision, length, CRC-32


class Board:
    """The file, mapped into this process's memory.

    Args:
        path: of the file, which `create` made.

    Raises:
        EncoreError: it is no board.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._memory = mmap.mmap(self._file, _HEAD + 2 * _COPY)
            if self._memory[_MAGIC_AT : _MAGIC_AT + len(_MAGIC)] != _MAGIC:
                raise ValueError("it does not begin as one")
        except (OSError, ValueError) as error:
            os.close(self._file)
            raise EncoreError(f"{path} is no routing board: {error}") from error
        head = memoryview(self._memory)[:_HEAD]
        self.words = head.cast("Q")
        self.heartbeats = head[_HEARTBEATS : _HEARTBEATS + 8 * MAX_WORKERS].cast("d")
        self._head = head

    @staticmethod
    def create(path: Path) -> None:
        """Makes an empty board, readable by this user only; one that is there is replaced."""
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.ftruncate(descriptor, _HEAD + 2 * _COPY)
            os.pwrite(descriptor, _MAGIC, _MAGIC_AT)
        finally:
            os.close(descriptor)
        beside.replace(path)

    @property
    def revision(self) -> int:
        """How often the table was replaced."""
        return self.words[0]

    def read(self) -> tuple[int, Table]:
        """Returns the table and its revision."""
        while True:
            revision = self.words[0]
            if not revision:
                return 0, Table()
            at = _HEAD + (revision & 1) * _COPY
            written, length, crc = _LABEL.unpack_from(self._memory, at)
            start = at + _LABEL.size
            body = self._memory[start : start + min(length, _COPY - _LABEL.size)]
            # A reader that was overtaken by two writers, or by the order of memory, looks again.
            if written == revision and zlib.crc32(body) == crc:
                return revision, _decode(body)

    def write(self, table: Table) -> int:
        """Replaces the table; returns its revision. Only inside `locked`.

        Raises:
            EncoreError: it does not fit.
        """
        body = _encode(table)
        if len(body) > _COPY - _LABEL.size:
            raise EncoreError(f"{len(table.agreed)} models are too many for several workers")
        revision = self.words[0] + 1
        at = _HEAD + (revision & 1) * _COPY
        _LABEL.pack_into(self._memory, at, revision, len(body), zlib.crc32(body))
        self._memory[at + _LABEL.size : at + _LABEL.size + len(body)] = body
        self.words[0] = revision
        return revision

    @contextlib.contextmanager
    def locked(self) -> Iterator[bool]:
        """Holds the lock inside the block; gives False if another process holds it."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        try:
            yield True
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Lets go of the file, which stays."""
        self.words.release()
        self.heartbeats.release()
        self._head.release()
        self._memory.close()
        os.close(self._file)


def _encode(table: Table) -> bytes:
    return json.dumps(asdict(table), separators=(",", ":")).encode()


def _decode(body: bytes) -> Table:
    said = json.loads(body)
    workers = {int(number): Member(**each) for number, each in said["workers"].items()}
    return Table(said["epoch"], said["agreed"], workers)
