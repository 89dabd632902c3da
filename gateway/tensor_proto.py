"""Between tensorflow.TensorProto and arrays, as TensorFlow's Tensor::FromProto and AsProtoField.

Both ways are those of tensorflow/core/framework/tensor.cc; the tests compare the reading with
`tf.io.parse_tensor`. Reading is stricter in three places, where the original would take all memory
or numpy has no such array: more than `MAX_LEFT_OUT` elements that the message does not hold, more
than 32 dimensions, resources and variants.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from tensorflow.core.framework import tensor_pb2

from tfx_encore.gateway.errors import invalid
from tfx_encore.gateway.signature import Array
from tfx_encore.schemas.errors import DataError

MAX_LEFT_OUT = 2**24
"""Elements of a tensor that its message may leave out (repeats of the last value) at most."""

_MAX_DIMENSIONS = 32  # of an array; TensorFlow has 254
_STRING = 7
FEW = 32
"""Values that are read one by one: a NaN among them comes out quiet; more keep every bit."""


class _Kind(NamedTuple):
    """How the values of one data type lie in a TensorProto.

    Attributes:
        dtype: of the array.
        field: name of the field that holds the values.
        number: of that field.
        wire: dtype of the field's items; bytes that hold several items of it for a complex one.
        packed: True if the field's bytes on the wire are the items' own, little-endian.
    """

    dtype: np.dtype[Any]
    field: str
    number: int
    wire: np.dtype[Any]
    packed: bool


def _kind(dtype: Any, field: str, number: int, wire: Any, packed: bool = False) -> _Kind:
    return _Kind(np.dtype(dtype), field, number, np.dtype(wire), packed)


def _quantised(name: str, base: str) -> _Kind:
    # TensorFlow's own form of these in numpy: a structure of one field.
    return _kind([(name, base)], "int_val", 7, "i4")


# By number in tensorflow.DataType (tensorflow/core/framework/types.proto).
_KINDS = {
    1: _kind("<f4", "float_val", 5, "<f4", packed=True),
    2: _kind("<f8", "double_val", 6, "<f8", packed=True),
    3: _kind("<i4", "int_val", 7, "i4"),
    4: _kind("u1", "int_val", 7, "i4"),
    5: _kind("<i2", "int_val", 7, "i4"),
    6: _kind("i1", "int_val", 7, "i4"),
    _STRING: _kind(object, "string_val", 8, object),
    8: _kind("<c8", "scomplex_val", 9, "<f4", packed=True),
    9: _kind("<i8", "int64_val", 10, "i8"),
    10: _kind("?", "bool_val", 11, "?", packed=True),
    11: _quantised("qint8", "i1"),
    12: _quantised("quint8", "u1"),
    13: _quantised("qint32", "<i4"),
    14: _kind(ml_dtypes.bfloat16, "half_val", 13, "i4"),
    15: _quantised("qint16", "<i2"),
    16: _quantised("quint16", "<u2"),
    17: _kind("<u2", "int_val", 7, "i4"),
    18: _kind("<c16", "dcomplex_val", 12, "<f8", packed=True),
    19: _kind("<f2", "half_val", 13, "i4"),
    22: _kind("<u4", "uint32_val", 16, "u4"),
    23: _kind("<u8", "uint64_val", 17, "u8"),
    24: _kind(ml_dtypes.float8_e5m2, "float8_val", 18, "u1"),
    25: _kind(ml_dtypes.float8_e4m3fn, "float8_val", 18, "u1"),
    29: _kind(ml_dtypes.int4, "int_val", 7, "i4"),
    30: _kind(ml_dtypes.uint4, "int_val", 7, "i4"),
}
_NUMBERS = {kind.dtype: number for number, kind in _KINDS.items()}


def to_tensor(proto: Any) -> Array:
    """Returns the value of a TensorProto; strings as an object array of bytes.

    Values beyond the shape are dropped, those left out repeat the last one, and if there are none
    all are zero; `tensor_content` must fit exactly. The array may be read-only.

    Raises:
        DataError: `Tensor::FromProto` would refuse it, or it is beyond the bounds said above.
    """
    kind = _KINDS.get(proto.dtype)
    if kind is None:
        raise DataError(f"data type {proto.dtype}")
    shape, size = _shape(proto.tensor_shape.dim)
    if size == 0:
        return np.empty(shape, kind.dtype)
    if proto.tensor_content:
        flat = _from_content(kind, proto.tensor_content, size)
    else:
        flat = _from_values(kind, proto, size)
    return flat.reshape(shape)


def to_tensors(protos: Mapping[str, Any], names: Iterable[str]) -> dict[str, Array]:
    """Returns the values of some TensorProtos by name.

    Raises:
        ServingError: INVALID_ARGUMENT, one cannot be read
            (tensorflow/cc/saved_model/util.cc, GetInputValues).
    """
    name = ""
    tensors = {}
    try:
        for name in names:
            tensors[name] = to_tensor(protos[name])
    except DataError as error:
        raise invalid(f"tensor parsing error: {name}") from error
    return tensors


def to_proto(array: Array) -> tensor_pb2.TensorProto:
    """Returns an array as a TensorProto whose values are in the field of their type.

    Raises:
        DataError: the dtype is none of TensorFlow's.
    """
    return tensor_pb2.TensorProto.FromString(to_wire(array))


def to_wire(array: Array) -> bytes:
    """Returns the serialised form of `to_proto(array)`."""
    number = dtype_number(array.dtype)
    if number == _STRING:
        values = b"".join(field(8, bytes(item)) for item in array.ravel().tolist())
        return tensor_head(number, array.shape) + values
    kind = _KINDS[number]
    flat = np.ascontiguousarray(array).reshape(-1)
    return tensor_head(number, array.shape) + values_field(kind, flat)


def dtype_number(dtype: np.dtype[Any]) -> int:
    """Returns the number of a dtype in tensorflow.DataType.

    Raises:
        DataError: it has none.
    """
    number = _NUMBERS.get(dtype.newbyteorder("<") if dtype.byteorder == ">" else dtype)
    if number is None:
        raise DataError(f"dtype {dtype} is none of TensorFlow's")
    return number


def values_field(kind: _Kind, flat: Array) -> bytes:
    """Returns the serialised field that holds numbers, shape [n]; empty for none."""
    if not len(flat):
        return b""
    if kind.packed:
        return field(kind.number, flat.astype(kind.dtype, copy=False).tobytes())
    if kind.field == "float8_val":
        return field(kind.number, flat.tobytes())
    if kind.field == "half_val":
        flat = flat.view("u2")
    elif kind.dtype.names is not None:
        flat = flat[kind.dtype.names[0]]
    items = flat.astype(kind.wire).tolist()
    message = tensor_pb2.TensorProto(**{kind.field: items})
    return bytes(message.SerializeToString())


def tensor_head(number: int, shape: Iterable[int]) -> bytes:
    """Returns the serialised dtype and shape of a TensorProto, before its values."""
    dims = b"".join(field(2, b"\x08" + varint(dim) if dim else b"") for dim in shape)
    return b"\x08" + varint(number) + field(2, dims)


def field(number: int, data: bytes) -> bytes:
    """Returns a length-delimited field of a serialised message."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    """Returns a number >= 0 in protobuf's variable length."""
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _shape(dims: Any) -> tuple[tuple[int, ...], int]:
    """Returns shape and number of elements.

    Raises:
        DataError: a dimension below 0, too many dimensions, or more than 2^63 - 1 elements
            (TensorShapeBase::IsValid).
    """
    shape = tuple([dim.size for dim in dims])
    if len(shape) > _MAX_DIMENSIONS:
        raise DataError(f"{len(shape)} dimensions")
    size = 1
    for dim in shape:
        size *= dim
        if dim < 0 or size >= 2**63:
            raise DataError(f"shape {shape}")
    if size == 0 and math.prod(dim or 1 for dim in shape) > MAX_LEFT_OUT:
        raise DataError(f"an empty tensor of shape {shape}")
    return shape, size


def _from_content(kind: _Kind, content: bytes, size: int) -> Array:
    if kind.dtype == object:
        return _objects(_split_strings(content, size))
    if len(content) != size * kind.dtype.itemsize:
        raise DataError(f"{len(content)} bytes for {size} elements of {kind.dtype}")
    if kind.dtype == np.bool_ and np.frombuffer(content, np.uint8).max() > 1:
        raise DataError("a byte that is neither 0 nor 1 for a bool")
    return np.frombuffer(content, dtype=kind.dtype)


def _from_values(kind: _Kind, proto: Any, size: int) -> Array:
    per_item = kind.dtype.itemsize // kind.wire.itemsize if kind.dtype.kind == "c" else 1
    count = len(getattr(proto, kind.field)) // per_item
    if size - count > MAX_LEFT_OUT:
        raise DataError(f"{count} values for {size} elements")
    if not count:
        return _objects([b""] * size) if kind.dtype == object else np.zeros(size, kind.dtype)
    array = _read(kind, proto, per_item * min(count, size))
    if count >= size:
        return array
    return np.concatenate([array, np.repeat(array[-1:], size - count)])


def _read(kind: _Kind, proto: Any, items: int) -> Array:
    """Returns the values of a field, each as its own dtype, as C++ would narrow them."""
    values = getattr(proto, kind.field)
    if kind.dtype == object:
        return _objects(list(values)[:items])
    if kind.field == "float8_val":
        return np.frombuffer(values, kind.dtype, items)
    if kind.packed:
        return _packed_items(kind, proto, values, items).view(kind.dtype)
    flat = np.array(list(values)[:items], dtype=kind.wire)
    if kind.field == "half_val":
        return flat.astype("<u2").view(kind.dtype)
    if kind.dtype.names is not None:
        return flat.astype(kind.dtype[0]).view(kind.dtype)
    return flat.astype(kind.dtype)


def _packed_items(kind: _Kind, proto: Any, values: Any, items: int) -> Array:
    """Returns the items of a field through its serialised form: one copy, no Python numbers."""
    if items <= FEW:
        return np.array(list(values)[:items], dtype=kind.wire)
    message = tensor_pb2.TensorProto()
    message.CopyFrom(proto)
    for other, _ in proto.ListFields():
        if other.name != kind.field:
            message.ClearField(other.name)
    message.DiscardUnknownFields()
    data = message.SerializeToString()
    start = len(data) - len(getattr(proto, kind.field)) * kind.wire.itemsize
    return np.frombuffer(data, kind.wire, items, start)


def _objects(values: list[bytes]) -> Array:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _split_strings(content: bytes, size: int) -> list[bytes]:
    """Reads strings: the length of each as a varint, then their bytes (EncodeStringList)."""
    if size > len(content):
        raise DataError(f"{len(content)} bytes for {size} strings")
    lengths, at = [], 0
    for _ in range(size):
        length, at = _read_varint(content, at)
        lengths.append(length)
    if at + sum(lengths) != len(content):
        raise DataError(f"strings of {sum(lengths)} bytes where {len(content) - at} are")
    strings = []
    for length in lengths:
        strings.append(content[at : at + length])
        at += length
    return strings


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Returns a 32-bit number and where it ends."""
    value = 0
    for shift in range(0, 35, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF, at
    raise DataError("a string's length is cut short")
