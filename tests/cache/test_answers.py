"""Answers as bytes, and back."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tfx_encore.cache.answers import decode_answer, encode_answer, encode_bodies, open_answer
from tfx_encore.cache.rows import cell, to_array
from tfx_encore.cache.snapshot_block import cut
from tfx_encore.schemas.errors import DataError


@st.composite
def batches(draw):
    """Outputs of a batch: numbers of any shape, and strings."""
    rows = draw(st.integers(1, 4))
    outputs = {}
    for index in range(draw(st.integers(1, 3))):
        shape = (rows, *draw(npst.array_shapes(min_dims=0, max_dims=2, min_side=0)))
        dtype = draw(st.sampled_from(["float32", "int64", "bool", "object"]))
        elements = st.binary(max_size=9) if dtype == "object" else None
        outputs[f"output_{index}"] = draw(npst.arrays(dtype, shape, elements=elements))
    return outputs


@given(batches())
def test_a_batch_is_encoded_as_its_rows_are_one_by_one(outputs):
    bodies = cut(*encode_bodies(outputs))
    for at, body in enumerate(bodies):
        row = {name: cell(np.asarray(array[at], array.dtype)) for name, array in outputs.items()}
        assert body == open_answer(encode_answer(row))


@given(batches())
def test_an_answer_comes_back(outputs):
    row = {name: cell(np.asarray(array[0], array.dtype)) for name, array in outputs.items()}
    found = decode_answer(encode_answer(row))
    assert found == row
    for name, item in found.items():
        assert np.array_equal(to_array(item), outputs[name][0]) or np.isnan(outputs[name][0]).any()


@given(st.data())
def test_one_wrong_bit_anywhere_is_found(data):
    answer = encode_answer({"score": cell(np.float32(0.25))})
    bit = data.draw(st.integers(0, 8 * len(answer) - 1))
    broken = bytearray(answer)
    broken[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DataError):
        decode_answer(bytes(broken))


@given(st.integers(0, 30))
def test_an_answer_cut_short_is_found(size):
    answer = encode_answer({"score": cell(np.float32(0.25))})
    with pytest.raises(DataError):
        decode_answer(answer[: min(size, len(answer) - 1)])


def test_a_pickle_is_not_an_answer():
    with pytest.raises(DataError, match="format"):
        decode_answer(pickle.dumps({"score": 0.25}))


def test_outputs_without_a_row_for_each_row_are_refused():
    with pytest.raises(DataError, match="one row"):
        encode_bodies({"a": np.zeros(3), "b": np.zeros(2)})
