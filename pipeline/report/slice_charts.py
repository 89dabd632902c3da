"""The report's drawings of slices: metric by slice with 95% intervals, worst on top. No IO here."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tfx_encore.pipeline.report import words
from tfx_encore.pipeline.report.charts import LABEL_ROOM, hollow_mark, row_label, rows_canvas
from tfx_encore.pipeline.report.slice_row import SliceRow
from tfx_encore.pipeline.report.svg import FONT_SIZE, Canvas, paint, text_width
from tfx_encore.schemas.decisions import Outcome

MAX_ROWS = 30
_MARKERS = {
    Outcome.OK: "o",
    Outcome.WARN: "^",
    Outcome.BLOCK: "X",
    Outcome.INSUFFICIENT_DATA: "o",
}
_SIZES = {
    Outcome.OK: 7.5,
    Outcome.WARN: 8.5,
    Outcome.BLOCK: 9,
    Outcome.INSUFFICIENT_DATA: 5.5,
}


def differences(rows: Sequence[SliceRow], label: str, ident: str) -> Markup:
    """Draws candidate minus baseline by slice, with intervals, zero and the threshold.

    A row without a difference says so.
    """
    canvas, axes = _slices(rows, label, zero=True)
    for y, row in enumerate(rows[:MAX_ROWS]):
        if row.x is None:
            axes.text(
                0.02,
                y + 0.2,
                "not compared",
                transform=axes.get_yaxis_transform(),
                color=paint("muted"),
                fontsize=FONT_SIZE - 0.5,
            )
    axes.axvline(0, color=paint("muted"), linewidth=1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: words.signed(value, 2)))
    return canvas.svg(ident)


def values(rows: Sequence[SliceRow], label: str, ident: str) -> Markup:
    """Draws the metric itself by slice: candidate filled, baseline hollow."""
    canvas, axes = _slices(rows, label, zero=False)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: words.number(value)))
    return canvas.svg(ident)


def slice_label(name: str, room: float) -> str:
    """The longest form of a slice's name that fits `room` CSS pixels; else the shortest form.

    `payment_type=Cash, trip_start_day=1` becomes `type=Cash, day=1`, then `Cash, 1`: values tell
    slices apart, so they are given up last.
    """
    pairs = [part.partition("=") for part in name.split(", ")]
    forms = (
        name,
        ", ".join(f"{feature.rsplit('_', 1)[-1]}{sign}{value}" for feature, sign, value in pairs),
        ", ".join(value or feature for feature, _, value in pairs),
    )
    return next((form for form in forms if text_width(form) <= room), forms[-1])


def _slices(rows: Sequence[SliceRow], label: str, *, zero: bool) -> tuple[Canvas, Axes]:
    shown = rows[:MAX_ROWS]
    canvas, axes = rows_canvas(len(shown), label)
    low, high = _span(shown, zero=zero)
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    _thresholds(axes, shown)
    for y, row in enumerate(shown):
        row_label(canvas, axes, y, slice_label(row.name, LABEL_ROOM))
        _whisker(axes, y, row, low, high)
        if row.baseline is not None and low <= row.baseline <= high:
            hollow_mark(axes, row.baseline, y)
        if row.x is not None and low <= row.x <= high:
            _mark(axes, row.x, y, row.outcome)
    return canvas, axes


def _span(rows: Sequence[SliceRow], *, zero: bool) -> tuple[float, float]:
    """The range to draw: slices with too little data do not stretch it unless all are such."""
    judged = [row for row in rows if row.outcome is not Outcome.INSUFFICIENT_DATA] or list(rows)
    seen = [0.0] if zero else []
    for row in judged:
        seen += [v for v in (row.x, row.threshold, row.baseline) if v is not None]
        seen += row.interval or ()
    low, high = (min(seen), max(seen)) if seen else (0.0, 1.0)
    pad = (high - low) * 0.05 or 0.05
    return low - pad, high + pad


def _thresholds(axes: Axes, rows: Sequence[SliceRow]) -> None:
    """One line if all rows share a threshold, else a stroke on each row that has one."""
    lines = [(row.threshold, y - 0.38, y + 0.38) for y, row in enumerate(rows)]
    found = {row.threshold for row in rows if row.x is not None}
    if len(found) == 1:
        lines = [(found.pop(), -0.5, len(rows) - 0.5)]
    dashes = (0, (2, 2))
    for x, top, bottom in lines:
        if x is not None:
            axes.plot([x, x], [top, bottom], color=paint("block"), linewidth=1.2, linestyle=dashes)


def _whisker(axes: Axes, y: int, row: SliceRow, low: float, high: float) -> None:
    """The interval, cut at the edges of the drawing with an arrow head where it goes on."""
    if row.interval is None:
        return
    colour = paint(_colour(row.outcome))
    start, end = max(row.interval[0], low), min(row.interval[1], high)
    if start < end:
        axes.plot([start, end], [y, y], color=colour, linewidth=1.4, solid_capstyle="butt")
    for beyond, edge, arrow in (
        (row.interval[0] < low, low, "<"),
        (row.interval[1] > high, high, ">"),
    ):
        if beyond:
            axes.plot([edge], [y], arrow, color=colour, markersize=4.5, clip_on=False)


def _colour(outcome: Outcome) -> str:
    return "now" if outcome is Outcome.OK else outcome.value.lower()


def _mark(axes: Axes, x: float, y: float, outcome: Outcome) -> None:
    colour = paint(_colour(outcome))
    face = paint("paper") if outcome is Outcome.INSUFFICIENT_DATA else colour
    axes.plot(
        [x], [y], _MARKERS[outcome], mfc=face, mec=colour, mew=0.8, markersize=_SIZES[outcome]
    )
