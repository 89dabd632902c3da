"""Answers: the layout, the digits and the errors of TensorFlow Serving.

The layouts were compared byte for byte with RapidJSON's PrettyWriter, driven as json_tensor.cc
drives it.
"""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tfx_encore.cache.answers import encode_answer, encode_bodies, seal_answer
from tfx_encore.cache.rows import cell
from tfx_encore.cache.snapshot_block import cut
from tfx_encore.gateway.errors import Code, ServingError
from tfx_encore.gateway.rest.json_numbers import decimal32, decimal64, decimals
from tfx_encore.gateway.rest.json_response import AnswerWriter, error_json, predict_json
from tfx_encore.schemas.errors import DataError


def texts(*values: bytes) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def problem(outputs, layout: str = "row") -> str:
    with pytest.raises(ServingError) as caught:
        predict_json(outputs, layout)
    assert caught.value.code == Code.INVALID_ARGUMENT
    return caught.value.message


# --- layout ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "row", "column"),
    [
        (
            np.array([3.5, 4], np.float32),
            '{\n    "predictions": [3.5, 4.0\n    ]\n}',
            '{\n    "outputs": [\n        3.5,\n        4.0\n    ]\n}',
        ),
        (
            np.array([[1, 2], [3, 4]], np.int32),
            '{\n    "predictions": [[1, 2], [3, 4]\n    ]\n}',
            '{\n    "outputs": [\n        [\n            1,\n            2\n        ],\n'
            "        [\n            3,\n            4\n        ]\n    ]\n}",
        ),
        (
            np.zeros((2, 0), np.float32),
            '{\n    "predictions": [[], []\n    ]\n}',
            '{\n    "outputs": [\n        [],\n        []\n    ]\n}',
        ),
        (np.zeros((0, 2)), '{\n    "predictions": []\n}', '{\n    "outputs": []\n}'),
    ],
)
def test_one_output_stands_without_its_name(value, row, column):
    assert predict_json({"y": value}, "row").decode() == row
    assert predict_json({"y": value}, "columnar").decode() == column


def test_bytes_are_objects_on_lines_of_their_own():
    value = texts(b"hello", b"world")
    assert predict_json({"y_bytes": value}, "row").decode() == (
        '{\n    "predictions": [{\n            "b64": "aGVsbG8="\n        }, {\n'
        '            "b64": "d29ybGQ="\n        }\n    ]\n}'
    )
    assert predict_json({"y_bytes": value.reshape(1, 2)}, "row").decode() == (
        '{\n    "predictions": [[{\n                "b64": "aGVsbG8="\n            }, {\n'
        '                "b64": "d29ybGQ="\n            }]\n    ]\n}'
    )
    assert predict_json({"y_bytes": value[:1]}, "columnar").decode() == (
        '{\n    "outputs": [\n        {\n            "b64": "aGVsbG8="\n        }\n    ]\n}'
    )


def test_several_outputs_are_objects_in_order_of_their_names():
    outputs = {
        "score": np.array([[1, 2], [3, 4]], np.float64),
        "label": texts(b"foo", b'"\n/\x7f'),
        "image_bytes": texts(b"a", b"b"),
    }
    assert predict_json(outputs, "row").decode() == (
        '{\n    "predictions": [\n'
        '        {\n            "image_bytes": {\n                "b64": "YQ=="\n            },\n'
        '            "label": "foo",\n            "score": [1.0, 2.0]\n        },\n'
        '        {\n            "image_bytes": {\n                "b64": "Yg=="\n            },\n'
        '            "label": "\\"\\n/\x7f",\n            "score": [3.0, 4.0]\n        }\n'
        "    ]\n}"
    )
    assert predict_json({"b": np.int64([1]), "a": np.bool_([True])}, "columnar").decode() == (
        '{\n    "outputs": {\n        "a": [\n            true\n        ],\n'
        '        "b": [\n            1\n        ]\n    }\n}'
    )


@pytest.mark.parametrize(
    ("value", "text"), [(np.float32(0.5), "0.5"), (np.int64(-7), "-7"), (np.bool_(False), "false")]
)
def test_columns_may_be_scalars(value, text):
    found = predict_json({"y": np.asarray(value)}, "columnar").decode()
    assert found == f'{{\n    "outputs": {text}\n}}'


@pytest.mark.parametrize(
    "dtype", ["int8", "int16", "int32", "int64", "uint8", "uint32", "uint64", "bool"]
)
def test_integers_are_written_to_their_bounds(dtype):
    kind = np.dtype(dtype)
    values = [False, True] if dtype == "bool" else [np.iinfo(kind).min, np.iinfo(kind).max]
    found = json.loads(predict_json({"y": np.array(values, kind)}, "row"))
    assert found == {
        "predictions": [value.item() if value is np.generic else value for value in values]
    }


def test_strings_that_are_not_utf8_stay_as_they_are():
    found = predict_json({"y": texts(b"\xff\x00\x1f")}, "row")
    assert found == b'{\n    "predictions": ["\xff\\u0000\\u001F"\n    ]\n}'


def test_only_names_that_end_in_bytes_are_bytes():
    assert b"b64" not in predict_json({"bytes": texts(b"a")}, "row")
    assert b"b64" in predict_json({"_bytes": texts(b"a")}, "row")
    assert b"b64" not in predict_json({"n_bytes": np.int64([1])}, "row")


# --- errors ---------------------------------------------------------------------------------------


def test_no_outputs():
    assert problem({}) == "Cannot convert empty tensor map to JSON"


@pytest.mark.parametrize(
    ("dtype", "shown"), [("complex64", "complex64"), ("float16", "half"), ("uint16", "uint16")]
)
@pytest.mark.parametrize("layout", ["row", "columnar"])
def test_dtypes_that_json_has_no_form_for(dtype, shown, layout):
    message = problem({"y": np.ones(2, dtype)}, layout)
    assert message == f"Failed to write JSON value for tensor type: {shown}"
    predict_json({"y": np.ones((0, 2), dtype)}, layout)  # nothing to write


def test_rows_need_a_batch_dimension():
    assert problem({"y": np.asarray(np.int32(1))}) == "Tensor name: y has no shape information "


@pytest.mark.parametrize(("one", "other"), [(2, 1), (0, 1)])
def test_rows_need_one_batch_size(one, other):
    outputs = {"a": np.zeros((one, 2)), "b": np.zeros((other, 2))}
    assert (
        problem(outputs) == f"Tensor name: b has inconsistent batch size: {other} expecting: {one}"
    )


def test_errors_are_objects():
    assert error_json('Bad key: "key"') == b'{\n    "error": "Bad key: \\"key\\""\n}'
    assert error_json("Bad key: 'key'") == b'{\n    "error": "Bad key: \'key\'"\n}'
    assert json.loads(error_json("\udcff\u00e9")) == {"error": "\ufffd\u00e9"}


# --- numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (9000000, "9e+06"),
        (999999, "999999.0"),
        (0.5, "0.5"),
        (0.0003, "0.0003"),
        (0.00003, "3e-05"),
        (555557.5, "555557.5"),
        (0.1, "0.1"),
        (1 / 3, "0.333333343"),
        (16777217, "16777216.0"),
        (123456789, "123456792.0"),
        (1e10, "1e+10"),
        (3.4028235e38, "3.40282347e+38"),
        (1e-45, "1.4013e-45"),
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
    ],
)
def test_floats_have_six_digits_or_nine(value, text):
    single = np.float32(value)
    assert decimal32(single.item()) == text
    assert decimals(np.full(20, single)) == [text] * 20


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (1 / 3, "0.33333333333333331"),
        (1e22, "1e+22"),
        (123456789.0, "123456789.0"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (5e-324, "4.94066e-324"),
        (1e300, "1e+300"),
        (-0.0, "-0.0"),
        (math.nan, "NaN"),
        (-math.inf, "-Infinity"),
    ],
)
def test_doubles_have_six_digits_or_seventeen(value, text):
    assert decimal64(value) == text
    assert decimals(np.full(20, value)) == [text] * 20


@given(st.floats(width=32), st.floats())
def test_numbers_come_back(single, double):
    for value, text in ((single, decimal32(single)), (double, decimal64(double))):
        again = float(text.replace("Infinity", "inf"))
        if value == single:
            again = np.float32(again).item()
        assert again == value or math.isnan(value)
        assert "." in text or "e" in text or not math.isfinite(value)


@given(npst.arrays(st.sampled_from([np.dtype("f4"), np.dtype("f8")]), st.integers(0, 40)))
def test_many_numbers_are_written_as_one_is(values):
    one = decimal32 if values.dtype == np.float32 else decimal64
    assert decimals(values) == [one(value) for value in values.tolist()]


# --- from remembered answers ----------------------------------------------------------------------


def answers_of(outputs) -> list[bytes]:
    return [seal_answer(body) for body in cut(*encode_bodies(outputs))]


@st.composite
def batches(draw):
    count = draw(st.integers(1, 4))
    numbers = st.sampled_from(["f4", "f8", "i4", "i8", "?"]).map(np.dtype)
    outputs = {}
    for name in draw(st.sets(st.sampled_from(["y", "a", "z_bytes", "\u00e9"]), min_size=1)):
        shape = (count, *draw(npst.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3)))
        strings = npst.arrays(object, shape, elements=st.binary(max_size=4), fill=st.nothing())
        outputs[name] = draw(strings | npst.arrays(numbers, shape))
    return outputs


@settings(max_examples=150, deadline=None)
@given(batches())
def test_answers_are_written_as_their_tensors_are(outputs):
    writer, answers = AnswerWriter(), answers_of(outputs)
    expected = predict_json(outputs, "row")
    assert writer.write(answers) == expected
    assert writer.write(answers) == expected  # from memory
    first = {name: value[:1] for name, value in outputs.items()}
    assert writer.write(answers[:1]) == predict_json(first, "row")


def test_what_is_remembered_is_bounded():
    writer = AnswerWriter(max_bytes=10_000)
    for number in range(2_000):
        outputs = {"y": np.array([number], np.int64)}
        assert writer.write(answers_of(outputs)) == predict_json(outputs, "row")
    kept = [*writer._texts, *writer._bodies, *writer._bodies.values()]
    assert sum(map(len, kept)) < 10_000
    large = {"y": np.zeros((1, 9_000))}
    assert writer.write(answers_of(large)) == predict_json(large, "row")
    assert answers_of(large)[0] not in writer._texts


def test_answers_of_different_models_are_not_mixed():
    one, two = encode_answer({"y": cell(np.float32(1))}), encode_answer({"y": cell(np.float64(1))})
    with pytest.raises(DataError, match="different models"):
        AnswerWriter().write([one, two])


def test_a_damaged_answer_is_refused():
    answer = encode_answer({"y": cell(np.float32(1))})
    with pytest.raises(DataError):
        AnswerWriter().write([answer[:-1]])


def test_an_answer_that_json_has_no_form_for_is_refused_as_its_tensor_is():
    answer = encode_answer({"y": cell(np.float16(1))})
    with pytest.raises(ServingError, match="tensor type: half"):
        AnswerWriter().write([answer])
