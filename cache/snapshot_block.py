"""Blocks of a snapshot: some entries, column by column. No IO here.

    n (u32), size of all rows (u32), size of all answers (u32), then for each column n items:
    row key (32 bytes), seen count (u64), end of the row (u32), end of the answer (u32),
    cost in microseconds (f32), index of the signature (u8); then all rows, all answers

integers little-endian; an end counts from the start of its blob. An answer is kept as its canonical
outputs, without the head and checksum that `cache.answers` gives it, as the block has a checksum.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from tfx_encore.cache.answers import open_answer, seal_answer
from tfx_encore.cache.keys import KEY_BYTES
from tfx_encore.schemas.errors import DataError

FRAME = struct.Struct("<II")
_HEAD = struct.Struct("<III")
_FIXED_BYTES = KEY_BYTES + 8 + 4 + 4 + 4 + 1

Array = np.ndarray[Any, Any]


class Entry(NamedTuple):
    """One answer computed ahead of traffic.

    Attributes:
        key: row key, 32 bytes.
        signature: index into `SnapshotMeta.signatures`.
        seen: how often the row was counted.
        row: canonical bytes of the row (`cache.rows`).
        cost: microseconds of model time that a hit saves.
        answer: bytes of the answer (`cache.answers`).
    """

    key: bytes
    signature: int
    seen: int
    row: bytes
    cost: float
    answer: bytes


@dataclass(frozen=True)
class Block:
    """Columns of n entries.

    Attributes:
        keys: all row keys, 32 bytes each.
        seen: uint64 [n].
        row_ends: uint32 [n], where each row ends in `rows`.
        answer_ends: uint32 [n], where each answer ends in `answers`.
        costs: float32 [n], microseconds.
        signatures: indices, one byte each.
        rows: all canonical rows.
        answers: all answers, not sealed.
    """

    keys: bytes
    seen: Array
    row_ends: Array
    answer_ends: Array
    costs: Array
    signatures: bytes
    rows: bytes
    answers: bytes

    def __len__(self) -> int:
        return len(self.signatures)

    def frame(self) -> bytes:
        """Returns the block as written: length, checksum, payload."""
        payload = b"".join(
            (
                _HEAD.pack(len(self), len(self.rows), len(self.answers)),
                self.keys,
                self.seen.astype("<u8").tobytes(),
                self.row_ends.astype("<u4").tobytes(),
                self.answer_ends.astype("<u4").tobytes(),
                self.costs.astype("<f4").tobytes(),
                self.signatures,
                self.rows,
                self.answers,
            )
        )
        return FRAME.pack(len(payload), zlib.crc32(payload)) + payload

    def sizes(self) -> Array:
        """Returns int64 [n]: bytes that each entry takes."""
        ends = self.row_ends.astype(np.int64) + self.answer_ends.astype(np.int64)
        return np.diff(ends, prepend=np.int64(0)) + np.int64(_FIXED_BYTES)

    def key_list(self) -> list[bytes]:
        """Returns the row keys one by one."""
        return [self.keys[at : at + KEY_BYTES] for at in range(0, len(self.keys), KEY_BYTES)]

    def entries(self) -> Iterator[Entry]:
        """Yields the entries one by one, answers sealed."""
        rows = cut(self.rows, self.row_ends)
        answers = cut(self.answers, self.answer_ends)
        seen, costs = self.seen.tolist(), self.costs.tolist()
        for at, key in enumerate(self.key_list()):
            answer = seal_answer(answers[at])
            yield Entry(key, self.signatures[at], seen[at], rows[at], costs[at], answer)

    def take(self, places: Sequence[int]) -> Block:
        """Returns a block of some of the entries, in the order given."""
        entries = list(self.entries())
        return block_of([entries[place] for place in places])


def block_of(entries: Iterable[Entry]) -> Block:
    """Returns a block of these entries."""
    items = list(entries)
    answers = [open_answer(item.answer) for item in items]
    return Block(
        keys=b"".join([item.key for item in items]),
        seen=np.array([item.seen for item in items], dtype=np.uint64),
        row_ends=ends_of([item.row for item in items]),
        answer_ends=ends_of(answers),
        costs=np.array([item.cost for item in items], dtype=np.float32),
        signatures=bytes(item.signature for item in items),
        rows=b"".join([item.row for item in items]),
        answers=b"".join(answers),
    )


def read_block(payload: bytes) -> Block:
    """Reads a block's payload.

    Raises:
        DataError: the columns do not fit the payload.
    """
    if len(payload) < _HEAD.size:
        raise DataError(f"a block of {len(payload)} bytes is cut short")
    count, rows, answers = _HEAD.unpack_from(payload, 0)
    if len(payload) != _HEAD.size + count * _FIXED_BYTES + rows + answers:
        raise DataError(f"a block of {count} entries in {len(payload)} bytes")
    at = _HEAD.size

    def column(width: int) -> bytes:
        nonlocal at
        at += width
        return payload[at - width : at]

    block = Block(
        keys=column(KEY_BYTES * count),
        seen=np.frombuffer(column(8 * count), dtype="<u8"),
        row_ends=np.frombuffer(column(4 * count), dtype="<u4"),
        answer_ends=np.frombuffer(column(4 * count), dtype="<u4"),
        costs=np.frombuffer(column(4 * count), dtype="<f4"),
        signatures=column(count),
        rows=column(rows),
        answers=column(answers),
    )
    for ends, size in ((block.row_ends, rows), (block.answer_ends, answers)):
        steps = np.diff(ends.astype(np.int64), prepend=0)
        if (steps < 0).any() or (int(ends[-1]) if count else 0) != size:
            raise DataError("a block whose entries overlap or leave gaps")
    return block


def split_frames(data: bytes) -> Iterator[Block]:
    """Reads blocks written one after the other, without checking their checksums."""
    at = 0
    while at < len(data):
        end = at + FRAME.size + int(FRAME.unpack_from(data, at)[0])
        yield read_block(data[at + FRAME.size : end])
        at = end


def check_frame(header: bytes, payload: bytes) -> bool:
    """True if the payload is what the frame's header says."""
    return bool(FRAME.unpack(header) == (len(payload), zlib.crc32(payload)))


def ends_of(items: Sequence[bytes]) -> Array:
    """Returns uint32 [n]: where each item ends once they are joined."""
    return np.cumsum([len(item) for item in items], dtype=np.int64).astype(np.uint32)


def cut(blob: bytes, ends: Array) -> list[bytes]:
    """Cuts joined items apart again."""
    places = ends.tolist()
    starts = [0, *places][:-1]
    return [blob[start:end] for start, end in zip(starts, places, strict=True)]
