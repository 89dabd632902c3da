"""Rows of TF Serving requests."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from tensorflow_serving.apis import predict_pb2

from tfx_encore.cache.row_spec import FeatureSpec, SignatureSpec
from tfx_encore.cache.rows import cell
from tfx_encore.cache.tf_predict import RequestRows, tensor_values
from tfx_encore.schemas.errors import DataError

RAW = SignatureSpec(
    "predict_raw",
    "tensors",
    "",
    (
        FeatureSpec("fare", "tensor", "float32"),
        FeatureSpec("company", "tensor", "string"),
        FeatureSpec("unread", "tensor", "int64", (-1,), None, in_key=False),
    ),
)
GOOD = {
    "fare": np.array([1, 2], "f"),
    "company": np.array([b"a", b"b"], dtype=object),
    "unread": np.zeros((2, 3), np.int64),
}


def request(**inputs):
    made = predict_pb2.PredictRequest()
    for name, value in inputs.items():
        made.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return made


DTYPES = st.sampled_from(
    ["float32", "float64", "float16", "int8", "int32", "int64", "uint8", "uint32", "uint64", "bool"]
)


@given(
    DTYPES.flatmap(
        lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=0, max_dims=3, min_side=0))
    )
)
def test_tensors_are_read_as_tensorflow_reads_them(array):
    proto = tf.make_tensor_proto(array)
    found = tensor_values(proto)
    expected = tf.make_ndarray(proto)
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert found.tobytes() == expected.tobytes()


def test_a_proto_may_leave_out_repeats_of_its_last_value():
    proto = tf.make_tensor_proto(np.array([1, 7, 7, 7], "f"))
    proto.ClearField("tensor_content")
    proto.float_val.extend([1, 7])
    assert tensor_values(proto).tolist() == [1, 7, 7, 7]


def test_each_row_of_a_request_is_a_row():
    rows = RequestRows(RAW).rows(request(**GOOD))
    assert [item.row for item in rows] == [
        {"fare": cell(1.0, "float32"), "company": cell("a")},
        {"fare": cell(2.0, "float32"), "company": cell("b")},
    ]
    assert [item.example for item in rows] == [b"", b""]


@pytest.mark.parametrize(
    "change",
    [
        {"fare": np.array([1, 2], np.int64)},
        {"fare": np.array([1], "f")},
        {"fare": np.zeros((2, 1), "f")},
        {"fare": np.float32(1)},
        {"more": np.zeros(2)},
    ],
)
def test_what_the_server_refuses_is_refused(change):
    with pytest.raises(DataError):
        RequestRows(RAW).rows(request(**{**GOOD, **change}))


def test_examples_come_as_one_vector_of_strings():
    spec = SignatureSpec("serving_default", "opaque", "examples")
    example = tf.train.Example()
    example.features.feature["x"].int64_list.value.append(3)
    data = example.SerializeToString()
    rows = RequestRows(spec).rows(request(examples=np.array([data, data], dtype=object)))
    assert [item.example for item in rows] == [data, data]
    assert rows[0].row == {"x": cell([3])}
    for wrong in ({"inputs": np.array([data], dtype=object)}, {"examples": np.zeros(2)}):
        with pytest.raises(DataError, match="vector of Examples"):
            RequestRows(spec).rows(request(**wrong))
