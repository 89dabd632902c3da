"""Whether orjson reads a text as RapidJSON does. No IO here.

orjson drops repeated names, and takes some numbers that RapidJSON refuses; everything else on which
the two differ it refuses itself (`json_careful` says how RapidJSON reads).
"""

from __future__ import annotations

import re
from typing import Any

_NAMES = re.compile(rb'"[ \t\r\n]*:')
_ZERO_POWER = re.compile(rb"0[eE]\+?[0-9]{3}")
_DIGITS_AS_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_SIX_DIGITS = re.compile(rb"[0-9]{6}")
_TOO_LONG = b"0" * 309
_NESTED = frozenset({dict, list})


def reads_alike(body: bytes, found: Any) -> bool:
    """True if what orjson made of a body is surely what RapidJSON makes of it.

    Every name is followed by a colon. orjson keeps the last of repeated names; so if a body has as
    many colons (or, at least, as many that follow a quotation mark) as orjson's objects have names,
    none was repeated. A number refused only by RapidJSON is a zero with an exponent (any other
    mantissa makes it infinite, which orjson refuses too), or has an integer part of 309 digits or
    more.
    """
    if not _names_once(body, found):
        return False
    # A run of 309 digits shows six at least among every fiftieth byte.
    if _SIX_DIGITS.search(body[::50]) and _TOO_LONG in body.translate(_DIGITS_AS_ZEROS):
        return False
    return not _ZERO_POWER.search(body)


def _names_once(body: bytes, found: Any) -> bool:
    """True if surely no object of a body repeats a name."""
    colons = body.count(b":")
    if type(found) is dict:
        names = len(found)
        for value in found.values():
            if type(value) is list and value and type(value[0]) is dict:
                names += sum(len(item) for item in value if type(item) is dict)
        if colons == names:
            return True
    names = _names_in(found)
    return colons == names or len(_NAMES.findall(body)) == names


def _names_in(value: Any) -> int:
    """Counts the names in all objects of a value."""
    names = 0
    stack = [value]
    while stack:
        item = stack.pop()
        if type(item) is dict:
            names += len(item)
            stack += [part for part in item.values() if type(part) in _NESTED]
        elif type(item) is list and not _NESTED.isdisjoint(map(type, item)):
            stack += [part for part in item if type(part) in _NESTED]
    return names
