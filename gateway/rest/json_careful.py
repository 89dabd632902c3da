"""A parser that reads JSON exactly as TensorFlow Serving does: any bytes, any depth. No IO here.

TensorFlow Serving parses by RapidJSON 1.1.0 (include/rapidjson/reader.h) with the flags
`kParseIterativeFlag | kParseNanAndInfFlag | kParseStopWhenDoneFlag` (util/json_tensor.cc,
ParseJson). What follows from that:

- `NaN`, `Inf`, `Infinity` and `-` before them are numbers; whatever follows the document is not
  read; a byte order mark, or a part of one, is skipped; a zero byte ends the document.
- Strings are bytes and need not be UTF-8. They are `str` here, decoded with `surrogateescape`, so
  that `text_bytes` gives every byte back. A lone low surrogate is accepted, a high one is not.
- An integer outside [-2^63, 2^64) is a float. `-0` is the integer 0. A number too large for a
  double is an error, where RapidJSON finds that it is.
- An object keeps repeated names: it is then a `Members` and not a dict.

Otherwise than RapidJSON, which works without full precision and may be off by some units in the
last place, a decimal number becomes the nearest double.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from tfx_encore.gateway.rest.json_alike import reads_alike
from tfx_encore.gateway.rest.json_scalars import parse_error, read_scalar, read_string

_ARRAYS = re.compile(rb"\[+")
_LEAF = re.compile(rb"\[[^\[\]{}]*\]|\{[^\[\]{}]*\}")
_SPACE = re.compile(rb"[ \t\r\n]*")

# What the parser has just read; the message for each is what RapidJSON says of anything unfit next.
_START, _OBJECT, _NAME, _COLON, _MEMBER, _MEMBER_COMMA, _ARRAY, _ELEMENT, _ELEMENT_COMMA = range(9)
_UNFIT = {
    _START: "The document is empty.",
    _OBJECT: "Missing a name for object member.",
    _NAME: "Missing a colon after a name of object member.",
    _COLON: "Invalid value.",
    _MEMBER: "Missing a comma or '}' after an object member.",
    _MEMBER_COMMA: "Missing a name for object member.",
    _ARRAY: "Invalid value.",
    _ELEMENT: "Missing a comma or ']' after an array element.",
    _ELEMENT_COMMA: "Invalid value.",
}
_DELIMITERS = {
    (_MEMBER, b","): _MEMBER_COMMA,
    (_ELEMENT, b","): _ELEMENT_COMMA,
    (_NAME, b":"): _COLON,
}
_OPENING = {b"[": _ARRAY, b"{": _OBJECT}
_CLOSING = frozenset({(_ARRAY, b"]"), (_ELEMENT, b"]"), (_OBJECT, b"}"), (_MEMBER, b"}")})
_NO_SCALAR = frozenset({b"", b"\0", b"]", b"}", b",", b":"})
_EXPECTS_VALUE = frozenset({_START, _COLON, _ARRAY, _ELEMENT_COMMA})
_EXPECTS_NAME = frozenset({_OBJECT, _MEMBER_COMMA})


class Members(tuple[tuple[str, Any], ...]):
    """An object in which a name is repeated: its members in order."""

    __slots__ = ()


def make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | Members:
    """Returns an object of members: a dict if no name is repeated."""
    found = dict(pairs)
    return found if len(found) == len(pairs) else Members(pairs)


def after_mark(body: bytes) -> int:
    """Returns where the document begins: after a byte order mark, of which any part may lack."""
    at = 0
    for byte in (0xEF, 0xBB, 0xBF):
        if at < len(body) and body[at] == byte:
            at += 1
    return at


class _Stack:
    """The arrays and objects that are being read.

    Depth costs little: seventeen bytes a level, until something is put into it.
    """

    __slots__ = ("_are_arrays", "_items", "_names")

    def __init__(self) -> None:
        self._items: list[list[Any] | None] = []
        self._names: list[str] = []
        self._are_arrays = bytearray()

    def __bool__(self) -> bool:
        return bool(self._are_arrays)

    def push(self, is_array: bool, name: str, count: int = 1) -> None:
        """Begins so many of them, one within the other; `name` is that of the first."""
        self._items += [None] * count
        self._names.append(name)
        self._names += [""] * (count - 1)
        self._are_arrays += bytes((is_array,)) * count

    def put(self, name: str, value: Any) -> int:
        """Puts a value into the innermost; returns the state after it."""
        items = self._items[-1]
        if items is None:
            items = self._items[-1] = []
        is_array = self._are_arrays[-1]
        items.append(value if is_array else (name, value))
        return _ELEMENT if is_array else _MEMBER

    def pop(self) -> tuple[str, Any]:
        """Ends the innermost; returns it and its name in the one around it."""
        items = self._items.pop() or []
        return self._names.pop(), items if self._are_arrays.pop() else make_object(items)


def parse_carefully(body: bytes) -> Any:
    """Returns the value at the beginning of a body.

    Raises:
        ServingError: INVALID_ARGUMENT, not JSON; the message is RapidJSON's.
    """
    skip, run = _SPACE.match, _ARRAYS.match
    stack = _Stack()
    state, at, name = _START, after_mark(body), ""
    value: Any
    while True:
        at = skip(body, at).end()  # type: ignore[union-attr] # it matches the empty string
        byte = body[at : at + 1]
        if (state, byte) in _DELIMITERS:
            state = _DELIMITERS[state, byte]
            at += 1
            continue
        if byte == b'"' and state in _EXPECTS_NAME:
            name, at = read_string(body, at)
            state = _NAME
            continue
        leaf = _leaf(body, at) if byte in _OPENING and state in _EXPECTS_VALUE else None
        if leaf is not None:
            value, at = leaf
        elif byte in _OPENING and state in _EXPECTS_VALUE:
            end = run(body, at).end() if byte == b"[" else at + 1  # type: ignore[union-attr]
            stack.push(byte == b"[", name, end - at)
            state, at = _OPENING[byte], end
            continue
        elif (state, byte) in _CLOSING:
            name, value = stack.pop()
            at += 1
        elif state in _EXPECTS_VALUE and byte not in _NO_SCALAR:
            value, at = read_scalar(body, at, byte)
        else:
            raise parse_error(_UNFIT[state], at)
        if not stack:
            return value
        state = stack.put(name, value)


def _leaf(body: bytes, at: int) -> tuple[Any, int] | None:
    """Reads an array or object with no other in it by orjson, which is many times as quick.

    Text with brackets in it, and what orjson reads otherwise, is left to the caller. Each byte is
    looked at once: a leaf ends, or fails to, at the next bracket.
    """
    found = _LEAF.match(body, at)
    if found is None:
        return None
    text = found.group()
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return (value, found.end()) if reads_alike(text, value) else None
