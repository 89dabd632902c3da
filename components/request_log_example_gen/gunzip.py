"""Reading a gzip stream up to its damage: Python's own reader withholds what comes just before."""

from __future__ import annotations

import zlib
from typing import Any

_CHUNK = 1 << 16
_PIECE = 256  # bytes fed at a time where a chunk turned out to be damaged
_GZIP = 31  # zlib's window bits for a gzip stream


class Gunzip:
    """A file's content, unpacked; ends at the first damage.

    Args:
        raw: the file.

    Attributes:
        error: why it ended, if not for its end.
        lost: packed bytes after the damage; at least 1 if there is some.
    """

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._unpacker = zlib.decompressobj(_GZIP)
        self._held = bytearray()
        self._read = 0
        self._done = False
        self.error = ""
        self.lost = 0

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; fewer only at the end or before the damage."""
        while len(self._held) < size and not self._done:
            self._more()
        data = bytes(self._held[:size])
        del self._held[:size]
        return data

    def _more(self) -> None:
        chunk = self._raw.read(_CHUNK)
        if not chunk:
            if not self._unpacker.eof:
                self._end("it is cut short")
            self._done = True
            return
        before = self._unpacker.copy()
        try:
            self._held += self._unpack(chunk)
            self._read += len(chunk)
        except zlib.error:
            self._unpacker = before
            self._creep(chunk)

    def _creep(self, chunk: bytes) -> None:
        for at in range(0, len(chunk), _PIECE):
            piece = chunk[at : at + _PIECE]
            try:
                self._held += self._unpack(piece)
            except zlib.error as problem:
                self._end(str(problem))
                return
            self._read += len(piece)

    def _unpack(self, data: bytes) -> bytes:
        """Unpacks some bytes; after the end of one stream another may follow."""
        out = []
        while data:
            if self._unpacker.eof:
                self._unpacker = zlib.decompressobj(_GZIP)
            out.append(self._unpacker.decompress(data))
            data = self._unpacker.unused_data
        return b"".join(out)

    def _end(self, why: str) -> None:
        self._done = True
        self.error = f"the gzip stream breaks off: {why}"
        self._raw.seek(0, 2)
        self.lost = max(int(self._raw.tell()) - self._read, 1)

    def unpacked(self, packed: int, size: int) -> int:
        """About how many bytes `packed` bytes would have become, as `size` came out so far."""
        return max(1, round(packed * (size / self._read if self._read and size else 1.0)))
