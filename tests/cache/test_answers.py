"""Answers as bytes, and back."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tfx_encore.cache.answers import (
    decode_answer,
    decode_batch,
    encode_answer,
    encode_bodies,
    encode_each,
    open_answer,
    seal_answer,
)
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


@given(batches(), st.randoms())
def test_a_batch_of_answers_comes_back_as_the_arrays_it_was_made_of(outputs, chance):
    answers = [seal_answer(body) for body in cut(*encode_bodies(outputs))]
    # What was read before, of whatever layout, must not matter.
    for answer in chance.sample(answers, len(answers)):
        decode_answer(answer)
    found = decode_batch(answers)
    assert list(found) == sorted(outputs)
    for name, array in found.items():
        assert array.dtype == outputs[name].dtype
        np.testing.assert_array_equal(array, outputs[name])


def test_answers_of_the_same_size_and_other_layouts_are_told_apart():
    rows = [
        {name: cell(np.asarray(value))}
        for name in ("left", "righ", "midd", "uppe", "lowe", "oute")
        for value in (np.float32(1.5), np.int32(7), np.uint32(7))
    ]
    for row in [*rows, *reversed(rows), *rows]:
        assert decode_answer(encode_answer(row)) == row


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("known", [True, False])
def test_one_damaged_answer_in_a_batch_is_found(place, known):
    answers = [encode_answer({"score": cell(np.float32(n))}) for n in range(3)]
    if known:
        decode_batch(answers)
    for bit in range(8 * len(answers[0])):
        broken = bytearray(answers[place])
        broken[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DataError):
            decode_batch([*answers[:place], bytes(broken), *answers[place + 1 :]])


@pytest.mark.parametrize(
    "other",
    [
        {"score": cell(np.float64(1))},
        {"score": cell(np.int32(1))},
        {"other": cell(np.float32(1))},
        {"score": cell(np.float32([1]))},
    ],
)
def test_answers_that_do_not_fit_together_make_no_batch(other):
    first = {"score": cell(np.float32(1))}
    for answers in ([first, other], [first, first, other], [other, first]):
        with pytest.raises(DataError, match="different models"):
            decode_batch([encode_answer(row) for row in answers])


@pytest.mark.parametrize("count", [1, 5, 16, 17, 40])
def test_the_answers_of_a_small_batch_are_those_of_a_large_one(count):
    rng = np.random.default_rng(0)
    outputs = {
        "score": rng.normal(size=(count, 1)).astype(np.float32),
        "classes": rng.integers(0, 9, size=(count, 2, 3)),
        "big": rng.normal(size=count).astype(">f8"),
        "word": np.array([b"w%d" % at for at in range(count)], dtype=object),
    }
    for names in (["score"], ["score", "classes"], ["score", "big"], ["word", "score"]):
        chosen = {name: outputs[name] for name in names}
        bodies = cut(*encode_bodies(chosen))
        assert encode_each(chosen) == [seal_answer(body) for body in bodies]


@pytest.mark.parametrize(
    "outputs", [{}, {"a": np.float32(1)}, {"a": np.zeros(3), "b": np.zeros(2)}]
)
def test_outputs_without_one_row_for_each_are_refused_in_small_batches_too(outputs):
    with pytest.raises(DataError):
        encode_each(outputs)
