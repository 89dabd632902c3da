"""Entries as bytes: what is written is read back, and nothing else is."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfx_encore.cache.entry import Entry
from tfx_encore.cache.entry_codec import ENTRY_OVERHEAD, decode_entry, encode_entry
from tfx_encore.schemas.errors import DataError

KEY = bytes(range(32))
times = st.floats(min_value=-1e300, max_value=1e300)
entries = st.builds(
    Entry,
    key=st.binary(min_size=32, max_size=32),
    row=st.binary(max_size=300),
    answer=st.binary(max_size=300),
    fingerprint=st.text(max_size=70),
    kind=st.sampled_from(["answer", "rejection"]),
    generation=st.integers(0, 2**64 - 1),
    computed_at=times,
    expires_at=times,
    cost_us=times,
)


def entry(**changes: object) -> Entry:
    plain = Entry(KEY, b"row", b"answer", "ab" * 32, "answer", 3, 1.5, 0.0, 250.0)
    return plain._replace(**changes)


@given(entries)
def test_an_entry_is_read_back_as_written(item: Entry) -> None:
    assert decode_entry(encode_entry(item), item.key) == item


@given(entries, entries)
def test_equal_entries_have_equal_bytes_and_others_do_not(a: Entry, b: Entry) -> None:
    # Compared as repr, as -0.0 and 0.0 are equal but not the same time.
    assert (encode_entry(a) == encode_entry(b)) == (repr(a) == repr(b))


@given(entries)
def test_a_view_of_the_bytes_reads_as_the_bytes(item: Entry) -> None:
    read = decode_entry(memoryview(encode_entry(item)), item.key)  # type: ignore[arg-type]
    assert read == item
    assert read is not None
    assert type(read.row) is type(read.answer) is bytes


@given(entries, st.binary(max_size=40))
def test_the_entry_of_another_key_is_nothing(item: Entry, other: bytes) -> None:
    if other != item.key:
        assert decode_entry(encode_entry(item), other) is None


@given(st.binary(max_size=500))
def test_bytes_that_no_one_wrote_are_nothing(data: bytes) -> None:
    assert decode_entry(data, KEY) is None


@given(st.binary(max_size=200))
def test_bytes_after_a_right_beginning_are_nothing(tail: bytes) -> None:
    assert decode_entry(encode_entry(entry())[:7] + tail, KEY) is None


def test_every_flipped_bit_is_found() -> None:
    data = encode_entry(entry())
    for place in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[place // 8] ^= 1 << (place % 8)
        assert decode_entry(bytes(damaged), KEY) is None


def test_every_truncation_and_every_byte_too_many_is_found() -> None:
    data = encode_entry(entry())
    assert all(decode_entry(data[:size], KEY) is None for size in range(len(data)))
    assert decode_entry(data + b"\0", KEY) is None


def _with_checksum(data: bytes) -> bytes:
    return data[:3] + struct.pack("<I", zlib.crc32(data[7:])) + data[7:]


def test_another_format_is_nothing() -> None:
    data = encode_entry(entry())
    assert decode_entry(_with_checksum(b"EE\x02" + data[3:]), KEY) is None


@pytest.mark.parametrize(
    ("at", "put"),
    [
        (7, b"\x02"),
        (16, struct.pack("<d", float("nan"))),
        (24, struct.pack("<d", float("inf"))),
        (-73, b"\xff"),
    ],
    ids=["kind", "computed_at", "expires_at", "fingerprint"],
)
def test_a_right_checksum_over_a_wrong_field_is_nothing(at: int, put: bytes) -> None:
    data = bytearray(encode_entry(entry()))
    at %= len(data)
    data[at : at + len(put)] = put
    assert decode_entry(_with_checksum(bytes(data)), KEY) is None


def test_the_overhead_is_what_the_constant_says() -> None:
    item = entry()
    assert len(encode_entry(item)) == item.size + len(item.fingerprint) + ENTRY_OVERHEAD


@pytest.mark.parametrize(
    "wrong",
    [
        {"generation": -1},
        {"generation": 2**64},
        {"key": b"k" * 256},
        {"fingerprint": "f" * 70_000},
        {"fingerprint": "\ud800"},
        {"kind": "guess"},
        {"expires_at": float("nan")},
        {"cost_us": float("inf")},
    ],
    ids=str,
)
def test_what_the_format_cannot_hold_is_refused_when_written(wrong: dict[str, object]) -> None:
    with pytest.raises(DataError, match="entry "):
        encode_entry(entry(**wrong))
