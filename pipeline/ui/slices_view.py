"""A slice's metric over nights: interval, reference, trend statistic, alarms. No IO here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tfx_encore.pipeline.report import words
from tfx_encore.pipeline.ui import charts, series
from tfx_encore.pipeline.ui.address import AddressError, Range, link
from tfx_encore.pipeline.ui.charts import Chart, Line
from tfx_encore.schemas.decisions import Outcome
from tfx_encore.schemas.nights import MetricPoint, NightAlarm, NightRecord

OVERALL = "overall"
_PREFERRED = ("accuracy", "recall", "precision", "auc")


@dataclass(frozen=True)
class SliceRow:
    """A slice in the list of all slices, by its last night.

    Attributes:
        name: of the slice.
        address: of its page.
        value: in the last night that has one.
        interval: its 95% interval.
        reference: what the release is held against.
        cases: its denominator.
        date: that night.
        alarm: it alarmed in that night.
        lines: the course as points of small lines.
        chosen: it is the slice shown.
    """

    name: str
    address: str
    value: float
    interval: tuple[float, float]
    reference: float | None
    cases: int
    date: str
    alarm: bool
    lines: tuple[str, ...]
    chosen: bool


@dataclass(frozen=True)
class SlicesView:
    """The page of slices.

    Attributes:
        slice: the slice shown.
        metric: the metric shown.
        slices: all slices that can be chosen, overall first.
        metrics: all metrics that can be chosen.
        range: the days.
        chart: the course; None if there is no night with a metric.
        alarms: of this slice and metric in the last night of the range.
        first_alarm: the first night of the range that alarms.
        rows: all slices by this metric, those that alarm first.
        changes: days on which another version went live.
    """

    slice: str
    metric: str
    slices: tuple[str, ...]
    metrics: tuple[str, ...]
    range: Range
    chart: Chart | None
    alarms: tuple[NightAlarm, ...]
    first_alarm: str | None
    rows: tuple[SliceRow, ...]
    changes: tuple[series.Change, ...]


_Course = dict[str, MetricPoint]


def slices_view(
    nights: Sequence[NightRecord], shown: Range, query: Mapping[str, str]
) -> SlicesView:
    """The page for a choice.

    Args:
        nights: those of the range, ascending.
        shown: the range.
        query: `slice` and `metric`; the first that there is if not given.

    Raises:
        AddressError: no night of the range has this slice or metric; names those that exist.
    """
    courses = _courses(nights)
    metrics = _metrics(courses)
    metric = _choice(query, "metric", metrics, shown)
    slices = _slices(courses, metric)
    name = _choice(query, "slice", slices, shown) if slices else query.get("slice", OVERALL)
    course = courses.get((name, metric), {})
    found = series.changes(nights)
    return SlicesView(
        slice=name,
        metric=metric,
        slices=slices,
        metrics=metrics,
        range=shown,
        chart=_chart(course, name, metric, found) if course else None,
        alarms=_alarms(nights, name, metric),
        first_alarm=next((date for date, point in course.items() if point.alarm), None),
        rows=_rows(courses, metric, name, query),
        changes=found,
    )


def _courses(nights: Iterable[NightRecord]) -> dict[tuple[str, str], _Course]:
    """(slice, metric) -> date -> point, dates ascending."""
    found: dict[tuple[str, str], _Course] = {}
    for night in nights:
        for point in night.metrics:
            found.setdefault((point.slice, point.metric), {})[night.date] = point
    return found


def _metrics(courses: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    there = {metric for _, metric in courses}
    known = [metric for metric in _PREFERRED if metric in there]
    return (*known, *sorted(there - set(known)))


def _slices(courses: Iterable[tuple[str, str]], metric: str) -> tuple[str, ...]:
    there = {name for name, found in courses if found == metric}
    return tuple(sorted(there, key=lambda name: (name != OVERALL, name.count(", "), name)))


def _choice(query: Mapping[str, str], name: str, there: Sequence[str], shown: Range) -> str:
    wanted = query.get(name)
    if not there:
        return wanted or _PREFERRED[0]
    if not wanted:
        return there[0]
    if wanted not in there:
        exists = [(item, _address(query, **{name: item})) for item in there]
        raise AddressError(
            f"No night from {shown.first} to {shown.last} has the {name} {wanted[:120]!r}.",
            exists=exists,
        )
    return wanted


def _address(query: Mapping[str, str], **changed: str) -> str:
    names = ("slice", "metric", "from", "to")
    merged = {**{name: query[name] for name in names if query.get(name)}, **changed}
    if "metric" in changed:
        merged.pop("slice", None)
    return link("/slices", **{f"{name}_": value for name, value in merged.items()})


def _alarms(nights: Sequence[NightRecord], name: str, metric: str) -> tuple[NightAlarm, ...]:
    last = nights[-1].alarms if nights else ()
    return tuple(a for a in last if (a.subject, a.measure) == (f"slice:{name}", metric))


def _rows(
    courses: Mapping[tuple[str, str], _Course],
    metric: str,
    chosen: str,
    query: Mapping[str, str],
) -> tuple[SliceRow, ...]:
    """Every slice with its last value and its course."""
    wanted = {name: course for (name, found), course in courses.items() if found == metric}
    days = series.days_of([date for course in wanted.values() for date in course])
    rows = []
    for name in _slices(courses, metric):
        course = wanted[name]
        date, last = list(course.items())[-1]
        points = series.spread(days, {d: p.value for d, p in course.items()})
        rows.append(
            SliceRow(
                name=name,
                address=_address(query, slice=name, metric=metric),
                value=last.value,
                interval=last.interval,
                reference=last.reference,
                cases=last.cases,
                date=date,
                alarm=last.alarm,
                lines=series.spark(points),
                chosen=name == chosen,
            )
        )
    return tuple(sorted(rows, key=lambda row: (not row.alarm, row.name != OVERALL)))


def _chart(course: _Course, name: str, metric: str, found: Sequence[series.Change]) -> Chart:
    """The metric above; below it the trend statistic, if it is followed."""
    days = series.days_of(list(course))
    points = [course.get(day) for day in days]
    followed = any(point and point.statistic is not None for point in points)
    marks = [_outcome(point) for point in points]
    links = [link(f"/nights/{day}") if day in course else "" for day in days]
    value = Line(
        words.measure(metric),
        tuple(p.value if p else None for p in points),
        marks=tuple(marks),
        links=tuple(links),
    )
    reference = Line(
        "held against",
        tuple(p.reference if p else None for p in points),
        colour="@before",
        dash="dash",
        step=True,
    )
    lows, highs = _ends(points)
    shapes, notes = series.change_marks(c for c in found if days[0] <= c.date <= days[-1])
    data = [
        charts.band(days, lows, highs),
        charts.line(days, reference, ".3f"),
        charts.line(days, value, ".3f"),
    ]
    axes = {
        "xaxis": charts.day_axis(days, anchor="y2" if followed else "y"),
        "yaxis": {
            "title": {"text": charts.plain(words.measure(metric))},
            "domain": [0.44, 1] if followed else [0, 1],
            "nticks": 6,
        },
    }
    if followed:
        data += _statistic(days, points, marks, links)
        axes["yaxis2"] = {
            "title": {"text": "trend statistic"},
            "domain": [0, 0.34],
            "rangemode": "tozero",
            "nticks": 4,
        }
    return Chart(
        ident="course",
        label=f"{words.heading(words.measure(metric))} of {name} over {len(course)} nights, with "
        "95% intervals" + ("; below it the trend statistic and its threshold" if followed else ""),
        data=tuple(data),
        layout=charts.layout(shapes=shapes, annotations=notes, **axes),
        height=460 if followed else 320,
        head=("Night", "Value", "95% interval", "Held against", "Statistic", "Threshold", "Alarm"),
        rows=tuple(_row(day, course[day]) for day in reversed(days) if day in course),
        links=True,
    )


def _statistic(
    days: Sequence[str],
    points: Sequence[MetricPoint | None],
    marks: Sequence[Outcome],
    links: Sequence[str],
) -> list[charts.Spec]:
    statistic = Line(
        "trend statistic",
        tuple(p.statistic if p else None for p in points),
        colour="@ink",
        marks=tuple(marks),
        links=tuple(links),
        axis="y2",
    )
    threshold = Line(
        "alarms above",
        tuple(p.threshold if p else None for p in points),
        colour="@block",
        dash="dot",
        axis="y2",
    )
    return [charts.line(days, threshold, ".2f"), charts.line(days, statistic, ".2f")]


def _outcome(point: MetricPoint | None) -> Outcome:
    return Outcome.BLOCK if point and point.alarm else Outcome.OK


def _ends(
    points: Sequence[MetricPoint | None],
) -> tuple[list[float | None], list[float | None]]:
    return (
        [p.interval[0] if p else None for p in points],
        [p.interval[1] if p else None for p in points],
    )


def _row(day: str, point: MetricPoint) -> tuple[str, ...]:
    return (
        day,
        words.decimal(point.value),
        words.interval(point.interval),
        words.decimal(point.reference),
        words.decimal(point.statistic),
        words.decimal(point.threshold),
        "alarm" if point.alarm else words.NOTHING,
    )
