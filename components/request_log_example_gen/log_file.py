"""Records of a TFRecord file with what is unreadable between them: never fatal, never silent.

A record whose checksum fails is passed over alone. Where a length fails its checksum, the next
place at which one is right is looked for. A gzip stream is lost from its first damage on.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import google_crc32c
from tfx.dsl.io import fileio

from tfx_encore.components.request_log_example_gen.gunzip import Gunzip

_HEADER, _FRAMING = 12, 16
_LENGTH = struct.Struct("<QI")
_LONGEST = 1 << 31  # bytes of a record
_CHUNK = 1 << 16
_KEPT = 1 << 20  # bytes of a lost stretch that are kept
_GUESSED_SIZE = 1024  # bytes of a record, where none could be read
_ZEROS = b"\0\0\0\0"  # the upper half of every length
_NOT_ZERO = re.compile(rb"[^\0]")
_GZIP = b"\x1f\x8b"


class Lost(NamedTuple):
    """A stretch that holds no records that could be read.

    Attributes:
        offset: byte of the (uncompressed) file at which it starts.
        size: bytes; of a gzip stream that breaks off, an estimate.
        kept: the first 1 MiB of them.
        reason: what is wrong.
    """

    offset: int
    size: int
    kept: bytes
    reason: str


class LogFile:
    """Iterates over the records of a file; a `Lost` stands where some could not be read.

    Attributes:
        records: records read so far.
        size: bytes of them, framing included.
        offset: byte of the (uncompressed) file at which the last of them starts.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.records = 0
        self.size = 0
        self.offset = 0

    def __iter__(self) -> Iterator[bytes | Lost]:
        with fileio.open(self.path, "rb") as raw:
            head = raw.read(2)
            raw.seek(0)
            if head != _GZIP:
                yield from self._read(_Source(raw))
                return
            packed = Gunzip(raw)
            source = _Source(packed)
            held: Lost | None = None
            for item in self._read(source):
                if held is not None:
                    yield held
                held = item if isinstance(item, Lost) else None
                if held is None:
                    yield item
            if packed.error:
                # A record that breaks off is part of what is lost.
                first = held or Lost(source.position, 0, b"", "")
                size = first.size + packed.unpacked(packed.lost, source.position)
                held = Lost(first.offset, size, first.kept, packed.error)
            if held is not None:
                yield held

    def records_in(self, size: int) -> int:
        """About how many records a lost stretch held: by the mean size of those that were read."""
        mean = self.size / self.records if self.records else _GUESSED_SIZE
        return max(1, round(size / mean))

    def _read(self, source: _Source) -> Iterator[bytes | Lost]:
        while header := source.read(_HEADER):
            problem, body = _check_header(header), b""
            if not problem:
                length = _LENGTH.unpack(header)[0]
                body = source.read(length + 4)
                problem = _check_body(body, length)
            if problem:
                lost = _resync(source, header + body, problem)
                yield lost
                continue
            self.records += 1
            self.size += length + _FRAMING
            self.offset = source.position - length - _FRAMING
            yield body[:-4]


class _Source:
    """A file to which bytes can be given back.

    Attributes:
        position: byte at which the next read starts.
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        self._held = b""
        self._at = 0
        self.position = 0

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; fewer only at the end."""
        end = self._at + size
        if end > len(self._held):
            rest = self._held[self._at :]
            self._held = rest + self._file.read(max(size - len(rest), _CHUNK))
            self._at, end = 0, size
        data = self._held[self._at : end]
        self._at += len(data)
        self.position += len(data)
        return data

    def unread(self, data: bytes) -> None:
        """Gives the bytes read last back."""
        self._held = data + self._held[self._at :]
        self._at = 0
        self.position -= len(data)


def masked_crc(data: bytes) -> int:
    """CRC-32C as TFRecord files hold it (tensorflow/core/lib/hash/crc32c.h)."""
    value = int(google_crc32c.value(data))
    return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF


def frame(record: bytes) -> bytes:
    """A record as it stands in a TFRecord file."""
    length = struct.pack("<Q", len(record))
    return b"".join(
        (
            length,
            masked_crc(length).to_bytes(4, "little"),
            record,
            masked_crc(record).to_bytes(4, "little"),
        )
    )


def _check_header(header: bytes) -> str:
    if len(header) < _HEADER:
        return "a record's header is cut short"
    length, checksum = _LENGTH.unpack(header)
    if masked_crc(header[:8]) != checksum or length > _LONGEST:
        return "a record's length fails its checksum"
    return ""


def _check_body(body: bytes, length: int) -> str:
    if len(body) < length + 4:
        return "a record is cut short"
    if masked_crc(body[:-4]) != int.from_bytes(body[-4:], "little"):
        return "a record fails its checksum"
    return ""


def _resync(source: _Source, start: bytes, reason: str) -> Lost:
    """Reads on to the next sound header, gives it back, and tells what lay before it."""
    offset = source.position - len(start)
    data, kept, size, at = start, b"", 0, 1
    while True:
        found = _next_header(data, at)
        if found is not None:
            source.unread(data[found:])
            data = data[:found]
            break
        # All but what may be the beginning of a header is surely lost.
        done = max(len(data) - _HEADER + 1, 0)
        more = source.read(_CHUNK)
        if not more:
            break
        size += done
        kept = kept if len(kept) >= _KEPT else kept + data[:done]
        data, at = data[done:] + more, 0 if done else 1
    kept = kept if len(kept) >= _KEPT else kept + data
    return Lost(offset, size + len(data), kept[:_KEPT], reason)


def _next_header(data: bytes, at: int) -> int | None:
    """Place of the first sound header from `at` on; None without one."""
    while (zeros := data.find(_ZEROS, at + 4)) >= 0:
        place = zeros - 4
        header = data[place : place + _HEADER]
        if len(header) < _HEADER:
            return None
        if not _check_header(header):
            return place
        at = place + 1
        if not any(header):
            other = _NOT_ZERO.search(data, place + _HEADER)
            at = max(at, (other.start() if other else len(data)) - _HEADER + 1)
    return None
