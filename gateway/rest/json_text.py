"""Strings as RapidJSON writes them. No IO here."""

from __future__ import annotations

import base64
import re

_SPECIAL = re.compile(rb'["\\\x00-\x1f]')
_SHORT = {0x08: b"\\b", 0x09: b"\\t", 0x0A: b"\\n", 0x0C: b"\\f", 0x0D: b"\\r"}
_ESCAPED = {byte: b"\\u%04X" % byte for byte in range(0x20)} | _SHORT
_ESCAPED |= {0x22: b'\\"', 0x5C: b"\\\\"}


def quoted(text: bytes) -> bytes:
    """Returns a JSON string of these bytes (RapidJSON writer.h, WriteString).

    Bytes that are not UTF-8 stay as they are.
    """
    if _SPECIAL.search(text):
        text = _SPECIAL.sub(_escape, text)
    return b'"' + text + b'"'


def base64_text(data: bytes) -> bytes:
    """Returns a JSON string of these bytes in base 64 (RFC 4648, section 4, with padding)."""
    return b'"' + base64.b64encode(data) + b'"'


def _escape(found: re.Match[bytes]) -> bytes:
    return _ESCAPED[found.group()[0]]
