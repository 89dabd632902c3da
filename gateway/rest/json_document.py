"""The document of a request, read by the quickest parser that reads it as TF Serving does. No IO.

    orjson  ->  the standard library's C scanner  ->  `json_careful`

Each hands on what it refuses or would read otherwise than RapidJSON (`json_careful` says how that
reads). orjson drops repeated names, and takes zeros with exponents that RapidJSON refuses. The
standard library knows `NaN`, repeated names, text that is not UTF-8 and what follows a document; it
does not know great depth, nor which numbers and surrogates RapidJSON refuses, nor its messages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import orjson

from tfx_encore.gateway.errors import invalid
from tfx_encore.gateway.rest.json_alike import reads_alike
from tfx_encore.gateway.rest.json_careful import Members, after_mark, make_object, parse_carefully
from tfx_encore.gateway.rest.json_debug import debug_string

JsonObject = dict[str, Any] | Members

_SPACE = re.compile(r"[ \t\r\n]*")
# What the standard library would take, and RapidJSON may not: surrogates, huge numbers.
_DOUBTFUL = re.compile(rb"\\u[dD][89a-fA-F]|[eE]\+?[0-9]{3}|(?<![0-9])[0-9]{309}")
_LONG_INTEGER = re.compile(rb"(?<![0-9])[0-9]{19}")


def parse_document(body: bytes) -> Any:
    """Returns the value that a body begins with.

    Objects are dicts, or `Members` where a name is repeated. Integers are within [-2^63, 2^64).
    Strings hold bytes that are not UTF-8 as surrogates; see `text_bytes`.

    Raises:
        ServingError: INVALID_ARGUMENT, not JSON, with TensorFlow Serving's message.
    """
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    else:
        if reads_alike(body, found):
            return found
    try:
        return _by_standard_library(body)
    except (ValueError, RecursionError):
        return parse_carefully(body)


def parse_request(body: bytes) -> JsonObject:
    """Returns the object that a body begins with.

    Raises:
        ServingError: INVALID_ARGUMENT, not JSON, or not an object.
    """
    document = parse_document(body)
    if not isinstance(document, (dict, Members)):
        raise invalid(f"JSON Value: {debug_string(document)} Is not object")
    return document


def signature_name(document: JsonObject) -> str:
    """Returns the signature that a request names; empty if it names none.

    Bytes that are not UTF-8 are U+FFFD.

    Raises:
        ServingError: INVALID_ARGUMENT, it is not a string.
    """
    name = member(document, "signature_name", "")
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {debug_string(document)} not formatted correctly. 'signature_name' key "
            "must be a string value."
        )
    return shown(name)


def member(value: JsonObject, name: str, default: Any = None) -> Any:
    """Returns the first member of a name."""
    if isinstance(value, dict):
        return value.get(name, default)
    return next((item for key, item in value if key == name), default)


def members(value: JsonObject) -> Iterable[tuple[str, Any]]:
    """Returns the members in order."""
    return value.items() if isinstance(value, dict) else value


def text_bytes(text: str) -> bytes:
    """Returns the bytes of a string of a document."""
    return text.encode("utf-8", "surrogateescape")


def shown(text: str) -> str:
    """Returns a string of a document for a message: bytes that are not UTF-8 as U+FFFD."""
    return text_bytes(text).decode("utf-8", "replace")


# --- the standard library -------------------------------------------------------------------------


def _by_standard_library(body: bytes) -> Any:
    """Reads what begins a body.

    Raises:
        ValueError: not JSON, or perhaps something else to RapidJSON.
        RecursionError: too deep.
    """
    if _DOUBTFUL.search(body):
        raise ValueError("surrogates, or a huge number")
    text = body[after_mark(body) :].decode("utf-8", "surrogateescape")
    decoder = _WIDE if _LONG_INTEGER.search(body) else _NARROW
    begin = _SPACE.match(text)
    found = decoder.raw_decode(text, begin.end() if begin else 0)[0]
    if isinstance(found, (int, float)):
        raise ValueError("perhaps only the beginning of a number")
    return found


def _wide_integer(digits: str) -> int | float:
    value = int(digits)
    return value if -(2**63) <= value < 2**64 else float(digits)


_NARROW = json.JSONDecoder(object_pairs_hook=make_object)
_WIDE = json.JSONDecoder(object_pairs_hook=make_object, parse_int=_wide_integer)
