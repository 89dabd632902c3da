"""The drawing of all features over all nights. No IO here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tfx_encore.pipeline.report import words
from tfx_encore.pipeline.ui import charts, series
from tfx_encore.pipeline.ui.address import long_date
from tfx_encore.pipeline.ui.charts import Chart
from tfx_encore.pipeline.ui.drift_checks import Check, drift_address, sign, worst_by_day
from tfx_encore.schemas.decisions import Evidence, Outcome
from tfx_encore.schemas.nights import NightRecord

MOST_ROWS = 40
_VERDICTS = (Outcome.INSUFFICIENT_DATA, Outcome.OK, Outcome.WARN, Outcome.BLOCK)


def matrix(
    by_feature: Mapping[str, list[Check]],
    nights: Sequence[NightRecord],
    query: Mapping[str, str],
) -> Chart:
    """Every feature over every night: the worst verdict as colour and as a sign."""
    names = list(by_feature)[:MOST_ROWS]
    days = series.days_of([night.date for night in nights])
    z: list[list[int | None]] = []
    signs, hover, links = [], [], []
    rows = []
    for name in names:
        worst = worst_by_day(by_feature[name])
        z.append([_VERDICTS.index(worst[d].outcome) if d in worst else None for d in days])
        signs.append([sign(worst.get(day)) for day in days])
        hover.append([_hover(name, day, worst.get(day)) for day in days])
        links.append(
            [drift_address(query, feature=name, night=d) if d in worst else "" for d in days]
        )
        bad = [day for day in days if sign(worst.get(day))]
        rows.append((name, str(len(worst)), str(len(bad)), ", ".join(bad) or words.NOTHING))
    trace = {
        "type": "heatmap",
        "x": list(days),
        "y": list(range(len(names))),
        "z": z,
        "zmin": -0.5,
        "zmax": 3.5,
        "showscale": False,
        "xgap": 1 if len(days) <= 100 else 0,
        "ygap": 2,
        "colorscale": _scale(),
        "hoverongaps": False,
        "customdata": links,
        "text": signs,
        "hovertext": hover,
        "hoverinfo": "text",
        "texttemplate": "%{text}",
        "textfont": {"color": "@paper", "size": 11},
    }
    return Chart(
        ident="matrix",
        label=f"The worst verdict on each of {len(names)} features over {len(days)} days",
        data=(trace,),
        layout=charts.layout(
            hovermode="closest",
            margin={"l": 20, "t": 6, "b": 40},
            xaxis={"type": "date", "showgrid": False, "tickformat": "%-d %b", "nticks": 8},
            yaxis=charts.name_axis(names),
        ),
        height=max(120, 22 * len(names) + 60),
        head=("Feature", "Nights", "Warned or blocked", "when"),
        rows=tuple(rows),
        links=True,
    )


def _scale() -> list[tuple[float, str]]:
    """Four flat colours, one for each of `_VERDICTS`."""
    colours = ("@raised", "@now-soft", "@warn", "@block")
    return [
        (edge, colour)
        for index, colour in enumerate(colours)
        for edge in (index / 4, (index + 1) / 4)
    ]


def _hover(name: str, day: str, item: Evidence | None) -> str:
    if item is None:
        return ""
    said = f"{words.measure(item.measure)} {words.number(item.effect)}"
    return charts.plain(f"{name}, {long_date(day)}: {words.OUTCOMES[item.outcome]}, {said}")
