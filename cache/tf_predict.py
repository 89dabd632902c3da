"""Adapter: canonical rows from TF Serving requests. Needs neither TensorFlow nor its protos.

Works on any message that has the fields of tensorflow.TensorProto and PredictRequest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfx_encore.cache.row_spec import FeatureSpec, SignatureSpec
from tfx_encore.cache.rows import Cell, Row, cell, to_array
from tfx_encore.cache.tf_example import ExampleRows
from tfx_encore.schemas.errors import DataError

DEFAULT_SIGNATURE = "serving_default"

# Number in tensorflow.DataType -> dtype, field of TensorProto that holds its values.
_TYPES = {
    1: ("float32", "float_val"),
    2: ("float64", "double_val"),
    3: ("int32", "int_val"),
    4: ("uint8", "int_val"),
    5: ("int16", "int_val"),
    6: ("int8", "int_val"),
    7: ("string", "string_val"),
    9: ("int64", "int64_val"),
    10: ("bool", "bool_val"),
    17: ("uint16", "int_val"),
    19: ("float16", "half_val"),
    22: ("uint32", "uint32_val"),
    23: ("uint64", "uint64_val"),
}


class RequestRow(NamedTuple):
    """A row of a request: its canonical form, and the Example it came as (b"" for tensors)."""

    row: Row
    example: bytes


def tensor_values(proto: Any) -> np.ndarray[Any, Any]:
    """Returns the value of a TensorProto; strings as an object array of bytes.

    Raises:
        DataError: a dtype without canonical form, or values that do not fit the shape.
    """
    if proto.dtype not in _TYPES:
        raise DataError(f"tensor of data type {proto.dtype}; known are {sorted(_TYPES)}")
    dtype, field = _TYPES[proto.dtype]
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    size = int(np.prod(shape, dtype=np.int64))
    try:
        return _flat_values(proto, dtype, field, size).reshape(shape)
    except (ValueError, OverflowError) as error:
        raise DataError(f"tensor of dtype {dtype} and shape {shape}: {error}") from error


def _flat_values(proto: Any, dtype: str, field: str, size: int) -> np.ndarray[Any, Any]:
    if proto.tensor_content and dtype != "string":
        return np.frombuffer(proto.tensor_content, dtype=np.dtype(dtype).newbyteorder("<"))
    values = getattr(proto, field)
    if len(values) != size and not 0 < len(values) < size:
        raise ValueError(f"{len(values)} values")
    if dtype == "string":
        array: np.ndarray[Any, Any] = np.empty(len(values), dtype=object)
        array[:] = list(values)
    elif dtype == "float16":
        array = np.array(values, dtype=np.uint16).view(np.float16)
    else:
        array = np.array(values, dtype=dtype)
    # A proto may leave out trailing repeats of its last value.
    return array if len(array) == size else np.pad(array, (0, size - len(array)), mode="edge")


class RequestRows:
    """Makes canonical rows from the Predict requests of one signature."""

    def __init__(self, spec: SignatureSpec) -> None:
        self._spec = spec
        self._examples = None if spec.form == "tensors" else ExampleRows(spec)

    def rows(self, request: Any) -> list[RequestRow]:
        """Returns the rows of a PredictRequest, in order.

        Raises:
            DataError: the request does not fit the signature; the whole request is refused then, as
                the server refuses it.
        """
        inputs = {name: tensor_values(proto) for name, proto in request.inputs.items()}
        if self._examples is not None:
            return self._example_rows(inputs, self._examples)
        return [RequestRow(row, b"") for row in rows_of_tensors(self._spec, inputs)]

    def _example_rows(
        self, inputs: Mapping[str, np.ndarray[Any, Any]], reader: ExampleRows
    ) -> list[RequestRow]:
        name = self._spec.input_name
        if set(inputs) != {name} or inputs[name].dtype != object or inputs[name].ndim != 1:
            raise DataError(
                f"inputs {sorted(inputs)}; the signature takes one vector of Examples, {name!r}"
            )
        return [RequestRow(reader.row(example), example) for example in inputs[name]]


def rows_of_tensors(spec: SignatureSpec, inputs: Mapping[str, np.ndarray[Any, Any]]) -> list[Row]:
    """Returns the rows of a batch given as one array for each input, shape [rows, ...].

    Raises:
        DataError: an input missing or unknown, of another dtype or shape, or of another length.
    """
    if set(inputs) != {feature.name for feature in spec.features}:
        expected = sorted(feature.name for feature in spec.features)
        raise DataError(f"inputs {sorted(inputs)}; the signature takes {expected}")
    lengths = {_check_tensor(feature, inputs[feature.name]) for feature in spec.features}
    if len(lengths) != 1:
        raise DataError(f"inputs of different lengths {sorted(lengths)}")
    keyed = [(feature.name, feature.dtype, inputs[feature.name]) for feature in spec.key_features]
    return [
        {name: _slice(values, at, dtype) for name, dtype, values in keyed}
        for at in range(lengths.pop())
    ]


def _slice(values: np.ndarray[Any, Any], at: int, dtype: str) -> Cell:
    item = values[at]
    return cell(np.asarray(item, dtype=object) if dtype == "string" else item, dtype)


def _check_tensor(feature: FeatureSpec, values: np.ndarray[Any, Any]) -> int:
    """Checks dtype and shape of one input; returns its number of rows."""
    dtype = "string" if values.dtype == object else values.dtype.name
    shape = values.shape[1:]
    fits = len(shape) == len(feature.shape) and all(
        want in (-1, have) for want, have in zip(feature.shape, shape, strict=True)
    )
    if dtype != feature.dtype or not values.ndim or not fits:
        raise DataError(
            f"input {feature.name!r} is {dtype} of shape {list(values.shape)}; the signature takes "
            f"{feature.dtype} of shape {['rows', *feature.shape]}"
        )
    return len(values)


def input_tensors(spec: SignatureSpec, rows: Sequence[Row]) -> dict[str, np.ndarray[Any, Any]]:
    """Returns the inputs of a `tensors` signature, shape [rows, ...], from canonical rows.

    Raises:
        ValueError: rows of different shapes make no batch.
    """
    return {feature.name: _stack(feature, rows) for feature in spec.features}


def _stack(feature: FeatureSpec, rows: Sequence[Row]) -> np.ndarray[Any, Any]:
    return np.stack(
        [to_array(row[feature.name]) if feature.in_key else _placeholder(feature) for row in rows]
    )


def _placeholder(feature: FeatureSpec) -> np.ndarray[Any, Any]:
    """Any value will do for an input that no answer is computed from."""
    shape = tuple(1 if dim == -1 else dim for dim in feature.shape)
    if feature.dtype == "string":
        return np.full(shape, b"", dtype=object)
    return np.zeros(shape, dtype=feature.dtype)
