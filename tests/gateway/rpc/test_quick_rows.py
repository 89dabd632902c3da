"""The quick way makes the rows of the full way, or none at all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorflow.core.example import example_pb2
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import predict_pb2

from tfx_encore.cache.row_spec import FeatureSpec, SignatureSpec
from tfx_encore.cache.rows import encode_row
from tfx_encore.cache.tf_example import ExampleRows
from tfx_encore.cache.tf_predict import rows_of_tensors
from tfx_encore.gateway.errors import ServingError
from tfx_encore.gateway.rpc.quick_rows import MAX_VALUES, QuickRows
from tfx_encore.gateway.signature import PREDICT, Signature, TensorSpec
from tfx_encore.gateway.tensor_proto import to_proto, to_tensors
from tfx_encore.schemas.errors import DataError

DTYPES = ["float32", "float64", "int32", "uint8", "int16", "int8", "int64", "uint16", "uint32"]
DTYPES += ["uint64", "string"]
ANY = TensorSpec("float32", None)


def signature(*names):
    return Signature("s", PREDICT, dict.fromkeys(names, ANY), {"y": ANY})


@st.composite
def cases(draw):
    """A specification, and inputs that mostly fit it."""
    features, inputs = [], {}
    rows = draw(st.integers(1, 3))
    for name in draw(st.lists(st.sampled_from("abcd"), min_size=1, unique=True)):
        dtype = draw(st.sampled_from(DTYPES))
        shape = draw(st.sampled_from([(), (1,), (2,), (-1,), (-1, 2)]))
        features.append(
            FeatureSpec(name, "tensor", dtype, shape, in_key=draw(st.integers(0, 3)) > 0)
        )
        inputs[name] = draw(tensors(dtype, (rows, *(2 if dim < 0 else dim for dim in shape))))
    return SignatureSpec("s", "tensors", features=tuple(features)), inputs


@st.composite
def tensors(draw, dtype, shape):
    size = int(np.prod(shape))
    if dtype == "string":
        array = np.empty(size, dtype=object)
        array[:] = draw(st.lists(st.binary(max_size=3), min_size=size, max_size=size))
        proto = to_proto(array.reshape(shape))
    else:
        width = np.dtype(dtype).itemsize
        data = draw(st.binary(min_size=size * width, max_size=size * width))
        array = np.frombuffer(data, dtype)
        proto = to_proto(array.reshape(shape))
        if draw(st.booleans()):
            filled = [field for field, _ in proto.ListFields() if field.name.endswith("_val")]
            proto.ClearField(filled[0].name)
            proto.tensor_content = data
    strange = draw(st.integers(0, 12))
    if strange == 0:
        proto.tensor_shape.dim[0].size += draw(st.integers(-2, 2))
    elif strange == 1:
        proto.tensor_content += b"x"
    elif strange == 2:
        proto.int_val.append(draw(st.integers(-(2**31), 2**31 - 1)))
    elif strange == 3:
        proto.dtype = draw(st.integers(0, 30))
    return proto


def full_way(spec, inputs):
    """The rows, as `inference` makes them from arrays; None if the inputs are refused."""
    try:
        arrays = to_tensors(inputs, inputs)
        return [encode_row(row) for row in rows_of_tensors(spec, arrays)]
    except (DataError, ServingError):
        return None


@given(case=cases())
def test_rows_of_tensors_are_those_of_the_full_way(case):
    spec, inputs = case
    request = predict_pb2.PredictRequest()
    for name, proto in inputs.items():
        request.inputs[name].CopyFrom(proto)
    maker = QuickRows(spec, signature(*(feature.name for feature in spec.features)))
    found = maker.of_inputs(request.inputs)
    if found is not None:
        assert found == full_way(spec, dict(request.inputs))


def test_usual_requests_go_the_quick_way():
    spec = SignatureSpec(
        "s",
        "tensors",
        features=(
            FeatureSpec("b", "tensor", "float32", (2,)),
            FeatureSpec("a", "tensor", "string"),
        ),
    )
    inputs = {
        "b": to_proto(np.float32([[1, 2], [3, 4]])),
        "a": to_proto(np.array([b"x", b""], object)),
    }
    found = QuickRows(spec, signature("a", "b")).of_inputs(inputs)
    assert found is not None
    assert found == full_way(spec, inputs)


@pytest.mark.parametrize(
    "proto",
    [
        tensor_pb2.TensorProto(dtype=1, float_val=[1.0]),  # a scalar
        to_proto(np.zeros(0, np.float32)),  # no rows
        to_proto(np.zeros(MAX_VALUES + 1, np.float32)),  # arrays are quicker
        to_proto(np.zeros(1, np.float64)),  # another type
        to_proto(np.zeros((1, 1), np.float32)),  # another shape
    ],
)
def test_unusual_inputs_are_left_to_the_full_way(proto):
    spec = SignatureSpec("s", "tensors", features=(FeatureSpec("x", "tensor", "float32"),))
    maker = QuickRows(spec, signature("x"))
    assert maker.of_inputs({"x": proto}) is None
    assert maker.of_inputs({"z": to_proto(np.float32([1]))}) is None
    assert maker.of_inputs({}) is None
    assert maker.of_inputs({"x": to_proto(np.float32([1]))}) is not None


def test_a_signature_with_more_inputs_than_the_key_knows_is_left_to_the_full_way():
    spec = SignatureSpec("s", "tensors", features=(FeatureSpec("x", "tensor", "float32"),))
    inputs = {"x": to_proto(np.float32([1])), "z": to_proto(np.float32([1]))}
    assert QuickRows(spec, signature("x", "z")).of_inputs(inputs) is None


@pytest.mark.parametrize("dtype", ["bool", "float16", "bfloat16", "complex64"])
def test_rare_types_are_left_to_the_full_way(dtype):
    spec = SignatureSpec("s", "tensors", features=(FeatureSpec("x", "tensor", dtype),))
    inputs = {"x": to_proto(np.zeros(1, np.bool_))}
    assert QuickRows(spec, signature("x")).of_inputs(inputs) is None


EXAMPLES = SignatureSpec("s", "examples", "examples", (FeatureSpec("x", "dense", "float32", (1,)),))


def example(**features):
    made = example_pb2.Example()
    for name, value in features.items():
        made.features.feature[name].float_list.value.append(value)
    return made.SerializeToString()


@given(
    values=st.lists(st.floats(width=32), min_size=1, max_size=4),
    context=st.floats(width=32),
    strange=st.integers(0, 5),
)
def test_rows_of_examples_are_those_of_the_full_way(values, context, strange):
    examples = [example(x=context) + example(x=value) for value in values]
    array = np.empty(len(examples), dtype=object)
    array[:] = examples
    proto = to_proto(array)
    if strange == 1:
        proto.tensor_shape.dim[0].size += 1
    elif strange == 2:
        proto.tensor_shape.dim.add(size=1)
    elif strange == 3:
        proto.string_val[0] = b"\xff"
    found = QuickRows(EXAMPLES, signature("examples")).of_inputs({"examples": proto})
    if strange in (1, 2, 3):
        assert found is None
        return
    reader = ExampleRows(EXAMPLES)
    assert found == [encode_row(reader.row(item)) for item in examples]


def test_an_example_that_the_parser_refuses_is_left_to_the_full_way():
    maker = QuickRows(EXAMPLES, signature("examples"))
    assert maker.of_examples([example(x=1.0), example(y=1.0)]) is None
    with pytest.raises(DataError):
        ExampleRows(EXAMPLES).row(example(y=1.0))
