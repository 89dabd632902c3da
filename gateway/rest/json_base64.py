"""Base 64 as TensorFlow Serving reads it: absl::Base64Unescape (strings/escaping.cc). No IO here.

The alphabet of RFC 4648, section 4; the web-safe one is refused. White space is skipped. Padding
may be left out; if it is there it must be complete, and `.` pads as `=` does.
"""

from __future__ import annotations

import binascii
import re

_SPACE = re.compile(rb"[ \t\n\v\f\r]+")
_WHOLE = re.compile(rb"([A-Za-z0-9+/]*)([=.]*)")


def unescape(text: bytes) -> bytes | None:
    """Returns the bytes of a text in base 64; None if it is not."""
    if len(text) % 4 == 0:
        try:
            # The usual case, quickly; binascii is laxer than we are about what it finds wrong.
            data = binascii.a2b_base64(text)
        except binascii.Error:
            pass
        else:
            if len(text) // 4 * 3 - len(data) == _padding(text):
                return data
    return _unescape(_SPACE.sub(b"", text))


def _padding(text: bytes) -> int:
    """Returns how many `=` end a text; -1 if more than two."""
    if text.endswith(b"==="):
        return -1
    return 2 if text.endswith(b"==") else int(text.endswith(b"="))


def _unescape(text: bytes) -> bytes | None:
    found = _WHOLE.fullmatch(text)
    if found is None:
        return None
    data, padding = found.groups()
    left = len(data) % 4
    wanted = -len(data) % 4
    if left == 1 or len(padding) not in (0, wanted):
        return None
    return binascii.a2b_base64(data + b"=" * wanted)
