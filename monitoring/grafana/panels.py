"""The parts of a dashboard in Grafana's JSON: panels, queries, variables, annotations. No IO here.

Checked against `@grafana/schema` in tests/grafana.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Union

Json = dict[str, Any]
SCHEMA_VERSION = 41
WIDTH = 24
SOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}

Unit = Literal["short", "percentunit", "s", "bytes", "reqps", "ops", "none", "dateTimeAsIso"]


class Query(NamedTuple):
    """A PromQL expression.

    Attributes:
        expression: it; with the dashboard's variables.
        legend: how its series are called, as `{{model}}`.
        instant: only the value at the end of the time range.
    """

    expression: str
    legend: str = ""
    instant: bool = False


class Panel(NamedTuple):
    """A panel.

    Attributes:
        title: heading.
        queries: what it shows.
        description: what a reader should know, shown beside the title.
        unit: of its values.
        kind: timeseries, stat, table or state-timeline.
        width: of 24.
        height: of a row; 8 is usual.
        bounds: lowest and highest value of the axis; None: as the values need.
        dashed: series whose name matches this are drawn dashed: limits and references.
        mappings: value -> text and colour, for states.
    """

    title: str
    queries: tuple[Query, ...]
    description: str = ""
    unit: Unit = "short"
    kind: Literal["timeseries", "stat", "table", "state-timeline"] = "timeseries"
    width: int = 12
    height: int = 8
    bounds: tuple[float | None, float | None] = (0, None)
    dashed: str = ""
    mappings: tuple[tuple[str, str, str], ...] = ()


class Heading(NamedTuple):
    """A row's title; the panels below belong to it."""

    title: str


class Variable(NamedTuple):
    """A choice at the top: the values of a label.

    Attributes:
        name: as `$name` in expressions.
        query: as `label_values(metric, label)`.
        multi: several can be chosen, all are at first.
    """

    name: str
    query: str
    multi: bool = True


class Annotation(NamedTuple):
    """Events drawn into every panel: the expression's value is the time, in milliseconds."""

    name: str
    expression: str
    title: str
    colour: str


class Board(NamedTuple):
    """A dashboard.

    Attributes:
        uid: its stable name in links, and its file's.
        title: heading.
        description: one sentence.
        variables: choices besides the data source.
        parts: headings and panels, from top left to bottom right.
        since: how far back it looks at first, as `now-6h`.
    """

    uid: str
    title: str
    description: str
    variables: tuple[Variable, ...]
    parts: tuple[Union[Heading, Panel], ...]
    annotations: tuple[Annotation, ...]
    since: str = "now-6h"


def dashboard(board: Board) -> Json:
    """The dashboard's JSON."""
    return {
        "annotations": {"list": [_annotation(each) for each in board.annotations]},
        "description": board.description,
        "editable": False,
        "graphTooltip": 1,
        "links": [_links()],
        "panels": _placed(board.parts),
        "refresh": "1m",
        "schemaVersion": SCHEMA_VERSION,
        "tags": ["encore"],
        "templating": {"list": [_source_variable(), *map(_variable, board.variables)]},
        "time": {"from": board.since, "to": "now"},
        "timezone": "utc",
        "title": board.title,
        "uid": board.uid,
    }


def _placed(parts: Sequence[Union[Heading, Panel]]) -> list[Json]:
    """Panels side by side until a line is full; a heading begins a new one."""
    found: list[Json] = []
    x = y = height = 0
    for number, part in enumerate(parts, start=1):
        width, tall = (WIDTH, 1) if isinstance(part, Heading) else (part.width, part.height)
        if x + width > WIDTH:
            x, y = 0, y + height
            height = 0
        place = {"x": x, "y": y, "w": width, "h": tall}
        found.append(_part(part, number, place))
        x, height = x + width, max(height, tall)
    return found


def _part(part: Union[Heading, Panel], number: int, place: dict[str, int]) -> Json:
    if isinstance(part, Heading):
        return {
            "collapsed": False,
            "gridPos": place,
            "id": number,
            "panels": [],
            "title": part.title,
            "type": "row",
        }
    return {
        "datasource": SOURCE,
        "description": part.description,
        "fieldConfig": {"defaults": _defaults(part), "overrides": _overrides(part)},
        "gridPos": place,
        "id": number,
        "options": _OPTIONS[part.kind],
        "targets": [_target(query, part, n) for n, query in enumerate(part.queries)],
        "title": part.title,
        "transformations": _TRANSFORMATIONS if part.kind == "table" else [],
        "type": part.kind,
    }


def _target(query: Query, panel: Panel, number: int) -> Json:
    table = panel.kind == "table"
    return {
        "datasource": SOURCE,
        "editorMode": "code",
        "expr": query.expression,
        "format": "table" if table else "time_series",
        "instant": query.instant or table,
        "legendFormat": query.legend or "__auto",
        "range": not (query.instant or table),
        "refId": chr(ord("A") + number),
    }


def _defaults(panel: Panel) -> Json:
    low, high = panel.bounds
    found: Json = {"color": {"mode": "palette-classic"}, "unit": panel.unit}
    if panel.kind in ("timeseries", "stat"):
        found |= {"min": low} if low is not None else {}
        found |= {"max": high} if high is not None else {}
    if panel.kind == "timeseries":
        found["custom"] = {
            "drawStyle": "line",
            "fillOpacity": 0,
            "lineInterpolation": "linear",
            "lineWidth": 1,
            "showPoints": "never",
            "spanNulls": False,
        }
    if panel.kind == "state-timeline":
        found["custom"] = {"fillOpacity": 80, "lineWidth": 0}
    if panel.mappings:
        found["mappings"] = [
            {
                "type": "value",
                "options": {
                    value: {"text": text, "color": colour, "index": index}
                    for index, (value, text, colour) in enumerate(panel.mappings)
                },
            }
        ]
    return found


def _overrides(panel: Panel) -> list[Json]:
    if not panel.dashed:
        return []
    dash = {"dash": [6, 6], "fill": "dash"}
    return [
        {
            "matcher": {"id": "byRegexp", "options": panel.dashed},
            "properties": [{"id": "custom.lineStyle", "value": dash}],
        }
    ]


_LEGEND = {"calcs": ["lastNotNull"], "displayMode": "list", "placement": "bottom"}
_REDUCE = {"calcs": ["lastNotNull"], "fields": "", "values": False}
_OPTIONS: dict[str, Json] = {
    "timeseries": {
        "legend": {**_LEGEND, "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "colorMode": "value",
        "graphMode": "area",
        "justifyMode": "auto",
        "orientation": "auto",
        "percentChangeColorMode": "standard",
        "reduceOptions": _REDUCE,
        "showPercentChange": False,
        "textMode": "auto",
        "wideLayout": True,
    },
    "table": {"cellHeight": "sm", "frameIndex": 0, "showHeader": True},
    "state-timeline": {
        "alignValue": "left",
        "legend": {**_LEGEND, "calcs": [], "showLegend": True},
        "mergeValues": True,
        "rowHeight": 0.9,
        "showValue": "auto",
        "tooltip": {"mode": "single", "sort": "none"},
    },
}
# Prometheus's own columns say nothing to a reader of a table.
_TRANSFORMATIONS: list[Json] = [
    {"id": "merge", "options": {}},
    {
        "id": "organize",
        "options": {
            "excludeByName": {
                "Time": True,
                "__name__": True,
                "instance": True,
                "job": True,
            }
        },
    },
]


def _source_variable() -> Json:
    return {
        "hide": 0,
        "includeAll": False,
        "label": "Data source",
        "multi": False,
        "name": "datasource",
        "query": "prometheus",
        "refresh": 1,
        "type": "datasource",
    }


def _variable(variable: Variable) -> Json:
    found: Json = {
        "datasource": SOURCE,
        "hide": 0,
        "includeAll": variable.multi,
        "label": variable.name.capitalize(),
        "multi": variable.multi,
        "name": variable.name,
        "query": {"query": variable.query, "refId": variable.name},
        "refresh": 2,
        "sort": 1,
        "type": "query",
    }
    if variable.multi:
        found["allValue"] = ".*"
        found["current"] = {"selected": True, "text": ["All"], "value": ["$__all"]}
    return found


def _annotation(annotation: Annotation) -> Json:
    return {
        "datasource": SOURCE,
        "enable": True,
        "expr": annotation.expression,
        "hide": False,
        "iconColor": annotation.colour,
        "name": annotation.name,
        "step": "60s",
        "tagKeys": "model",
        "titleFormat": annotation.title,
        "useValueForTime": True,
    }


def _links() -> Json:
    return {
        "asDropdown": False,
        "icon": "external link",
        "includeVars": True,
        "keepTime": True,
        "tags": ["encore"],
        "targetBlank": False,
        "title": "Encore",
        "tooltip": "",
        "type": "dashboards",
        "url": "",
    }
