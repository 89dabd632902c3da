"""What the tiers of a cache hold and have given, for metrics and for people. No IO here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tfx_encore.cache.breaker import BreakerState


@dataclass(frozen=True)
class TierStats:
    """One tier at one moment.

    Attributes:
        name: of the store.
        entries: number of entries; None if that takes asking a server, or cannot be told now.
        bytes_used: bytes that they take, as the store counts them; None likewise.
        budget_bytes: bytes that it may take; None if it has no bound of its own.
        fingerprints: entries of each fingerprint; None where counting means looking at all of
            them (`InferenceCache.fingerprints` does).
        hits: rows that it answered since the cache was made.
        hit_bytes: bytes of these answers.
        evictions: entries that it evicted since the cache was made.
        breaker: whether it is asked.
    """

    name: str
    entries: int | None
    bytes_used: int | None
    budget_bytes: int | None
    fingerprints: Mapping[str, int] | None
    hits: int
    hit_bytes: int
    evictions: int
    breaker: BreakerState
