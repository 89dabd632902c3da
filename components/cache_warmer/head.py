"""A row of the head, the most frequent rows. No IO here."""

from __future__ import annotations

from typing import NamedTuple


class HeadRow(NamedTuple):
    """A row of the head; compares as (count, key) so that equal data gives equal heads.

    Attributes:
        seen: how often before the cut.
        key: row key.
        signature: index of its signature.
        row: canonical bytes.
        example: an Example it came as, the smallest by bytes; b"" if it came as tensors.
        held: how often after the cut.
    """

    seen: int
    key: bytes
    signature: int
    row: bytes
    example: bytes
    held: int
