"""Adapter: canonical rows from serialised tf.Examples, and back. Needs protobuf, not TensorFlow.

A row holds what the graph's own parser makes of the Example (`cache.row_spec`): a missing dense
feature with a default is its default, a missing sparse feature an empty one.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.message import DecodeError

from tfx_encore.cache.example_wire import RawFeature, split_example
from tfx_encore.cache.row_spec import FeatureSpec, SignatureSpec
from tfx_encore.cache.rows import Cell, Row, cell, join_strings, split_strings, to_array
from tfx_encore.schemas.compat import message_class
from tfx_encore.schemas.errors import DataError

_KIND_OF_DTYPE = {"float32": "float_list", "int64": "int64_list", "string": "bytes_list"}
_DTYPE_OF_KIND = {kind: dtype for dtype, kind in _KIND_OF_DTYPE.items()}
_ITEM_OF_DTYPE = {"float32": "f", "int64": "q"}
_MISSING = RawFeature("", 0, b"")


def _example_class() -> Any:
    """Builds tensorflow.Example in a pool of its own; the wire format is all that must agree."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="tfx_encore/example.proto", package="tfx_encore.wire", syntax="proto3"
    )
    for name, kind in (
        ("BytesList", field.TYPE_BYTES),
        ("FloatList", field.TYPE_FLOAT),
        ("Int64List", field.TYPE_INT64),
    ):
        value = file.message_type.add(name=name).field.add(
            name="value", number=1, type=kind, label=field.LABEL_REPEATED
        )
        if kind != field.TYPE_BYTES:
            value.options.packed = True
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, name in enumerate(("bytes_list", "float_list", "int64_list"), start=1):
        feature.field.add(
            name=name,
            number=number,
            type=field.TYPE_MESSAGE,
            label=field.LABEL_OPTIONAL,
            oneof_index=0,
            type_name=f".tfx_encore.wire.{name.title().replace('_', '')}",
        )
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    entry.field.add(
        name="value",
        number=2,
        type=field.TYPE_MESSAGE,
        label=field.LABEL_OPTIONAL,
        type_name=".tfx_encore.wire.Feature",
    )
    features.field.add(
        name="feature",
        number=1,
        type=field.TYPE_MESSAGE,
        label=field.LABEL_REPEATED,
        type_name=".tfx_encore.wire.Features.FeatureEntry",
    )
    file.message_type.add(name="Example").field.add(
        name="features",
        number=1,
        type=field.TYPE_MESSAGE,
        label=field.LABEL_OPTIONAL,
        type_name=".tfx_encore.wire.Features",
    )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_class(pool, "tfx_encore.wire.Example")


Example = _example_class()


class ExampleRows:
    """Makes canonical rows from the serialised Examples of one signature.

    Args:
        spec: of form `examples`, `opaque`, or `tensors` (whose inputs are then looked up among the
            Example's features by name).
    """

    def __init__(self, spec: SignatureSpec) -> None:
        self._spec = spec
        self._excluded = frozenset(spec.excluded)
        take: dict[str, Callable[[FeatureSpec, RawFeature], Cell]] = {
            "dense": _dense,
            "sparse": _sparse,
            "tensor": _tensor,
        }
        self._features = [(feature.name, take[feature.kind], feature) for feature in spec.features]

    def row(self, serialized: bytes) -> Row:
        """Returns the row of one Example.

        Raises:
            DataError: not an Example, or one that the graph's parser refuses.
        """
        found = features_of(serialized)
        if self._spec.form == "opaque":
            return _as_it_came(found, self._excluded)
        row = {}
        for name, take, feature in self._features:
            item = take(feature, found.get(name, _MISSING))
            if feature.in_key:
                row[name] = item
        return row


def features_of(serialized: bytes) -> dict[str, RawFeature]:
    """Returns the features of an Example by name.

    Raises:
        DataError: the bytes are not an Example.
    """
    found = split_example(serialized)
    return _by_protobuf(serialized) if found is None else found


def _by_protobuf(serialized: bytes) -> dict[str, RawFeature]:
    """The same for every layout that protobuf allows; NaNs come out quiet, as doubles."""
    try:
        features = Example.FromString(serialized).features.feature
    except DecodeError as error:
        raise DataError(f"{len(serialized)} bytes are not a tf.Example") from error
    found = {}
    for name, message in features.items():
        kind = message.WhichOneof("kind")
        values = getattr(message, kind).value if kind else ()
        dtype = _DTYPE_OF_KIND[kind] if kind else ""
        found[name] = RawFeature(dtype, len(values), _data(dtype, values) if kind else b"")
    return found


def example_of_row(row: Row, spec: SignatureSpec) -> bytes:
    """Returns an Example with exactly this row; for rows of form `examples` and `opaque`.

    A required feature that is not in the row, because the graph computes nothing from it, is filled
    with zeros or empty strings.
    """
    example = Example()
    for feature in spec.features:
        if feature.name not in row and feature.kind == "dense" and feature.default is None:
            _put(example, feature.name, _zeros(feature))
    for name, item in row.items():
        _put(example, name, item)
    return bytes(example.SerializeToString(deterministic=True))


def _data(dtype: str, values: Any) -> bytes:
    if dtype == "string":
        return join_strings(values)
    return struct.pack(f"<{len(values)}{_ITEM_OF_DTYPE[dtype]}", *values)


def _check_dtype(feature: FeatureSpec, found: RawFeature) -> None:
    if found.dtype != feature.dtype:
        raise DataError(
            f"feature {feature.name!r} is {found.dtype}; the signature reads {feature.dtype}"
        )


def _dense(feature: FeatureSpec, found: RawFeature) -> Cell:
    if not found.dtype:
        if feature.default is None:
            raise DataError(f"feature {feature.name!r} is missing and has no default")
        return Cell(feature.dtype, feature.shape, bytes.fromhex(feature.default))
    _check_dtype(feature, found)
    if found.values != (math.prod(feature.shape) if feature.shape else 1):
        raise DataError(
            f"feature {feature.name!r} has {found.values} values where its shape is {feature.shape}"
        )
    return Cell(feature.dtype, feature.shape, found.data)


def _sparse(feature: FeatureSpec, found: RawFeature) -> Cell:
    if found.dtype:
        _check_dtype(feature, found)
    return Cell(feature.dtype, (found.values,), found.data)


def _tensor(feature: FeatureSpec, found: RawFeature) -> Cell:
    """The value that a client would send for this input: same values, the input's own dtype."""
    if not found.dtype:
        raise DataError(f"input {feature.name!r} is missing")
    shape = fill_shape(feature, found.values)
    if found.dtype == feature.dtype:
        return Cell(feature.dtype, shape, found.data)
    values = to_array(Cell(found.dtype, (found.values,), found.data)).tolist()
    return Cell(feature.dtype, shape, cell(values, feature.dtype).data)


def fill_shape(feature: FeatureSpec, count: int) -> tuple[int, ...]:
    """Returns the shape that `count` values have in this input.

    Raises:
        DataError: they do not fit, or more than one dimension varies.
    """
    known = math.prod(dim for dim in feature.shape if dim != -1)
    unknown = feature.shape.count(-1)
    fits = count == known if unknown == 0 else unknown == 1 and known and count % known == 0
    if not fits:
        raise DataError(f"input {feature.name!r} of shape {feature.shape} given {count} values")
    return tuple(count // known if dim == -1 else dim for dim in feature.shape)


def _as_it_came(found: dict[str, RawFeature], excluded: frozenset[str]) -> Row:
    """Every feature; one without a list gets a dtype that no Example has, so it stays distinct."""
    return {
        name: Cell(dtype or "bool", (count,), data)
        for name, (dtype, count, data) in found.items()
        if name not in excluded
    }


def _put(example: Any, name: str, item: Cell) -> None:
    feature = example.features.feature[name]
    if item.dtype == "bool":
        return
    values = getattr(feature, _KIND_OF_DTYPE[item.dtype])
    values.SetInParent()
    if item.dtype == "string":
        values.value.extend(split_strings(item.data))
    else:
        values.value.extend(to_array(item).ravel().tolist())


def _zeros(feature: FeatureSpec) -> Cell:
    size = math.prod(feature.shape)
    values: list[Any] = [b"" if feature.dtype == "string" else 0] * size
    return Cell(feature.dtype, (size,), _data(feature.dtype, values))
