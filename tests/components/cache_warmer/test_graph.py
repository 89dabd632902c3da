"""What can be proved from a SavedModel's graph, and what cannot."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import tensorflow as tf
import tfx

from tfx_encore.cache.row_spec import FeatureSpec
from tfx_encore.cache.saved_model_graph import load_meta_graph, read_signature
from tfx_encore.schemas.errors import ModelError

TFX_MODEL = (
    Path(tfx.__file__).parent / "components/testdata/trainer/current/Format-Serving/export"
    "/chicago-taxi/1646034756"
)


def read(path, signature="serving_default", **options):
    return read_signature(load_meta_graph(path), signature, **options)


def save(path, function, **signatures):
    module = tf.Module()
    module.function = function
    tf.saved_model.save(module, str(path), {"serving_default": function, **signatures})
    return str(path)


def test_the_parser_and_what_is_read_of_it_are_found(models):
    reading = read(models())
    assert reading.spec.form == "examples"
    assert reading.spec.input_name == "examples"
    assert reading.spec.features == (
        FeatureSpec("company", "sparse", "string"),
        FeatureSpec("fare", "dense", "float32"),
        FeatureSpec("hour", "dense", "int64", (), struct.pack("<q", 0).hex()),
        FeatureSpec("unread", "dense", "float32", (), None, in_key=False),
    )
    assert reading.features_read == ("company", "fare", "hour")
    assert reading.stateful_ops == ()


def test_an_input_that_no_answer_is_computed_from_is_found(models):
    reading = read(models(), "predict_raw")
    assert reading.spec.form == "tensors"
    assert reading.features_read == ("company", "fare", "hour")
    assert [f.name for f in reading.spec.features if not f.in_key] == ["unread"]


def test_reading_only_transformed_features_is_proved(models):
    reading = read(models(), transform_signature="transform_features")
    assert reading.transformed_only
    assert reading.transformed_read == ("company_id", "fare_bucket", "hour_bucket")


def test_one_raw_feature_beside_the_transform_breaks_the_proof(models):
    assert not read(models("raw"), transform_signature="transform_features").transformed_only


def test_random_operations_are_found_in_nested_functions(models):
    reading = read(models("random"))
    assert reading.stateful_ops == ("RandomStandardNormal",)
    assert not reading.transformed_only


def test_variables_that_are_written_count_as_state(tmp_path):
    class Counter(tf.Module):
        def __init__(self):
            self.calls = tf.Variable(0.0)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def call(self, x):
            return {"y": x + self.calls.assign_add(1.0)}

    module = Counter()
    tf.saved_model.save(module, str(tmp_path), {"serving_default": module.call})
    assert "AssignAddVariableOp" in read(tmp_path).stateful_ops


def test_examples_that_are_used_otherwise_than_parsed_are_opaque(tmp_path):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def function(examples):
        raw = tf.io.parse_example(examples, {"x": tf.io.FixedLenFeature([], tf.float32)})
        return {"y": raw["x"] + tf.cast(tf.strings.length(examples), tf.float32)}

    reading = read(save(tmp_path, function), exclude=("label",))
    assert reading.spec.form == "opaque"
    assert reading.spec.excluded == ("label",)
    assert reading.features_read is None


def test_features_padded_to_their_longest_neighbour_are_opaque(tmp_path):
    spec = {"x": tf.io.FixedLenSequenceFeature([], tf.float32, allow_missing=True)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def function(examples):
        return {"y": tf.reduce_sum(tf.io.parse_example(examples, spec)["x"], axis=1)}

    assert read(save(tmp_path, function)).spec.form == "opaque"


def test_a_branch_counts_all_that_it_captures_as_read(tmp_path):
    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.float32, name=name) for name in ("a", "b", "c")]
    )
    def function(a, b, c):
        del c
        return {"y": tf.cond(tf.reduce_sum(a) > 0, lambda: a, lambda: b)}

    assert read(save(tmp_path, function)).features_read == ("a", "b")


def test_an_output_filter_narrows_what_is_read(tmp_path):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name=n) for n in ("a", "b")])
    def function(a, b):
        return {"x": a * 2, "y": a + b}

    path = save(tmp_path, function)
    assert read(path).features_read == ("a", "b")
    assert read(path, output_filter=["x"]).features_read == ("a",)
    with pytest.raises(ModelError, match="'z'"):
        read(path, output_filter=["z"])


def test_a_transform_with_other_weights_proves_nothing(tmp_path):
    class Scaled(tf.Module):
        def __init__(self):
            self.one, self.two = tf.Variable(2.0), tf.Variable(2.0)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def serve(self, x):
            return {"y": tf.sin(x * self.one)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def same(self, x):
            return {"z": x * self.one}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def other(self, x):
            return {"z": x * self.two}

    module = Scaled()
    signatures = {"serving_default": module.serve, "same": module.same, "other": module.other}
    tf.saved_model.save(module, str(tmp_path), signatures)
    assert read(tmp_path, transform_signature="same").transformed_only
    assert not read(tmp_path, transform_signature="other").transformed_only


def test_a_saved_model_of_tensorflow_1_is_read_too():
    reading = read(str(TFX_MODEL))
    assert reading.spec.form == "examples"
    assert len(reading.spec.features) == 17
    assert len(reading.features_read) == 12
    assert "company" in reading.features_read
    assert "fare" in reading.features_read


def test_what_is_no_saved_model_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"saved_model\.pb"):
        load_meta_graph(tmp_path)
