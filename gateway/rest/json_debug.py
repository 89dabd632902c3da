"""How TensorFlow Serving shows a JSON value in an error message. No IO here.

util/json_tensor.cc, JsonValueToDebugString: RapidJSON's PrettyWriter (four spaces, arrays on one
line), which stops before the first token that begins after 256 bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from tfx_encore.gateway.rest.json_careful import Members
from tfx_encore.gateway.rest.json_text import quoted

_LIMIT = 256
_DTYPES = {"float32": "float", "float64": "double", "float16": "half"}


def debug_string(value: Any) -> str:
    """Returns a JSON value, cut short; bytes that are not UTF-8 as U+FFFD."""
    out = bytearray()
    levels: list[_Level] = []
    for token in _tokens(value):
        if len(out) >= _LIMIT:
            break
        if token in _CLOSING:
            levels.pop().close(out, token, len(levels))
            continue
        if levels:
            levels[-1].separate(out, len(levels))
        if token is _NOT_FINITE:
            break
        out += token
        if token in _OPENING:
            levels.append(_Level(token == b"["))
    return out.decode("utf-8", "replace")


def type_name(value: Any) -> str:
    """Returns the kind of a JSON value (JsonTypeString)."""
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return "True" if value else "False"
    if isinstance(value, (dict, Members)):
        return "Object"
    if isinstance(value, list):
        return "Array"
    return "String" if isinstance(value, str) else "Number"


def dtype_name(dtype: str) -> str:
    """Returns a dtype as TensorFlow's DataTypeString writes it."""
    return _DTYPES.get(dtype, dtype)


class _Level:
    """An array or object that is being written; in objects names count like values."""

    __slots__ = ("count", "in_array")

    def __init__(self, in_array: bool) -> None:
        self.in_array = in_array
        self.count = 0

    def separate(self, out: bytearray, depth: int) -> None:
        """Writes what stands before the next token."""
        if self.in_array:
            out += b", " if self.count else b""
        elif self.count % 2:
            out += b": "
        else:
            out += (b",\n" if self.count else b"\n") + b"    " * depth
        self.count += 1

    def close(self, out: bytearray, token: bytes, depth: int) -> None:
        """Writes its end."""
        if self.count and not self.in_array:
            out += b"\n" + b"    " * depth
        out += token


_OPENING = (b"[", b"{")
_CLOSING = (b"]", b"}")
_NOT_FINITE = b"NaN"  # RapidJSON writes no such number, and nothing after it


def _tokens(value: Any) -> Iterator[bytes]:
    """Yields the tokens of a value without their separators, at any depth."""
    stack: list[Iterator[Any]] = [iter((value,))]
    ends = [b""]
    while stack:
        for item in stack[-1]:
            if isinstance(item, list):
                yield b"["
                stack.append(iter(item))
                ends.append(b"]")
                break
            if isinstance(item, (dict, Members)):
                yield b"{"
                pairs = item.items() if isinstance(item, dict) else item
                stack.append(part for pair in pairs for part in pair)
                ends.append(b"}")
                break
            yield _token(item)
        else:
            stack.pop()
            end = ends.pop()
            if end:
                yield end


def _token(value: Any) -> bytes:
    if value is None:
        return b"null"
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, str):
        return quoted(value.encode("utf-8", "surrogateescape"))
    if isinstance(value, float):
        return _double(value) if math.isfinite(value) else _NOT_FINITE
    return b"%d" % value


def _double(value: float) -> bytes:
    """Returns a number as RapidJSON's dtoa lays it out (internal/dtoa.h, Prettify)."""
    if value == 0:
        return b"-0.0" if math.copysign(1.0, value) < 0 else b"0.0"
    mantissa, _, power = repr(abs(value)).partition("e")
    whole, _, part = mantissa.partition(".")
    digits = (whole + part).lstrip("0")
    point = int(power or 0) + len(digits) - len(part)
    digits = digits.rstrip("0")
    sign = "-" if value < 0 else ""
    return (sign + _lay_out(digits, point)).encode()


def _lay_out(digits: str, point: int) -> str:
    """Places the point after so many of the digits."""
    if len(digits) <= point <= 21:
        return digits + "0" * (point - len(digits)) + ".0"
    if 0 < point <= 21:
        return f"{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"0.{'0' * -point}{digits}"
    rest = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{digits[0]}{rest}e{point - 1}"
