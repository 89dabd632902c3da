"""The files of the request log: TFRecords, one process a file, whole at any moment.

    <directory>/<model>/<YYYY-MM-DD>/<HHMMSS>-<host>-<pid>-<number>.tfrecord

While a file is written it has a hidden name, ends in `.part`, and is locked (flock). It gets its
name when it is closed. A process that is killed leaves its file hidden and unlocked; whoever starts
next cuts it to whole records and gives it its name. Used from one thread.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import socket
import struct
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

import google_crc32c

from tfx_encore.gateway.request_log_policy import RequestLogPolicy

log = logging.getLogger("tfx_encore.gateway")

_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
_DAY = "%Y-%m-%d"
_PART = ".part"
_LATE_SECONDS = 60.0  # requests of yesterday are still answered for a while


def frame(record: bytes) -> bytes:
    """Returns a record as it stands in a TFRecord file (tensorflow/core/lib/io/record_writer.h)."""
    length = _LENGTH.pack(len(record))
    return b"".join((length, _masked_crc(length), record, _masked_crc(record)))


def whole_records(file: BinaryIO) -> tuple[int, int]:
    """Returns how many records a file begins with that are whole, and the bytes they take."""
    records = size = 0
    file.seek(0)
    while True:
        head = file.read(12)
        if len(head) < 12 or _masked_crc(head[:8]) != head[8:]:
            return records, size
        (length,) = _LENGTH.unpack_from(head)
        body = file.read(length + 4)
        if len(body) < length + 4 or _masked_crc(body[:-4]) != body[-4:]:
            return records, size
        records += 1
        size += 16 + length


def model_folder(model: str) -> str:
    """Returns a model's name as the name of a folder: never hidden, never one above."""
    name = quote(model, safe="")
    return "%2E" + name[1:] if name.startswith(".") else name or "%"


class _OpenFile:
    """A file that is being written.

    Args:
        path: what it will be called.
        now: seconds since 1970.
    """

    def __init__(self, path: Path, now: float) -> None:
        self.path = path
        self.hidden = path.with_name(f".{path.name}{_PART}")
        self.opened_at = now
        self.size = 0
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        self._file = os.open(self.hidden, flags, 0o640)
        try:
            # Somebody who recovers may have been quicker; then it is not ours any more.
            _lock(self._file)
            if not _is_at(self._file, self.hidden):
                raise BlockingIOError(f"{self.hidden} was taken away")
        except OSError:
            os.close(self._file)
            raise

    def append(self, data: bytes) -> None:
        """Writes a framed record, or nothing.

        Raises:
            OSError: it could not be written; the file is as it was.
        """
        try:
            written = os.write(self._file, data)
            while written < len(data):
                written += os.write(self._file, data[written:])
        except OSError:
            os.ftruncate(self._file, self.size)
            os.lseek(self._file, self.size, os.SEEK_SET)
            raise
        self.size += len(data)

    def close(self) -> None:
        """Gives the file its name; an empty one is removed."""
        try:
            if self.size:
                os.fsync(self._file)
                _publish(self.hidden, self.path)
            else:
                self.hidden.unlink()
        finally:
            os.close(self._file)


class LogFiles:
    """The files of one process in a log's directory.

    Args:
        policy: where they are, and when they are closed and removed.
    """

    def __init__(self, policy: RequestLogPolicy) -> None:
        self._policy = policy
        self._host = re.sub(r"[^A-Za-z0-9._-]", "_", socket.gethostname()) or "host"
        self._open: dict[tuple[str, str], _OpenFile] = {}
        self._number = 0

    def append(self, model: str, received_at: float, record: bytes, now: float) -> None:
        """Writes a record into the file of its model and day.

        Args:
            model: its name.
            received_at: when the request came, seconds since 1970.
            record: the serialised PredictionLog.
            now: seconds since 1970.

        Raises:
            OSError: it could not be written, and nothing of it was.
        """
        at = datetime.fromtimestamp(received_at, timezone.utc)
        key = (model, at.strftime(_DAY))
        file = self._open.get(key)
        if file is None:
            file = self._open[key] = self._create(model, at, now)
        file.append(frame(record))
        if file.size >= self._policy.rotate_bytes:
            self._close(key)

    def rotate(self, now: float) -> None:
        """Closes the files that are old enough, or of a day that is over."""
        over = datetime.fromtimestamp(now - _LATE_SECONDS, timezone.utc).strftime(_DAY)
        for key, file in list(self._open.items()):
            if now - file.opened_at >= self._policy.rotate_seconds or key[1] < over:
                self._close(key)

    def close(self) -> None:
        """Closes all files."""
        for key in list(self._open):
            self._close(key)

    def recover(self) -> int:
        """Gives the files of processes that were killed their names; returns how many."""
        return sum(_recover(hidden) for hidden in self._hidden())

    def remove_old(self, now: float) -> int:
        """Removes the files that are kept no longer; returns how many."""
        if not self._policy.keep_days:
            return 0
        kept = datetime.fromtimestamp(now, timezone.utc) - timedelta(
            days=self._policy.keep_days + 1
        )
        return sum(_remove_day(folder) for day, folder in self._days() if day < kept)

    def _create(self, model: str, at: datetime, now: float) -> _OpenFile:
        folder = self._policy.directory / model_folder(model) / at.strftime(_DAY)
        while True:
            folder.mkdir(parents=True, exist_ok=True, mode=0o750)
            name = f"{at:%H%M%S}-{self._host}-{os.getpid()}-{self._number}.tfrecord"
            self._number += 1
            if (folder / name).exists():
                continue  # a process of the same number, in another container
            with contextlib.suppress(FileExistsError, FileNotFoundError, BlockingIOError):
                return _OpenFile(folder / name, now)

    def _close(self, key: tuple[str, str]) -> None:
        file = self._open.pop(key)
        try:
            file.close()
        except OSError as error:
            # It stays hidden, and is looked at again by `recover`.
            log.warning("request log file not closed file=%s reason=%r", file.path, str(error))

    def _hidden(self) -> Iterator[Path]:
        for _, folder in self._days():
            yield from sorted(folder.glob(f".*{_PART}"))

    def _days(self) -> Iterator[tuple[datetime, Path]]:
        for folder in sorted(self._policy.directory.glob("*/*")):
            with contextlib.suppress(ValueError):
                day = datetime.strptime(folder.name, _DAY).replace(tzinfo=timezone.utc)
                yield day, folder


def _recover(hidden: Path) -> bool:
    """Gives a file that nobody writes any more its name; False if somebody does."""
    try:
        with hidden.open("r+b") as file:
            _lock(file.fileno())
            if not _is_at(file.fileno(), hidden):
                return False
            records, size = whole_records(file)
            lost = file.seek(0, os.SEEK_END) - size
            if not records:
                hidden.unlink()
            else:
                file.truncate(size)
                os.fsync(file.fileno())
                _publish(hidden, hidden.with_name(hidden.name[1 : -len(_PART)]))
    except (FileNotFoundError, BlockingIOError):
        return False
    except OSError as error:
        log.warning("request log file not recovered file=%s reason=%r", hidden, str(error))
        return False
    log.info("request log recovered file=%s records=%d lost_bytes=%d", hidden, records, lost)
    return True


def _remove_day(folder: Path) -> int:
    """Removes the log's files of a day, and the folder if nothing else is in it."""
    removed = 0
    for path in [*folder.glob("*.tfrecord"), *folder.glob(f".*{_PART}")]:
        with contextlib.suppress(OSError):
            path.unlink()
            removed += 1
    with contextlib.suppress(OSError):
        folder.rmdir()
    return removed


def _publish(hidden: Path, path: Path) -> None:
    """Renames a file to its name, or to one beside it if there is such a file."""
    target, number = path, 0
    while target.exists():
        number += 1
        target = path.with_name(f"{path.stem}-{number}{path.suffix}")
    hidden.rename(target)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _lock(file: int) -> None:
    """Locks a file until it is closed.

    Raises:
        BlockingIOError: another process has.
    """
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_at(file: int, path: Path) -> bool:
    """True if the open file is the one that has this name."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _masked_crc(data: bytes) -> bytes:
    """CRC-32C as TFRecord files hold it (tensorflow/core/lib/hash/crc32c.h)."""
    value = int(google_crc32c.value(data))
    return _CRC.pack(((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF)
