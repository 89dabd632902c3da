"""What the cache saved on a day, and by which way requests were answered. No IO here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tfx_encore.pipeline.daily import daily_summary
from tfx_encore.schemas.daily import DailySummary
from tfx_encore.schemas.nights import LogReport, NightRecord

_ORDER = ("hit", "partial", "miss", "off")


@dataclass(frozen=True)
class Way:
    """Requests that took one way.

    Attributes:
        name: `hit`, `partial`, `miss` or `off`.
        requests: how many the log holds.
        share: of all requests, in [0, 1].
        seconds: mean time of a request; None if the log does not say.
    """

    name: str
    requests: int
    share: float
    seconds: float | None


@dataclass(frozen=True)
class DailyView:
    """The page of a day's savings.

    Attributes:
        date: the day.
        summary: as `encore daily` prints it.
        version: that answered most rows.
        ways: requests by way.
        before: the day before, if it has a night.
        after: the next, if it has one.
    """

    date: str
    summary: DailySummary
    version: int | None
    ways: tuple[Way, ...]
    before: str | None
    after: str | None


def daily_view(night: NightRecord, dates: Sequence[str]) -> DailyView:
    """The page of a night's day; `dates` are all nights, ascending."""
    at = dates.index(night.date) if night.date in dates else -1
    return DailyView(
        date=night.date,
        summary=daily_summary(night),
        version=night.version,
        ways=_ways(night.log),
        before=dates[at - 1] if at > 0 else None,
        after=dates[at + 1] if 0 <= at < len(dates) - 1 else None,
    )


def _ways(log: LogReport) -> tuple[Way, ...]:
    total = sum(log.requests_by_cache.values())
    counts = [(name, log.requests_by_cache.get(name, 0)) for name in _ORDER]
    return tuple(Way(name, n, n / total, _mean(log, name)) for name, n in counts if n)


def _mean(log: LogReport, way: str) -> float | None:
    """Mean time of a request, in seconds."""
    requests = log.requests_by_cache.get(way, 0)
    if not requests or way not in log.latency_us:
        return None
    return log.latency_us[way] / requests / 1e6
