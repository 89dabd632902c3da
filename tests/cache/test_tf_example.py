"""Rows of tf.Examples are what the graph's parser makes of them."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfx_encore.cache.example_wire import split_example
from tfx_encore.cache.row_spec import FeatureSpec, SignatureSpec
from tfx_encore.cache.rows import cell, decode_row, encode_row
from tfx_encore.cache.tf_example import (
    Example,
    ExampleRows,
    _by_protobuf,
    example_of_row,
    features_of,
)
from tfx_encore.schemas.errors import DataError

SPEC = SignatureSpec(
    "serving_default",
    "examples",
    "examples",
    (
        FeatureSpec("fare", "dense", "float32"),
        FeatureSpec("hour", "dense", "int64", (), struct.pack("<q", 12).hex()),
        FeatureSpec("company", "sparse", "string"),
        FeatureSpec("unread", "dense", "float32", (2,), None, in_key=False),
    ),
)
OPAQUE = SignatureSpec("serving_default", "opaque", "examples", (), ("label",))

LISTS = {"f": "float_list", "i": "int64_list", "s": "bytes_list"}


def make(features, order=None):
    """Serialises features given as name -> (kind, values), in a given order of the map."""
    parts = b""
    for name in order or features:
        kind, values = features[name]
        one = Example()
        feature = one.features.feature[name]
        if kind:
            target = getattr(feature, LISTS[kind])
            target.SetInParent()
            target.value.extend(values)
        parts += one.features.SerializeToString()
    return b"\x0a" + varint(len(parts)) + parts


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


FEATURES = st.dictionaries(
    st.text(max_size=30),
    st.one_of(
        st.tuples(st.just("f"), st.lists(st.floats(width=32, allow_nan=False), max_size=3)),
        st.tuples(st.just("i"), st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3)),
        st.tuples(st.just("s"), st.lists(st.binary(max_size=200), max_size=3)),
        st.just(("", [])),
    ),
    max_size=5,
)
GOOD = {"fare": ("f", [1.5]), "hour": ("i", [3]), "company": ("s", [b"a"]), "unread": ("f", [0, 0])}


@given(FEATURES)
def test_the_fast_reader_and_protobuf_agree(features):
    data = make(features)
    assert split_example(data) == _by_protobuf(data)


@given(st.binary(max_size=60))
def test_on_any_bytes_the_fast_reader_agrees_or_leaves_it_to_protobuf(data):
    found = split_example(data)
    if found is not None:
        assert found == _by_protobuf(data)


@given(FEATURES, st.data())
def test_on_damaged_examples_too(features, data):
    good = make(features)
    at = data.draw(st.integers(0, len(good) - 1))
    broken = good[:at] + bytes([data.draw(st.integers(0, 255))]) + good[at + 1 :]
    found = split_example(broken)
    if found is not None:
        assert found == _by_protobuf(broken)


def test_the_order_of_features_on_the_wire_does_not_matter():
    rows = set()
    for seed in range(10):
        order = list(GOOD)
        random.Random(seed).shuffle(order)
        rows.add(encode_row(ExampleRows(SPEC).row(make(GOOD, order))))
    assert len(rows) == 1


def test_a_missing_feature_is_its_default_where_the_parser_fills_it_in():
    reader = ExampleRows(SPEC)
    without = {name: value for name, value in GOOD.items() if name != "hour"}
    assert reader.row(make(without)) == reader.row(make({**GOOD, "hour": ("i", [12])}))
    assert reader.row(make(without)) != reader.row(make(GOOD))


def test_a_missing_and_an_empty_sparse_feature_are_one():
    reader = ExampleRows(SPEC)
    without = {name: value for name, value in GOOD.items() if name != "company"}
    assert reader.row(make(without)) == reader.row(make({**GOOD, "company": ("s", [])}))
    assert reader.row(make(without)) != reader.row(make({**GOOD, "company": ("s", [b""])}))


@pytest.mark.parametrize(
    "change",
    [
        {"fare": ("", [])},
        {"fare": ("f", [])},
        {"fare": ("f", [1, 2])},
        {"fare": ("i", [1])},
        {"company": ("f", [1])},
        {"unread": ("", [])},
    ],
)
def test_what_the_parser_refuses_is_refused(change):
    with pytest.raises(DataError):
        ExampleRows(SPEC).row(make({**GOOD, **change}))


def test_a_feature_that_is_not_read_is_not_in_the_row():
    reader = ExampleRows(SPEC)
    assert reader.row(make({**GOOD, "unread": ("f", [7, 8]), "label": ("i", [1])})) == reader.row(
        make(GOOD)
    )


def test_an_opaque_row_holds_all_but_what_is_excluded():
    row = ExampleRows(OPAQUE).row(make({"a": ("f", [1]), "b": ("", []), "label": ("i", [1])}))
    assert set(row) == {"a", "b"}
    assert row != ExampleRows(OPAQUE).row(make({"a": ("f", [1]), "b": ("i", [])}))


@given(FEATURES)
def test_an_opaque_row_makes_the_same_example_again(features):
    row = ExampleRows(OPAQUE).row(make(features))
    assert ExampleRows(OPAQUE).row(example_of_row(row, OPAQUE)) == row


def test_an_example_made_of_a_row_gives_the_row_again():
    row = ExampleRows(SPEC).row(make(GOOD))
    assert ExampleRows(SPEC).row(example_of_row(decode_row(encode_row(row)), SPEC)) == row


def test_tensors_take_the_values_in_their_own_dtype_and_shape():
    spec = SignatureSpec(
        "raw",
        "tensors",
        "",
        (FeatureSpec("fare", "tensor", "float64", (1,)), FeatureSpec("n", "tensor", "int32")),
    )
    row = ExampleRows(spec).row(make({"fare": ("f", [1.5]), "n": ("i", [3])}))
    assert row == {"fare": cell([1.5], "float64"), "n": cell(3, "int32")}
    with pytest.raises(DataError):
        ExampleRows(spec).row(make({"fare": ("f", [1.5]), "n": ("i", [2**40])}))


def test_what_is_no_example_is_refused():
    with pytest.raises(DataError, match=r"not a tf\.Example"):
        features_of(b"\xff\xff\xff")


def test_every_bit_of_a_nan_counts():
    data = make(GOOD)
    place = data.index(struct.pack("<f", 1.5))
    rows = set()
    for bits in (0x7FC00000, 0x7FC00001, 0xFFC00000, 0x7F800001):
        broken = data[:place] + struct.pack("<I", bits) + data[place + 4 :]
        rows.add(encode_row(ExampleRows(SPEC).row(broken)))
    assert len(rows) == 4
