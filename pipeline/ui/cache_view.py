"""The cache: its tiers, its hit rate over nights, what its snapshot is worth. No IO here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tfx_encore.gateway.admin_messages import ModelStats
from tfx_encore.pipeline.report import words
from tfx_encore.pipeline.ui import charts, series
from tfx_encore.pipeline.ui.address import Range, link
from tfx_encore.pipeline.ui.charts import Chart, Line
from tfx_encore.pipeline.ui.coverage import coverage_chart
from tfx_encore.schemas.charts import Coverage
from tfx_encore.schemas.decisions import Outcome
from tfx_encore.schemas.nights import NightCoverage, NightRecord
from tfx_encore.schemas.release import Certificate


@dataclass(frozen=True)
class CacheView:
    """The page of the cache.

    Attributes:
        range: the days.
        hits: hit rate over nights, beside what the snapshot covers; None without either.
        curve: what the live snapshot was predicted to be worth; None if unknown.
        coverage: the numbers behind `curve`.
        version: the release whose snapshot that is.
        certificate: whether its answers may be cached row by row.
        covered: worth of the snapshot in the last night that says so.
        gateway: what the running gateway says of the model; None if none runs.
        workers: how many workers it has.
        trouble: why there is no word from a gateway; "" if there is.
    """

    range: Range
    hits: Chart | None
    curve: Chart | None
    coverage: Coverage | None
    version: int | None
    certificate: Certificate | None
    covered: NightCoverage | None
    gateway: ModelStats | None
    workers: int
    trouble: str

    @property
    def asked(self) -> int:
        """Rows that the running gateway was asked for."""
        return sum(self.gateway.hits.values()) + self.gateway.misses if self.gateway else 0

    @property
    def hit_rate(self) -> float | None:
        """Of the running gateway; None if it was asked for nothing."""
        return sum(self.gateway.hits.values()) / self.asked if self.gateway and self.asked else None


def cache_view(
    nights: Sequence[NightRecord],
    shown: Range,
    *,
    coverage: Coverage | None = None,
    version: int | None = None,
    certificate: Certificate | None = None,
    gateway: ModelStats | None = None,
    workers: int = 0,
    trouble: str = "",
) -> CacheView:
    """The page: `nights` are those of the range, ascending; the rest as in `CacheView`."""
    covered = [night.coverage for night in nights if night.coverage]
    return CacheView(
        range=shown,
        hits=_hits(nights),
        curve=coverage_chart(coverage) if coverage else None,
        coverage=coverage,
        version=version,
        certificate=certificate,
        covered=covered[-1] if covered else None,
        gateway=gateway,
        workers=workers,
        trouble=trouble,
    )


def _hits(nights: Sequence[NightRecord]) -> Chart | None:
    rates = {n.date: n.log.hit_rate for n in nights if n.log.hit_rate is not None}
    covered = {n.date: n.coverage.covered for n in nights if n.coverage}
    expected = {n.date: n.coverage.expected for n in nights if n.coverage}
    there = sorted({*rates, *covered})
    if not there:
        return None
    days = series.days_of(there)
    shapes, notes = series.change_marks(series.changes(nights))
    lines = [
        Line("expected", series.spread(days, expected), "@muted", "dot", step=True),
        Line("covered by the snapshot", series.spread(days, covered), "@before", "dash"),
        Line(
            "hit rate",
            series.spread(days, rates),
            marks=(Outcome.OK,) * len(days),
            links=tuple(link(f"/nights/{day}") if day in rates else "" for day in days),
        ),
    ]
    return Chart(
        ident="hits",
        label=f"Hit rate over {len(there)} nights, beside what the snapshot covers",
        data=tuple(charts.line(days, each, ".1%") for each in lines),
        layout=charts.layout(
            xaxis=charts.day_axis(days),
            yaxis={"tickformat": ".0%", "rangemode": "tozero", "nticks": 6},
            shapes=shapes,
            annotations=notes,
        ),
        height=320,
        head=("Night", "Hit rate", "Covered", "Expected"),
        rows=tuple(
            (
                day,
                words.percent(rates.get(day)),
                words.percent(covered.get(day)),
                words.percent(expected.get(day)),
            )
            for day in reversed(there)
        ),
        links=True,
    )
