"""Specifications of the drawings, as the script hands them to Plotly. No IO here.

A colour is written as `@now`: the script puts in what the style sheet says of `--now`, again
whenever the reader's system turns dark or light. No meaning hangs on colour alone: what is now is
a solid line, what it is held against dashed, an alarm another mark. Texts come from data, and
Plotly reads tags in texts: `plain` takes that meaning away.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tfx_encore.schemas.decisions import Outcome
from tfx_encore.schemas.nights import day_before

Spec = dict[str, Any]
Number = float | None

COLOURS = {
    Outcome.OK: "@now",
    Outcome.WARN: "@warn",
    Outcome.BLOCK: "@block",
    Outcome.INSUFFICIENT_DATA: "@muted",
}
SYMBOLS = {
    Outcome.OK: "circle",
    Outcome.WARN: "triangle-up",
    Outcome.BLOCK: "x",
    Outcome.INSUFFICIENT_DATA: "circle-open",
}


@dataclass(frozen=True)
class Chart:
    """A drawing and the same numbers as a table.

    Attributes:
        ident: its id in the page.
        label: what it shows, for who cannot see it.
        data: Plotly's traces.
        layout: Plotly's layout.
        height: CSS pixels.
        head: column headings of the table.
        rows: its rows, as text.
        links: a point is a link: its `customdata` holds the address.
    """

    ident: str
    label: str
    data: tuple[Spec, ...]
    layout: Spec
    height: int
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    links: bool = False

    @property
    def spec(self) -> Spec:
        """What the script reads."""
        return {"data": list(self.data), "layout": self.layout, "height": self.height}


@dataclass(frozen=True)
class Line:
    """A line over days.

    Attributes:
        name: what it is.
        values: by day; None where there is no value: the line breaks there.
        colour: as `@now`.
        dash: `solid`, `dash`, `dot`.
        marks: outcome by day, which becomes the mark; empty for a line without marks.
        links: address by day; empty for none.
        step: the value holds from its day until the next.
        axis: `y` or `y2`.
    """

    name: str
    values: tuple[Number, ...]
    colour: str = "@now"
    dash: str = "solid"
    marks: tuple[Outcome, ...] = ()
    links: tuple[str, ...] = ()
    step: bool = False
    axis: str = "y"
    text: tuple[str, ...] = field(default=())


def plain(text: str) -> str:
    """`text` so that Plotly shows it and interprets nothing of it."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return escaped.replace("%{", "%\N{ZERO WIDTH SPACE}{").replace("$", "&#36;")


def finite(values: Iterable[Number]) -> list[Number]:
    """The values, with None for what is no number."""
    return [None if v is None or not math.isfinite(v) else v for v in values]


def line(days: Sequence[str], what: Line, hover: str) -> Spec:
    """A trace; `hover` formats a value, as `.3f`."""
    trace: Spec = {
        "type": "scatter",
        "mode": "lines+markers" if what.marks else "lines",
        "name": plain(what.name),
        "x": list(days),
        "y": finite(what.values),
        "yaxis": what.axis,
        "line": {"color": what.colour, "width": 2 if what.dash == "solid" else 1.5},
        "hovertemplate": f"%{{y:{hover}}}",
        "showlegend": False,
    }
    trace["connectgaps"] = what.dash != "solid"  # what it is held against goes on
    trace["line"] |= {"dash": what.dash, "shape": "hv" if what.step else "linear"}
    if what.marks:
        trace["marker"] = {
            "symbol": [SYMBOLS[outcome] for outcome in what.marks],
            "color": [COLOURS[outcome] for outcome in what.marks],
            "size": [5 if outcome is Outcome.OK else 9 for outcome in what.marks],
            "line": {"width": 0},
            "opacity": 1,
        }
    if what.links:
        trace["customdata"] = list(what.links)
    if what.text:
        trace["text"] = [plain(text) for text in what.text]
        trace["hovertemplate"] += " %{text}"
    trace["hovertemplate"] += f"<extra>{plain(what.name)}</extra>"
    return trace


def band(
    days: Sequence[str],
    low: Sequence[Number],
    high: Sequence[Number],
    *,
    colour: str = "@now-soft",
    axis: str = "y",
) -> Spec:
    """The room between two lines, in pieces where days have no value."""
    x: list[str | None] = []
    y: list[Number] = []
    for run in _runs(finite(low), finite(high)):
        if x:
            x.append(None)
            y.append(None)
        there, back = list(run), list(reversed(run))
        x += [days[i] for i in (*there, *back, there[0])]
        y += [*(high[i] for i in there), *(low[i] for i in back), high[there[0]]]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": x,
        "y": y,
        "yaxis": axis,
        "fill": "toself",
        "fillcolor": colour,
        "line": {"width": 0, "color": colour},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _runs(low: Sequence[Number], high: Sequence[Number]) -> list[list[int]]:
    """Indices of unbroken stretches in which both have a value."""
    runs: list[list[int]] = []
    for index, pair in enumerate(zip(low, high, strict=True)):
        if None in pair:
            continue
        if runs and runs[-1][-1] == index - 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return runs


def upright(day: str, text: str, *, colour: str = "@muted") -> tuple[Spec, Spec]:
    """A line through all panels at a day, and the words at its upper end."""
    shape = {"type": "line", "xref": "x", "yref": "paper", "x0": day, "x1": day, "y0": 0, "y1": 1}
    note = {
        "x": day,
        "y": 1,
        "xref": "x",
        "yref": "paper",
        "yanchor": "bottom",
        "showarrow": False,
        "text": plain(text),
        "font": {"size": 11, "color": colour},
    }
    return {**shape, "line": {"color": colour, "width": 1, "dash": "dot"}, "layer": "below"}, note


def layout(**more: Any) -> Spec:
    """The layout that all drawings share; `more` goes on top, axes being merged."""
    axis = {
        "gridcolor": "@rule",
        "zeroline": False,
        "linecolor": "@rule",
        "tickfont": {"color": "@muted", "size": 12},
        "title": {"font": {"color": "@muted", "size": 12}, "standoff": 8},
        "fixedrange": True,
        "automargin": True,
    }
    shared: Spec = {
        "paper_bgcolor": "@paper",
        "plot_bgcolor": "@paper",
        "font": {"family": "@sans", "size": 12, "color": "@ink"},
        "margin": {"l": 46, "r": 10, "t": 20, "b": 30},
        "hovermode": "x unified",
        "hoverlabel": {
            "bgcolor": "@raised", "bordercolor": "@rule", "font": {"color": "@ink", "size": 12},
        },
        "dragmode": False,
        "xaxis": axis,
        "yaxis": axis,
    }  # fmt: skip
    for name, value in more.items():
        base = axis if "axis" in name else shared.get(name)
        merged = isinstance(base, Mapping) and isinstance(value, Mapping)
        shared[name] = _merged(base, value) if merged else value
    return shared


def day_axis(days: Sequence[str], **more: Any) -> Spec:
    """The axis of days, a little wider than they are."""
    axis: Spec = {"type": "date", "showgrid": False, "tickformat": "%-d %b\n%Y", "nticks": 7}
    if days:  # room for the marks of the first and the last day
        axis["range"] = [f"{day_before(days[0])} 12:00", f"{days[-1]} 12:00"]
    return {**axis, "hoverformat": "%a %-d %b %Y", **more}


def short(text: str, most: int = 26) -> str:
    """`text`, cut in its middle if it is longer than `most` characters."""
    if len(text) <= most:
        return text
    head = (most - 1) // 2
    return f"{text[:head]}…{text[-(most - 1 - head) :]}"


def short_slice(name: str, most: int = 26) -> str:
    """A slice's name, its features shortened or left out if it is longer than `most` characters.

    `payment_type=Cash, trip_start_day=1` becomes `type=Cash, day=1`, then `Cash, 1`: values tell
    slices apart, so they are given up last.
    """
    pairs = [part.partition("=") for part in name.split(", ")]
    forms = (
        name,
        ", ".join(f"{feature.rsplit('_', 1)[-1]}{sign}{value}" for feature, sign, value in pairs),
        ", ".join(value or feature for feature, _, value in pairs),
    )
    return next((form for form in forms if len(form) <= most), forms[-1])


def name_axis(names: Sequence[str]) -> Spec:
    """The axis of rows with names, the first on top; a row's place is its number."""
    return {
        "tickvals": list(range(len(names))),
        "ticktext": [plain(short(name)) for name in names],
        "range": [len(names) - 0.5, -0.5],
        "showgrid": False,
        "tickfont": {"color": "@ink"},
    }


def _merged(base: Any, value: Any) -> Any:
    if not (isinstance(base, Mapping) and isinstance(value, Mapping)):
        return value
    names = {**base, **value}
    return {
        name: _merged(base.get(name), value[name]) if name in value else base[name]
        for name in names
    }
