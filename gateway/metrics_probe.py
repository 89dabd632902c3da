"""What must be asked of a cache when metrics are read, because nobody tells it. No IO here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple


class TierStats(NamedTuple):
    """One tier of one model's cache.

    Attributes:
        tier: its name: `memory`, `lmdb`, `redis`...
        bytes_used: bytes that it takes, overhead included.
        entries: fingerprint -> entries; under the empty one where the tier does not tell them
            apart.
        is_shared: True if other workers see the same content, so that it counts once.
    """

    tier: str
    bytes_used: int
    entries: Mapping[str, int]
    is_shared: bool = False


class ModelCacheStats(NamedTuple):
    """The cache of one model in this process.

    Attributes:
        model: its name.
        tiers: of its cache.
        has_ledger: True if invalidation records are followed.
        generation: sequence of the newest record applied; None if the ledger has not been read.
        ledger_age_seconds: since it was last read to its end; None if it has not been.
    """

    model: str
    tiers: Sequence[TierStats] = ()
    has_ledger: bool = False
    generation: int | None = None
    ledger_age_seconds: float | None = None


Probe = Callable[[], Iterable[ModelCacheStats]]
"""Asked on the event loop each time metrics are read; must be quick."""
