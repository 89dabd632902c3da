"""Canonical typed rows: the bytes that stand for one row of a model's input. No IO here.

A row maps the name of an input to a cell: dtype, shape and bytes. Its canonical bytes are

    format 1 (u8), number of cells (u16), then the cells by name in code point order:
    name length (u16), name in UTF-8, dtype code (u8), dimensions (u8), each dimension (u32), data

all integers little-endian. Data of a number is its little-endian bytes in C order; data of a string
is, for each element in C order, its length (u32) and its bytes. Dtype and shape fix the length of
the data, so that the bytes can be read back in one way only: rows are equal if and only if their
canonical bytes are.

Nothing is normalised. -0.0 and 0.0, two NaNs of different bits, 1 and 1.0, NFC and NFD forms of a
text, [2, 3] and [3, 2] of the same bytes, and a missing input and its default are all different,
because a model can tell them apart. Whoever knows that a model cannot (a parser that fills in a
default) says so before the cells are made: see `cache.row_spec`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from tfx_encore.schemas.errors import DataError

STRING = "string"

# Code and item size in bytes. Codes are part of the format: never change or reuse one.
_NUMBERS = {
    "bool": (1, 1),
    "int8": (2, 1),
    "int16": (3, 2),
    "int32": (4, 4),
    "int64": (5, 8),
    "uint8": (6, 1),
    "uint16": (7, 2),
    "uint32": (8, 4),
    "uint64": (9, 8),
    "float16": (10, 2),
    "bfloat16": (11, 2),
    "float32": (12, 4),
    "float64": (13, 8),
    "complex64": (14, 8),
    "complex128": (15, 16),
}
_STRING_CODE = 32
_NAME_OF_CODE = {code: name for name, (code, _) in _NUMBERS.items()} | {_STRING_CODE: STRING}

_FORMAT = 1
_HEAD = struct.Struct("<BH")
_U32 = struct.Struct("<I")


class Cell(NamedTuple):
    """One input of one row, without the batch dimension.

    Attributes:
        dtype: as TensorFlow names it: `float32`, `int64`, `bool`, `string`...
        shape: of this row's value; () for a scalar.
        data: see the top of this file.
    """

    dtype: str
    shape: tuple[int, ...]
    data: bytes


Row = Mapping[str, Cell]


def cell(value: Any, dtype: str | None = None) -> Cell:
    """Makes a cell from a numpy array or scalar, or from Python values.

    Args:
        value: an array; or a bool, int, float, str, bytes, or lists of one of these, nested evenly.
        dtype: what the model declares. Without it an array keeps its own, and Python values become
            `bool`, `int64`, `float64` or `string`. Integers may become floats, as in JSON; nothing
            else is converted.

    Raises:
        DataError: ragged or mixed values, a number out of range, a dtype that does not fit.
    """
    if isinstance(value, (np.ndarray, np.generic)):
        return _from_array(np.asarray(value), dtype)
    leaves: list[Any] = []
    shape = _flatten(value, leaves)
    return _from_leaves(leaves, shape, dtype)


def to_array(item: Cell) -> np.ndarray[Any, Any]:
    """Returns the cell's value; a string's elements are `bytes` in an object array."""
    if item.dtype == STRING:
        array = np.empty(_count(item.shape), dtype=object)
        array[:] = split_strings(item.data)
        return array.reshape(item.shape)
    return np.frombuffer(item.data, dtype=numpy_dtype(item.dtype)).reshape(item.shape)


def encode_row(row: Row) -> bytes:
    """Returns the canonical bytes of a row.

    Raises:
        DataError: an unknown dtype, or a name or shape too large for the format.
    """
    parts = [_HEAD.pack(_FORMAT, len(row))]
    append = parts.append
    for name in sorted(row):
        dtype, shape, data = row[name]
        append(cell_tag(name, dtype, shape))
        append(data)
    return b"".join(parts)


def decode_row(data: bytes) -> dict[str, Cell]:
    """Reads canonical bytes back.

    Raises:
        DataError: the bytes are not exactly one canonical row.
    """
    try:
        return _decode_row(data)
    except (struct.error, IndexError, KeyError, UnicodeDecodeError) as error:
        raise DataError(f"not a canonical row ({len(data)} bytes): {error!r}") from error


@lru_cache(maxsize=65_536)
def cell_tag(name: str, dtype: str, shape: tuple[int, ...]) -> bytes:
    """Returns what stands before a cell's data: name, dtype and shape.

    Raises:
        DataError: an unknown dtype, or a name or shape too large for the format.
    """
    code = _STRING_CODE if dtype == STRING else _NUMBERS.get(dtype, (0, 0))[0]
    if code == 0:
        raise DataError(f"input {name!r}: dtype {dtype!r} has no canonical form")
    try:
        label = name.encode("utf-8")
        dims = b"".join(_U32.pack(dim) for dim in shape)
        return struct.pack("<H", len(label)) + label + bytes((code, len(shape))) + dims
    except (struct.error, UnicodeEncodeError, ValueError) as error:
        raise DataError(f"input {name[:80]!r} of shape {shape} does not fit: {error}") from error


def item_size(dtype: str) -> int:
    """Returns the bytes that one number of a dtype takes.

    Raises:
        DataError: a dtype without canonical form, or strings, which have no size.
    """
    size = _NUMBERS.get(dtype, (0, 0))[1]
    if not size:
        raise DataError(f"dtype {dtype!r} has no size")
    return size


def join_strings(values: Sequence[bytes]) -> bytes:
    """Returns the data of a string cell: each value after its length."""
    return b"".join([part for value in values for part in (_U32.pack(len(value)), value)])


def split_strings(data: bytes) -> list[bytes]:
    """Reads the values of a string cell back from its data."""
    values = []
    at = 0
    while at < len(data):
        end = at + 4 + int(_U32.unpack_from(data, at)[0])
        values.append(data[at + 4 : end])
        at = end
    return values


def _decode_row(data: bytes) -> dict[str, Cell]:
    form, count = _HEAD.unpack_from(data, 0)
    if form != _FORMAT:
        raise DataError(f"canonical row of format {form}; this version reads {_FORMAT}")
    row: dict[str, Cell] = {}
    previous = None
    at = _HEAD.size
    for _ in range(count):
        name, item, at = _decode_cell(data, at)
        if previous is not None and name <= previous:
            raise DataError(f"canonical row: input {name!r} after {previous!r}, not in order")
        row[name] = item
        previous = name
    if at != len(data):
        raise DataError(f"canonical row of {at} bytes followed by {len(data) - at} more")
    return row


def _decode_cell(data: bytes, at: int) -> tuple[str, Cell, int]:
    (length,) = struct.unpack_from("<H", data, at)
    at += 2
    name = data[at : at + length].decode("utf-8")
    at += length
    dtype, dims = _NAME_OF_CODE[data[at]], data[at + 1]
    shape = struct.unpack_from(f"<{dims}I", data, at + 2)
    at += 2 + 4 * dims
    end = _end_of_data(data, at, dtype, _count(shape))
    if end > len(data):
        raise DataError(f"canonical row cut short in input {name!r}")
    return name, Cell(dtype, shape, data[at:end]), end


def _end_of_data(data: bytes, at: int, dtype: str, count: int) -> int:
    if dtype != STRING:
        return at + count * _NUMBERS[dtype][1]
    for _ in range(count):
        at += 4 + int(_U32.unpack_from(data, at)[0])
    return at


def _from_array(array: np.ndarray[Any, Any], dtype: str | None) -> Cell:
    if array.dtype.kind in "OSU":
        leaves = array.ravel().tolist()
        if any(not isinstance(leaf, (str, bytes)) for leaf in leaves):
            raise DataError("an array of objects holds something that is neither str nor bytes")
        return _from_leaves(leaves, array.shape, dtype or STRING)
    found = array.dtype.name
    if found not in _NUMBERS or (dtype is not None and dtype != found):
        raise DataError(f"an array of dtype {found} where {dtype or 'a tensor dtype'} is expected")
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    return Cell(found, array.shape, array.tobytes())


def _flatten(value: Any, leaves: list[Any]) -> tuple[int, ...]:
    """Appends the leaves of evenly nested lists in C order; returns their shape."""
    if not isinstance(value, (list, tuple)):
        leaves.append(value)
        return ()
    shapes = {_flatten(item, leaves) for item in value}
    if len(shapes) > 1:
        raise DataError(f"ragged list: items of shapes {sorted(shapes)}")
    return (len(value), *(shapes.pop() if shapes else ()))


def _from_leaves(leaves: list[Any], shape: tuple[int, ...], dtype: str | None) -> Cell:
    kinds = {type(leaf) for leaf in leaves}
    if dtype is None:
        dtype = _natural_dtype(kinds)
    if dtype == STRING:
        return Cell(STRING, shape, join_strings([_to_bytes(leaf) for leaf in leaves]))
    _check_kinds(kinds, dtype)
    target = numpy_dtype(dtype)
    try:
        if target.kind in "iu":
            info = np.iinfo(target)
            if any(not info.min <= leaf <= info.max for leaf in leaves):
                raise OverflowError(f"outside [{info.min}, {info.max}]")
        # A float too large for float32 becomes infinite, as it does for the model.
        with np.errstate(over="ignore"):
            return Cell(dtype, shape, np.array(leaves, dtype=target).tobytes())
    except (OverflowError, ValueError, TypeError) as error:
        raise DataError(f"value does not fit {dtype}: {error}") from error


def _natural_dtype(kinds: set[type]) -> str:
    names = {bool: "bool", int: "int64", float: "float64", str: STRING, bytes: STRING}
    found = {names.get(kind, kind.__name__) for kind in kinds}
    if len(found) != 1 or not found <= set(names.values()):
        raise DataError(
            f"values of types {sorted(kind.__name__ for kind in kinds)} make no tensor; "
            "give values of one type, or name the dtype"
        )
    return found.pop()


def _check_kinds(kinds: set[type], dtype: str) -> None:
    kind = numpy_dtype(dtype).kind
    allowed: set[type] = {bool} if kind == "b" else {int} if kind in "iu" else {int, float}
    if kind == "c":
        allowed = {int, float, complex}
    wrong = kinds - allowed
    if wrong:
        raise DataError(f"{sorted(item.__name__ for item in wrong)} where {dtype} is expected")


@lru_cache(maxsize=64)
def numpy_dtype(dtype: str) -> np.dtype[Any]:
    """Returns the numpy dtype of a number's data, little-endian.

    Raises:
        DataError: it is no number's.
    """
    if dtype not in _NUMBERS:
        raise DataError(f"dtype {dtype!r} has no canonical form")
    if dtype == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(dtype).newbyteorder("<")


def _to_bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        try:
            return value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise DataError(f"text that UTF-8 cannot hold: {error}") from error
    raise DataError(f"{type(value).__name__} where a string is expected")


def _count(shape: Sequence[int]) -> int:
    count = 1
    for dim in shape:
        count *= dim
    return count
