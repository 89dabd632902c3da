"""tf.Examples written byte by byte, always the same way: features by name. No IO here.

Equal features give equal bytes, and equal digests, whichever form the request had. Proto messages
would give the same in five times the time (tensorflow/core/example/example.proto,
protobuf.dev/programming-guides/encoding).
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tfx_encore.cache.example_wire import RawFeature
from tfx_encore.cache.rows import split_strings
from tfx_encore.schemas.errors import DataError
from tfx_encore.schemas.nights import OURS

FLOAT, INT, BYTES = "float32", "int64", "string"
_FLOAT = struct.Struct("<f")
_MEMO_LIMIT = 50_000
_MEMO_ENTRY_BYTES = 256
_NAMES = {FLOAT: "FLOAT", INT: "INT", BYTES: "BYTES"}


class EncodedRow(NamedTuple):
    """The features of a row.

    Attributes:
        body: the entries of the Example's map, by name.
        digest: of them, 16 bytes.
        key: canonical text of the features that labels are joined by; b"" if by none.
    """

    body: bytes
    digest: bytes
    key: bytes


class RowEncoder:
    """Encodes rows.

    Args:
        kinds: feature -> `float32`, `int64` or `string`, from the schema. Others are left out. None
            if there is no schema: all features are taken as they came.
        join: features that make `EncodedRow.key`; they are taken whether in the schema or not.
    """

    def __init__(self, kinds: Mapping[str, str] | None, join: Iterable[str] = ()) -> None:
        self._kinds = dict(kinds) if kinds is not None else None
        self._join = tuple(join)
        names = {*(self._kinds or ()), *self._join} - {*OURS}
        self._order = sorted(names)
        self._memo: dict[tuple[str, RawFeature], bytes] = {}
        self._single: dict[str, bytes] = {}

    def row(self, found: Mapping[str, RawFeature]) -> EncodedRow:
        """Encodes one row.

        Raises:
            DataError: a value that is not of the schema's type.
        """
        names = self._order if self._kinds is not None else sorted({*found} - {*OURS})
        parts = [self._entry(name, found[name]) for name in names if name in found]
        body = b"".join(parts)
        digest = hashlib.blake2b(body, digest_size=16).digest()
        return EncodedRow(body, digest, self._key(found) if self._join else b"")

    def _entry(self, name: str, feature: RawFeature) -> bytes:
        wanted = self._kinds.get(name, feature.dtype) if self._kinds else feature.dtype
        if feature.dtype == FLOAT and wanted == FLOAT and feature.values == 1:
            number = _FLOAT.unpack(feature.data)[0]
            return b"" if math.isnan(number) else self._prefix(name) + feature.data
        place = (name, feature)
        entry = self._memo.get(place)
        if entry is None:
            entry = _entry(name, feature, wanted)
            if len(feature.data) <= _MEMO_ENTRY_BYTES:
                if len(self._memo) >= _MEMO_LIMIT:
                    self._memo.clear()
                self._memo[place] = entry
        return entry

    def _prefix(self, name: str) -> bytes:
        prefix = self._single.get(name)
        if prefix is None:
            prefix = self._single[name] = float_entry(name, 0.0)[:-4]
        return prefix

    def _key(self, found: Mapping[str, RawFeature]) -> bytes:
        kinds = self._kinds or {}
        texts = (join_text(value_of(found.get(n)), kinds.get(n, "")) for n in self._join)
        return b"\0".join(texts)


def example(*bodies: bytes) -> bytes:
    """Returns an Example of these map entries."""
    body = b"".join(bodies)
    return b"\x0a" + varint(len(body)) + body


def float_entry(name: str, value: float) -> bytes:
    """A map entry with one float."""
    return _map_entry(name, b"\x12", b"\x0a\x04" + _FLOAT.pack(value))


def int_entry(name: str, value: int) -> bytes:
    """A map entry with one integer."""
    return _map_entry(name, b"\x1a", _sized(b"\x0a", varint(value)))


def bytes_entry(name: str, value: bytes) -> bytes:
    """A map entry with one string."""
    return _map_entry(name, b"\x0a", _sized(b"\x0a", value))


def varint(value: int) -> bytes:
    """A number as protobuf writes it; negative ones take ten bytes."""
    value &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def join_text(value: str | float | bytes | None, kind: str) -> bytes:
    """A value as both sides of a join write it: numbers as numbers, whatever text they came as.

    Args:
        value: None if missing.
        kind: the schema's; "" if unknown, when whatever looks like a number is one.
    """
    if value is None:
        return b"-"
    text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)
    text = text if kind == BYTES else _number_text(text, kind)
    return b"=" + text.encode("utf-8", "surrogateescape").replace(b"\0", b"\0\1")


def _number_text(text: str, kind: str) -> str:
    """`7`, `7.0` and `+7` are one number; floats are compared as the float32 that Examples hold."""
    if kind != FLOAT and text.lstrip("+-").isdecimal():
        return str(int(text))
    try:
        number = _as_float32(float(text))
    except ValueError:
        return text
    return str(int(number)) if number.is_integer() else repr(number)


def _as_float32(number: float) -> float:
    try:
        return float(_FLOAT.unpack(_FLOAT.pack(number))[0])
    except OverflowError:
        return number


def value_of(feature: RawFeature | None) -> str | float | bytes | None:
    """The one value of a feature; None if it is missing. Of several the first."""
    if feature is None or not feature.values:
        return None
    value = _values(feature)[0]
    missing = not value if isinstance(value, bytes) else math.isnan(value)
    return None if missing else value


def _values(feature: RawFeature) -> list[float] | list[bytes]:
    if feature.dtype == BYTES:
        return split_strings(feature.data)
    item = "f" if feature.dtype == FLOAT else "q"
    return list(struct.unpack(f"<{feature.values}{item}", feature.data))


def _entry(name: str, feature: RawFeature, wanted: str) -> bytes:
    """Encodes a feature; b"" where NaN, "" or an empty list say that it is missing."""
    if not feature.values or (feature.values == 1 and value_of(feature) is None):
        return b""
    values = _values(feature)
    if feature.dtype == wanted == BYTES:
        return _map_entry(name, b"\x0a", b"".join(_sized(b"\x0a", v) for v in values))  # type: ignore[arg-type]
    if BYTES in (feature.dtype, wanted):
        raise DataError(f"feature {name} is {_NAMES[feature.dtype]}, not {_NAMES[wanted]}")
    if wanted == FLOAT:
        return _map_entry(name, b"\x12", _sized(b"\x0a", struct.pack(f"<{len(values)}f", *values)))
    if not all(float(value).is_integer() for value in values):
        raise DataError(f"feature {name} is FLOAT, not INT")
    numbers = b"".join(varint(int(value)) for value in values)
    return _map_entry(name, b"\x1a", _sized(b"\x0a", numbers))


def _map_entry(name: str, kind: bytes, values: bytes) -> bytes:
    key = _sized(b"\x0a", name.encode())
    return _sized(b"\x0a", key + _sized(b"\x12", _sized(kind, values)))


def _sized(tag: bytes, data: bytes) -> bytes:
    return tag + varint(len(data)) + data
