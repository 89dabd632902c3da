"""Classify and Regress: requests and results as in TensorFlow Serving's json_tensor_test.cc."""

from __future__ import annotations

import json
import math
import struct
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfx_encore.cache.tf_example import Example
from tfx_encore.gateway.errors import Code, ServingError
from tfx_encore.gateway.rest.json_examples import (
    classification_json,
    parse_examples,
    regression_json,
)


def features(serialized: bytes) -> dict[str, tuple[str | None, list]]:
    """Returns the features of an Example as protobuf reads them."""
    found = {}
    for name, feature in Example.FromString(serialized).features.feature.items():
        kind = feature.WhichOneof("kind")
        found[name] = (kind, list(getattr(feature, kind).value) if kind else [])
    return found


def parse(body) -> tuple[str, list[dict]]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    signature, examples = parse_examples(data)
    return signature, [features(example) for example in examples]


def problem(body) -> str:
    with pytest.raises(ServingError) as caught:
        parse(body)
    assert caught.value.code == Code.INVALID_ARGUMENT
    return caught.value.message


def test_examples_without_context():
    signature, (first, second) = parse(
        {
            "examples": [
                {"names": ["foo", "bar"], "ratings": [8.0, 9.0], "age": 20},
                {"names": ["baz"], "ratings": 6.0},
            ]
        }
    )
    assert signature == ""
    assert first == {
        "names": ("bytes_list", [b"foo", b"bar"]),
        "ratings": ("float_list", [8.0, 9.0]),
        "age": ("int64_list", [20]),
    }
    assert second == {"names": ("bytes_list", [b"baz"]), "ratings": ("float_list", [6.0])}


def test_the_context_is_merged_into_each_example():
    signature, examples = parse(
        b"""{
        "signature_name": "custom",
        "context": {"query": "pizza", "names": ["sfo"]},
        "examples": [
            {"ratings": [8.0, NaN, Infinity]},
            {"names": ["baz", {"b64": "aGVsbG8="}], "mix": [1, true, false, -1]},
            {"ratings": -Infinity}
        ]}"""
    )
    assert signature == "custom"
    query, names = ("bytes_list", [b"pizza"]), ("bytes_list", [b"sfo"])
    assert examples[0]["query"] == query
    assert math.isnan(examples[0]["ratings"][1][1])
    assert examples[0]["ratings"][1][2] == math.inf
    assert examples[1] == {
        "query": query,
        "names": ("bytes_list", [b"baz", b"hello"]),
        "mix": ("int64_list", [1, 1, 0, -1]),
    }
    assert examples[2] == {"query": query, "names": names, "ratings": ("float_list", [-math.inf])}


def test_features_without_values_have_no_kind():
    assert parse({"examples": [{"a": []}, {}]})[1] == [{"a": (None, [])}, {}]


def test_numbers_are_rounded_to_floats():
    ((found,),) = (parse(b'{"examples": [{"a": [0.1, 1e300, 1e-300], "b": 1e300}]}')[1],)
    single = struct.unpack("<f", struct.pack("<f", 0.1))[0]
    assert found["a"][1] == [single, math.inf, 0.0]
    assert found["b"][1] == [math.inf]


def test_the_last_of_repeated_features_counts():
    body = b'{"examples": [{"a": 1, "a": ["x"]}]}'
    assert parse(body)[1] == [{"a": ("bytes_list", [b"x"])}]


def test_bounds_of_integers():
    assert parse({"examples": [{"a": [2**63 - 1, -(2**63)]}]})[1] == [
        {"a": ("int64_list", [2**63 - 1, -(2**63)])}
    ]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            {"signature_name": ["x"], "context": 5},
            'JSON Value: {\n    "signature_name": ["x"],\n    "context": 5\n} not formatted '
            "correctly. 'signature_name' key must be a string value.",
        ),
        ({"context": [{}]}, "Example must be JSON object but got JSON Array"),
        (
            {},
            "JSON Value: {} When method is classify, key 'examples' is expected and was not found",
        ),
        (
            {"examples": {}},
            "JSON Value: {\n    \"examples\": {}\n} Expecting 'examples' value to be an list/array",
        ),
        (
            {"examples": []},
            "JSON Value: {\n    \"examples\": []\n} 'examples' value is an empty array",
        ),
        ({"examples": [[{}]]}, "Example must be JSON object but got JSON Array"),
        ({"examples": [True]}, "Example must be JSON object but got JSON True"),
        (
            {"examples": [{"names": [10, None]}]},
            "Feature: names has element with unexpected JSON type: Null",
        ),
        (
            {"examples": [{"names": [10, 10.0]}]},
            "Unexpected element type in feature: names expecting type: int64",
        ),
        (
            {"examples": [{"names": ["a", 1]}]},
            "Unexpected element type in feature: names expecting type: bytes",
        ),
        (
            {"examples": [{"names": [1.5, True]}]},
            "Unexpected element type in feature: names expecting type: float",
        ),
        (
            {"examples": [{"names": [10, {"test": 10}]}]},
            "Feature: names has element with unexpected JSON type: Object",
        ),
        (
            {"examples": [{"names": [[10], 20]}]},
            "Feature: names has element with unexpected JSON type: Array",
        ),
        (
            {"examples": [{"names": [20, 18446744073709551603]}]},
            "Feature: names has uint64_t element. Only int64_t is supported.",
        ),
        ({"examples": [{"names": {"b64": "!"}}]}, "Unable to base64 decode"),
    ],
)
def test_what_is_wrong(body, message):
    assert problem(body) == message


@settings(max_examples=200, deadline=None)
@given(st.binary() | st.text().map(lambda text: json.dumps({"examples": [{text: text}]}).encode()))
def test_any_bytes_give_examples_or_a_serving_error(body):
    try:
        _, examples = parse_examples(body)
    except ServingError:
        return
    assert examples


scalar = (
    st.text(max_size=3) | st.integers(-(2**63), 2**63 - 1) | st.floats(width=32, allow_nan=False)
)


names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=4)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(names, scalar))
def test_features_come_back(example):
    (found,) = parse({"examples": [example]})[1]
    kinds = {str: "bytes_list", int: "int64_list", float: "float_list"}
    assert found == {
        name: (kinds[type(value)], [value.encode() if isinstance(value, str) else value])
        for name, value in example.items()
    }


# --- results --------------------------------------------------------------------------------------


def classes(*pairs):
    return SimpleNamespace(
        classes=[SimpleNamespace(label=label, score=score) for label, score in pairs]
    )


def test_classifications():
    single = struct.unpack("<3f", struct.pack("<3f", 0.2, 0.7, 1 / 3))
    result = SimpleNamespace(
        classifications=[
            classes(("car", single[0]), ('bi"ke', single[1])),
            classes(("", single[2])),
            classes(),
        ]
    )
    assert classification_json(result).decode() == (
        '{\n    "results": [[["car", 0.2], ["bi\\"ke", 0.7]], [["", 0.333333343]], []\n    ]\n}'
    )


def test_regressions():
    values = [0.5, math.inf, 1.0, -math.inf, math.nan]
    result = SimpleNamespace(regressions=[SimpleNamespace(value=value) for value in values])
    assert regression_json(result).decode() == (
        '{\n    "results": [0.5, Infinity, 1.0, -Infinity, NaN]\n}'
    )


def test_empty_results_are_refused():
    with pytest.raises(ServingError, match="Cannot convert empty ClassificationResults to JSON"):
        classification_json(SimpleNamespace(classifications=[]))
    with pytest.raises(ServingError, match="Cannot convert empty RegressionResults to JSON"):
        regression_json(SimpleNamespace(regressions=[]))
