"""Encryption at rest of what LMDB and Redis keep: AES-256-GCM under a ring of numbered keys.

A sealed value is

    magic `ES`, format 1 (u8), key id (u32, little-endian), nonce (12 bytes), ciphertext, tag (16)

and the associated data is the first 7 bytes followed by the row key, so that a value moved to
another key, format or key id does not open. Nonces are random (96 bits, from the operating system):
by NIST SP 800-38D, 8.3, one key may seal at most 2^32 values, by all processes together. At 1,000
writes a second that is 49 days: rotate before. A process that has sealed that many by itself seals
no more with the key.

Rotation: add a key with a higher number and have every process read the file again. New values are
sealed with the highest number; older ones open until their key is removed. A process that does not
have a key yet, or no longer, misses.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tfx_encore.schemas.errors import ConfigError

MESSAGES_PER_KEY = 2**32
KEY_SIZE = 32
SEAL_OVERHEAD = 7 + 12 + 16
"""Bytes that a sealed value takes beyond the value."""

_MAGIC = b"ES\x01"
_HEAD = struct.Struct("<3sI")
_NONCE = 12
_HEX = re.compile(r"[0-9a-fA-F]{64}")


class ValueCipher(Protocol):
    """What a store needs in order to keep its values encrypted."""

    def seal(self, value: bytes, key: bytes) -> bytes | None:
        """Returns the sealed value of a row key; None if no more may be sealed."""
        ...

    def open(self, sealed: bytes, key: bytes) -> bytes | None:
        """Returns the value; None if it was not sealed for this row key under a key at hand."""
        ...


class EncryptionPolicy(BaseModel):
    """The `encryption` section of a cache configuration: where the keys are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key_file: str | None = Field(
        default=None,
        min_length=1,
        description="File of keys, one a line as `number:key`; the key is 32 bytes as base64 or "
        "hexadecimal. Empty lines and lines that begin with # are passed over.",
    )
    key_env: str | None = Field(
        default=None,
        min_length=1,
        description="Environment variable that holds the same lines; a comma ends a line too.",
    )

    @model_validator(mode="after")
    def _one_place(self) -> EncryptionPolicy:
        if (self.key_file is None) == (self.key_env is None):
            raise ValueError("name the keys by exactly one of key_file and key_env")
        return self


class KeyRing:
    """Keys by number. New values are sealed with the highest; any of them opens.

    Args:
        keys: number (1 to 2^32 - 1) -> 32 bytes.
        source: where they come from, for messages.
        random: gives that many random bytes.
        messages: values that one key may seal.

    Raises:
        ConfigError: no key, or one of the wrong size or number.
    """

    def __init__(
        self,
        keys: Mapping[int, bytes],
        *,
        source: str = "key ring",
        random: Callable[[int], bytes] = os.urandom,
        messages: int = MESSAGES_PER_KEY,
    ) -> None:
        self._source = source
        self._random = random
        self._messages = messages
        self._sealed: dict[int, int] = {}
        self.replace(keys)

    def replace(self, keys: Mapping[int, bytes]) -> None:
        """Puts other keys in place of the present ones; counts of sealed values are kept.

        Raises:
            ConfigError: as at construction; the present keys stay.
        """
        if not keys:
            raise ConfigError(f"{self._source} holds no key; write one as `1:base64 of 32 bytes`")
        for number, key in keys.items():
            _check_key(number, key, self._source)
        self._ciphers = {number: AESGCM(key) for number, key in keys.items()}
        self._newest = max(keys)

    @property
    def key_ids(self) -> tuple[int, ...]:
        """The numbers of the keys at hand, ascending."""
        return tuple(sorted(self._ciphers))

    def sealed_by(self, key_id: int) -> int:
        """How many values this process has sealed with a key."""
        return self._sealed.get(key_id, 0)

    def seal(self, value: bytes, key: bytes) -> bytes | None:
        """Returns the sealed value of a row key; None once the newest key has sealed its share."""
        newest = self._newest
        count = self._sealed.get(newest, 0)
        if count >= self._messages:
            return None
        self._sealed[newest] = count + 1
        head = _HEAD.pack(_MAGIC, newest)
        nonce = self._random(_NONCE)
        return head + nonce + self._ciphers[newest].encrypt(nonce, value, head + key)

    def open(self, sealed: bytes, key: bytes) -> bytes | None:
        """Returns the value; None if it was not sealed for this row key under a key at hand."""
        if len(sealed) < SEAL_OVERHEAD or sealed[:3] != _MAGIC:
            return None
        cipher = self._ciphers.get(_HEAD.unpack_from(sealed, 0)[1])
        if cipher is None:
            return None
        body = _HEAD.size + _NONCE
        try:
            return cipher.decrypt(
                sealed[_HEAD.size : body], sealed[body:], sealed[: _HEAD.size] + key
            )
        except InvalidTag:
            return None

    def __repr__(self) -> str:
        return f"KeyRing(source={self._source!r}, key_ids={self.key_ids})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key ring is not pickled: its keys stay in the process")


def parse_keys(text: str, source: str) -> dict[int, bytes]:
    """Reads lines of `number:key`.

    Args:
        text: the lines; see `EncryptionPolicy`.
        source: where they come from, for messages.

    Raises:
        ConfigError: names the source, the line and the key's number; never the key.
    """
    keys: dict[int, bytes] = {}
    for place, line in enumerate(re.split(r"[\n,]", text), 1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        name, colon, written = entry.partition(":")
        if not colon or not re.fullmatch(r"[0-9]{1,10}", name.strip()):
            raise ConfigError(f"{source}: entry {place} is not of the form `number:key`")
        number = int(name)
        if number in keys:
            raise ConfigError(f"{source}: key {number} is there twice; give each its own number")
        keys[number] = _decode(written.strip(), number, source)
    return keys


def load_key_ring(policy: EncryptionPolicy, environ: Mapping[str, str] = os.environ) -> KeyRing:
    """Reads the keys that a policy names.

    Raises:
        ConfigError: the file or the variable is missing, or holds something else than keys.
    """
    if policy.key_env is not None:
        source = f"environment variable {policy.key_env}"
        text = environ.get(policy.key_env)
        if text is None:
            raise ConfigError(f"{source} is not set; put `number:key` lines into it")
        return KeyRing(parse_keys(text, source), source=source)
    source = f"key file {policy.key_file}"
    try:
        text = Path(str(policy.key_file)).read_text("ascii")
    except OSError as error:
        raise ConfigError(f"{source} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:  # its text would repeat bytes of the file
        raise ConfigError(f"{source} is not text of `number:key` lines") from None
    return KeyRing(parse_keys(text, source), source=source)


def _decode(written: str, number: int, source: str) -> bytes:
    if _HEX.fullmatch(written):
        return bytes.fromhex(written)
    try:
        padded = written + "=" * (-len(written) % 4)
        return base64.b64decode(
            padded, altchars=b"-_" if {*"-_"} & {*written} else None, validate=True
        )
    except (binascii.Error, ValueError):
        raise ConfigError(f"{source}: key {number} is neither base64 nor hexadecimal") from None


def _check_key(number: int, key: bytes, source: str) -> None:
    if not 1 <= number < 2**32:
        raise ConfigError(f"{source}: key number {number} is not between 1 and {2**32 - 1}")
    if len(key) != KEY_SIZE:
        raise ConfigError(
            f"{source}: key {number} has {len(key)} bytes; AES-256 takes {KEY_SIZE} "
            f"(make one with `openssl rand -base64 {KEY_SIZE}`)"
        )
