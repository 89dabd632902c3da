"""Bucket rows: equal exactly where a model that reads buckets cannot tell two rows apart."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfx_encore.cache.bucket_rows import BucketRows, Buckets, can_bucket
from tfx_encore.cache.row_spec import FeatureSpec, SignatureSpec
from tfx_encore.cache.rows import Cell, cell, encode_row

MILES = FeatureSpec("miles", "dense", "float32", (1,))
HOUR = FeatureSpec("hour", "dense", "int64", (1,))
LATITUDE = FeatureSpec("latitude", "sparse", "float32")
PAYMENT = FeatureSpec("payment", "dense", "string", (1,))
SPEC = SignatureSpec("serving_default", "examples", "examples", (MILES, HOUR, LATITUDE, PAYMENT))
BOUNDS = (1.5, 3.25, 10.0)
ROWS = BucketRows(
    SPEC,
    {
        "miles": [Buckets(BOUNDS, "float32")],
        "latitude": [Buckets((40.0, 41.0), "float32", default=0.0)],
    },
)
FLOATS = st.floats(width=32)


def row(miles=1.0, hour=3, latitude=(), payment=b"Cash", extra=None) -> bytes:
    cells = {
        "miles": cell(np.array([miles], np.float32)),
        "hour": cell(np.array([hour], np.int64)),
        "latitude": cell(np.array(latitude, np.float32)),
        "payment": cell([payment], "string"),
    }
    return encode_row(cells | (extra or {}))


def is_normal(value: float) -> bool:
    return value == 0 or not abs(value) < 2.0**-126


@given(FLOATS, FLOATS)
def test_two_values_are_one_row_exactly_if_upper_bound_puts_them_into_one_bucket(one, other):
    made = ROWS.row(row(miles=one)), ROWS.row(row(miles=other))
    if not (is_normal(one) and is_normal(other)):
        assert None in made
        return
    buckets = np.searchsorted(np.float32(BOUNDS), np.float32([one, other]), side="right")
    assert (made[0] == made[1]) == (buckets[0] == buckets[1])


@pytest.mark.parametrize("bound", BOUNDS)
def test_the_boundary_itself_belongs_to_the_bucket_above(bound):
    below = float(np.nextafter(np.float32(bound), np.float32(-np.inf)))
    above = float(np.nextafter(np.float32(bound), np.float32(np.inf)))
    assert ROWS.row(row(miles=bound)) == ROWS.row(row(miles=above))
    assert ROWS.row(row(miles=bound)) != ROWS.row(row(miles=below))


def test_what_the_model_reads_as_it_came_stays_as_it_came():
    assert ROWS.row(row(hour=3)) != ROWS.row(row(hour=4))
    assert ROWS.row(row(payment=b"Cash")) != ROWS.row(row(payment=b"Card"))
    assert ROWS.row(row(payment=b"")) is not None


def test_a_missing_value_is_in_the_bucket_of_its_default():
    assert ROWS.row(row(latitude=())) == ROWS.row(row(latitude=(0.0,)))
    assert ROWS.row(row(latitude=())) != ROWS.row(row(latitude=(40.5,)))


def test_a_row_with_two_values_where_the_model_takes_one_has_no_bucket_row():
    assert ROWS.row(row(latitude=(40.5, 40.6))) is None


@pytest.mark.parametrize("miles", [1e-40, -1e-40, 1.1754942e-38])
def test_numbers_that_tensorflow_flushes_to_zero_have_no_bucket_row(miles):
    assert ROWS.row(row(miles=miles)) is None


def test_an_integer_that_floats_cannot_hold_exactly_twice_rounded_has_no_bucket():
    buckets = Buckets((1.0,), "float32")
    assert buckets.bucket(2**53) is not None
    assert buckets.bucket(2**53 + 1) is None
    assert buckets.bucket(1e300) is None


def test_nan_is_in_the_last_bucket_as_upper_bound_has_it():
    assert Buckets(BOUNDS, "float32").bucket(math.nan) == len(BOUNDS)


@pytest.mark.parametrize(
    "foreign",
    [
        b"",
        b"\x02" + row()[1:],
        row()[:-1],
        row() + b"\0",
        row(extra={"tips": cell(1.0)}),
        encode_row({"miles": cell(1.0), "hour": cell(3)}),
        encode_row({"miles": Cell("float64", (1,), bytes(8))}),
    ],
)
def test_bytes_that_are_no_row_of_the_signature_have_no_bucket_row(foreign):
    assert ROWS.row(foreign) is None


@given(st.binary(max_size=200))
def test_no_bytes_at_all_make_it_fail(data):
    assert ROWS.row(data) is None or isinstance(ROWS.row(data), bytes)
    assert ROWS.row(row()[:60] + data) is None or isinstance(ROWS.row(row()[:60] + data), bytes)


def test_rows_of_other_boundaries_are_never_equal():
    other = BucketRows(SPEC, {"miles": [Buckets((1.5, 3.25, 10.5), "float32")]})
    assert other.row(row()) != ROWS.row(row())


def test_a_feature_that_is_bucketed_in_two_ways_keeps_both_buckets():
    both = BucketRows(SPEC, {"miles": [Buckets((2.0,), "float32"), Buckets((5.0,), "float32")]})
    made = {both.row(row(miles=value)) for value in (1.0, 3.0, 4.0, 6.0)}
    assert len(made) == 3


def test_only_single_numbers_can_be_put_into_buckets():
    assert can_bucket(MILES)
    assert can_bucket(LATITUDE)
    assert can_bucket(FeatureSpec("x", "tensor", "float64", ()))
    assert not can_bucket(PAYMENT)
    assert not can_bucket(FeatureSpec("x", "dense", "float32", (2,)))
    assert not can_bucket(FeatureSpec("x", "tensor", "float32", (-1,)))
