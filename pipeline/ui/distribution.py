"""The drawing of a feature's distribution now, beside the baseline's. No IO here."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from tfx_encore.pipeline.report import words
from tfx_encore.pipeline.ui import charts
from tfx_encore.pipeline.ui.charts import Chart, Spec
from tfx_encore.schemas.charts import FeatureChart

MOST_CATEGORIES = 20


def distribution(chart: FeatureChart, ident: str) -> Chart:
    """A feature's distribution: steps for numbers, one row for each category."""
    against = f" against {chart.n_baseline:,} before" if chart.baseline else ""
    label = f"Distribution of {chart.feature}: {chart.n:,} examples now{against}"
    categorical = chart.kind == "categorical"
    data, layout, height = _categories(chart) if categorical else _steps(chart)
    head = ("Category",) if categorical else ("From", "to")
    shares = ("Now", "Before") if chart.baseline else ("Now",)
    return Chart(ident, label, data, layout, height, (*head, *shares), _rows(chart))


def _rows(chart: FeatureChart) -> tuple[tuple[str, ...], ...]:
    names: list[tuple[str, ...]]
    if chart.kind == "categorical":
        names = [(label,) for label in chart.labels]
    else:
        pairs = itertools.pairwise(chart.edges)
        names = [(words.number(low, 4), words.number(high, 4)) for low, high in pairs]
    columns = [part for part in (_now(chart), chart.baseline) if part]
    cells = zip(*[[words.percent(share) for share in part] for part in columns], strict=True)
    return tuple((*name, *values) for name, values in zip(names, cells, strict=True))


def _now(chart: FeatureChart) -> tuple[float, ...]:
    """The shares now; zeros for a feature of which no value is left."""
    return chart.current or (0.0,) * len(chart.baseline)


def _steps(chart: FeatureChart) -> tuple[tuple[Spec, ...], Spec, int]:
    edges = list(chart.edges)
    even = _even(edges)
    at = edges if even else [float(index) for index in range(len(edges))]
    data = []
    if chart.baseline:
        data.append(_step(at, chart.baseline, "before"))
    data.append(_step(at, _now(chart), "now"))
    axis: Spec = {"nticks": 6}
    if not even:
        ticks = at[:: max(1, len(at) // 6)]
        labels = [words.number(edges[int(tick)]) for tick in ticks]
        axis = {"tickvals": ticks, "ticktext": labels}
    layout = charts.layout(xaxis={**axis, "showgrid": False}, yaxis=_shares("tozero"))
    return tuple(data), layout, 240


def _step(at: Sequence[float], shares: Sequence[float], name: str) -> Spec:
    """Steps `now` or `before`; the latter dashed and filled."""
    before = name == "before"
    colour, dash = ("@before", "dash") if before else ("@now", "solid")
    trace: Spec = {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "showlegend": False,
        "x": list(at),
        "y": [*shares, *shares[-1:]],
        "line": {"shape": "hv", "color": colour, "dash": dash, "width": 2},
        "hovertemplate": "%{y:.1%}<extra>" + name + "</extra>",
    }
    return {**trace, "fill": "tozeroy", "fillcolor": "@before-soft"} if before else trace


def _even(edges: Sequence[float]) -> bool:
    widths = [high - low for low, high in itertools.pairwise(edges)]
    return bool(widths) and min(widths) > 0 and max(widths) / min(widths) < 1.5


def _categories(chart: FeatureChart) -> tuple[tuple[Spec, ...], Spec, int]:
    """The largest categories, then or now: filled mark now, hollow mark before."""
    before = chart.baseline or (0.0,) * len(chart.labels)
    rows = sorted(
        zip(chart.labels, _now(chart), before, strict=True), key=lambda r: -max(r[1], r[2])
    )[:MOST_CATEGORIES]
    places = list(range(len(rows)))
    top = max([*(max(now, was) for _, now, was in rows), 0.01])
    now = {
        "type": "scatter",
        "mode": "markers",
        "name": "now",
        "showlegend": False,
        "x": [row[1] for row in rows],
        "y": places,
        "marker": {"color": "@now", "size": 10},
        "cliponaxis": False,
        "hovertemplate": "%{x:.1%}<extra>now</extra>",
    }
    if not chart.baseline:
        data: tuple[Spec, ...] = (now,)
    else:
        was = {
            **now,
            "name": "before",
            "x": [row[2] for row in rows],
            "marker": {"color": "@before", "size": 10, "symbol": "circle-open"}
            | {"line": {"width": 2}},
            "hovertemplate": "%{x:.1%}<extra>before</extra>",
        }
        between = {
            "type": "scatter",
            "mode": "lines",
            "showlegend": False,
            "hoverinfo": "skip",
            "x": [share for row in rows for share in (row[1], row[2], None)],
            "y": [place for place in places for _ in range(3)],
            "line": {"color": "@now", "width": 1.2},
        }
        data = (between, was, now)
    layout = charts.layout(
        hovermode="closest",
        margin={"l": 20, "t": 6},
        xaxis={**_shares("normal"), "range": [-0.025 * top, 1.06 * top]},
        yaxis=charts.name_axis([name for name, _, _ in rows]),
    )
    return data, layout, max(120, 24 * len(rows) + 50)


def _shares(mode: str) -> Spec:
    return {"tickformat": ".0%", "rangemode": mode, "nticks": 5}
