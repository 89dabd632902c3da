"""Canonical rows straight from a request, without arrays: what a hit needs.

`QuickRows` gives None whenever anything about the inputs is unusual, and the full way judges them:
`tensor_proto.to_tensors`, then `inference.Attempt`. Where it gives rows, the full way accepts the
inputs and gives the same rows.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from tfx_encore.cache.row_spec import FeatureSpec, SignatureSpec
from tfx_encore.cache.rows import cell_tag, encode_row, join_strings
from tfx_encore.cache.tf_example import ExampleRows
from tfx_encore.gateway.servable import Servable
from tfx_encore.gateway.signature import Signature
from tfx_encore.gateway.tensor_proto import FEW
from tfx_encore.schemas.errors import DataError

MAX_VALUES = FEW
"""Values of one tensor at most: more are read otherwise, and arrays are quicker for them."""

_STRING = 7
# Number in tensorflow.DataType -> field of its values, its code in `struct`, bytes of a value.
_NUMBERS = {
    1: ("float_val", "f", 4),
    2: ("double_val", "d", 8),
    3: ("int_val", "i", 4),
    4: ("int_val", "B", 1),
    5: ("int_val", "h", 2),
    6: ("int_val", "b", 1),
    9: ("int64_val", "q", 8),
    17: ("int_val", "H", 2),
    22: ("uint32_val", "I", 4),
    23: ("uint64_val", "Q", 8),
}
_NUMBER_OF_DTYPE = {
    "float32": 1,
    "float64": 2,
    "int32": 3,
    "uint8": 4,
    "int16": 5,
    "int8": 6,
    "string": _STRING,
    "int64": 9,
    "uint16": 17,
    "uint32": 22,
    "uint64": 23,
}


class _Input(NamedTuple):
    """One input of a signature."""

    name: str
    dtype: str
    number: int
    shape: tuple[int, ...]
    in_key: bool


class QuickRows:
    """Makes the rows of one signature.

    Args:
        spec: how its rows are made.
        signature: the signature.
    """

    def __init__(self, spec: SignatureSpec, signature: Signature) -> None:
        self._names = frozenset(signature.inputs)
        self._inputs = _inputs(spec)
        self._one = spec.input_name
        self._rows_of: Callable[[Mapping[str, Any]], list[bytes] | None] = self._of_nothing
        if spec.form == "tensors":
            if self._inputs is not None and {i.name for i in self._inputs} == self._names:
                self._rows_of = self._of_tensors
        elif self._names == {spec.input_name}:
            self._examples = ExampleRows(spec)
            self._rows_of = self._of_example_tensor

    def of_inputs(self, inputs: Mapping[str, Any]) -> list[bytes] | None:
        """Returns the rows of a PredictRequest's inputs, at least one; None to let others judge."""
        if len(inputs) != len(self._names):
            return None
        return self._rows_of(inputs)

    def of_examples(self, examples: Sequence[bytes]) -> list[bytes] | None:
        """Returns the rows of serialised Examples, likewise."""
        if self._rows_of != self._of_example_tensor:
            return None
        row = self._examples.row
        try:
            return [encode_row(row(example)) for example in examples]
        except DataError:
            return None

    def _of_nothing(self, _: Mapping[str, Any]) -> list[bytes] | None:
        return None

    def _of_example_tensor(self, inputs: Mapping[str, Any]) -> list[bytes] | None:
        if self._one not in inputs:
            return None
        proto = inputs[self._one]
        dims, values = proto.tensor_shape.dim, proto.string_val
        if proto.dtype != _STRING or len(dims) != 1 or proto.tensor_content or not values:
            return None
        return self.of_examples(values) if dims[0].size == len(values) else None

    def _of_tensors(self, inputs: Mapping[str, Any]) -> list[bytes] | None:
        count = -1
        cells: list[list[bytes]] = []
        for item in self._inputs or ():
            if item.name not in inputs:
                return None
            proto = inputs[item.name]
            shape = [dim.size for dim in proto.tensor_shape.dim]
            if proto.dtype != item.number or not _fits(shape, item.shape):
                return None
            if count < 0:
                count = shape[0]
            if shape[0] != count:
                return None
            data = _data(proto, item.number, shape)
            if data is None:
                return None
            if item.in_key:
                tag = cell_tag(item.name, item.dtype, tuple(shape[1:]))
                cells.append([tag + part for part in data])
        head = struct.pack("<BH", 1, len(cells))
        return [head + b"".join(row) for row in zip(*cells, strict=True)] or None


class RowMakers:
    """The `QuickRows` of every signature that is cached by rows, made once for each version."""

    def __init__(self) -> None:
        self._makers: WeakKeyDictionary[Servable, dict[str, QuickRows | None]] = WeakKeyDictionary()

    def of(self, servable: Servable, signature: Signature) -> QuickRows | None:
        """Returns what makes a signature's rows; None if it is not cached by rows."""
        makers = self._makers.get(servable)
        if makers is None:
            makers = self._makers[servable] = {}
        if signature.name not in makers:
            plan = servable.plan(signature.name)
            spec = plan.spec if plan.mode == "rows" else None
            makers[signature.name] = None if spec is None else QuickRows(spec, signature)
        return makers[signature.name]


def _inputs(spec: SignatureSpec) -> list[_Input] | None:
    """The inputs by name, as a row has them; None if one is of a dtype that is left to others."""
    if spec.form != "tensors" or any(f.dtype not in _NUMBER_OF_DTYPE for f in spec.features):
        return None
    return [_input(feature) for feature in sorted(spec.features, key=lambda f: f.name)]


def _input(feature: FeatureSpec) -> _Input:
    number = _NUMBER_OF_DTYPE[feature.dtype]
    return _Input(feature.name, feature.dtype, number, feature.shape, feature.in_key)


def _fits(shape: Sequence[int], wanted: tuple[int, ...]) -> bool:
    """True for at least one row of the shape wanted, with at least one value each."""
    if len(shape) != len(wanted) + 1 or min(shape) < 1:
        return False
    return all(want in (-1, have) for want, have in zip(wanted, shape[1:], strict=True))


def _data(proto: Any, number: int, shape: Sequence[int]) -> list[bytes] | None:
    """Returns the data of each row's cell; None unless the proto has exactly its values."""
    size = 1
    for dim in shape:
        size *= dim
    if number == _STRING:
        return _string_data(proto, size, size // shape[0])
    data = _number_data(proto, number, size)
    if data is None or shape[0] == 1:
        return None if data is None else [data]
    step = len(data) // shape[0]
    return [data[at : at + step] for at in range(0, len(data), step)]


def _string_data(proto: Any, size: int, step: int) -> list[bytes] | None:
    values = proto.string_val
    if len(values) != size or proto.tensor_content:
        return None
    return [join_strings(values[at : at + step]) for at in range(0, size, step)]


def _number_data(proto: Any, number: int, size: int) -> bytes | None:
    field, code, width = _NUMBERS[number]
    content: bytes = proto.tensor_content
    if content:
        return content if len(content) == size * width else None
    values = getattr(proto, field)
    if len(values) != size or size > MAX_VALUES:
        return None
    try:
        return struct.pack(f"<{size}{code}", *values)
    except struct.error:
        return None  # a number that C++ narrows
