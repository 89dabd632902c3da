"""What is thought of every series on a night: the content of `trends.json`. No IO here."""

from __future__ import annotations

from dataclasses import field
from typing import NamedTuple

from pydantic.dataclasses import dataclass

from tfx_encore.schemas.decisions import Decision

FORMAT = 1


class TrendPoint(NamedTuple):
    """A series on one night.

    Attributes:
        value: the metric, in [0, 1].
        cases: its denominator.
        statistic: ln R after this night; None if the night is not judged.
        threshold: where it alarms.
        alarm: it does.
        reference: what it is held against; None if unknown.
        onset: tonight's estimate of when the loss began, if it alarms.
    """

    value: float
    cases: int
    statistic: float | None
    threshold: float
    alarm: bool
    reference: float | None
    onset: str | None


@dataclass(frozen=True)
class TrendSeries:
    """A metric on a slice over nights; the lists run parallel, ascending, the last nights only.

    Attributes:
        slice: as `overall` or `payment_type=Cash`.
        features: the slice as feature -> value.
        metric: which.
        reference: what it is held against; None if there is nothing yet.
        reference_sd: standard deviation of its error.
        reference_kind: `release`, `first nights`, or "" without one.
        threshold: the statistic at which it alarms.
        run_length: nights between two false alarms that the threshold stands for.
        dispersion: factor by which its nights vary more than their cases explain, at least 1.
        followed: nights judged, those left out of the lists included.
        alarm: it alarms tonight.
        since: the first night of this alarm.
        onset: the night from which the loss is estimated to date; None without an alarm.
        slope: loss a night since then, least squares; None without an alarm, or if a sudden loss
            explains it better.
        dates: the nights.
        values: the metric on each.
        cases: its denominator on each.
        statistics: ln R after each; None where the night is not judged.
        alarms: whether it was in alarm.
    """

    slice: str
    features: dict[str, str]
    metric: str
    reference: float | None
    reference_sd: float | None
    reference_kind: str
    threshold: float
    run_length: float
    dispersion: float = 1.0
    followed: int = 0
    alarm: bool = False
    since: str | None = None
    onset: str | None = None
    slope: float | None = None
    dates: tuple[str, ...] = ()
    values: tuple[float, ...] = ()
    cases: tuple[int, ...] = ()
    statistics: tuple[float | None, ...] = ()
    alarms: tuple[bool, ...] = ()

    @property
    def subject(self) -> str:
        """As `Evidence.subject`."""
        return f"slice:{self.slice}"


@dataclass(frozen=True)
class TrendJudgement:
    """What is thought of all series tonight.

    Attributes:
        decision: of gate `trend`; evidence of each series, worst first.
        series: the series, overall first.
    """

    decision: Decision
    series: tuple[TrendSeries, ...] = field(default_factory=tuple)
    format: int = FORMAT

    @property
    def points(self) -> dict[tuple[str, str, str], TrendPoint]:
        """(slice as text, metric, date) -> the series on that night."""
        return {
            (item.slice, item.metric, date): TrendPoint(
                value, cases, statistic, item.threshold, alarm, item.reference, item.onset
            )
            for item in self.series
            for date, value, cases, statistic, alarm in zip(
                item.dates, item.values, item.cases, item.statistics, item.alarms, strict=True
            )
        }

    @property
    def onsets(self) -> dict[tuple[str, str], str]:
        """(`Evidence.subject`, `Evidence.measure`) of each alarm -> when the loss began."""
        return {(s.subject, s.metric): s.onset for s in self.series if s.alarm and s.onset}
