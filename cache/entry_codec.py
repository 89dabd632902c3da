"""An entry as bytes, for stores that keep bytes: versioned and checksummed. No IO here.

    magic `EE`, format 1 (u8), CRC-32 of all that follows (u32), then
    kind (u8), generation (u64), computed_at, expires_at, cost_us (f64 each),
    size of key (u8), of fingerprint (u16), of row (u32), of answer (u32), then the four

integers little-endian, the fingerprint in UTF-8. Nothing is ever unpickled. The key is written in
full, so that a store that hands out the value of another key is found out. The checksum finds
damage, not malice; `cache.crypto` finds both.
"""

from __future__ import annotations

import math
import struct
import zlib
from typing import Literal

from tfx_encore.cache.entry import Entry
from tfx_encore.schemas.errors import DataError

_MAGIC = b"EE\x01"
_HEAD = struct.Struct("<3sIBQdddBHII")
_CHECKED = struct.calcsize("<3sI")

_KINDS: tuple[Literal["answer", "rejection"], ...] = ("answer", "rejection")

ENTRY_OVERHEAD = _HEAD.size
"""Bytes that an encoded entry takes beyond its key, row, answer and fingerprint."""


def encode_entry(entry: Entry) -> bytes:
    """Returns the entry's bytes; equal entries have equal bytes.

    Raises:
        DataError: a field that the format cannot hold, or a time or cost that is not finite.
    """
    key, row, answer, fingerprint, kind, generation, computed_at, expires_at, cost_us = entry
    if not math.isfinite(computed_at + expires_at + cost_us):
        raise DataError(
            f"entry {key.hex()[:16]}: times and cost must be finite, not "
            f"{computed_at}, {expires_at}, {cost_us}"
        )
    try:
        name = fingerprint.encode("utf-8")
        head = _HEAD.pack(
            *(_MAGIC, 0, _KINDS.index(kind), generation, computed_at, expires_at, cost_us),
            *(len(key), len(name), len(row), len(answer)),
        )
    except (struct.error, ValueError) as error:
        raise DataError(f"entry {key.hex()[:16]} does not fit the format: {error}") from error
    body = b"".join((head[_CHECKED:], key, name, row, answer))
    return b"".join((_MAGIC, zlib.crc32(body).to_bytes(4, "little"), body))


def decode_entry(data: bytes, key: bytes) -> Entry | None:
    """Reads an entry back; None for anything that is not the whole, undamaged entry of `key`.

    Args:
        data: what a store holds; `bytes`, or a `memoryview` over a file.
        key: the key it was found under.
    """
    if len(data) < _HEAD.size:
        return None
    (magic, checksum, kind, generation, computed_at, expires_at, cost_us, *sizes) = (
        _HEAD.unpack_from(data, 0)
    )
    key_size, name_size, row_size, answer_size = sizes
    name_at = _HEAD.size + key_size
    row_at = name_at + name_size
    answer_at = row_at + row_size
    if magic != _MAGIC or len(data) != answer_at + answer_size or data[_HEAD.size : name_at] != key:
        return None
    if zlib.crc32(memoryview(data)[_CHECKED:]) != checksum:
        return None
    if kind >= len(_KINDS) or not math.isfinite(computed_at + expires_at + cost_us):
        return None
    try:
        fingerprint = str(data[name_at:row_at], "utf-8")
    except UnicodeDecodeError:
        return None
    row, answer = bytes(data[row_at:answer_at]), bytes(data[answer_at:])
    return Entry(
        key, row, answer, fingerprint, _KINDS[kind], generation, computed_at, expires_at, cost_us
    )
