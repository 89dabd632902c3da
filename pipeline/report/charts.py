"""The report's drawings of features and of the cache's coverage. No IO here.

Each is about 340 CSS pixels wide, so that a phone shows it without scrolling. What is now is a
solid blue line or filled mark, what was before a grey dashed line or hollow mark: nobody needs to
tell the colours apart.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from tfx_encore.pipeline.report import words
from tfx_encore.pipeline.report.svg import FONT_SIZE, Canvas, paint, text_width
from tfx_encore.schemas.charts import Coverage, FeatureChart

WIDTH = 340
MAX_CATEGORIES = 14
_ROW = 18
_UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
_GUTTER = 146
LABEL_ROOM = _GUTTER - 8  # CSS pixels for a row's name


def distribution(chart: FeatureChart, ident: str) -> Markup:
    """Draws a feature's distribution now, over the baseline's if there is one."""
    if not chart.current:  # no value is left of a feature that had some
        chart = dataclasses.replace(chart, current=(0.0,) * len(chart.baseline))
    if chart.kind == "categorical":
        return _categories(chart, ident)
    return _histogram(chart, ident)


def _histogram(chart: FeatureChart, ident: str) -> Markup:
    """Shares by bin as steps. Bins of very unequal width are drawn equally wide."""
    canvas = Canvas(WIDTH, 150, _distribution_label(chart))
    axes = canvas.axes(left=38, top=8, right=10, bottom=24)
    edges = [float(edge) for edge in chart.edges]
    even = _evenly_spaced(edges)
    at = edges if even else [float(index) for index in range(len(edges))]
    if chart.baseline:
        axes.stairs(chart.baseline, at, fill=True, color=paint("before-soft"), linewidth=0)
        axes.stairs(chart.baseline, at, color=paint("before"), linewidth=1.2, linestyle=(0, (4, 2)))
    else:
        axes.stairs(chart.current, at, fill=True, color=paint("now-soft"), linewidth=0)
    axes.stairs(chart.current, at, color=paint("now"), linewidth=1.8)
    top = max((*chart.current, *chart.baseline, 0.0)) or 1.0
    axes.set(xlim=(at[0], at[-1]) if at[0] < at[-1] else None, ylim=(0, top * 1.06))
    _share_axis(axes)
    _edge_axis(axes, edges, even=even)
    return canvas.svg(ident)


def _evenly_spaced(edges: Sequence[float]) -> bool:
    widths = [high - low for low, high in itertools.pairwise(edges)]
    return bool(widths) and min(widths) > 0 and max(widths) / min(widths) < 1.5


def _share_axis(axes: Axes) -> None:
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: words.percent(share)))
    _rules(axes, "y")


def _edge_axis(axes: Axes, edges: Sequence[float], *, even: bool) -> None:
    """Labels a few edges; where bins are not to scale, at the edges themselves."""
    if not even:
        step = max(1, math.ceil((len(edges) - 1) / 5))
        shown = list(range(0, len(edges), step))
        axes.set_xticks(shown, [_short_number(edges[index]) for index in shown])
        return
    for wanted in (5, 3, 2):  # fewer where the labels are long
        ticks = MaxNLocator(wanted).tick_values(edges[0], edges[-1])
        inside = [float(tick) for tick in ticks if edges[0] <= tick <= edges[-1]]
        labels = tick_labels(inside)
        if sum(map(text_width, labels)) < 0.7 * WIDTH:
            break
    axes.set_xticks(inside, labels)


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """Labels of evenly spaced ticks, with as many decimals as tell them apart."""
    largest = max(map(abs, ticks), default=0.0)
    scale, unit = _unit(largest)
    step = min((b - a for a, b in itertools.pairwise(ticks)), default=1.0) / scale
    decimals = min(9, max(0, math.ceil(-math.log10(step) - 1e-9))) if step > 0 else 0
    decimals += round(step * 10**decimals, 6) % 1 != 0  # as for a step of 2.5
    return [f"{tick / scale:,.{decimals}f}".replace("-", "\N{MINUS SIGN}") + unit for tick in ticks]


def _short_number(value: float) -> str:
    """Returns an axis label of at most about six characters."""
    scale, unit = _unit(abs(value))
    return words.number(value / scale) + unit


def _unit(largest: float) -> tuple[float, str]:
    """Thousands are written out up to 10,000."""
    found = ((scale, unit) for scale, unit in _UNITS if largest >= max(scale, 1e4))
    return next(found, (1.0, ""))


def _rules(axes: Axes, axis: str) -> None:
    axes.grid(visible=True, axis=axis, color=paint("rule"), linewidth=0.8)  # type: ignore[arg-type]
    axes.set_axisbelow(True)


@dataclass(frozen=True)
class _Category:
    name: str
    now: float
    before: float | None


def _categories(chart: FeatureChart, ident: str) -> Markup:
    """One row for each category: a hollow mark before, a filled one now, a line between."""
    rows = shown_categories(chart)
    canvas, axes = rows_canvas(len(rows), _distribution_label(chart))
    for y, row in enumerate(rows):
        row_label(canvas, axes, y, row.name)
        if row.before is None:
            axes.plot([0, row.now], [y, y], color=paint("now"), linewidth=1.2)
        else:
            axes.plot([row.before, row.now], [y, y], color=paint("now"), linewidth=1.2)
            hollow_mark(axes, row.before, y)
        axes.plot([row.now], [y], "o", color=paint("now"), markersize=6)
    top = max([row.now for row in rows] + [row.before or 0 for row in rows] + [0.01])
    axes.set_xlim(-0.03 * top, top * 1.06)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: words.percent(share)))
    return canvas.svg(ident)


def shown_categories(chart: FeatureChart) -> list[_Category]:
    """The categories worth a row: the largest then or now; the rest are one row, then missing."""
    before: Sequence[float | None] = chart.baseline or [None] * len(chart.current)
    triples = zip(chart.labels, chart.current, before, strict=True)
    rows = [_Category(*triple) for triple in triples]
    by_size = sorted(rows, key=lambda row: max(row.now, row.before or 0), reverse=True)
    most = MAX_CATEGORIES if len(rows) <= MAX_CATEGORIES else MAX_CATEGORIES - 1
    kept = set(map(id, by_size[:most]))
    rest = by_size[most:]
    shown = [row for row in rows if id(row) in kept]
    if rest:
        total = sum(row.before or 0 for row in rest) if chart.baseline else None
        shown.append(_Category(f"({len(rest)} more)", sum(row.now for row in rest), total))
    return shown


def _distribution_label(chart: FeatureChart) -> str:
    against = f" against {chart.n_baseline:,} before" if chart.baseline else ""
    return f"Distribution of {chart.feature}: {chart.n:,} examples now{against}"


def hollow_mark(axes: Axes, x: float, y: float) -> None:
    """Draws what was before, or the live model."""
    axes.plot([x], [y], "o", mfc=paint("paper"), mec=paint("before"), mew=1.4, markersize=6)


def rows_canvas(rows: int, label: str) -> tuple[Canvas, Axes]:
    """A canvas with one line for each row, the first on top, and a gutter for their names."""
    canvas = Canvas(WIDTH, max(rows, 1) * _ROW + 28, label)
    axes = canvas.axes(left=_GUTTER, top=4, right=14, bottom=24)
    axes.set_ylim(max(rows, 1) - 0.5, -0.5)
    axes.yaxis.set_major_locator(NullLocator())
    _rules(axes, "x")
    axes.hlines(
        [float(y) for y in range(rows)],
        0,
        1,
        transform=axes.get_yaxis_transform(),
        color=paint("rule"),
        linewidth=0.8,
        linestyle=(0, (1, 3)),
    )
    return canvas, axes


def row_label(canvas: Canvas, axes: Axes, y: int, name: str) -> None:
    """Writes a row's name into the gutter, cut to fit."""
    axes.annotate(
        canvas.text(name, room=LABEL_ROOM),
        (0, y),
        xycoords=axes.get_yaxis_transform(),
        xytext=(-7, -3.8),
        textcoords="offset points",
        ha="right",
        va="baseline",
        color=paint("ink"),
        fontsize=FONT_SIZE,
        annotation_clip=False,
    )


def coverage_curve(coverage: Coverage, ident: str) -> Markup:
    """Draws predicted hit rate over entries (logarithmic); the chosen budget is marked."""
    label = (
        f"Predicted hit rate by snapshot size: {coverage.entries:,} entries answer "
        f"{words.percent(coverage.hit_rate)} of the held-out rows"
    )
    canvas = Canvas(WIDTH, 190, label)
    axes = canvas.axes(left=40, top=12, right=14, bottom=36)
    points = [(point.entries, point.hit_rate) for point in coverage.curve if point.entries > 0]
    entries = [point[0] for point in points] + [max(coverage.entries, 1)]
    axes.set_xscale("log")
    axes.plot([p[0] for p in points], [p[1] for p in points], color=paint("now"), linewidth=1.8)
    _budget(axes, coverage)
    low, high = min(entries), max(entries)
    axes.set(xlim=(low / 1.15, high * 1.3), ylim=(0, _ceiling(coverage)))
    axes.xaxis.set_major_locator(FixedLocator(_log_ticks(low, high)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short_number(value)))
    axes.set_xlabel("entries in the snapshot", fontsize=FONT_SIZE, color=paint("muted"), labelpad=2)
    _share_axis(axes)
    return canvas.svg(ident)


def _budget(axes: Axes, coverage: Coverage) -> None:
    """The chosen size: a dashed line down from its hit rate, and the lossless gain above it."""
    x = max(coverage.entries, 1)
    axes.plot(
        [x, x], [0, coverage.hit_rate], color=paint("ink"), linewidth=1, linestyle=(0, (2, 2))
    )
    axes.plot([x], [coverage.hit_rate], "o", color=paint("now"), markersize=7)
    axes.annotate(
        f"{words.count(coverage.entries)} entries, {words.percent(coverage.hit_rate)}",
        (x, coverage.hit_rate),
        xytext=(-9, 2),
        textcoords="offset points",
        ha="right",
        color=paint("ink"),
        fontsize=FONT_SIZE,
    )
    if coverage.hit_rate_transformed is not None:
        axes.plot(
            [x], [coverage.hit_rate_transformed], "D", mfc=paint("paper"), mec=paint("now"),
            mew=1.4, markersize=5.5,
        )  # fmt: skip


def _ceiling(coverage: Coverage) -> float:
    seen = [point.hit_rate for point in coverage.curve]
    return min(
        1.04, max([*seen, coverage.hit_rate, coverage.hit_rate_transformed or 0, 0.05]) * 1.15
    )


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten between `low` and `high`, or 1-2-5 steps where there are fewer than three."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [step * 10.0**power for power in exponents for step in (1, 2, 5)]
    within = [tick for tick in ticks if low / 1.15 <= tick <= high * 1.3]
    decades = [tick for tick in within if math.log10(tick).is_integer()]
    return decades[:: math.ceil(len(decades) / 6)] if len(decades) >= 3 else within
