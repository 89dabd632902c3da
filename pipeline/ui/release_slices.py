"""A release's slices drawn: a metric by slice with its interval, worst on top. No IO here."""

from __future__ import annotations

from collections.abc import Sequence

from tfx_encore.pipeline.report import words
from tfx_encore.pipeline.report.slice_row import SliceRow
from tfx_encore.pipeline.report.views import MetricView
from tfx_encore.pipeline.ui import charts
from tfx_encore.pipeline.ui.charts import COLOURS, SYMBOLS, Chart, Spec

MOST_ROWS = 30


def metric_chart(view: MetricView, ident: str) -> Chart:
    """Candidate minus live model by slice; the metric itself where there was none."""
    differs = bool(view.differences)
    rows = (view.differences or view.values)[:MOST_ROWS]
    name = words.measure(view.measure)
    what = "candidate minus live model" if differs else "candidate"
    data = [_marks(rows), *([] if differs else [_baseline(rows)])]
    shapes = [_upright(0.0, "@muted", "solid")] if differs else []
    thresholds = {row.threshold for row in rows if row.x is not None} - {None}
    if len(thresholds) == 1:
        limit = _upright(float(thresholds.pop() or 0.0), "@block", "dot")
        shapes.append({**limit, "layer": "above"})
    return Chart(
        ident=ident,
        label=f"{words.heading(name)} by slice, {what}, worst first, with 95% intervals",
        data=tuple(data),
        layout=charts.layout(
            hovermode="closest",
            margin={"l": 20, "t": 6, "b": 36},
            shapes=shapes,
            xaxis={"tickformat": "+.2~f" if differs else ".2~f", "nticks": 6},
            yaxis=charts.name_axis([charts.short_slice(row.name) for row in rows]),
        ),
        height=max(120, 22 * len(rows) + 56),
        head=(),
        rows=(),
    )


def _marks(rows: Sequence[SliceRow]) -> Spec:
    found = [(place, row) for place, row in enumerate(rows) if row.x is not None]
    return {
        "type": "scatter",
        "mode": "markers",
        "showlegend": False,
        "x": [row.x for _, row in found],
        "y": [place for place, _ in found],
        "error_x": {
            "type": "data",
            "symmetric": False,
            "color": "@now",
            "thickness": 1.5,
            "width": 0,
            "array": [row.interval[1] - (row.x or 0) if row.interval else 0 for _, row in found],
            "arrayminus": [
                (row.x or 0) - row.interval[0] if row.interval else 0 for _, row in found
            ],
        },
        "marker": {
            "color": [COLOURS[row.outcome] for _, row in found],
            "symbol": [SYMBOLS[row.outcome] for _, row in found],
            "size": 9,
        },
        "text": [charts.plain(row.name) for _, row in found],
        "hovertemplate": "%{text}: %{x:.3f}<extra></extra>",
    }


def _baseline(rows: Sequence[SliceRow]) -> Spec:
    found = [(place, row) for place, row in enumerate(rows) if row.baseline is not None]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "live model",
        "showlegend": False,
        "x": [row.baseline for _, row in found],
        "y": [place for place, _ in found],
        "marker": {"color": "@before", "symbol": "circle-open", "size": 8},
        "hovertemplate": "%{x:.3f}<extra>live model</extra>",
    }


def _upright(at: float, colour: str, dash: str) -> Spec:
    return {
        "type": "line",
        "xref": "x",
        "yref": "paper",
        "x0": at,
        "x1": at,
        "y0": 0,
        "y1": 1,
        "line": {"color": colour, "width": 1.2, "dash": dash},
        "layer": "below",
    }
