"""What the cache tells whoever measures it. No IO here.

Subclass `CacheObserver` and override what is wanted; every method is called on the event loop and
must be quick.
"""

from __future__ import annotations

from typing import Literal

from tfx_encore.cache.breaker import BreakerState

HitKind = Literal["raw", "transformed", "negative"]


class CacheObserver:
    """Hears nothing of what it is told."""

    def hit(self, tier: str, kind: HitKind) -> None:
        """A row was answered by a tier; `negative` is a remembered rejection."""

    def missed(self, rows: int) -> None:
        """Rows were found in no tier in this process."""

    def coalesced(self, rows: int) -> None:
        """Of the rows missed, so many were already under way, or asked for twice in a request."""

    def computed(self, rows: int, seconds: float) -> None:
        """The model computed rows in one call."""

    def withheld(self, rows: int) -> None:
        """Rows were not looked up because the ledger was not read for too long."""

    def withdrawn(self, tier: str) -> None:
        """An entry was found that an invalidation record withdraws."""

    def evicted(self, tier: str, entries: int) -> None:
        """A local tier evicted entries for want of room; told at its next put, or look."""

    def not_stored(self, entries: int) -> None:
        """Answers came too late: an invalidation withdrew them while they were computed."""

    def refreshing(self, rows: int) -> None:
        """Rows are computed anew before they expire."""

    def tier_failed(self, tier: str, error: BaseException) -> None:
        """A tier failed or was too slow; it cost a miss."""

    def breaker_moved(self, tier: str, state: BreakerState) -> None:
        """A tier's circuit breaker changed its state."""

    def writes_dropped(self, tier: str, entries: int) -> None:
        """Entries were not written to a tier that cannot keep up."""
