"""Many rows in one value, and most of it outside Beam: millions of elements become a few hundred.

Runners keep what is to be grouped in memory, or move it about, element by element. Here rows are
collected by bucket; the buckets' columns are marshalled, compressed and written into a file of the
run's temporary folder, which every worker reads; Beam groups only where they are. A file is named
by what it was made from, so that a worker that starts anew writes the same again.
"""

from __future__ import annotations

import marshal
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
from tfx.dsl.io import fileio

from tfx_encore.components.shared_files import whole_file

_CODEC = "lz4"
_FLUSH_BYTES = 16 << 20  # of all buckets together, in a worker, before they are written


@dataclass(frozen=True)
class Packed:
    """Where something is packed.

    Attributes:
        kind: what it is.
        path: the file.
        offset: byte at which it starts.
        stored: bytes.
        size: bytes before it was compressed.
    """

    kind: str
    path: str
    offset: int
    stored: int
    size: int


def unpack(packed: Packed) -> Any:
    """Returns what was packed: tuples and lists of numbers, texts and bytes."""
    with fileio.open(packed.path, "rb") as file:
        file.seek(packed.offset)
        data = file.read(packed.stored)
    return marshal.loads(pa.decompress(data, packed.size, _CODEC, asbytes=True))  # noqa: S302 - ours


def write_packs(kind: str, path: str, by_bucket: Mapping[int, Any]) -> list[tuple[int, Packed]]:
    """Packs a value for each bucket into one file; returns (bucket, where it is).

    Args:
        kind: what the values are.
        path: of the file, in a folder that serves as scratch too; named by what it is made from.
        by_bucket: bucket -> what `marshal` can write.
    """
    found, offset = [], 0
    with whole_file(path, path.rpartition("/")[0]) as file:
        for bucket in sorted(by_bucket):
            # Version 2 looks for no repeated objects.
            data = marshal.dumps(by_bucket[bucket], 2)
            stored = pa.compress(data, _CODEC, asbytes=True)
            file.write(stored)
            found.append((bucket, Packed(kind, path, offset, len(stored), len(data))))
            offset += len(stored)
    return found


class Batches:
    """Rows by bucket, column by column, written when there are enough.

    Args:
        kind: what the rows are.
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
            key: rows of one key meet in one bucket.
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
        if held:
            path = f"{self._path}-{self._written:06d}.pack"
            self._written += 1
            yield from write_packs(self._kind, path, held)
