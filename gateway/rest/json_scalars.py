"""Words, numbers and strings, read exactly as RapidJSON 1.1.0 reads them. No IO here.

`json_careful` says what follows from that; the rules are those of include/rapidjson/reader.h,
ParseNumber and ParseStringToStream.
"""

from __future__ import annotations

import re
from typing import Any, NoReturn

from tfx_encore.gateway.errors import ServingError, invalid

_TEXT = re.compile(rb'[^"\\\x00-\x1f]*')
_INTEGER = re.compile(rb"(-?)(0|[1-9][0-9]*)")
_TAIL = re.compile(rb"(\.[0-9]*)?(?:[eE]([+-]?)([0-9]*))?")
_HEX4 = re.compile(rb"[0-9a-fA-F]{4}")
_WORDS: dict[bytes, tuple[bytes, Any]] = {
    b"n": (b"null", None),
    b"t": (b"true", True),
    b"f": (b"false", False),
}
_ESCAPES = {
    b'"': b'"',
    b"\\": b"\\",
    b"/": b"/",
    b"b": b"\b",
    b"f": b"\f",
    b"n": b"\n",
    b"r": b"\r",
    b"t": b"\t",
}
_MAX_INTEGER_DIGITS = 309
_DBL_MAX_TENTH = 1.7976931348623157e307
_EXACT = 2**53 - 1


def parse_error(message: str, offset: int) -> ServingError:
    """Returns the error of a document that is not JSON.

    Args:
        message: RapidJSON's (error/en.h).
        offset: in bytes.
    """
    return invalid(f"JSON Parse error: {message} at offset: {offset}")


def read_scalar(body: bytes, at: int, byte: bytes) -> tuple[Any, int]:
    """Reads the value that begins with `byte`; returns it and where it ends.

    Raises:
        ServingError: INVALID_ARGUMENT, no word, number or string; the message is RapidJSON's.
    """
    if byte == b'"':
        return read_string(body, at)
    if byte in _WORDS:
        word, value = _WORDS[byte]
        if body.startswith(word, at):
            return value, at + len(word)
        raise parse_error("Invalid value.", _mismatch(body, at, word))
    return _number(body, at)


def _mismatch(body: bytes, at: int, word: bytes) -> int:
    """Returns where a body that begins like a word goes on otherwise."""
    length = 0
    while length < len(word) and body[at + length : at + length + 1] == word[length : length + 1]:
        length += 1
    return at + length


# --- numbers --------------------------------------------------------------------------------------


def _number(body: bytes, at: int) -> tuple[int | float, int]:
    found = _INTEGER.match(body, at)
    if found is None:
        value, end = _not_finite(body, at)
        # RapidJSON reads on: `Inf.5` is 0.5.
        tail = _tail(body, end, b"0", at)
        sign = b"-" if body[at : at + 1] == b"-" else b""
        return (float(sign + b"0" + tail) if tail else value), end + len(tail)
    minus, digits = found.groups()
    _check_integer(digits, at)
    tail = _tail(body, found.end(), digits, at)
    if not tail:
        return _integer(minus + digits), found.end()
    return float(minus + digits + tail), found.end() + len(tail)


def _tail(body: bytes, at: int, digits: bytes, begin: int) -> bytes:
    """Returns the fraction and exponent of a number."""
    found = _TAIL.match(body, at)
    if found is None or found.end() == at:
        return b""
    fraction, sign, power = found.groups()
    if fraction == b".":
        raise parse_error("Miss fraction part in number.", found.end(1))
    if power == b"":
        raise parse_error("Miss exponent in number.", found.end())
    if power and sign != b"-":
        _check_exponent(digits, (fraction or b".")[1:], power, begin)
    return found.group()


def _integer(digits: bytes) -> int | float:
    value = int(digits)
    return value if -(2**63) <= value < 2**64 else float(digits)


def _check_integer(digits: bytes, at: int) -> None:
    """RapidJSON refuses a digit after what is already a tenth of the largest double."""
    if len(digits) < _MAX_INTEGER_DIGITS:
        return
    if len(digits) > _MAX_INTEGER_DIGITS or float(digits[:-1]) >= _DBL_MAX_TENTH:
        raise _too_big(at)


def _too_big(at: int) -> ServingError:
    return parse_error("Number too big to be stored in double.", at)


def _check_exponent(digits: bytes, fraction: bytes, power: bytes, at: int) -> None:
    """RapidJSON refuses an exponent above 308 plus the digits of the fraction that it took in."""
    power = power.lstrip(b"0")
    if len(power) < 3:
        return
    if len(power) > len(str(len(fraction) + 308)) or int(power) > 308 + _taken(digits, fraction):
        raise _too_big(at)


def _taken(digits: bytes, fraction: bytes) -> int:
    """Returns how many digits of a fraction RapidJSON takes in before it has precision enough."""
    integer = int(digits)
    significant = len(digits) - 1
    taken = 0
    if integer < 2**64:
        if integer == 0:
            taken = len(fraction) - len(fraction.lstrip(b"0"))
        while taken < len(fraction) and integer <= _EXACT:
            integer = integer * 10 + fraction[taken] - 48
            taken += 1
            significant += 1
    else:
        significant = 19  # at least; enough for it to take in nothing
    return min(len(fraction), taken + max(17 - significant, 0))


def _not_finite(body: bytes, at: int) -> tuple[float, int]:
    """Reads NaN and infinities; like RapidJSON it takes `NInf` and `NaInf` for infinity."""
    minus = body[at : at + 1] == b"-"
    at += minus
    begin, at = at, _mismatch(body, at, b"NaN")
    if at - begin == 3:
        return float("nan"), at
    end = _mismatch(body, at, b"Inf")
    if end - at != 3:
        raise parse_error("Invalid value.", end)
    if body[end : end + 1] == b"i":
        at, end = end, _mismatch(body, end, b"inity")
        if end - at != 5:
            raise parse_error("Invalid value.", end)
    return float("-inf" if minus else "inf"), end


# --- strings --------------------------------------------------------------------------------------


def read_string(body: bytes, at: int) -> tuple[str, int]:
    """Reads a string; `at` is where its first quotation mark stands."""
    scan = _TEXT.match
    begin, at = at + 1, scan(body, at + 1).end()  # type: ignore[union-attr]
    if body[at : at + 1] == b'"':
        return body[begin:at].decode("utf-8", "surrogateescape"), at + 1
    parts = [body[begin:at]]
    while True:
        byte = body[at : at + 1]
        if byte == b'"':
            return b"".join(parts).decode("utf-8", "surrogateescape"), at + 1
        if byte != b"\\":
            _refuse_byte(byte, at)
        escaped = _ESCAPES.get(body[at + 1 : at + 2])
        if escaped is not None:
            at += 2
        elif body[at + 1 : at + 2] == b"u":
            escaped, at = _unicode(body, at)
        else:
            raise parse_error("Invalid escape character in string.", at)
        end = scan(body, at).end()  # type: ignore[union-attr]
        parts += (escaped, body[at:end])
        at = end


def _refuse_byte(byte: bytes, at: int) -> NoReturn:
    if byte in (b"", b"\0"):
        raise parse_error("Missing a closing quotation mark in string.", at)
    raise parse_error("Invalid escape character in string.", at)


def _unicode(body: bytes, at: int) -> tuple[bytes, int]:
    r"""Reads `\uXXXX`, or a pair of them, as UTF-8; a lone low surrogate becomes three bytes."""
    point = _hex4(body, at + 2, at)
    end = at + 6
    if 0xD800 <= point <= 0xDBFF:
        if body[end : end + 2] != b"\\u":
            raise parse_error("The surrogate pair in string is invalid.", at)
        low = _hex4(body, end + 2, at)
        if not 0xDC00 <= low <= 0xDFFF:
            raise parse_error("The surrogate pair in string is invalid.", at)
        point = ((point - 0xD800) << 10 | (low - 0xDC00)) + 0x10000
        end += 6
    return chr(point).encode("utf-8", "surrogatepass"), end


def _hex4(body: bytes, at: int, escape: int) -> int:
    found = _HEX4.match(body, at)
    if found is None:
        raise parse_error("Incorrect hex digit after \\u escape in string.", escape)
    return int(found.group(), 16)
