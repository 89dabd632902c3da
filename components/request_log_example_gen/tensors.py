"""Features of each row from the tensors of a Predict request. No IO here."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfx_encore.cache.example_wire import RawFeature
from tfx_encore.cache.rows import join_strings
from tfx_encore.cache.tf_predict import tensor_values
from tfx_encore.schemas.errors import DataError

_FLOATS = frozenset({1, 2, 19})  # numbers in tensorflow.DataType
_STRING = 7
_ONE_FLOAT = struct.Struct("<f")
_ONE_INT = struct.Struct("<q")
# Number in tensorflow.DataType -> field of TensorProto, for a batch of one scalar.
_FIELD = {1: "float_val", 2: "double_val", 3: "int_val", 7: "string_val", 9: "int64_val"}


def rows_of_inputs(inputs: Mapping[str, Any]) -> list[dict[str, RawFeature]]:
    """Returns the features of each row from inputs of shape [rows, ...].

    Floats of any width become float32, integers and booleans int64, as Examples hold them.

    Raises:
        DataError: a tensor that cannot be read, has no first dimension, or another one.
    """
    columns = {name: _column(name, proto) for name, proto in inputs.items()}
    sizes = {len(column) for column in columns.values()}
    if len(sizes) != 1:
        raise DataError("inputs of different lengths")
    names = list(columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _column(name: str, proto: Any) -> list[RawFeature]:
    one = _one_scalar(proto)
    if one is not None:
        return [one]
    try:
        values = tensor_values(proto)
    except DataError as error:
        raise DataError(f"input {name} is a tensor that cannot be read") from error
    if not values.ndim:
        raise DataError(f"input {name} has no dimension for rows")
    flat: np.ndarray[Any, Any] = (
        values.reshape(len(values), -1) if values.size else values.reshape(len(values), 0)
    )
    if values.dtype == object:
        return [RawFeature("string", len(row), join_strings(row)) for row in flat]
    if proto.dtype in _FLOATS:
        data, dtype, size = flat.astype("<f4"), "float32", 4
    else:
        data, dtype, size = _as_int64(name, flat), "int64", 8
    width = flat.size // max(len(flat), 1)
    raw = data.tobytes()
    step = width * size
    return [RawFeature(dtype, width, raw[at * step : (at + 1) * step]) for at in range(len(flat))]


def one_value(proto: Any) -> Any:
    """The usual case, quickly: the value of a batch of one scalar; None of any other tensor."""
    dims = proto.tensor_shape.dim
    number = len(dims)
    if not 0 < number < 3 or dims[0].size != 1 or dims[number - 1].size != 1:
        return None
    field = _FIELD.get(proto.dtype)
    values: Any = getattr(proto, field) if field else ()
    return values[0] if len(values) == 1 else None


def _one_scalar(proto: Any) -> RawFeature | None:
    value = one_value(proto)
    if value is None:
        return None
    if proto.dtype == _STRING:
        return RawFeature("string", 1, join_strings([value]))
    if proto.dtype in _FLOATS:
        try:
            return RawFeature("float32", 1, _ONE_FLOAT.pack(value))
        except OverflowError:
            return None
    return RawFeature("int64", 1, _ONE_INT.pack(value))


def _as_int64(name: str, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if values.dtype == np.uint64 and values.size and int(values.max()) > np.iinfo(np.int64).max:
        raise DataError(f"input {name} holds integers above 64 bits")
    return values.astype("<i8")
