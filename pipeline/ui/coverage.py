"""The drawing of a snapshot's worth: hit rate by number of entries. No IO here."""

from __future__ import annotations

from tfx_encore.pipeline.report import words
from tfx_encore.pipeline.ui import charts
from tfx_encore.pipeline.ui.charts import Chart
from tfx_encore.schemas.charts import Coverage


def coverage_chart(coverage: Coverage) -> Chart:
    """Predicted hit rate over entries (logarithmic); the chosen size is marked."""
    points = [point for point in coverage.curve if point.entries > 0]
    curve = {
        "type": "scatter",
        "mode": "lines+markers",
        "showlegend": False,
        "name": "raw key",
        "x": [p.entries for p in points],
        "y": [p.hit_rate for p in points],
        "line": {"color": "@now", "width": 2, "shape": "spline", "smoothing": 0.4},
        "marker": {"size": 4, "color": "@now"},
        "hovertemplate": "%{x:,} entries: %{y:.1%}<extra></extra>",
    }
    entries = max(coverage.entries, 1)
    chosen = {
        "type": "scatter",
        "mode": "markers+text",
        "showlegend": False,
        "x": [entries],
        "y": [coverage.hit_rate],
        "textposition": "top left",
        "text": [f"{words.count(coverage.entries)} entries, {words.percent(coverage.hit_rate)}"],
        "textfont": {"color": "@ink", "size": 12},
        "marker": {"size": 11, "color": "@now"},
        "hoverinfo": "skip",
        "cliponaxis": False,
    }
    data = [curve, chosen]
    if coverage.hit_rate_transformed is not None:
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "showlegend": False,
                "x": [entries],
                "y": [coverage.hit_rate_transformed],
                "marker": {"size": 11, "color": "@now", "symbol": "diamond-open"},
                "hovertemplate": "by transformed key: %{y:.1%}<extra></extra>",
            }
        )
    return Chart(
        ident="coverage",
        label=f"Predicted hit rate by snapshot size: {coverage.entries:,} entries answer "
        f"{words.percent(coverage.hit_rate)} of the held-out rows",
        data=tuple(data),
        layout=charts.layout(
            hovermode="closest",
            xaxis={
                "type": "log",
                "title": {"text": "entries in the snapshot"},
                "dtick": 1,
                "tickformat": ",d",
            },
            yaxis={"tickformat": ".0%", "rangemode": "tozero", "nticks": 5},
            margin={"b": 44, "r": 20},
        ),
        height=280,
        head=("Entries", "Size", "Hit rate"),
        rows=tuple(
            (words.count(p.entries), words.size(p.bytes), words.percent(p.hit_rate))
            for p in coverage.curve
        ),
    )
