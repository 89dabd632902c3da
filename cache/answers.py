"""An answer as bytes: output name -> dtype, shape, data; versioned and checksummed. No IO here.

    magic `EA` (2 bytes), format 1 (u8), CRC-32 of the body (u32, little-endian), body

The body is written like a canonical row (`cache.rows`), one cell for each output, without the batch
dimension. Nothing is ever unpickled. The checksum finds damage, not malice.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfx_encore.cache.rows import (
    STRING,
    Cell,
    Row,
    cell,
    cell_tag,
    decode_row,
    encode_row,
    to_array,
)
from tfx_encore.schemas.errors import DataError

Array = np.ndarray[Any, Any]

_MAGIC = b"EA\x01"
_HEAD = struct.Struct("<3sI")


def encode_answer(outputs: Row) -> bytes:
    """Returns the answer's bytes; equal answers have equal bytes."""
    return seal_answer(encode_row(outputs))


def seal_answer(body: bytes) -> bytes:
    """Returns an answer from its body: head and checksum before it."""
    return _HEAD.pack(_MAGIC, zlib.crc32(body)) + body


def open_answer(data: bytes) -> bytes:
    """Returns an answer's body.

    Raises:
        DataError: damaged, cut short, or of another format.
    """
    if len(data) < _HEAD.size:
        raise DataError(f"an answer of {len(data)} bytes is cut short")
    magic, checksum = _HEAD.unpack_from(data, 0)
    if magic != _MAGIC:
        raise DataError(f"not an answer of this format: it begins with {magic!r}")
    body = data[_HEAD.size :]
    if zlib.crc32(body) != checksum:
        raise DataError(f"an answer of {len(data)} bytes fails its checksum")
    return body


def decode_answer(data: bytes) -> dict[str, Cell]:
    """Reads an answer back.

    Raises:
        DataError: damaged, cut short, or of another format.
    """
    return decode_row(open_answer(data))


def decode_batch(answers: Sequence[bytes]) -> dict[str, Array]:
    """Reads the answers of a batch's rows back into one array for each output.

    Args:
        answers: at least one, each with the same outputs, dtypes and shapes.

    Returns:
        Output name -> array of shape [rows, ...]; strings as object arrays of bytes.

    Raises:
        DataError: damaged, of another format, or rows whose outputs do not fit together.
    """
    rows = [decode_answer(data) for data in answers]
    try:
        return {name: _column([row[name] for row in rows]) for name in rows[0]}
    except (KeyError, ValueError) as error:
        raise DataError(f"answers of different models in one batch: {error}") from error


def _column(cells: Sequence[Cell]) -> Array:
    """Returns cells of one dtype and shape as one array."""
    first = cells[0]
    if any((item.dtype, item.shape) != (first.dtype, first.shape) for item in cells):
        raise ValueError(f"{first.dtype} {first.shape} beside others")
    if first.dtype == STRING:
        return np.stack([to_array(item) for item in cells])
    data = b"".join(item.data for item in cells)
    return to_array(Cell(first.dtype, (len(cells), *first.shape), data))


def encode_bodies(outputs: Mapping[str, Array]) -> tuple[bytes, Array]:
    """Returns the bodies of a batch's answers, joined, and uint32 [rows] where each ends.

    Args:
        outputs: output name -> array of shape [rows, ...]; strings as object arrays of bytes.

    Raises:
        DataError: the outputs do not have the same number of rows.
    """
    counts = {array.shape[0] if array.ndim else -1 for array in outputs.values()}
    if len(counts) != 1 or -1 in counts:
        shapes = {name: array.shape for name, array in outputs.items()}
        raise DataError(f"outputs {shapes} do not have one row for each row of the batch")
    count = counts.pop()
    head = encode_row({})[:1] + struct.pack("<H", len(outputs))
    names = sorted(outputs)
    if any(outputs[name].dtype.kind in "OSU" for name in names):
        columns = [_strings_or_numbers(name, outputs[name], count) for name in names]
        bodies = [head + b"".join(row) for row in zip(*columns, strict=True)]
        ends = np.cumsum([len(body) for body in bodies], dtype=np.int64)
        return b"".join(bodies), ends.astype(np.uint32)
    parts = [_repeat(head, count), *(p for n in names for p in _numbers(n, outputs[n], count))]
    table = np.concatenate(parts, axis=1)
    return table.tobytes(), np.arange(1, count + 1, dtype=np.uint32) * np.uint32(table.shape[1])


def _repeat(data: bytes, count: int) -> Array:
    one = np.frombuffer(data, dtype=np.uint8)
    return np.broadcast_to(one, (count, len(one)))


def _numbers(name: str, array: Array, count: int) -> tuple[Array, Array]:
    """Returns an output's tag and its data, both uint8 [rows, bytes]."""
    tag = _repeat(cell_tag(name, array.dtype.name, array.shape[1:]), count)
    flat = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()
    width = len(flat) // count if count else 0
    return tag, np.frombuffer(flat, dtype=np.uint8).reshape(count, width)


def _strings_or_numbers(name: str, array: Array, count: int) -> list[bytes]:
    """Returns one output's tag and data for each row."""
    if array.dtype.kind not in "OSU":
        tag, data = _numbers(name, array, count)
        return [row.tobytes() for row in np.concatenate([tag, data], axis=1)]
    cells = [cell(np.asarray(array[index], dtype=object), STRING) for index in range(count)]
    return [cell_tag(name, item.dtype, item.shape) + item.data for item in cells]
