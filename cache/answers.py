"""An answer as bytes: output name -> dtype, shape, data; versioned and checksummed. No IO here.

    magic `EA` (2 bytes), format 1 (u8), CRC-32 of the body (u32, little-endian), body

The body is written like a canonical row (`cache.rows`), one cell for each output, without the batch
dimension. Nothing is ever unpickled. The checksum finds damage, not malice.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any
from zlib import crc32

import numpy as np

from tfx_encore.cache.rows import (
    STRING,
    Cell,
    Row,
    cell,
    cell_tag,
    decode_row,
    encode_row,
    numpy_dtype,
    split_strings,
    to_array,
)
from tfx_encore.schemas.errors import DataError

Array = np.ndarray[Any, Any]

_MAGIC = b"EA\x01"
_FEW = 16  # rows up to which a loop is quicker than numpy
_HEAD = struct.Struct("<3sI")
_READ_HEAD = _HEAD.unpack_from
_CHECKSUM = slice(len(_MAGIC), _HEAD.size)
_BODY = slice(_HEAD.size, None)


def encode_answer(outputs: Row) -> bytes:
    """Returns the answer's bytes; equal answers have equal bytes."""
    return seal_answer(encode_row(outputs))


def seal_answer(body: bytes) -> bytes:
    """Returns an answer from its body: head and checksum before it."""
    return _HEAD.pack(_MAGIC, crc32(body)) + body


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
    if crc32(body) != checksum:
        raise DataError(f"an answer of {len(data)} bytes fails its checksum")
    return body


def decode_answer(data: bytes) -> dict[str, Cell]:
    """Reads an answer back.

    Raises:
        DataError: damaged, cut short, or of another format.
    """
    layout = _layout_of(data)
    if layout is not None:
        return layout.cells(data)
    row = decode_row(open_answer(data))
    _remember(len(data), row)
    return row


def decode_batch(answers: Sequence[bytes]) -> dict[str, Array]:
    """Reads the answers of a batch's rows back into one array for each output.

    Answers of one layout (numbers of the same shapes) are read column by column, without a look
    at each row but for its checksum.

    Args:
        answers: at least one, each with the same outputs, dtypes and shapes.

    Returns:
        Output name -> array of shape [rows, ...]; strings as object arrays of bytes.

    Raises:
        DataError: damaged, of another format, or rows whose outputs do not fit together.
    """
    layout = _layout_of(answers[0])
    if layout is not None and len(answers) == 1:
        return layout.one_row(answers[0])
    columns = None if layout is None else layout.columns(answers)
    if columns is not None:
        return columns
    first = decode_answer(answers[0])
    rows = [first, *map(decode_answer, answers[1:])]
    try:
        return {name: _column([row[name] for row in rows]) for name in first}
    except (KeyError, ValueError) as error:
        raise DataError(f"answers of different models in one batch: {error}") from error


class _Layout:
    """Where the numbers of an answer stand, if all else in it is as in an answer seen before.

    Args:
        row: an answer whose outputs are numbers.
    """

    def __init__(self, row: Row) -> None:
        self._data: list[tuple[str, str, tuple[int, ...], int, int]] = []
        self._fixed: list[tuple[int, int, bytes]] = []
        at, end, fixed = _HEAD.size, _HEAD.size, encode_row({})[:1] + struct.pack("<H", len(row))
        for name in sorted(row):
            dtype, shape, data = row[name]
            fixed += cell_tag(name, dtype, shape)
            end = at + len(fixed)
            self._fixed.append((at, end, fixed))
            at, fixed = end + len(data), b""
            self._data.append((name, dtype, shape, end, at))
        self._kinds = [numpy_dtype(dtype) for _, dtype, _, _, _ in self._data]

    def fits(self, data: bytes) -> bool:
        """True if a whole answer of the size of the one seen is of this layout."""
        for at, end, fixed in self._fixed:  # noqa: SIM110 - three times as quick as all()
            if data[at:end] != fixed:
                return False
        return True

    def cells(self, data: bytes) -> dict[str, Cell]:
        """Reads an answer that fits."""
        return {
            name: Cell(dtype, shape, data[at:end]) for name, dtype, shape, at, end in self._data
        }

    def columns(self, answers: Sequence[bytes]) -> dict[str, Array] | None:
        """Reads answers into one array for each output; None if one is damaged or does not fit."""
        width, count = len(answers[0]), len(answers)
        if set(map(len, answers)) != {width}:
            return None
        table = np.frombuffer(b"".join(answers), dtype=np.uint8).reshape(count, width)
        checksums = np.ascontiguousarray(table[:, _CHECKSUM]).view("<u4")[:, 0].tolist()
        if [crc32(data[_BODY]) for data in answers] != checksums:
            return None
        for at, end, fixed in [(0, len(_MAGIC), _MAGIC), *self._fixed]:
            if (table[:, at:end] != np.frombuffer(fixed, dtype=np.uint8)).any():
                return None
        return {
            name: np.frombuffer(table[:, at:end].tobytes(), kind).reshape(count, *shape)
            for (name, _, shape, at, end), kind in zip(self._data, self._kinds, strict=True)
        }

    def one_row(self, data: bytes) -> dict[str, Array]:
        """Reads an answer that fits into arrays of one row."""
        return {
            name: np.frombuffer(data[at:end], kind).reshape(1, *shape)
            for (name, _, shape, at, end), kind in zip(self._data, self._kinds, strict=True)
        }


_MAX_SIZES, _MAX_LAYOUTS = 1024, 4
_layouts: dict[int, tuple[_Layout, ...]] = {}
"""Size of an answer -> the layouts last seen of that size. Only saves work."""


def _layout_of(data: bytes) -> _Layout | None:
    """The known layout of an answer; None if it is of none, or damaged."""
    known = _layouts.get(len(data))
    if known is None:
        return None
    magic, checksum = _READ_HEAD(data)
    if magic != _MAGIC or crc32(data[_BODY]) != checksum:
        return None
    for layout in known:
        if layout.fits(data):
            return layout
    return None


def _remember(size: int, row: Row) -> None:
    if not row or any(item.dtype == STRING or not item.data for item in row.values()):
        return
    if len(_layouts) >= _MAX_SIZES:
        _layouts.clear()
    _layouts[size] = (_Layout(row), *_layouts.get(size, ())[: _MAX_LAYOUTS - 1])


def _column(cells: Sequence[Cell]) -> Array:
    """Returns cells of one dtype and shape as one array."""
    first = cells[0]
    if any((item.dtype, item.shape) != (first.dtype, first.shape) for item in cells):
        raise ValueError(f"{first.dtype} {first.shape} beside others")
    if first.dtype == STRING:
        values = [value for item in cells for value in split_strings(item.data)]
        strings = np.empty(len(values), dtype=object)
        strings[:] = values
        return strings.reshape(len(cells), *first.shape)
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


def encode_each(outputs: Mapping[str, Array]) -> list[bytes]:
    """Returns the answer of each row of a batch; quick for small batches.

    Args and errors: as of `encode_bodies`.
    """
    names = sorted(outputs)
    count = len(outputs[names[0]]) if names and outputs[names[0]].ndim else -1
    if not 0 <= count <= _FEW or any(
        not a.ndim or len(a) != count or a.dtype.kind in "OSU" or a.dtype.byteorder == ">"
        for a in outputs.values()
    ):
        joined, ends = encode_bodies(outputs)
        places = [0, *ends.tolist()]
        return [seal_answer(joined[a:b]) for a, b in pairwise(places)]
    head = encode_row({})[:1] + struct.pack("<H", len(names))
    tags = [cell_tag(name, outputs[name].dtype.name, outputs[name].shape[1:]) for name in names]
    columns = list(zip(tags, (outputs[name] for name in names), strict=True))
    return [
        seal_answer(head + b"".join([tag + column[at].tobytes() for tag, column in columns]))
        for at in range(count)
    ]


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
