"""Canonical rows: equal bytes if and only if a model could not tell the rows apart."""

from __future__ import annotations

import struct
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tfx_encore.cache.rows import Cell, cell, decode_row, encode_row, to_array
from tfx_encore.schemas.errors import DataError

NUMBERS = st.sampled_from(
    ["bool", "int8", "int16", "int32", "int64", "uint8", "uint32", "float16", "float32", "float64"]
)
ARRAYS = NUMBERS.flatmap(
    lambda dtype: npst.arrays(
        np.dtype(dtype), npst.array_shapes(min_dims=0, max_dims=3, min_side=0)
    )
)
STRINGS = npst.arrays(object, npst.array_shapes(min_dims=0, max_dims=2), elements=st.binary())
CELLS = (ARRAYS | STRINGS).map(cell)
ROWS = st.dictionaries(st.text(max_size=20).filter(lambda t: t.isprintable()), CELLS, max_size=6)


@given(ROWS)
def test_a_row_comes_back_from_its_bytes(row):
    assert decode_row(encode_row(row)) == row


@given(ROWS, ROWS)
def test_rows_have_equal_bytes_exactly_if_they_are_equal(one, two):
    assert (encode_row(one) == encode_row(two)) == (one == two)


@given(ROWS, st.randoms())
def test_the_order_of_the_features_does_not_matter(row, random):
    names = list(row)
    random.shuffle(names)
    assert encode_row({name: row[name] for name in names}) == encode_row(row)


@given(ARRAYS)
def test_an_array_keeps_each_bit(array):
    back = to_array(cell(array))
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()


@given(STRINGS)
def test_strings_keep_each_byte(array):
    assert np.array_equal(to_array(cell(array)), array)


@given(ROWS, st.data())
def test_damaged_bytes_are_an_error_or_another_row_never_a_crash(row, data):
    encoded = encode_row(row)
    at = data.draw(st.integers(0, len(encoded) - 1))
    broken = encoded[:at] + bytes([encoded[at] ^ 1]) + encoded[at + 1 :]
    for candidate in (broken, encoded[:at], encoded + b"\0"):
        try:
            found = decode_row(candidate)
        except DataError:
            continue
        assert encode_row(found) == candidate


@given(st.binary(max_size=200))
def test_any_bytes_are_a_canonical_row_or_a_data_error(data):
    try:
        row = decode_row(data)
    except DataError:
        return
    assert encode_row(row) == data


QUIET, OTHER = (
    np.frombuffer(struct.pack("<I", bits), "<f4")[0] for bits in (0x7FC00000, 0x7FC00001)
)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (cell(-0.0), cell(0.0)),
        (cell(1), cell(1.0)),
        (cell(True), cell(1)),
        (cell(QUIET), cell(OTHER)),
        (cell(unicodedata.normalize("NFC", "é")), cell(unicodedata.normalize("NFD", "é"))),
        (cell(np.arange(6).reshape(2, 3)), cell(np.arange(6).reshape(3, 2))),
        (cell(np.float32(1)), cell(np.float64(1))),
        (cell(5), cell([5])),
        (cell(["ab", "c"]), cell(["a", "bc"])),
        (cell([]  , "float32"), cell([0.0], "float32")),
        (cell("1"), cell(1)),
    ],
)  # fmt: skip
def test_what_a_model_can_tell_apart_is_apart(one, two):
    assert encode_row({"x": one}) != encode_row({"x": two})


def test_a_missing_feature_is_not_its_default():
    assert encode_row({"x": cell(1)}) != encode_row({"x": cell(1), "y": cell(0)})


def test_bytes_are_the_same_on_every_machine():
    assert cell(np.array([1, 2], dtype=">i4")) == cell(np.array([1, 2], dtype="<i4"))
    assert cell(np.arange(6).reshape(2, 3).T) == cell(
        np.ascontiguousarray(np.arange(6).reshape(2, 3).T)
    )
    row = {"fare": cell(1.5, "float32"), "company": cell("Flash")}
    assert encode_row(row).hex() == (
        "010200" "0700636f6d70616e79" "2000" "05000000466c617368" "040066617265" "0c00" "0000c03f"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        ([1, "a"], None),
        ([True, 1], None),
        ([[1], [2, 3]], None),
        (300, "uint8"),
        (-1, "uint64"),
        (2**63, None),
        (1.5, "int64"),
        (True, "int64"),
        ("a", "float32"),
        (1, "string"),
        (None, None),
        (np.array([1.5]), "int64"),
        ("\ud800", None),
        (1, "variant"),
    ],
)
def test_what_has_no_canonical_form_is_refused(value, dtype):
    with pytest.raises(DataError):
        cell(value, dtype)


def test_an_integer_given_for_a_float_is_that_float():
    assert cell(2, "float32") == cell(2.0, "float32") == cell(np.float32(2))


def test_an_unknown_dtype_is_named():
    with pytest.raises(DataError, match="variant"):
        encode_row({"x": Cell("variant", (), b"")})
