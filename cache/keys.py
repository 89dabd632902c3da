"""Row keys: which answers are the same answer. No IO here.

A key is BLAKE2b-256 (RFC 7693), personalised, over the fingerprint, the signature, the output
filter and the row's canonical bytes, each part of the context after its length. Equal on every
machine and in every process. Never in it: client ids, field order, white space, labels, versions.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable

KEY_BYTES = 32
_PERSON = b"tfx-encore row 1"  # 16 bytes at most; a new format of rows or keys takes a new one


def canonical_filter(output_filter: Iterable[str]) -> tuple[str, ...]:
    """Returns the outputs asked for, each once, in order; () means all of them."""
    return tuple(sorted(set(output_filter)))


class KeyMaker:
    """Makes the row keys of one fingerprint, signature and output filter.

    Args:
        fingerprint: digest of the model's content (see `metadata.fingerprint`).
        signature: name of the signature.
        output_filter: outputs asked for, in any order; empty for all.
    """

    def __init__(self, fingerprint: str, signature: str, output_filter: Iterable[str] = ()) -> None:
        self._begun = hashlib.blake2b(digest_size=KEY_BYTES, person=_PERSON)
        names = canonical_filter(output_filter)
        for part in (fingerprint, signature, str(len(names)), *names):
            data = part.encode("utf-8")
            self._begun.update(struct.pack("<I", len(data)) + data)

    def key(self, row: bytes) -> bytes:
        """Returns the 32 bytes of the key of a row, given its canonical bytes."""
        digest = self._begun.copy()
        digest.update(row)
        return digest.digest()


def row_key(
    fingerprint: str, signature: str, row: bytes, output_filter: Iterable[str] = ()
) -> bytes:
    """Returns one row key; for many of one signature keep a `KeyMaker`."""
    return KeyMaker(fingerprint, signature, output_filter).key(row)
