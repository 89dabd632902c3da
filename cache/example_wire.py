"""Features of a serialised tf.Example, read from its bytes as writers commonly lay them out. No IO.

Protobuf allows other layouts of the same message (fields in parts, unknown fields, unpacked
numbers); for those `split_example` returns None and the caller asks protobuf. Floats are copied,
not converted, so that every bit of a NaN survives.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

_MEMO_LIMIT = 50_000
_MEMO_ENTRY_BYTES = 256


class RawFeature(NamedTuple):
    """The value of a feature.

    Attributes:
        dtype: `float32`, `int64` or `string`; empty if the feature has no list at all.
        values: how many there are.
        data: of a canonical cell (`cache.rows`).
    """

    dtype: str
    values: int
    data: bytes


_memo: dict[bytes, tuple[str, RawFeature]] = {}
_one_float: dict[bytes, str] = {}


def split_example(data: bytes) -> dict[str, RawFeature] | None:
    """Returns the features of an Example; None if it is laid out unusually or is not one."""
    if not data:
        return {}
    try:
        return _split(data)
    except (IndexError, UnicodeDecodeError, struct.error):
        return None


def _split(data: bytes) -> dict[str, RawFeature] | None:
    end, at = varint(data, 1)
    if data[0] != 0x0A or at + end != len(data):
        return None
    found = {}
    size = len(data)
    while at < size:
        if data[at] != 0x0A:
            return None
        length = data[at + 1]
        at += 2
        if length > 127:
            length, at = varint(data, at - 1)
        entry = data[at : at + length]
        at += length
        name = _one_float.get(entry[:-4])
        if name is not None:
            found[name] = RawFeature("float32", 1, entry[-4:])
            continue
        pair = _memo.get(entry)
        if pair is None:
            pair = _entry(entry)
            if pair is None:
                return None
            _remember(entry, pair)
        found[pair[0]] = pair[1]
    return found if at == size else None


def _remember(entry: bytes, pair: tuple[str, RawFeature]) -> None:
    """Most features repeat from row to row; of a single float all but the number does."""
    if len(entry) > _MEMO_ENTRY_BYTES:
        return
    for memo in (_memo, _one_float):
        if len(memo) >= _MEMO_LIMIT:
            memo.clear()
    name, feature = pair
    if feature.dtype == "float32" and feature.values == 1:
        # The lengths before the number say that it is the last four bytes and the only value.
        _one_float[entry[:-4]] = name
    else:
        _memo[entry] = pair


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Reads a varint; returns it and the place after it."""
    value = data[at]
    at += 1
    if value < 128:
        return value, at
    value &= 127
    shift = 7
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise IndexError("a varint longer than 64 bits")


def _entry(entry: bytes) -> tuple[str, RawFeature] | None:
    """Reads a map entry: key, then a Feature."""
    if entry[0] != 0x0A:
        return None
    length, at = varint(entry, 1)
    name = entry[at : at + length].decode("utf-8")
    at += length
    if entry[at] != 0x12:
        return None
    length, at = varint(entry, at + 1)
    if at + length != len(entry):
        return None
    feature = _feature(entry[at:])
    return None if feature is None else (name, feature)


def _feature(data: bytes) -> RawFeature | None:
    if not data:
        return RawFeature("", 0, b"")
    length, at = varint(data, 1)
    if at + length != len(data):
        return None
    values = data[at:]
    if data[0] == 0x0A:
        return _texts(values)
    if data[0] not in (0x12, 0x1A):
        return None
    if values:
        length, at = varint(values, 1)
        if values[0] != 0x0A or at + length != len(values):
            return None
        values = values[at:]
    return _floats(values) if data[0] == 0x12 else _integers(values)


def _texts(values: bytes) -> RawFeature | None:
    parts = []
    at = 0
    while at < len(values):
        if values[at] != 0x0A:
            return None
        length, at = varint(values, at + 1)
        parts.append(struct.pack("<I", length))
        parts.append(values[at : at + length])
        at += length
    return RawFeature("string", len(parts) // 2, b"".join(parts)) if at == len(values) else None


def _floats(values: bytes) -> RawFeature | None:
    return None if len(values) % 4 else RawFeature("float32", len(values) // 4, values)


def _integers(values: bytes) -> RawFeature:
    numbers = []
    at = 0
    while at < len(values):
        number, at = varint(values, at)
        numbers.append(number & 0xFFFFFFFFFFFFFFFF)
    return RawFeature("int64", len(numbers), struct.pack(f"<{len(numbers)}Q", *numbers))
