"""Encryption at rest: what opens, what does not, and what is never said."""

from __future__ import annotations

import base64
import pickle
from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from tfx_encore.cache.crypto import (
    MESSAGES_PER_KEY,
    SEAL_OVERHEAD,
    EncryptionPolicy,
    KeyRing,
    load_key_ring,
    parse_keys,
)
from tfx_encore.schemas.errors import ConfigError

KEY = bytes(range(32))
OTHER = bytes(range(32, 64))
ROW = b"r" * 32


@given(st.binary(max_size=500), st.binary(max_size=40))
def test_a_value_opens_under_its_own_row_key(value: bytes, row: bytes) -> None:
    ring = KeyRing({1: KEY})
    sealed = ring.seal(value, row)
    assert sealed is not None
    assert ring.open(sealed, row) == value
    assert len(sealed) == len(value) + SEAL_OVERHEAD


@given(st.binary(max_size=100), st.binary(max_size=40), st.binary(max_size=40))
def test_a_value_does_not_open_under_another_row_key(value: bytes, a: bytes, b: bytes) -> None:
    ring = KeyRing({1: KEY})
    if a != b:
        assert ring.open(ring.seal(value, a) or b"", b) is None


@given(st.binary(max_size=200))
def test_bytes_that_no_one_sealed_do_not_open(data: bytes) -> None:
    ring = KeyRing({1: KEY})
    assert ring.open(data, ROW) is None
    assert ring.open(b"ES\x01\x01\0\0\0" + data, ROW) is None


def test_every_flipped_bit_and_every_truncation_is_found() -> None:
    ring = KeyRing({1: KEY, 2: OTHER})
    sealed = ring.seal(b"a value", ROW) or b""
    for place in range(len(sealed) * 8):
        damaged = bytearray(sealed)
        damaged[place // 8] ^= 1 << (place % 8)
        assert ring.open(bytes(damaged), ROW) is None
    assert all(ring.open(sealed[:size], ROW) is None for size in range(len(sealed)))


def test_the_format_is_plain_aes_gcm() -> None:
    sealed = KeyRing({7: KEY}, random=lambda size: b"n" * size).seal(b"value", ROW) or b""
    head = b"ES\x01\x07\0\0\0"
    assert sealed == head + b"n" * 12 + AESGCM(KEY).encrypt(b"n" * 12, b"value", head + ROW)


def test_equal_values_are_sealed_differently_each_time() -> None:
    ring = KeyRing({1: KEY})
    assert len({ring.seal(b"value", ROW) for _ in range(1000)}) == 1000


def test_new_values_take_the_highest_key_and_old_ones_open_until_theirs_is_removed() -> None:
    ring = KeyRing({9: KEY})
    old = ring.seal(b"old", ROW) or b""
    ring.replace({9: KEY, 10: OTHER})
    new = ring.seal(b"new", ROW) or b""
    assert (ring.open(old, ROW), ring.open(new, ROW)) == (b"old", b"new")
    assert (ring.sealed_by(9), ring.sealed_by(10), ring.key_ids) == (1, 1, (9, 10))
    ring.replace({10: OTHER})
    assert (ring.open(old, ROW), ring.open(new, ROW)) == (None, b"new")


def test_a_key_seals_no_more_than_its_share() -> None:
    ring = KeyRing({1: KEY}, messages=2)
    assert [ring.seal(b"v", ROW) is None for _ in range(3)] == [False, False, True]
    ring.replace({1: KEY, 2: OTHER})
    assert ring.seal(b"v", ROW) is not None
    assert MESSAGES_PER_KEY == 2**32


def test_a_ring_shows_and_pickles_no_key() -> None:
    ring = KeyRing({3: KEY}, source="key file k")
    assert repr(ring) == "KeyRing(source='key file k', key_ids=(3,))"
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(ring)


def test_keys_are_read_as_base64_or_hexadecimal() -> None:
    forms = [
        base64.b64encode(OTHER).decode(),
        base64.b64encode(OTHER).decode().rstrip("="),
        base64.urlsafe_b64encode(bytes([251]) * 32).decode(),
        OTHER.hex(),
        OTHER.hex().upper(),
    ]
    text = "\n".join(f" {n} : {form} " for n, form in enumerate(forms, 1))
    keys = parse_keys(f"# ours\n\n{text}\n", "k")
    assert keys == {1: OTHER, 2: OTHER, 3: bytes([251]) * 32, 4: OTHER, 5: OTHER}
    assert parse_keys(f"1:{KEY.hex()},2:{OTHER.hex()}", "k") == {1: KEY, 2: OTHER}


SECRET = "c2VjcmV0"  # what a message must not repeat


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no key"),
        (SECRET, "entry 1 is not of the form `number:key`"),
        (f"one:{SECRET}", "entry 1 is not of the form"),
        (f"1:{SECRET}", "key 1 has 6 bytes; AES-256 takes 32"),
        (f"4:{SECRET}!", "key 4 is neither base64 nor hexadecimal"),
        (f"0:{KEY.hex()}", "key number 0 is not between 1 and 4294967295"),
        (f"4294967296:{KEY.hex()}", "key number 4294967296 is not between"),
        (f"1:{KEY.hex()}\n1:{SECRET}", "key 1 is there twice"),
        (f"1:\u00e9{SECRET}", "key 1 is neither"),
    ],
)
def test_wrong_keys_are_refused_in_one_line_without_the_key(text: str, message: str) -> None:
    policy = EncryptionPolicy(key_env="KEYS")
    with pytest.raises(ConfigError) as caught:
        load_key_ring(policy, {"KEYS": text})
    said = str(caught.value)
    assert said.startswith("environment variable KEYS")
    assert message in said
    assert SECRET not in said
    assert KEY.hex() not in said
    assert "\n" not in said
    assert caught.value.__cause__ is None


def test_a_ring_that_refuses_new_keys_keeps_its_old_ones() -> None:
    ring = KeyRing({1: KEY})
    for wrong in ({}, {1: b"short"}, {0: KEY}):
        with pytest.raises(ConfigError):
            ring.replace(wrong)
    assert ring.key_ids == (1,)


def test_keys_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"1:{KEY.hex()}\r\n2:{OTHER.hex()}\n")
    assert load_key_ring(EncryptionPolicy(key_file=str(path))).key_ids == (1, 2)


@pytest.mark.parametrize(("content", "message"), [(None, "cannot be read"), (b"\xff", "not text")])
def test_a_file_that_holds_no_keys_is_named(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"key file {path}.*{message}"):
        load_key_ring(EncryptionPolicy(key_file=str(path)))


@pytest.mark.parametrize("fields", [{}, {"key_file": "a", "key_env": "B"}])
def test_keys_are_named_in_exactly_one_place(fields: Mapping[str, str]) -> None:
    with pytest.raises(ValueError, match="exactly one of key_file and key_env"):
        EncryptionPolicy.model_validate(fields)


def test_a_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(ConfigError, match="environment variable KEYS is not set"):
        load_key_ring(EncryptionPolicy(key_env="KEYS"), {})
