"""TensorProtos are read as TensorFlow itself reads them, and written in AsProtoField form."""

from __future__ import annotations

import contextlib
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2, types_pb2

from tfx_encore.gateway.errors import Code, ServingError
from tfx_encore.gateway.tensor_proto import (
    MAX_LEFT_OUT,
    dtype_number,
    to_proto,
    to_tensor,
    to_tensors,
)
from tfx_encore.schemas.errors import DataError

NUMBERS = [*range(1, 20), 22, 23, 24, 25, 29, 30]
FIELDS = {
    field.name: field
    for field in tensor_pb2.TensorProto.DESCRIPTOR.fields
    if field.name.endswith("_val") and field.message_type is None
}
FIELD_OF = {
    1: "float_val",
    2: "double_val",
    7: "string_val",
    8: "scomplex_val",
    9: "int64_val",
    10: "bool_val",
    14: "half_val",
    18: "dcomplex_val",
    19: "half_val",
    22: "uint32_val",
    23: "uint64_val",
    24: "float8_val",
    25: "float8_val",
}
VALUES = {
    "float_val": st.floats(width=32, allow_nan=False),
    "double_val": st.floats(allow_nan=False),
    "int_val": st.integers(-(2**31), 2**31 - 1),
    "string_val": st.binary(max_size=5),
    "scomplex_val": st.floats(width=32, allow_nan=False),
    "dcomplex_val": st.floats(allow_nan=False),
    "int64_val": st.integers(-(2**63), 2**63 - 1),
    "bool_val": st.booleans(),
    "half_val": st.integers(0, 2**17),
    "uint32_val": st.integers(0, 2**32 - 1),
    "uint64_val": st.integers(0, 2**64 - 1),
}


@st.composite
def protos(draw):
    number = draw(st.sampled_from([*NUMBERS, 20, 21, 0, 99]))
    proto = tensor_pb2.TensorProto(dtype=number) if number != 99 else tensor_pb2.TensorProto()
    for dim in draw(st.lists(st.integers(-1, 5), max_size=3)):
        proto.tensor_shape.dim.add(size=dim)
    proto.tensor_shape.unknown_rank = draw(st.booleans())
    field = FIELD_OF.get(number, "int_val")
    if draw(st.booleans()):
        field = draw(st.sampled_from(sorted(VALUES)))
    if field == "float8_val":
        proto.float8_val = draw(st.binary(max_size=30))
    else:
        getattr(proto, field).extend(draw(st.lists(VALUES[field], max_size=40)))
    kind = draw(st.sampled_from(["none", "none", "any", "zeros", "exact"]))
    if kind == "any":
        proto.tensor_content = draw(st.binary(max_size=40))
    elif kind == "zeros":
        proto.tensor_content = bytes(draw(st.integers(1, 6)))
    elif kind == "exact" and number in NUMBERS and number != 7:
        size = max(int(np.prod([max(dim.size, 0) for dim in proto.tensor_shape.dim])), 0)
        width = np.dtype(tf.as_dtype(number).as_numpy_dtype).itemsize
        proto.tensor_content = draw(st.binary(min_size=size * width, max_size=size * width))
    return proto


def by_tensorflow(proto):
    """The tensor, or None if TensorFlow refuses it."""
    try:
        return tf.io.parse_tensor(proto.SerializeToString(), tf.as_dtype(proto.dtype)).numpy()
    except (tf.errors.InvalidArgumentError, TypeError):
        return None


@given(proto=protos())
@example(tensor_pb2.TensorProto(dtype=1))
@example(tensor_pb2.TensorProto(dtype=7))
def test_reading_agrees_with_tensorflow(proto):
    expected = None if proto.dtype in (0, 20, 21) else by_tensorflow(proto)
    try:
        found = to_tensor(proto)
    except DataError:
        found = None
    if expected is None or found is None:
        assert expected is None
        assert found is None
        return
    expected = np.asarray(expected, dtype=object if proto.dtype == 7 else None)
    assert found.shape == expected.shape
    if proto.dtype in (7, 29, 30):  # the upper half of a 4-bit number's byte means nothing
        assert found.tolist() == expected.tolist()
    else:
        # `numpy()` gives quantised numbers as the plain ones that they are made of.
        assert found.dtype == expected.dtype or found.dtype[0] == expected.dtype
        assert found.tobytes() == expected.tobytes()


@given(values=st.lists(st.binary(max_size=200), max_size=8), cut=st.integers(-3, 3))
def test_strings_in_tensor_content_are_read_as_tensorflow_reads_them(values, cut):
    lengths = b"".join(_varint(len(value)) for value in values)
    content = lengths + b"".join(values)
    proto = tensor_pb2.TensorProto(dtype=7, tensor_content=content[: len(content) + min(cut, 0)])
    proto.tensor_shape.dim.add(size=max(len(values) + max(cut, 0), 0))
    expected = by_tensorflow(proto)
    try:
        found = to_tensor(proto).tolist()
    except DataError:
        found = None
    assert found == (None if expected is None else expected.tolist())


def _varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


@given(data=st.binary(max_size=200))
def test_no_bytes_that_are_a_message_crash(data):
    try:
        proto = tensor_pb2.TensorProto.FromString(data)
    except DecodeError:
        return
    with contextlib.suppress(DataError):
        to_tensor(proto)


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3), (40, 2)])
def test_every_data_type_is_written_and_read_back(number, shape):
    dtype = np.dtype(object if number == 7 else tf.as_dtype(number).as_numpy_dtype)
    size = int(np.prod(shape))
    if number == 7:
        array = np.empty(size, dtype=object)
        array[:] = [b"\xff" * (item % 3) for item in range(size)]
        array = array.reshape(shape)
    else:
        top = 2 if number == 10 else 8 if number in (29, 30) else 120
        raw = np.arange(size * dtype.itemsize, dtype=np.uint8) % top
        array = raw.view(dtype).reshape(shape)
    proto = to_proto(array)
    assert proto.dtype == number
    assert not proto.tensor_content
    assert proto.HasField("tensor_shape")
    assert [dim.size for dim in proto.tensor_shape.dim] == list(shape)
    filled = [field.name for field, _ in proto.ListFields() if field.name.endswith("_val")]
    assert filled == ([FIELD_OF.get(number, "int_val")] if size else [])
    back = to_tensor(proto)
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert back.tolist() == array.tolist()
    assert number in types_pb2.DataType.values()


@pytest.mark.parametrize("dtype", [">f4", ">i8"])
def test_arrays_in_another_byte_order_are_written_alike(dtype):
    array = np.array([1, 2**20], dtype=dtype)
    assert to_tensor(to_proto(array)).tolist() == array.tolist()


def test_arrays_that_are_not_contiguous_are_written_in_their_order():
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T[::2]
    assert to_tensor(to_proto(array)).tolist() == array.tolist()


def test_an_array_of_no_tensorflow_type_is_refused():
    with pytest.raises(DataError, match="datetime64"):
        to_proto(np.zeros(1, "datetime64[s]"))
    assert dtype_number(np.dtype(ml_dtypes.bfloat16)) == types_pb2.DT_BFLOAT16


def test_every_bit_of_a_nan_survives_both_ways_where_the_message_holds_bits():
    array = np.frombuffer(b"\x01\x00\xa0\x7f" * 64, "<f4")
    assert to_tensor(to_proto(array)).tobytes() == array.tobytes()


@pytest.mark.parametrize("dims", [(2**40,), (2**40, 0), (0, 2**62), (2**32, 2**32), (2**25,)])
def test_few_bytes_do_not_become_much_memory(dims):
    proto = tensor_pb2.TensorProto(dtype=1, float_val=[1.0])
    for dim in dims:
        proto.tensor_shape.dim.add(size=dim)
    with pytest.raises(DataError):
        to_tensor(proto)


def test_repeats_up_to_the_bound_are_filled_in():
    proto = tensor_pb2.TensorProto(dtype=10, bool_val=[True])
    proto.tensor_shape.dim.add(size=MAX_LEFT_OUT)
    assert to_tensor(proto).all()


def test_a_tensor_that_cannot_be_read_is_named():
    bad = tensor_pb2.TensorProto(dtype=1, tensor_content=b"123")
    bad.tensor_shape.dim.add(size=1)
    with pytest.raises(ServingError) as raised:
        to_tensors({"a": to_proto(np.float32([1])), "b": bad}, ["a", "b"])
    assert raised.value.code == Code.INVALID_ARGUMENT
    assert raised.value.message == "tensor parsing error: b"
