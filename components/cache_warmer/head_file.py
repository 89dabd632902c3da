"""Files of head rows that pass between the steps of CacheWarmer; gone when it ends.

Rows are written as whole batches, column by column, so that the answering step does not look at
them one by one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tfx.dsl.io import fileio

from tfx_encore.cache.snapshot_block import cut, ends_of
from tfx_encore.components.cache_warmer.head import HeadRow
from tfx_encore.components.shared_files import whole_file

_HEAD = struct.Struct("<IBII")
_BATCHES = 16  # batches in a file; files are what Beam deals out

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Batch:
    """Rows of one signature that are answered together; columns as in `snapshot_block.Block`."""

    signature: int
    keys: bytes
    seen: Array
    held: Array
    row_ends: Array
    example_ends: Array
    rows: bytes
    examples: bytes

    def __len__(self) -> int:
        return len(self.seen)

    def inputs(self) -> list[bytes]:
        """What is given to the model: Examples, or canonical rows where rows came as tensors."""
        if self.examples:
            return cut(self.examples, self.example_ends)
        return cut(self.rows, self.row_ends)

    def singles(self) -> Iterator[Batch]:
        """Yields each row as a batch of its own."""
        for row in _rows(self):
            yield _batch([row])


def write_chunks(rows: Sequence[HeadRow], directory: str, batch_size: int) -> list[str]:
    """Writes the rows, each signature in files of its own; returns the paths in order.

    Only the last file of a signature has a batch that is not full, so that which rows meet in a
    batch does not depend on how Beam deals the files out.
    """
    paths = []
    size = batch_size * _BATCHES
    for signature in sorted({row.signature for row in rows}):
        mine = [row for row in rows if row.signature == signature]
        for start in range(0, len(mine), size):
            paths.append(f"{directory}/chunk-{signature}-{start // size:06d}.bin")
            with whole_file(paths[-1], directory) as file:
                for at in range(start, min(start + size, len(mine)), batch_size):
                    file.write(_batch_bytes(_batch(mine[at : at + batch_size])))
    return paths


def read_batches(path: str) -> Iterator[Batch]:
    """Reads the batches of one file."""
    with fileio.open(path, "rb") as file:
        while head := file.read(_HEAD.size):
            count, signature, rows, examples = _HEAD.unpack(head)
            yield Batch(
                signature=signature,
                keys=file.read(32 * count),
                seen=np.frombuffer(file.read(8 * count), dtype="<u8"),
                held=np.frombuffer(file.read(8 * count), dtype="<u8"),
                row_ends=np.frombuffer(file.read(4 * count), dtype="<u4"),
                example_ends=np.frombuffer(file.read(4 * count), dtype="<u4"),
                rows=file.read(rows),
                examples=file.read(examples),
            )


def read_head(paths: Sequence[str]) -> list[HeadRow]:
    """Reads all rows back, most frequent first."""
    rows = [row for path in paths for batch in read_batches(path) for row in _rows(batch)]
    return sorted(rows, key=lambda row: (-row.seen, row.key))


def _batch(rows: Sequence[HeadRow]) -> Batch:
    canonical = [row.row for row in rows]
    examples = [row.example for row in rows]
    return Batch(
        signature=rows[0].signature,
        keys=b"".join([row.key for row in rows]),
        seen=np.array([row.seen for row in rows], dtype="<u8"),
        held=np.array([row.held for row in rows], dtype="<u8"),
        row_ends=ends_of(canonical).astype("<u4"),
        example_ends=ends_of(examples).astype("<u4"),
        rows=b"".join(canonical),
        examples=b"".join(examples),
    )


def _batch_bytes(batch: Batch) -> bytes:
    sizes = len(batch.rows), len(batch.examples)
    arrays = (batch.seen, batch.held, batch.row_ends, batch.example_ends)
    columns = b"".join(array.tobytes() for array in arrays)
    head = _HEAD.pack(len(batch), batch.signature, *sizes)
    return head + batch.keys + columns + batch.rows + batch.examples


def _rows(batch: Batch) -> Iterator[HeadRow]:
    seen, held = batch.seen.tolist(), batch.held.tolist()
    rows = cut(batch.rows, batch.row_ends)
    examples = cut(batch.examples, batch.example_ends)
    for at in range(len(batch)):
        key = batch.keys[32 * at : 32 * at + 32]
        yield HeadRow(seen[at], key, batch.signature, rows[at], examples[at], held[at])
