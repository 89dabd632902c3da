"""From the files of blocks that Beam wrote to one snapshot, most frequent rows first."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from tfx.dsl.io import fileio

from tfx_encore.cache.row_spec import SignatureSpec
from tfx_encore.cache.snapshot import SnapshotMeta, SnapshotWriter
from tfx_encore.cache.snapshot_block import Block, Entry, block_of, split_frames

_AT_ONCE = 1024  # entries in a block where blocks of several signatures are merged


def write_snapshot(
    directory: str,
    files: Sequence[str],
    *,
    max_bytes: int,
    fingerprint: str,
    specs: Sequence[SignatureSpec],
    output_filter: Sequence[str],
    generation: int = 0,
) -> tuple[SnapshotMeta, list[bytes], list[int]]:
    """Merges blocks and writes them until the byte budget is spent.

    Args:
        directory: where the snapshot goes.
        files: of blocks, those of one signature in order.
        max_bytes: bytes of entries at most.
        fingerprint: of the model.
        specs: signatures in the order of their indices.
        output_filter: outputs kept.
        generation: see `SnapshotMeta`.

    Returns:
        what the snapshot says of itself, and the keys and sizes of its entries in order.
    """
    writer = SnapshotWriter(directory, fileio.open)
    keys: list[bytes] = []
    sizes: list[int] = []
    for block in _within(_ordered(files, len(specs)), max_bytes):
        writer.write(block)
        keys += block.key_list()
        sizes += block.sizes().tolist()
    return writer.close(fingerprint, specs, output_filter, generation), keys, sizes


def _within(blocks: Iterable[Block], max_bytes: int) -> Iterator[Block]:
    left = max_bytes
    for block in blocks:
        sizes = np.cumsum(block.sizes())
        fitting = int(np.searchsorted(sizes, left, side="right"))
        if fitting < len(block):
            yield block.take(range(fitting))
            return
        left -= int(sizes[-1]) if len(block) else 0
        yield block


def _ordered(files: Sequence[str], signatures: int) -> Iterator[Block]:
    """Blocks by count, then key; those of each signature are in that order already."""
    if signatures == 1:
        yield from _blocks(files)
        return
    streams = [
        _entries([file for file in files if f"/chunk-{index}-" in file])
        for index in range(signatures)
    ]
    merged = heapq.merge(*streams, key=lambda entry: (-entry.seen, entry.key))
    while some := list(itertools.islice(merged, _AT_ONCE)):
        yield block_of(some)


def _entries(files: Sequence[str]) -> Iterator[Entry]:
    for block in _blocks(files):
        yield from block.entries()


def _blocks(files: Sequence[str]) -> Iterator[Block]:
    for path in files:
        with fileio.open(path, "rb") as file:
            yield from split_frames(file.read())
