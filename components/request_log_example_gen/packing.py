"""Many rows in one value, and most of it outside Beam: millions of elements become a few hundred.

Runners keep what is to be grouped in memory, or move it about, element by element. Here rows are
collected by bucket; the buckets' columns are marshalled, compressed and written into a file of the
run's temporary folder, which every worker reads; Beam groups only where they are. A file is named
by what it was made from, so that a worker that starts anew writes the same again.
"""

from __future__ import annotations

import marshal
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa  # type: ignore[import-untyped]
from tfx.dsl.io import fileio

ROWS, LABELS = "rows", "labels"
_CODEC = "lz4"
_FLUSH_BYTES = 16 << 20  # of all buckets together, in a worker, before they are written


class Packed(NamedTuple):
    """Where the columns of a bucket are.

    Attributes:
        kind: ROWS or LABELS.
        path: the file.
        offset: byte at which they start.
        stored: bytes.
        size: bytes before they were compressed.
    """

    kind: str
    path: str
    offset: int
    stored: int
    size: int


def unpack(packed: Packed) -> Any:
    """Returns the columns, lists of numbers and bytes."""
    with fileio.open(packed.path, "rb") as file:
        file.seek(packed.offset)
        data = file.read(packed.stored)
    return marshal.loads(pa.decompress(data, packed.size, _CODEC, asbytes=True))  # noqa: S302 - ours


class Batches:
    """Rows or labels by bucket, written when there are enough.

    Args:
        kind: ROWS or LABELS.
        buckets: how many.
        width: columns of each.
        folder: for the files.
        name: of what they are made from, so that it is the same when that is read again.
    """

    def __init__(self, kind: str, buckets: int, width: int, *, folder: str, name: str) -> None:
        self._kind = kind
        self._buckets = buckets
        self._width = width
        self._path = f"{folder}/{kind}-{name}"
        self._held: dict[int, tuple[list[Any], ...]] = {}
        self._bytes = 0
        self._written = 0

    def add(self, key: bytes, values: tuple[Any, ...], size: int) -> bool:
        """Adds a row to the bucket of its key; True if it is time to `flush`.

        Args:
            key: of the join: a row and its label meet in one bucket.
            values: one for each column.
            size: their bytes, about.
        """
        bucket = zlib.crc32(key) % self._buckets
        columns = self._held.get(bucket)
        if columns is None:
            columns = self._held[bucket] = tuple([] for _ in range(self._width))
        for column, value in zip(columns, values, strict=True):
            column.append(value)
        self._bytes += size
        return self._bytes >= _FLUSH_BYTES

    def flush(self) -> Iterator[tuple[int, Packed]]:
        """Writes all that is held, yields (bucket, where it is), and starts anew."""
        held, self._held, self._bytes = self._held, {}, 0
        if not held:
            return
        path, offset = f"{self._path}-{self._written:06d}.pack", 0
        self._written += 1
        found = []
        with fileio.open(path, "wb") as file:
            for bucket in sorted(held):
                # Version 2 looks for no repeated objects.
                data = marshal.dumps(held.pop(bucket), 2)
                stored = pa.compress(data, _CODEC, asbytes=True)
                file.write(stored)
                found.append((bucket, Packed(self._kind, path, offset, len(stored), len(data))))
                offset += len(stored)
        yield from found
