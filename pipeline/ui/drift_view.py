"""Drift by feature over nights: effects against their floors and thresholds. No IO here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tfx_encore.pipeline.report import words
from tfx_encore.pipeline.ui import charts, series
from tfx_encore.pipeline.ui.address import AddressError, Range, link
from tfx_encore.pipeline.ui.charts import Chart, Line
from tfx_encore.pipeline.ui.distribution import distribution
from tfx_encore.pipeline.ui.drift_checks import (
    RANK,
    Check,
    bad_days,
    by_feature,
    checks_of,
    drift_address,
    last_checks,
    sign,
)
from tfx_encore.pipeline.ui.drift_matrix import matrix
from tfx_encore.schemas.charts import FeatureChart
from tfx_encore.schemas.decisions import Evidence, Outcome
from tfx_encore.schemas.nights import NightRecord


@dataclass(frozen=True)
class FeatureRow:
    """A feature in the list of all, by its last night.

    Attributes:
        name: of the feature.
        address: of its page.
        outcome: the worst of the last night.
        worst: the check behind that.
        against: what that check compared with.
        nights: nights of the range in which a check of it warned or blocked.
        chosen: it is the feature shown.
    """

    name: str
    address: str
    outcome: Outcome
    worst: Evidence
    against: str
    nights: int
    chosen: bool


@dataclass(frozen=True)
class DriftChart:
    """The course of one measure against one baseline.

    Attributes:
        title: the measure.
        against: the baseline.
        outcome: of the last night.
        bad: the nights that warned or blocked, ascending.
        chart: the drawing.
    """

    title: str
    against: str
    outcome: Outcome
    bad: tuple[str, ...]
    chart: Chart


@dataclass(frozen=True)
class DriftView:
    """The page of drift.

    Attributes:
        feature: the feature shown; None if there is none.
        features: all that can be chosen, the worst of the last night first.
        range: the days.
        night: the night whose distributions are shown; None without one.
        rows: every feature.
        courses: of the feature shown, the worst first.
        matrix: all features over all nights; None without any.
        distribution: of the feature in `night`; None if it was not kept.
        nights: dates of the range that can be chosen as `night`.
    """

    feature: str | None
    features: tuple[str, ...]
    range: Range
    night: str | None
    rows: tuple[FeatureRow, ...]
    courses: tuple[DriftChart, ...]
    matrix: Chart | None
    distribution: Chart | None
    nights: tuple[str, ...]


def drift_view(
    nights: Sequence[NightRecord],
    shown: Range,
    query: Mapping[str, str],
    distributions: Sequence[FeatureChart] = (),
) -> DriftView:
    """The page for a choice.

    Args:
        nights: those of the range, ascending.
        shown: the range.
        query: `feature`; the worst of the last night if not given. `night`.
        distributions: those of the night that `chosen_night` names.

    Raises:
        AddressError: no night of the range has this feature; names those that have been checked.
    """
    checks = by_feature(checks_of(nights))
    features = tuple(checks)
    feature = _chosen(query, features, shown)
    night = chosen_night(nights, query)
    mine = checks.get(feature, []) if feature else []
    drawn = next((c for c in distributions if c.feature == feature), None)
    return DriftView(
        feature=feature,
        features=features,
        range=shown,
        night=night,
        rows=tuple(_feature_row(n, c, n == feature, query) for n, c in checks.items()),
        courses=_courses(feature, mine, nights) if feature else (),
        matrix=matrix(checks, nights, query) if checks else None,
        distribution=distribution(drawn, "distribution") if drawn else None,
        nights=tuple(n.date for n in nights),
    )


def chosen_night(nights: Sequence[NightRecord], query: Mapping[str, str]) -> str | None:
    """The night whose distributions are shown: `night`, or the last of the range."""
    there = [night.date for night in nights]
    wanted = query.get("night")
    return wanted if wanted in there else (there[-1] if there else None)


def _chosen(query: Mapping[str, str], features: Sequence[str], shown: Range) -> str | None:
    wanted = query.get("feature")
    if not wanted or not features:
        return wanted or (features[0] if features else None)
    if wanted not in features:
        raise AddressError(
            f"No night from {shown.first} to {shown.last} checked the feature {wanted[:120]!r}.",
            exists=[(name, drift_address(query, feature=name)) for name in features],
        )
    return wanted


def _feature_row(
    name: str, checks: Sequence[Check], chosen: bool, query: Mapping[str, str]
) -> FeatureRow:
    worst = last_checks(checks)[0]
    bad = bad_days(checks)
    address = drift_address(query, feature=name)
    item = worst.evidence
    return FeatureRow(name, address, item.outcome, item, worst.against, len(bad), chosen)


def _courses(
    feature: str, checks: Iterable[Check], nights: Sequence[NightRecord]
) -> tuple[DriftChart, ...]:
    """One drawing for each gate and measure."""
    found: dict[tuple[str, str], dict[str, Check]] = {}
    for check in checks:
        key = (check.gate, check.evidence.measure)
        found.setdefault(key, {}).setdefault(check.date, check)
    changes = series.changes(nights)
    drawn = [
        _course(feature, key, course, changes, f"course-{number}")
        for number, (key, course) in enumerate(found.items())
        if any(check.evidence.effect is not None for check in course.values())
    ]
    return tuple(sorted(drawn, key=lambda each: (RANK[each.outcome], not each.bad)))


def _course(
    feature: str,
    key: tuple[str, str],
    course: Mapping[str, Check],
    changes: Iterable[series.Change],
    ident: str,
) -> DriftChart:
    gate, measure = key
    baseline = "training data" if gate == "skew" else "earlier nights"
    days = series.days_of(list(course))
    items = [course[day].evidence if day in course else None for day in days]
    floor = [item.null_floor if item else None for item in items]
    effect = Line(
        "effect",
        tuple(item.effect if item else None for item in items),
        marks=tuple(item.outcome if item else Outcome.OK for item in items),
        links=tuple(link(f"/nights/{day}") if day in course else "" for day in days),
    )
    threshold = Line(
        "threshold",
        tuple(item.threshold if item else None for item in items),
        colour="@block",
        dash="dot",
        step=True,
    )
    shapes, notes = series.change_marks(c for c in changes if days[0] <= c.date <= days[-1])
    chart = Chart(
        ident=ident,
        label=f"{words.measure(measure)} of {feature} against {baseline} over "
        f"{len(course)} nights, with the floor of chance and the threshold",
        data=(
            charts.band(days, [None if f is None else 0.0 for f in floor], floor,
                        colour="@before-soft"),
            charts.line(days, Line("floor", tuple(floor), "@before", "dash"), ".3g"),
            charts.line(days, threshold, ".3g"),
            charts.line(days, effect, ".3g"),
        ),
        layout=charts.layout(
            xaxis=charts.day_axis(days, nticks=5),
            yaxis={"rangemode": "tozero", "nticks": 5},
            shapes=shapes,
            annotations=notes,
        ),
        height=230,
        head=("Night", "Effect", "Floor", "Threshold", "Adjusted p", "Against", "Verdict"),
        rows=tuple(_row(day, course[day]) for day in reversed(days) if day in course),
        links=True,
    )  # fmt: skip
    title = words.heading(words.measure(measure))
    bad = tuple(sorted(day for day, check in course.items() if sign(check.evidence)))
    return DriftChart(title, baseline, course[max(course)].evidence.outcome, bad, chart)


def _row(day: str, check: Check) -> tuple[str, ...]:
    item = check.evidence
    return (
        day,
        words.number(item.effect),
        words.number(item.null_floor),
        words.number(item.threshold),
        words.p_value(item.p_value),
        check.against,
        words.OUTCOMES[item.outcome],
    )
