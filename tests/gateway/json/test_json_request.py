"""Predict requests: a test, at least, for each case of TF Serving's json_tensor_test.cc."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfx_encore.gateway.errors import Code, ServingError, invalid
from tfx_encore.gateway.rest.json_request import JsonPredict, parse_predict
from tfx_encore.gateway.rest.json_response import error_json
from tfx_encore.gateway.signature import TensorSpec


def parse(body: bytes | str | dict, **dtypes: str) -> JsonPredict:
    """Parses a request for a signature with these inputs."""
    data = json.dumps(body) if isinstance(body, dict) else body
    specs = {name: TensorSpec(dtype, None) for name, dtype in dtypes.items()}
    return parse_predict(data.encode() if isinstance(data, str) else data, lambda _: specs)


def problem(body: bytes | str | dict, **dtypes: str) -> str:
    with pytest.raises(ServingError) as caught:
        parse(body, **dtypes)
    assert caught.value.code == Code.INVALID_ARGUMENT
    return caught.value.message


def same(array: np.ndarray, values, dtype) -> None:
    expected = np.array(values, dtype=dtype)
    assert array.dtype == expected.dtype
    assert array.shape == expected.shape
    assert (
        array.tobytes() == expected.tobytes() if dtype is not object else (array == expected).all()
    )


# --- the row format -------------------------------------------------------------------------------


def test_one_input_may_stand_without_its_name():
    found = parse({"instances": [[1, 2], [3, 4], [5, 6]]}, default="int32")
    assert (found.format, found.signature, set(found.inputs)) == ("row", "", {"default"})
    same(found.inputs["default"], [[1, 2], [3, 4], [5, 6]], np.int32)


def test_deep_lists_under_a_key_that_nobody_reads_do_no_harm():
    body = '{"instances":[1], "nested":' + "[" * 500_000 + "]" * 500_000 + "}"
    same(parse(body, default="int32").inputs["default"], [1], np.int32)


def test_deep_lists_for_the_signature_name_are_refused():
    body = '{"signature_name":' + "[" * 500_000 + "]" * 500_000 + "}"
    assert "'signature_name' key must be a string value." in problem(body, default="int32")


def test_deep_lists_for_an_input_are_refused():
    deep = "[" * 100_000 + "1" + "]" * 100_000
    assert problem('{"instances":[' + deep + "]}", x="int32") == "tensor parsing error: x"
    assert problem('{"inputs":' + deep + "}", x="int32") == "tensor parsing error: x"
    assert "found at incorrect level: 2 " in problem('{"inputs":[' + deep + ", 1]}", x="int32")


@pytest.mark.parametrize(("dtype", "kind"), [("float32", np.float32), ("float64", np.float64)])
def test_floats_take_integers_too(dtype, kind):
    found = parse('{"instances": [1, 2.0, -0, -0.0, 5.003, 0.007, 1e3]}', x=dtype)
    same(found.inputs["x"], [1, 2, 0.0, -0.0, 5.003, 0.007, 1000], kind)


@pytest.mark.parametrize("literal", ["1435774380", "1435774380.0"])
def test_floats_take_numbers_that_they_cannot_hold(literal):
    found = parse(f'{{"instances": [{literal}]}}', x="float32")
    same(found.inputs["x"], [1435774336], np.float32)


def test_integers_become_floats_by_way_of_doubles():
    # Halfway between two floats as a double; as an integer a little above.
    literal = 2**60 + 2**36 + 1
    found = parse({"instances": [literal]}, x="float32")
    assert found.inputs["x"][0] == np.float32(np.float64(literal)) != np.float32(np.int64(literal))


def test_doubles_beyond_a_float_become_infinite_or_zero():
    found = parse(
        '{"instances": [1.79769e+308, -1.79769e+308, 2.22507e-308, -2.22507e-308]}', x="float32"
    )
    same(found.inputs["x"], [np.inf, -np.inf, 0.0, -0.0], np.float32)


def test_not_a_number_and_infinities_are_numbers():
    found = parse('{"instances": [NaN, Infinity, -Infinity]}', x="float64")
    assert np.isnan(found.inputs["x"][0])
    same(found.inputs["x"][1:], [np.inf, -np.inf], np.float64)


def test_the_signature_is_told():
    found = parse({"signature_name": "predict_images", "instances": [[1, 2]]}, default="int32")
    assert found.signature == "predict_images"
    same(found.inputs["default"], [[1, 2]], np.int32)


def test_what_follows_the_document_is_not_read():
    same(parse('{"instances": [[1,2],[3,4]]}X', x="int32").inputs["x"], [[1, 2], [3, 4]], np.int32)


@pytest.mark.parametrize("extra", ["", '{"b64":"!"}', "5"])
def test_keys_that_nobody_reads_may_hold_anything(extra):
    body = '{"instances": [1], "other": ' + (extra or "null") + ', "version": 7}'
    same(parse(body, x="int64").inputs["x"], [1], np.int64)


@pytest.mark.parametrize(
    ("instances", "values"),
    [
        ([{"b64": "aGVsbG8="}, {"b64": "d29ybGQ="}], [b"hello", b"world"]),
        ([[{"b64": "aGVsbG8="}], [{"b64": "d29ybGQ="}]], [[b"hello"], [b"world"]]),
        ([{"b64": "aGVsbG8="}, "plain"], [b"hello", b"plain"]),
        (["h\u00e9", ""], ["h\u00e9".encode(), b""]),
    ],
)
def test_strings_are_text_or_base_64(instances, values):
    same(parse({"instances": instances}, default="string").inputs["default"], values, object)


def test_one_input_may_be_named():
    body = {"instances": [{"default": [[{"b64": "aGVsbG8="}], [{"b64": "d29ybGQ="}]]}]}
    same(parse(body, default="string").inputs["default"], [[[b"hello"], [b"world"]]], object)


def test_several_inputs_of_several_dtypes():
    body = """{"instances": [
        {"i": [[1,2],[3,4],[5,6]], "s": ["foo", "bar"], "f": [1.0, NaN], "d": [NaN]},
        {"f": [2.0, Infinity], "i": [[7,8],[9,0],[1,2]], "s": ["baz", "bat"], "d": [2.0]}
    ]}"""
    inputs = parse(body, i="int32", s="string", f="float32", d="float64").inputs
    same(inputs["i"], [[[1, 2], [3, 4], [5, 6]], [[7, 8], [9, 0], [1, 2]]], np.int32)
    same(inputs["s"], [[b"foo", b"bar"], [b"baz", b"bat"]], object)
    same(inputs["f"], [[1, np.nan], [2, np.inf]], np.float32)
    same(inputs["d"], [[np.nan], [2]], np.float64)


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        ("int32", -(2**31), 2**31 - 1),
        ("int64", -(2**63), 2**63 - 1),
        ("uint32", 0, 2**32 - 1),
        ("uint64", 0, 2**64 - 1),
    ],
)
def test_integers_are_taken_up_to_their_bounds_and_no_further(dtype, low, high):
    same(parse({"instances": [low, high]}, x=dtype).inputs["x"], [low, high], dtype)
    for value in (low - 1, high + 1):
        assert f"Type: Number is not of expected type: {dtype}" in problem(
            {"instances": [value]}, x=dtype
        )


@pytest.mark.parametrize(
    ("dtype", "given_value", "kept"), [("int8", 300, 44), ("uint8", -1, 255), ("int16", 65535, -1)]
)
def test_small_integers_keep_the_lowest_bits(dtype, given_value, kept):
    same(parse({"instances": [given_value, 1]}, x=dtype).inputs["x"], [kept, 1], dtype)
    assert "is not of expected type" in problem({"instances": [2**31]}, x=dtype)


@pytest.mark.parametrize("value", ["1.0", "1e2", "-0.0", "true", "null", '"1"', '{"a": 1}', "NaN"])
@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint64"])
def test_integers_take_nothing_else(dtype, value):
    message = problem('{"inputs": [' + value + "]}", x=dtype)
    assert message.endswith(f" is not of expected type: {dtype}")


@pytest.mark.parametrize("value", ["true", "null", '"1"', "{}", '{"b64": "YQ=="}'])
@pytest.mark.parametrize(("dtype", "shown"), [("float32", "float"), ("float64", "double")])
def test_floats_take_nothing_but_numbers(dtype, shown, value):
    message = problem('{"inputs": {"x": ' + value + "}}", x=dtype)
    assert message.endswith(f" is not of expected type: {shown}")


@pytest.mark.parametrize("value", ["1", "0.5", "null", '"true"'])
def test_booleans_take_nothing_else(value):
    assert "is not of expected type: bool" in problem('{"inputs": [' + value + "]}", x="bool")
    same(parse('{"inputs": [true, false]}', x="bool").inputs["x"], [True, False], np.bool_)


@pytest.mark.parametrize("value", ["1", "0.5", "null", "true"])
def test_strings_take_nothing_but_text_and_bytes(value):
    assert "is not of expected type: string" in problem('{"inputs": [' + value + "]}", x="string")


@pytest.mark.parametrize(
    "value",
    ['{"b64": 5}', '{"b64": "YQ==", "x": 1}', '{"b64": "YQ==", "b64": "YQ=="}', '{"c": ""}'],
)
def test_an_object_that_is_not_base_64_is_refused(value):
    message = problem('{"inputs": {"x": [' + value + "]}}", x="string")
    assert message.endswith(" not formatted correctly for base64 data")


def test_bad_base_64_is_refused():
    assert problem({"inputs": [{"b64": "a"}]}, x="string") == "Unable to base64 decode"


def test_bytes_that_are_not_utf8_reach_a_string_input_unchanged():
    found = parse(b'{"instances": ["\xff\x00"]}'.replace(b"\x00", b"\\udc00"), x="string")
    same(found.inputs["x"], [b"\xff\xed\xb0\x80"], object)


@pytest.mark.parametrize(
    ("dtype", "shown"), [("float16", "half"), ("bfloat16", "bfloat16"), ("uint16", "uint16")]
)
def test_other_dtypes_cannot_be_given_as_json(dtype, shown):
    with pytest.raises(ServingError) as caught:
        parse({"inputs": [1]}, x=dtype)
    assert caught.value.code == Code.UNIMPLEMENTED
    assert caught.value.message == f"Conversion of JSON Value: 1 to type: {shown}"
    assert problem({"instances": [1]}, x=dtype) == (
        "Failed to process element: 0 of 'instances' list. Error: UNIMPLEMENTED: "
        f"Conversion of JSON Value: 1 to type: {shown}"
    )


# --- the columnar format --------------------------------------------------------------------------


@pytest.mark.parametrize("inputs", [{"x": [[[1, 2], [3, 4]]]}, [[[1, 2], [3, 4]]]])
def test_columnar_takes_one_input_with_or_without_its_name(inputs):
    found = parse({"inputs": inputs}, x="int32")
    assert found.format == "columnar"
    same(found.inputs["x"], [[[1, 2], [3, 4]]], np.int32)


def test_columnar_takes_inputs_of_any_shape():
    body = {
        "inputs": {"i": [[[1, 2], [3, 4]]], "s": ["foo", "bar"], "b": {"b64": "aGVsbG8="}, "n": []}
    }
    inputs = parse(body, i="int32", s="string", b="string", n="float32").inputs
    same(inputs["i"], [[[1, 2], [3, 4]]], np.int32)
    same(inputs["s"], [b"foo", b"bar"], object)
    assert inputs["b"].shape == ()
    assert inputs["b"][()] == b"hello"
    same(inputs["n"], [], np.float32)


@pytest.mark.parametrize(
    ("inputs", "dtype", "value"), [(5, "int64", 5), ("a", "string", b"a"), (True, "bool", True)]
)
def test_columnar_takes_scalars(inputs, dtype, value):
    found = parse({"inputs": inputs}, x=dtype).inputs["x"]
    assert found.shape == ()
    assert found[()] == value


def test_columnar_ignores_inputs_that_the_signature_does_not_name():
    assert set(parse({"inputs": {"x": [1], "y": [2]}}, x="int32").inputs) == {"x"}


def test_columnar_takes_the_first_of_repeated_names():
    same(parse('{"inputs": {"x": [1], "x": [2]}}', x="int32").inputs["x"], [1], np.int32)


def test_columnar_misses_an_input():
    message = problem({"inputs": {"x": [1]}}, x="int32", y="int32")
    assert message == "Missing named input: y in 'inputs' object."


@pytest.mark.parametrize("inputs", [[1], 1, "a", {"b64": "YQ=="}])
def test_columnar_needs_names_where_there_are_several_inputs(inputs):
    assert problem({"inputs": inputs}, x="int32", y="int32") == (
        "inputs is a plain value/list, but expecting an object as multiple input tensors "
        "required as per tensorinfo_map"
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([[1, 2], [3]], "Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
        ([1, [2]], "Encountered list at unexpected level: 1 expected < 1"),
        (
            [[1], 2],
            "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2",
        ),
        (
            [[], 2],
            "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2",
        ),
        ([[], [1]], "Encountered list at unexpected size: 1 at level: 1 expected size: 0"),
        (["a", [1]], 'JSON Value: "a" Type: String is not of expected type: int32'),
    ],
)
def test_uneven_lists_are_refused_at_the_first_that_is_wrong(value, message):
    assert problem({"inputs": value}, x="int32") == message


@pytest.mark.parametrize("value", [[[], []], [[[]], [[]]]])
def test_empty_lists_have_a_shape(value):
    assert parse({"inputs": value}, x="float32").inputs["x"].shape == np.array(value).shape


# --- which error comes first ----------------------------------------------------------------------


def test_an_empty_body():
    assert problem(b"", x="int32") == "JSON Parse error: The document is empty"


def test_the_signature_is_looked_at_before_anything_else():
    assert "must be a string value" in problem('{"signature_name": 5, "instances": 7}', x="int32")


def test_an_unknown_signature_comes_before_what_is_wrong_with_the_inputs():
    def none(name: str):
        raise invalid(f"no {name}")

    with pytest.raises(ServingError, match="no other"):
        parse_predict(b'{"signature_name": "other", "instances": 5, "inputs": 6}', none)


@pytest.mark.parametrize(("name", "shown"), [("", "DEFAULT"), ("other", "other")])
def test_a_signature_without_inputs(name, shown):
    message = problem({"signature_name": name, "instances": [1]})
    assert message == f"Failed to get input map for signature: {shown}"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "Missing 'inputs' or 'instances' key"),
        ({"Instances": [1]}, "Missing 'inputs' or 'instances' key"),
        (
            {"instances": [1], "inputs": [2]},
            'JSON Value: {\n    "instances": [1],\n    "inputs": [2]\n} Not formatted correctly '
            "expecting only one of 'inputs' or 'instances' keys to exist ",
        ),
        (
            {"instances": 1},
            "JSON Value: {\n    \"instances\": 1\n} Expecting 'instances' to be an list/array",
        ),
        (
            {"instances": []},
            "JSON Value: {\n    \"instances\": []\n} No values in 'instances' array",
        ),
    ],
)
def test_what_is_wrong_with_the_document(body, message):
    assert problem(body, x="int32") == message


def element(place: int, error: str, key: str = "") -> str:
    named = f" key: {key}" if key else ""
    return (
        f"Failed to process element: {place}{named} of 'instances' list. "
        f"Error: INVALID_ARGUMENT: {error}"
    )


@pytest.mark.parametrize(
    ("instances", "message"),
    [
        ([[1, 2], [3, 4], [5, 6, 7]], element(2, "Expecting tensor size: 2 but got: 3")),
        ([[1, 2], [3, 4], [[5, 6]]], element(2, "Expecting shape [2] but got: [1,2]")),
        ([1, [1]], element(1, "Expecting shape [] but got: [1]")),
        ([[1], 1], element(1, "Expecting shape [1] but got: []")),
        ([[], [[]]], element(1, "Expecting shape [0] but got: [1,0]")),
        (
            [[1, 2], ["a", "b"]],
            element(1, 'JSON Value: "a" Type: String is not of expected type: int32'),
        ),
        (
            [1, {"b64": "YQ=="}],
            element(
                1,
                'JSON Value: {\n    "b64": "YQ=="\n} Type: Object is not of expected type: int32',
            ),
        ),
        ([1, {"x": 1}], "Expecting value/list but got object at item 1 of input list"),
    ],
)
def test_what_is_wrong_with_instances_without_names(instances, message):
    assert problem({"instances": instances}, x="int32") == message


ROW = {"i": [[1, 2], [3, 4], [5, 6]], "s": ["foo", "bar"]}


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (
            {"i": [[[1, 2], [3, 4], [5, 6]]], "s": ["a", "b"]},
            element(1, "Expecting shape [3,2] but got: [1,3,2]", "i"),
        ),
        (
            {"i": [[1, 2], [3, 4]], "s": ["a", "b"]},
            element(1, "Expecting tensor size: 6 but got: 4", "i"),
        ),
        ([1, 20, 30], "Expecting object but got list at item 1 of input list"),
        (5, "Expecting object but got list at item 1 of input list"),
        ({"b64": "YQ=="}, "Expecting object but got list at item 1 of input list"),
        (
            ROW | {"more": 1},
            element(1, "JSON object: does not have named input: more", "more"),
        ),
        (
            {"s": ["a", "b"]},
            "Failed to process element: 1 of 'instances' list. JSON object: {\n"
            '    "s": ["a", "b"]\n} keys must be equal to: i,s',
        ),
    ],
)
def test_what_is_wrong_with_instances_with_names(second, message):
    assert problem({"instances": [ROW, second]}, i="int32", s="string") == message


@pytest.mark.parametrize("first", [1, [1], "a", None])
def test_instances_need_names_where_there_are_several_inputs(first):
    assert problem({"instances": [first]}, x="int32", y="int32") == (
        "instances is a plain list, but expecting list of objects as multiple input tensors "
        "required as per tensorinfo_map"
    )


def test_bytes_for_several_inputs_are_one_input_only():
    assert set(parse({"instances": [{"b64": "YQ=="}]}, x="string", y="int32").inputs) == {"x"}


def test_an_input_may_be_called_b64():
    found = parse({"instances": [{"b64": 1}, {"b64": 2}]}, b64="int32")
    same(found.inputs["b64"], [1, 2], np.int32)
    message = problem({"instances": [{"b64": [1]}, {"b64": "YQ=="}]}, b64="int32")
    assert message == "Expecting object but got list at item 1 of input list"


def test_a_name_repeated_in_an_instance_shifts_the_values_as_it_does_there():
    body = '{"instances": [{"x": 1, "x": 2}, {"x": 3}]}'
    same(parse(body, x="int32").inputs["x"], [1, 2], np.int32)


def test_names_of_inputs_end_at_a_zero_byte():
    same(parse('{"instances": [{"x\\u0000y": 1}]}', x="int32").inputs["x"], [1], np.int32)
    message = problem('{"instances": [{"z\\u0000y": 1}]}', x="int32")
    assert message == element(0, "JSON object: does not have named input: z", "z")


def test_a_name_that_is_not_utf8_is_refused_in_a_message_that_is():
    message = problem(b'{"instances": [{"\xff": 1}]}', x="int32")
    assert message == element(0, "JSON object: does not have named input: \ufffd", "\ufffd")


# --- properties -----------------------------------------------------------------------------------

DTYPES = {"a": "float32", "b": "int64", "c": "string", "d": "bool", "e": "float64"}
leaf = (
    st.integers(-(2**65), 2**65)
    | st.floats()
    | st.booleans()
    | st.none()
    | st.text(max_size=4)
    | st.just({"b64": "YQ=="})
)
value = st.recursive(leaf, lambda inner: st.lists(inner, max_size=3), max_leaves=6)
names = st.sampled_from([*DTYPES, "f", "instances"])
instance = value | st.dictionaries(names, value, max_size=5)
document = st.fixed_dictionaries(
    {},
    optional={
        "instances": value | st.lists(instance, max_size=3),
        "inputs": instance,
        "signature_name": st.text(max_size=3) | value,
        "other": value,
    },
)


@settings(max_examples=400, deadline=None)
@given(body=document.map(json.dumps).map(str.encode) | st.binary(), count=st.integers(1, 5))
def test_any_bytes_give_tensors_or_a_serving_error(body, count):
    dtypes = dict(list(DTYPES.items())[:count])
    try:
        found = parse(body, **dtypes)
    except ServingError as error:
        error_json(error.message).decode()  # it is UTF-8 even if the request was not
        return
    assert set(found.inputs) <= set(dtypes)
    assert all(isinstance(array, np.ndarray) for array in found.inputs.values())


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {
                "a": st.lists(st.floats(width=32), min_size=2, max_size=2),
                "b": st.integers(-(2**63), 2**63 - 1),
                "c": st.text(max_size=5),
                "d": st.booleans(),
                "e": st.floats(),
            }
        ),
        min_size=1,
        max_size=4,
    )
)
def test_rows_and_columns_of_the_same_values_are_the_same_tensors(rows):
    by_rows = parse({"instances": rows}, **DTYPES).inputs
    by_columns = parse({"inputs": {n: [row[n] for row in rows] for n in DTYPES}}, **DTYPES).inputs
    for name in DTYPES:
        assert by_rows[name].dtype == by_columns[name].dtype
        np.testing.assert_array_equal(by_rows[name], by_columns[name])
