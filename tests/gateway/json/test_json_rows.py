"""The quick way: whenever it is sure, the full parser accepts the body and makes the same rows."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfx_encore.cache.row_spec import FeatureSpec, SignatureSpec
from tfx_encore.cache.rows import decode_row, encode_row
from tfx_encore.cache.tf_example import Example, ExampleRows
from tfx_encore.cache.tf_predict import rows_of_tensors
from tfx_encore.gateway.errors import ServingError
from tfx_encore.gateway.rest.json_careful import parse_carefully
from tfx_encore.gateway.rest.json_request import parse_predict
from tfx_encore.gateway.rest.json_rows import RowReader, parse_quick
from tfx_encore.gateway.signature import PREDICT, Signature, TensorSpec
from tfx_encore.schemas.errors import DataError


def tensor(name: str, dtype: str, shape: tuple[int, ...] = (), in_key: bool = True) -> FeatureSpec:
    return FeatureSpec(name, "tensor", dtype, shape, in_key=in_key)


def signature_of(spec: SignatureSpec) -> Signature:
    if spec.form != "tensors":
        inputs = {spec.input_name: TensorSpec("string", (-1,))}
    else:
        inputs = {f.name: TensorSpec(f.dtype, (-1, *f.shape)) for f in spec.features}
    return Signature(spec.signature, PREDICT, inputs, {})


def tensors(*features: FeatureSpec) -> SignatureSpec:
    return SignatureSpec("serving_default", "tensors", features=features)


def full_rows(spec: SignatureSpec, body: bytes) -> list[bytes]:
    """The rows by the full parser and numpy, as the gateway makes them."""
    signature = signature_of(spec)
    inputs = parse_predict(body, lambda _: signature.inputs).inputs
    if spec.form == "tensors":
        return [encode_row(row) for row in rows_of_tensors(spec, inputs)]
    examples = inputs[spec.input_name]
    assert examples.ndim == 1
    reader = ExampleRows(spec)
    return [encode_row(reader.row(example)) for example in examples]


def quick_rows(spec: SignatureSpec, body: bytes) -> list[bytes] | None:
    quick = parse_quick(body)
    return None if quick is None else RowReader(spec, signature_of(spec)).rows(quick.instances)


MIXED = tensors(
    tensor("b", "float32"),
    tensor("a", "int64"),
    tensor("c", "string"),
    tensor("e", "bool"),
    tensor("d", "float64"),
    tensor("i", "int32"),
    tensor("u", "uint8"),
)
ROW = {"a": -7, "b": 0.1, "c": "h\u00e9", "d": 1, "e": True, "i": 5, "u": 255}


def body_of(*instances, **more) -> bytes:
    return json.dumps(more | {"instances": list(instances)}).encode()


# --- bodies ---------------------------------------------------------------------------------------


def test_a_usual_body_is_read():
    quick = parse_quick(b' {"signature_name": "s", "instances": [{"a": "12:30"}, {"a": "b:"}]} ')
    assert quick == ("s", [{"a": "12:30"}, {"a": "b:"}])
    assert parse_quick(b'{"instances": [[1, 2]]}') == ("", [[1, 2]])
    assert parse_quick(b'{"instances": [{"a": {"b64": "YQ=="}}]}') is not None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[1]",
        b'{"instances": []}',
        b'{"instances": 5}',
        b'{"inputs": [1]}',
        b'{"instances": [1], "inputs": [1]}',
        b'{"instances": [1], "other": 1}',
        b'{"instances": [1], "signature_name": 5}',
        b'{"instances": [1], "signature_name": "a", "other": 1}',
        b'{"instances": [1], "instances": [2]}',
        b'{"signature_name": "a", "signature_name": "b", "instances": [1]}',
        b'{"instances": [{"a": 1, "a": 2}]}',
        b'{"instances": [{"a" : 1, "b:": 3, "a"\n: 2}]}',
        b'{"instances": [{"a": {"b64": "YQ==", "b64": "YQ=="}}]}',
        b'{"instances": [NaN]}',
        b'{"instances": [1]} more',
        b'\xef\xbb\xbf{"instances": [1]}',
        b'{"instances": ["\xff"]}',
        b'{"instances": [0e400]}',
        b'{"instances": [0.00E+999]}',
        b'{"instances": [' + b"1" * 400 + b"e-200]}",
    ],
)
def test_an_unusual_body_is_left_to_the_full_parser(body):
    assert parse_quick(body) is None


def test_a_repeated_name_is_never_overlooked_for_colons_in_text():
    # orjson sees two names here, and there are as many colons as names that it does not see.
    assert parse_quick(b'{"instances": [{"a": ":", "a": 1}]}') is None
    assert parse_quick(b'{"instances": [{"a": "\\":", "a": 1}]}') is None


# --- rows -----------------------------------------------------------------------------------------


def test_rows_equal_those_of_the_full_way():
    body = body_of(ROW, ROW | {"b": 3, "d": -0.0, "c": "", "e": False}, signature_name="x")
    rows = quick_rows(MIXED, body)
    assert rows == full_rows(MIXED, body)
    assert rows is not None
    assert list(decode_row(rows[0])) == sorted(ROW)


@pytest.mark.parametrize(
    "change",
    [
        {"a": 1.0},
        {"a": True},
        {"a": 2**63},
        {"b": True},
        {"b": "1"},
        {"b": 1e39},
        {"b": None},
        {"b": [1]},
        {"c": 1},
        {"c": {"b64": "!"}},
        {"c": {"x": "YQ=="}},
        {"e": 1},
        {"i": 2**31},
        {"u": 256},
        {"u": -1},
        {"more": 1},
    ],
)
def test_what_is_unusual_in_a_row_is_left_to_the_full_parser(change):
    assert quick_rows(MIXED, body_of(ROW, ROW | change)) is None


def test_a_missing_input_is_left_to_the_full_parser():
    assert quick_rows(MIXED, body_of({name: ROW[name] for name in "abcdei"})) is None
    assert quick_rows(MIXED, body_of(ROW, 5)) is None


def test_a_type_that_was_refused_once_is_refused_again():
    reader = RowReader(MIXED, signature_of(MIXED))
    assert reader.rows([ROW | {"e": 1}]) is None
    assert reader.rows([ROW | {"e": 1}]) is None
    assert reader.rows([ROW]) is not None


def test_inputs_that_are_not_in_the_key_are_still_checked():
    spec = tensors(tensor("a", "float32"), tensor("b", "int64", in_key=False), tensor("c", "bool"))
    good = body_of({"a": 1.5, "b": 3, "c": True})
    assert quick_rows(spec, good) == full_rows(spec, good)
    assert quick_rows(spec, body_of({"a": 1.5, "b": 2**63, "c": True})) is None
    assert quick_rows(spec, body_of({"a": 1.5, "b": "x", "c": True})) is None


@pytest.mark.parametrize(
    ("spec", "instances"),
    [
        (tensors(tensor("x", "float32")), [1, 2.5]),
        (tensors(tensor("x", "float32")), [{"x": 1}, {"x": 2.5}]),
        (tensors(tensor("x", "string")), ["a", {"b64": "YQ=="}]),
        (tensors(tensor("x", "string")), [{"b64": "YQ=="}, "a"]),
        (tensors(tensor("x", "string")), [{"x": {"b64": "YQ=="}}]),
        (tensors(tensor("x", "int64", (2,))), [[1, 2], [3, 4]]),
        (tensors(tensor("x", "float32", (-1, 2))), [[[1, 2.5]], [[3, 4]]]),
        (tensors(tensor("x", "string", (2,))), [["a", "b"], ["c", {"b64": "YQ=="}]]),
        (tensors(tensor("x", "int8", (1,))), [[300]]),
        (tensors(tensor("x", "float32", (-1,))), [[], []]),
        (tensors(tensor("x", "float32", in_key=False)), [1, 2]),
        (
            tensors(tensor("x", "float32", (1,)), tensor("y", "string")),
            [{"x": [1], "y": {"b64": "YQ=="}}],
        ),
    ],
)
def test_shapes_bytes_and_values_without_names(spec, instances):
    body = body_of(*instances)
    rows = quick_rows(spec, body)
    assert rows is not None
    assert rows == full_rows(spec, body)


@pytest.mark.parametrize(
    ("spec", "instances"),
    [
        (tensors(tensor("x", "float32", (-1,))), [[1], [1, 2]]),
        (tensors(tensor("x", "float32", (-1, -1))), [[[1, 2]], [[1], [2]]]),
        (tensors(tensor("x", "float32", (2,))), [[1]]),
        (tensors(tensor("x", "float32", (2, 2))), [[[1, 2], [3]]]),
        (tensors(tensor("x", "float32")), [1, {"x": 1}]),
        (tensors(tensor("x", "float32")), [{"x": 1}, 1]),
        (tensors(tensor("x", "float32")), [{"y": 1}]),
        (tensors(tensor("b64", "string")), [{"b64": "YQ=="}]),
        (tensors(tensor("x", "float16")), [1]),
    ],
)
def test_what_is_uneven_or_unknown_is_left_to_the_full_parser(spec, instances):
    assert quick_rows(spec, body_of(*instances)) is None


def test_a_signature_that_is_not_the_spec_s_is_left_to_the_full_parser():
    other = signature_of(tensors(tensor("a", "float32"), tensor("b", "float32")))
    for features in ([tensor("a", "float32")], [tensor("a", "float32"), tensor("b", "int64")]):
        assert RowReader(tensors(*features), other).rows([{"a": 1, "b": 1}]) is None


# --- Examples -------------------------------------------------------------------------------------


def example(**values) -> bytes:
    made = Example()
    for name, value in values.items():
        made.features.feature[name].float_list.value.append(value)
    return made.SerializeToString()


DENSE = SignatureSpec(
    "serving_default",
    "examples",
    "examples",
    (FeatureSpec("x", "dense", "float32"), FeatureSpec("y", "dense", "float32", (), "00000000")),
)
OPAQUE = SignatureSpec("serving_default", "opaque", "examples")


@pytest.mark.parametrize("spec", [DENSE, OPAQUE])
@pytest.mark.parametrize("named", [True, False])
def test_rows_of_examples(spec, named):
    values = [{"b64": base64.b64encode(example(x=1.5, y=2)).decode()} for _ in range(2)]
    body = body_of(*[{"examples": value} if named else value for value in values])
    rows = quick_rows(spec, body)
    assert rows is not None
    assert rows == full_rows(spec, body)


@pytest.mark.parametrize(
    "instance", [{"b64": "!"}, {"b64": base64.b64encode(example(y=1)).decode()}, "text", [1], 5]
)
def test_what_is_no_example_is_left_to_the_full_parser(instance):
    assert quick_rows(DENSE, body_of(instance)) is None


# --- properties -----------------------------------------------------------------------------------

leaf = st.one_of(
    st.integers(-(2**65), 2**65),
    st.integers(-300, 300),
    st.floats(allow_nan=False),
    st.booleans(),
    st.none(),
    st.text(max_size=3),
    st.sampled_from([":", '":', "a", {"b64": "YQ=="}, {"b64": "a"}, {"b64": 1}, {}]),
)
value = st.recursive(leaf, lambda inner: st.lists(inner, max_size=3), max_leaves=4)
DTYPES = st.sampled_from(
    ["float32", "float64", "int8", "int32", "int64", "uint8", "uint64", "bool", "string"]
)
FITTING = {
    "float32": st.floats(width=32, allow_nan=False, allow_infinity=False) | st.integers(-9, 2**64),
    "float64": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-9, 2**64),
    "bool": st.booleans(),
    "string": st.text(max_size=3) | st.just({"b64": "YQ=="}),
}
INTEGER = st.integers(-130, 300)
SHAPES = st.sampled_from([(), (), (), (2,), (-1,), (2, -1)])


@st.composite
def requests(draw):
    """A signature, and a request for it whose instances fit mostly."""
    features = [
        draw(st.builds(tensor, st.just(name), DTYPES, SHAPES, st.booleans()))
        for name in draw(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=5, unique=True))
    ]

    def fitting(feature: FeatureSpec):
        strategy = FITTING.get(feature.dtype, INTEGER)
        for size in reversed(feature.shape):
            length = 2 if size == -1 else size
            strategy = st.lists(strategy, min_size=length, max_size=length)
        return draw(strategy)

    instances = []
    for _ in range(draw(st.integers(1, 3))):
        row = {feature.name: fitting(feature) for feature in features}
        if draw(st.integers(0, 5)) == 0:
            row[draw(st.sampled_from([*row, "b64", "z"]))] = draw(value)
        plain = len(features) == 1 and draw(st.booleans())
        instances.append(row[features[0].name] if plain else row)
    text = json.dumps(
        {"instances": instances}, separators=draw(st.sampled_from([(",", ":"), (", ", " : ")]))
    )
    return tensors(*features), text.encode()


@settings(max_examples=300, deadline=None)
@given(requests())
def test_whenever_the_quick_way_is_sure_the_full_way_says_the_same(request_of):
    spec, body = request_of
    rows = quick_rows(spec, body)
    if rows is not None:
        assert rows == full_rows(spec, body)


@settings(max_examples=200, deadline=None)
@given(requests())
def test_what_the_full_way_refuses_the_quick_way_is_not_sure_of(request_of):
    spec, body = request_of
    try:
        expected = full_rows(spec, body)
    except (ServingError, DataError):
        assert quick_rows(spec, body) is None
    else:
        assert quick_rows(spec, body) in (None, expected)


PIECES = b""""a":1
"a":2
"b":":"
"b":"\\":"
"b":"c:"
"c" :0e1
"c":0E400
"a:":1
"a":{"b64":"YQ=="}
"a":{"b64":"","b64":""}
"a":[1,{"x":2}]
"a":[{"x":1,"x":2}]
"\\u0061":1
"a":"\\u0000"
"d":1e308""".splitlines()
pieces = st.sampled_from(PIECES)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.lists(pieces, max_size=4), min_size=1, max_size=3))
def test_quick_bodies_read_as_the_full_parser_reads_them(rows):
    objects = b",".join(b"{" + b",".join(row) + b"}" for row in rows)
    body = b'{"instances":[' + objects + b"]}"
    quick = parse_quick(body)
    if quick is not None:
        assert parse_carefully(body) == {"instances": quick.instances}
