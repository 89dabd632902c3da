"""What RapidJSON 1.1.0 makes of bytes, and that every parser of ours makes the same of them.

The expected values were read off RapidJSON itself, with the parse flags of TensorFlow Serving.
"""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfx_encore.gateway.errors import Code, ServingError
from tfx_encore.gateway.rest.json_base64 import unescape
from tfx_encore.gateway.rest.json_careful import Members, parse_carefully
from tfx_encore.gateway.rest.json_debug import debug_string
from tfx_encore.gateway.rest.json_document import (
    member,
    parse_document,
    parse_request,
    signature_name,
    text_bytes,
)

both = pytest.mark.parametrize("parse", [parse_document, parse_carefully])


def problem(parse, body: bytes) -> str:
    with pytest.raises(ServingError) as caught:
        parse(body)
    assert caught.value.code == Code.INVALID_ARGUMENT
    return caught.value.message.removeprefix("JSON Parse error: ")


def test_an_empty_body_has_its_own_message():
    assert problem(parse_document, b"") == "The document is empty"


@both
@pytest.mark.parametrize(
    ("body", "message", "offset"),
    [
        (b"  \n", "The document is empty.", 3),
        (b"]", "The document is empty.", 0),
        (b"\0{}", "The document is empty.", 0),
        (b"nul", "Invalid value.", 3),
        (b"[nulL]", "Invalid value.", 4),
        (b"[truth]", "Invalid value.", 4),
        (b"[fals", "Invalid value.", 5),
        (b"[-]", "Invalid value.", 2),
        (b"[+1]", "Invalid value.", 1),
        (b"[NaI]", "Invalid value.", 4),
        (b"[Infi]", "Invalid value.", 5),
        (b"[1,]", "Invalid value.", 3),
        (b"[,1]", "Invalid value.", 1),
        (b"[01]", "Missing a comma or ']' after an array element.", 2),
        (b"[1 2]", "Missing a comma or ']' after an array element.", 3),
        (b"[1", "Missing a comma or ']' after an array element.", 2),
        (b"[1}", "Missing a comma or ']' after an array element.", 2),
        (b"{", "Missing a name for object member.", 1),
        (b"{1:2}", "Missing a name for object member.", 1),
        (b'{"a":1,}', "Missing a name for object member.", 7),
        (b'{"a" 1}', "Missing a colon after a name of object member.", 5),
        (b'{"a":}', "Invalid value.", 5),
        (b'{"a":1 "b":2}', "Missing a comma or '}' after an object member.", 7),
        (b'{"a":1', "Missing a comma or '}' after an object member.", 6),
        (b'{"a":1\0}', "Missing a comma or '}' after an object member.", 6),
        (b'["a', "Missing a closing quotation mark in string.", 3),
        (b'["a\0"]', "Missing a closing quotation mark in string.", 3),
        (b'["a\n"]', "Invalid escape character in string.", 3),
        (b'["a\\x"]', "Invalid escape character in string.", 3),
        (b'["\\u12g4"]', "Incorrect hex digit after \\u escape in string.", 2),
        (b'["\\ud800"]', "The surrogate pair in string is invalid.", 2),
        (b'["\\ud800\\u0041"]', "The surrogate pair in string is invalid.", 2),
        (b'["\\ud800\\uzzzz"]', "Incorrect hex digit after \\u escape in string.", 2),
        (b"[1.]", "Miss fraction part in number.", 3),
        (b"[1.e5]", "Miss fraction part in number.", 3),
        (b"[1e]", "Miss exponent in number.", 3),
        (b"[1e+]", "Miss exponent in number.", 4),
        (b"[1e309]", "Number too big to be stored in double.", 1),
        (b"[0e400]", "Number too big to be stored in double.", 1),
        (b"[0.000e312]", "Number too big to be stored in double.", 1),
        (b"[" + b"1" * 310 + b"]", "Number too big to be stored in double.", 1),
        (b"[" + b"2" * 309 + b"]", "Number too big to be stored in double.", 1),
        (b"[" + b"7" * 400 + b"e-300]", "Number too big to be stored in double.", 1),
        (b"[-1" + b"0" * 400 + b"]", "Number too big to be stored in double.", 1),
    ],
)
def test_what_is_not_json_is_refused_where_and_as_rapidjson_refuses_it(
    parse, body, message, offset
):
    assert problem(parse, body) == f"{message} at offset: {offset}"


@both
@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"[1] and whatever", [1]),
        (b'{"a":1}}', {"a": 1}),
        (b"\xef\xbb\xbf[1]", [1]),
        (b"\xbb[1]", [1]),
        (
            b"[Infinity, -Infinity, Inf, -Inf, NInf]",
            [math.inf, -math.inf, math.inf, -math.inf, math.inf],
        ),
        (b"[Inf.5, -NaN.5, NaNe1]", [0.5, -0.5, 0.0]),
        (b"[18446744073709551615, -9223372036854775808]", [2**64 - 1, -(2**63)]),
        (b"[18446744073709551616, -9223372036854775809]", [float(2**64), -float(2**63)]),
        (b"[99999e305, 0.000e311]", [math.inf, 0.0]),
        (b"[0e308, 1e-400, 0e0005, 1e-99999999999999999999]", [0.0, 0.0, 0.0, 0.0]),
        (b'["\\u00e9\\ud83d\\ude00\\/\\b"]', ["\u00e9\U0001f600/\b"]),
        (b'["a\\u0000b"]', ["a\0b"]),
        (b'{"a":1,"b":2,"a":3}', Members([("a", 1), ("b", 2), ("a", 3)])),
    ],
)
def test_what_rapidjson_takes_beyond_json_is_taken(parse, body, value):
    assert parse(body) == value


@both
def test_nan_is_a_number(parse):
    assert all(math.isnan(value) for value in parse(b"[NaN, -NaN]"))


@both
def test_minus_zero_is_an_integer_and_loses_its_sign_unless_it_has_a_point(parse):
    whole, point = parse(b"[-0, -0.0]")
    assert (type(whole), whole) == (int, 0)
    assert (type(point), math.copysign(1.0, point)) == (float, -1.0)


@both
@pytest.mark.parametrize(
    ("body", "data"),
    [
        (b'["\xff\x80 \xc3"]', b"\xff\x80 \xc3"),
        (b'["\\udc00"]', b"\xed\xb0\x80"),
        (b'["\\udcff\xff"]', b"\xed\xb3\xbf\xff"),
        (b'["\xed\xa0\x80"]', b"\xed\xa0\x80"),
    ],
)
def test_strings_are_bytes_and_need_not_be_utf8(parse, body, data):
    assert text_bytes(parse(body)[0]) == data


@both
@pytest.mark.parametrize("depth", [1_000, 1_024, 1_025, 100_000, 500_000])
def test_no_depth_is_too_great(parse, depth):
    value = parse(b"[" * depth + b"7" + b"]" * depth)
    for _ in range(depth):
        (value,) = value
    assert value == 7


@both
def test_depth_that_is_never_closed_is_refused(parse):
    message = "Invalid value. at offset: 100000"
    assert problem(parse, b"[" * 100_000) == message
    assert problem(parse, b'{"a":' * 100_000).endswith("at offset: 500000")


@pytest.mark.parametrize(
    "part",
    [b"[NaN,1.5,", b'{"a":NaN,"a":', b'"\\udc00",', b'"\\n\\n\\n\xff",', b"123456789,", b"[],"],
)
def test_a_megabyte_of_what_only_the_last_parser_reads_is_judged(part):
    times = 1_000_000 // len(part)
    # Were any of it quadratic, this would take hours.
    assert " at offset: " in problem(parse_document, b"[" + part * times)


def test_the_first_of_repeated_names_is_found():
    document = parse_request(b'{"signature_name":"a","signature_name":5}')
    assert signature_name(document) == "a"
    assert member(document, "signature_name") == "a"
    assert member(document, "inputs", "none") == "none"


@pytest.mark.parametrize("body", [b"[1]", b"1", b'"a"', b"null", b"NaN", b'[{"a":1,"a":2}]'])
def test_a_document_that_is_no_object_is_refused(body):
    assert problem(parse_request, body).endswith(" Is not object")


def test_a_signature_that_is_no_string_is_refused_with_the_document():
    document = parse_request(b'{"signature_name": [1, {"a": null}], "instances": [1]}')
    with pytest.raises(ServingError) as caught:
        signature_name(document)
    assert caught.value.message == (
        'JSON Value: {\n    "signature_name": [1, {\n            "a": null\n        }],\n'
        "    \"instances\": [1]\n} not formatted correctly. 'signature_name' key must be a string "
        "value."
    )


# --- how values are shown -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([1, -2, 2**64 - 1, True, False, None], "[1, -2, 18446744073709551615, true, false, null]"),
        ([0.0, -0.0, 1.5, 100.0, 1e21, 1e22], "[0.0, -0.0, 1.5, 100.0, 1e21, 1e22]"),
        ([1e20, 1.25e-7, 0.0001, 1e-5, 1e-6, 1e-7], None),
        ([], "[]"),
        ({}, "{}"),
        ({"a": []}, '{\n    "a": []\n}'),
        ([{"a": 1, "b": [2, 3]}, 4], '[{\n        "a": 1,\n        "b": [2, 3]\n    }, 4]'),
        ('\x01\n"\\/\u00e9\x7f', '"\\u0001\\n\\"\\\\/\u00e9\x7f"'),
        ([1, math.nan, 2], "[1, "),
        (["\udcff"], '["\ufffd"]'),
    ],
)
def test_values_are_shown_as_rapidjson_writes_them(value, text):
    if text is None:
        text = "[100000000000000000000.0, 1.25e-7, 0.0001, 0.00001, 0.000001, 1e-7]"
    assert debug_string(value) == text


def test_a_long_value_is_cut_before_the_first_token_after_256_bytes():
    assert debug_string([7] * 1_000) == "[" + ", ".join(["7"] * 86)
    assert debug_string(["a" * 300, 1]) == '["' + "a" * 300 + '"'


def test_a_deep_value_is_shown_without_recursion():
    assert debug_string(parse_document(b"[" * 100_000 + b"]" * 100_000)) == "[" * 256


# --- base 64 --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "data"),
    [
        (b"", b""),
        (b"aGVsbG8=", b"hello"),
        (b"aGVsbG8", b"hello"),
        (b"aGVsbG8.", b"hello"),
        (b"YQ==", b"a"),
        (b"YQ=", None),
        (b"YQ=.", b"a"),
        (b"YQ", b"a"),
        (b"YR==", b"a"),
        (b" aGVs\n bG8= ", b"hello"),
        (b"YQ= =", b"a"),
        (b"Y", None),
        (b"YQ===", None),
        (b"YWJj=", None),
        (b"YWJj====", None),
        (b"YQ==YQ==", None),
        (b"-_-_", None),
        (b"+/+/", b"\xfb\xff\xbf"),
        (b"aGVs!G8=", None),
        (b"aGVs\0bG8", None),
        ("aGV\u00e9".encode(), None),
    ],
)
def test_base_64_is_read_as_abseil_reads_it(text, data):
    assert unescape(text) == data


# --- properties -----------------------------------------------------------------------------------

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=20,
)
TOKENS = b"""{ } [ ] , : "a" "b" 1 -0 1.5e3 NaN -Inf Infinity true null 0e400 1e " "a": "a":1,
"\\udc00" "\\ud800" "\xff" \\ \0 \xef 18446744073709551616""".split()
tokens = st.sampled_from([*TOKENS, b" ", b"9" * 309])


def outcome(parse, body: bytes):
    try:
        return json.dumps(parse(body)), None
    except ServingError as error:
        return None, error.message


@settings(max_examples=200, deadline=None)
@given(value=json_values, ascii_only=st.booleans(), indent=st.sampled_from([None, 1]))
def test_valid_json_is_read_back(value, ascii_only, indent):
    body = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    assert parse_document(body) == value
    assert parse_carefully(body) == value


@settings(max_examples=600, deadline=None)
@given(body=st.lists(tokens, max_size=14).map(b"".join).filter(bool) | st.binary(min_size=1))
def test_all_parsers_say_the_same_of_any_bytes(body):
    assert outcome(parse_document, body) == outcome(parse_carefully, body)
