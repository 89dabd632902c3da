"""Counts what happens in the cache of one model. No IO here."""

from __future__ import annotations

from collections import Counter

from tfx_encore.cache.breaker import BreakerState
from tfx_encore.cache.observer import CacheObserver, HitKind
from tfx_encore.gateway import metrics_families as families
from tfx_encore.gateway.metrics_families import Family, Merge
from tfx_encore.gateway.metrics_numbers import Numbers
from tfx_encore.gateway.metrics_probe import ModelCacheStats


class CacheCounts(CacheObserver):
    """Counts for one model.

    Args:
        model: its name.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._hits: dict[tuple[str, HitKind], int] = {}
        self._rows: Counter[Family] = Counter()
        self._by_tier: Counter[tuple[Family, str]] = Counter()
        self._misses = 0
        self._compute_seconds = 0.0
        self._breakers: dict[str, BreakerState] = {}
        self._moves: Counter[tuple[str, BreakerState]] = Counter()

    def hit(self, tier: str, kind: HitKind) -> None:
        """A row was answered by a tier."""
        try:
            self._hits[tier, kind] += 1
        except KeyError:
            self._hits[tier, kind] = 1

    def missed(self, rows: int) -> None:
        """Rows were found in no tier in this process."""
        self._misses += rows

    def coalesced(self, rows: int) -> None:
        """Rows were under way already."""
        self._rows[families.CACHE_COALESCED] += rows

    def computed(self, rows: int, seconds: float) -> None:
        """The model computed rows in one call."""
        self._rows[families.CACHE_COMPUTED] += rows
        self._compute_seconds += seconds

    def withheld(self, rows: int) -> None:
        """Rows were not looked up."""
        self._rows[families.CACHE_WITHHELD] += rows

    def withdrawn(self, tier: str) -> None:
        """An entry was found that is withdrawn."""
        self._by_tier[families.CACHE_WITHDRAWN, tier] += 1

    def evicted(self, tier: str, entries: int) -> None:
        """A tier gave up entries for others."""
        self._by_tier[families.CACHE_EVICTIONS, tier] += entries

    def not_stored(self, entries: int) -> None:
        """Answers came too late."""
        self._rows[families.CACHE_NOT_STORED] += entries

    def refreshing(self, rows: int) -> None:
        """Rows are computed anew."""
        self._rows[families.CACHE_REFRESHED] += rows

    def tier_failed(self, tier: str, error: BaseException) -> None:
        """A tier failed."""
        del error
        self._by_tier[families.CACHE_FAILURES, tier] += 1

    def breaker_moved(self, tier: str, state: BreakerState) -> None:
        """A breaker changed its state."""
        self._breakers[tier] = state
        self._moves[tier, state] += 1

    def writes_dropped(self, tier: str, entries: int) -> None:
        """Entries were not written."""
        self._by_tier[families.CACHE_DROPPED_WRITES, tier] += entries

    def write(self, numbers: Numbers) -> None:
        """Adds what was counted."""
        model = self._model
        numbers.count(families.CACHE_MISSES, (model,), self._misses)
        numbers.count(families.CACHE_COMPUTE_SECONDS, (model,), self._compute_seconds)
        for (tier, kind), hits in self._hits.items():
            numbers.count(families.CACHE_HITS, (model, tier, kind), hits)
        for family, rows in self._rows.items():
            numbers.count(family, (model,), rows)
        for (family, tier), times in self._by_tier.items():
            numbers.count(family, (model, tier), times)
        for (tier, state), moves in self._moves.items():
            numbers.count(families.BREAKER_MOVES, (model, tier, state.value), moves)
        for tier, now in self._breakers.items():
            for state in BreakerState:
                numbers.set(families.BREAKER_STATE, (model, tier, state.value), int(state is now))


def write_stats(stats: ModelCacheStats, numbers: Numbers) -> None:
    """Adds what a cache answered when it was asked."""
    model = stats.model
    for tier in stats.tiers:
        merge: Merge = "max" if tier.is_shared else "sum"
        labels = (model, tier.tier)
        numbers.set(families.CACHE_BYTES, labels, tier.bytes_used, merge=merge)
        for fingerprint, entries in tier.entries.items():
            each = (*labels, fingerprint)
            numbers.set(families.CACHE_ENTRIES, each, entries, merge=merge)
        for state in BreakerState:
            key = (families.BREAKER_STATE.name, (*labels, state.value))
            if key not in numbers.gauges:  # a breaker that has never moved is closed
                closed = int(state is BreakerState.CLOSED)
                numbers.set(families.BREAKER_STATE, key[1], closed)
    if stats.generation is not None:
        numbers.set(families.GENERATION, (model,), stats.generation)
    if stats.has_ledger:
        age = stats.ledger_age_seconds
        numbers.set(families.LEDGER_AGE, (model,), float("inf") if age is None else age)
