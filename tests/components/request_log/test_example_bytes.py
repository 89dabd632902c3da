"""Examples written byte by byte are what TensorFlow would have written."""

from __future__ import annotations

import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from tfx_encore.cache.tf_example import features_of
from tfx_encore.components.request_log_example_gen.example_bytes import (
    RowEncoder,
    bytes_entry,
    example,
    float_entry,
    int_entry,
    join_text,
)
from tfx_encore.schemas.nights import OURS

VALUES = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=4),
    st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=4),
    st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=4),
)
KINDS = {int: "int64_list", float: "float_list", bytes: "bytes_list"}
# Hypothesis tries names that stand in our code, too; ours are left out (nights.OURS).
NAMES = st.text(max_size=12).filter(lambda name: name not in OURS)


@given(st.dictionaries(NAMES, VALUES, max_size=6))
def test_what_goes_in_comes_out(features):
    sent = tf.train.Example()
    for name, values in features.items():
        getattr(sent.features.feature[name], KINDS[type(values[0])]).value.extend(values)
    row = RowEncoder(None).row(features_of(sent.SerializeToString()))
    assert tf.train.Example.FromString(example(row.body)).features == sent.features
    assert len(row.digest) == 16


def test_features_that_are_called_as_ours_are_left_out():
    sent = tf.train.Example()
    for name in (*OURS, "fare"):
        sent.features.feature[name].int64_list.value.append(0)
    row = RowEncoder(None).row(features_of(sent.SerializeToString()))
    assert set(tf.train.Example.FromString(example(row.body)).features.feature) == {"fare"}


def test_single_values_are_map_entries():
    made = tf.train.Example.FromString(
        example(float_entry("f", 0.5), int_entry("i", -3), bytes_entry("b", b"x" * 300))
    ).features.feature
    assert made["f"].float_list.value == [0.5]
    assert made["i"].int64_list.value == [-3]
    assert made["b"].bytes_list.value == [b"x" * 300]


@pytest.mark.parametrize(
    ("one", "other", "kind"),
    [
        ("7", 7, "int64"),
        ("7.0", 7, "int64"),
        ("+07", 7, "int64"),
        ("3.1", 3.0999999046325684, "float32"),
        ("2", 2.0, "float32"),
        ("7", b"7", ""),
        ("1e3", 1000, ""),
        ("9007199254740993", 9007199254740993, "int64"),
        ("Cash", b"Cash", "string"),
    ],
)
def test_both_sides_of_a_join_write_a_value_alike(one, other, kind):
    assert join_text(one, kind) == join_text(other, kind)


@pytest.mark.parametrize(
    ("one", "other", "kind"),
    [
        ("07", b"7", "string"),
        ("9007199254740993", 9007199254740992, "int64"),
        ("nan", None, "float32"),
        ("-", None, "string"),
        ("3.1", 3.2, "float32"),
    ],
)
def test_values_that_differ_stay_apart(one, other, kind):
    assert join_text(one, kind) != join_text(other, kind)
