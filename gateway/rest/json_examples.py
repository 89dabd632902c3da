"""Classify and Regress requests from JSON, and their results as JSON. No IO here.

util/json_tensor.cc, FillClassifyRegressRequestFromJson and MakeJsonFrom...Result. The kind of a
feature is that of its first value: text and base 64 are bytes, integers and booleans are int64,
numbers with a point or an exponent are floats.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfx_encore.gateway.errors import invalid
from tfx_encore.gateway.rest.json_careful import Members
from tfx_encore.gateway.rest.json_debug import debug_string, type_name
from tfx_encore.gateway.rest.json_document import (
    member,
    members,
    parse_request,
    shown,
    signature_name,
    text_bytes,
)
from tfx_encore.gateway.rest.json_leaves import base64_bytes, is_base64
from tfx_encore.gateway.rest.json_numbers import decimal32
from tfx_encore.gateway.rest.json_text import quoted

_MISSING: Any = object()
_HEAD = b'{\n    "results": ['

# Fields of tensorflow.Feature, all of wire type 2 (core/example/feature.proto).
_BYTES, _FLOATS, _INTEGERS = b"\x0a", b"\x12", b"\x1a"
_KIND_NAMES = {_BYTES: "bytes", _FLOATS: "float", _INTEGERS: "int64"}


def parse_examples(body: bytes) -> tuple[str, list[bytes]]:
    """Reads the body of a Classify or Regress request.

    Args:
        body: of the request, decompressed.

    Returns:
        The signature, empty if the request names none; the serialised Examples, at least one. The
        context stands before each, which protobuf reads as a merge: a feature that both name is the
        Example's.

    Raises:
        ServingError: as TensorFlow Serving.
    """
    document = parse_request(body)
    signature = signature_name(document)
    context = member(document, "context", _MISSING)
    before = b"" if context is _MISSING else _example(context)
    examples = member(document, "examples", _MISSING)
    if examples is _MISSING:
        problem = "When method is classify, key 'examples' is expected and was not found"
    elif not isinstance(examples, list):
        problem = "Expecting 'examples' value to be an list/array"
    elif not examples:
        problem = "'examples' value is an empty array"
    else:
        return signature, [before + _example(example) for example in examples]
    raise invalid(f"JSON Value: {debug_string(document)} {problem}")


def classification_json(result: Any) -> bytes:
    """Returns a `tensorflow.serving.ClassificationResult`.

    Raises:
        ServingError: INVALID_ARGUMENT, it is empty.
    """
    if not result.classifications:
        raise invalid("Cannot convert empty ClassificationResults to JSON")
    rows = [
        b"["
        + b", ".join(
            b"[" + quoted(item.label.encode()) + b", " + decimal32(item.score).encode() + b"]"
            for item in row.classes
        )
        + b"]"
        for row in result.classifications
    ]
    # Each row is written on one line, but for the comma: that is the outer array's.
    return _HEAD + b", ".join(rows) + b"\n    ]\n}"


def regression_json(result: Any) -> bytes:
    """Returns a `tensorflow.serving.RegressionResult`.

    Raises:
        ServingError: INVALID_ARGUMENT, it is empty.
    """
    if not result.regressions:
        raise invalid("Cannot convert empty RegressionResults to JSON")
    values = ", ".join(decimal32(row.value) for row in result.regressions)
    return _HEAD + values.encode() + b"]\n}"


# --- a tf.Example from an object ------------------------------------------------------------------


def _example(value: Any) -> bytes:
    """Returns the serialised Example of a JSON object (MakeExampleFromJsonObject)."""
    if not isinstance(value, (dict, Members)):
        raise invalid(f"Example must be JSON object but got JSON {type_name(value)}")
    features = {}
    for key, content in members(value):
        name = key.partition("\0")[0]  # TensorFlow Serving reads names as C strings
        features[name] = _feature(shown(name), content if isinstance(content, list) else [content])
    entries = [
        _field(b"\x0a", _field(b"\x0a", text_bytes(name)) + _field(b"\x12", feature))
        for name, feature in features.items()
    ]
    return _field(b"\x0a", b"".join(entries)) if entries else b""


def _feature(name: str, values: list[Any]) -> bytes:
    """Returns a serialised Feature; one without values has no kind."""
    kind = b""
    found: list[Any] = []
    for value in values:
        this = _kind(name, value)
        if kind not in (b"", this):
            raise invalid(
                f"Unexpected element type in feature: {name} expecting type: {_KIND_NAMES[kind]}"
            )
        kind = this
        found.append(_value(name, value))
    return _field(kind, _LISTS[kind](found)) if kind else b""


def _kind(name: str, value: Any) -> bytes:
    """Returns the field of Feature that a value goes into.

    Raises:
        ServingError: INVALID_ARGUMENT, none.
    """
    if isinstance(value, str) or is_base64(value):
        return _BYTES
    if isinstance(value, float):
        return _FLOATS
    if isinstance(value, int):
        return _INTEGERS
    raise invalid(f"Feature: {name} has element with unexpected JSON type: {type_name(value)}")


def _value(name: str, value: Any) -> Any:
    if isinstance(value, str):
        return text_bytes(value)
    if isinstance(value, dict):
        return base64_bytes(value)
    if isinstance(value, int) and value >= 2**63:
        raise invalid(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
    return value


def _field(tag: bytes, data: bytes) -> bytes:
    return tag + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _bytes_list(values: Sequence[bytes]) -> bytes:
    return b"".join(_field(b"\x0a", value) for value in values)


def _float_list(values: Sequence[float]) -> bytes:
    if len(values) == 1:
        try:
            return b"\x0a\x04" + struct.pack("<f", values[0])
        except OverflowError:
            pass
    with np.errstate(over="ignore"):
        return _field(b"\x0a", np.array(values, dtype="<f8").astype("<f4").tobytes())


def _int64_list(values: Sequence[int]) -> bytes:
    return _field(b"\x0a", b"".join(_varint(value & 0xFFFFFFFFFFFFFFFF) for value in values))


_LISTS: dict[bytes, Callable[[Sequence[Any]], bytes]]
_LISTS = {_BYTES: _bytes_list, _FLOATS: _float_list, _INTEGERS: _int64_list}
