"""What a graph reads only through buckets: proved, and then tried against the model itself."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfx_encore.cache.rows import encode_row
from tfx_encore.cache.saved_model_buckets import bucket_rows
from tfx_encore.cache.saved_model_graph import load_meta_graph, read_signature
from tfx_encore.cache.tf_example import ExampleRows

BOUNDS = np.array([[1.5, 3.25, 10.0]], np.float32)
TYPES = {
    "miles": tf.io.FixedLenFeature([1], tf.float32),
    "hour": tf.io.FixedLenFeature([1], tf.int64),
    "latitude": tf.io.VarLenFeature(tf.float32),
    "fare": tf.io.FixedLenFeature([1], tf.float32),
    "payment": tf.io.FixedLenFeature([1], tf.string),
}


def _upper_bound(values, bounds):
    flat = tf.reshape(values, [1, -1])
    found = tf.raw_ops.UpperBound(sorted_inputs=bounds, values=flat, out_type=tf.int64)
    return tf.reshape(found, tf.shape(values))


class Taxi(tf.Module):
    """Buckets of miles, hour and latitude; the fare in buckets and as it came."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serve(self, examples):
        read = tf.io.parse_example(examples, TYPES)
        latitude = read["latitude"]
        shape = [latitude.dense_shape[0], 1]
        dense = tf.sparse.to_dense(
            tf.SparseTensor(latitude.indices, latitude.values, shape), np.float32(0)
        )
        miles = _upper_bound(tf.squeeze(read["miles"], 1), BOUNDS)
        hour = _upper_bound(tf.cast(tf.squeeze(read["hour"], 1), tf.float32), np.float32([[6, 18]]))
        where = _upper_bound(tf.squeeze(dense, 1), np.float32([[-1, 40, 41]]))
        fare = tf.raw_ops.Bucketize(input=read["fare"], boundaries=[5.0, 20.0])
        number = miles * 1000 + hour * 100 + where * 10 + tf.cast(fare[:, 0], tf.int64)
        return {
            "bucketed": number,
            "plain": tf.strings.join([tf.strings.as_string(number), read["payment"][:, 0]]),
            "fare": read["fare"][:, 0] * 2,
        }


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("model") / "1")
    model = Taxi()
    tf.saved_model.save(model, folder, signatures={"serving_default": model.serve})
    return folder


def example(miles, hour, latitude, fare, payment=b"Cash") -> bytes:
    def floats(values):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))

    features = {
        "miles": floats([miles]),
        "hour": tf.train.Feature(int64_list=tf.train.Int64List(value=[hour])),
        "latitude": floats(latitude),
        "fare": floats([fare]),
        "payment": tf.train.Feature(bytes_list=tf.train.BytesList(value=[payment])),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def test_features_read_through_buckets_only_are_found(path):
    assert bucket_rows(path, "serving_default", ["bucketed"]).features == (
        "fare",
        "hour",
        "latitude",
        "miles",
    )


def test_a_feature_that_is_also_read_as_it_came_is_not_among_them(path):
    assert bucket_rows(path, "serving_default").features == ("hour", "latitude", "miles")


def test_a_signature_without_buckets_has_no_bucket_rows(path):
    assert bucket_rows(path, "serving_default", ["fare"]) is None


NEAR = st.sampled_from(
    [float(np.nextafter(b, d)) for b in BOUNDS.ravel() for d in (-np.inf, np.inf)]
    + [*map(float, BOUNDS.ravel()), 0.0, -0.0, float("nan"), float("inf"), 1e-40, -5.0]
)
ROW = st.tuples(
    NEAR | st.floats(width=32),
    st.integers(-3, 30) | st.just(2**60 + 1) | st.just(2**24 + 1),
    st.lists(st.floats(39, 42, width=32) | st.just(-1.0), max_size=1),
    st.sampled_from([4.0, 5.0, 19.5, 20.0]),
)


@settings(max_examples=30, deadline=None)
@given(st.lists(ROW, min_size=2, max_size=60))
def test_rows_that_become_equal_have_the_same_answer(path, rows):
    model = _loaded(path)
    examples = [example(*row) for row in rows]
    outputs = model(tf.constant(examples))
    spec = read_signature(load_meta_graph(path), "serving_default").spec
    reader, made = ExampleRows(spec), bucket_rows(path, "serving_default")
    answers: dict[bytes, tuple] = {}
    for at, item in enumerate(examples):
        row = made.row(encode_row(reader.row(item)))
        answer = tuple(outputs[name].numpy()[at] for name in ("bucketed", "plain", "fare"))
        if row is not None:
            assert answers.setdefault(row, answer) == answer


_MODELS: dict[str, object] = {}


def _loaded(path):
    if path not in _MODELS:
        _MODELS[path] = tf.saved_model.load(path)
    return _MODELS[path].signatures["serving_default"]
