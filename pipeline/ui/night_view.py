"""One night: what was read, what was found, what was decided. No IO here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

from tfx_encore.pipeline.report import words
from tfx_encore.pipeline.report.views import REASONS_SHOWN, stopping
from tfx_encore.pipeline.ui import charts
from tfx_encore.pipeline.ui.address import link
from tfx_encore.pipeline.ui.charts import Chart
from tfx_encore.schemas.decisions import Decision, Evidence, Outcome, worst_first
from tfx_encore.schemas.evaluation_policy import Metric
from tfx_encore.schemas.nights import (
    LogReport,
    MetricPoint,
    NightAction,
    NightAlarm,
    NightRecord,
    PerformanceEstimate,
    SliceFinding,
)

_RANK = {Outcome.BLOCK: 0, Outcome.WARN: 1, Outcome.INSUFFICIENT_DATA: 2, Outcome.OK: 3}
_STOPPING = {Outcome.BLOCK, Outcome.WARN}
_METRICS = frozenset(get_args(Metric))
_ACTIONS = {
    "nothing": "Nothing to do",
    "rewarm": "Warm the cache anew",
    "retrain": "Train again",
    "invalidate_slice": "Withdraw cached answers of a slice",
    "roll_back": "Roll back",
}
_STATES = {"proposed": "proposed", "done": "done", "failed": "failed"}


@dataclass(frozen=True)
class Gate:
    """One gate's decision: what warned or blocked in full, the rest folded."""

    decision: Decision
    title: str
    causes: tuple[Evidence, ...]
    more_causes: int
    notable: tuple[Evidence, ...]
    rest: tuple[Evidence, ...]


@dataclass(frozen=True)
class Action:
    """What is proposed, in words.

    Attributes:
        title: what to do.
        action: as recorded.
        command: what does it; "" if it is done, or there is no command.
    """

    title: str
    action: NightAction
    command: str


@dataclass(frozen=True)
class Alarm:
    """An alarm with the page that shows its course.

    Attributes:
        alarm: as recorded.
        subject: what it is about, without its type.
        message: as recorded, without the subject before it.
        address: of the page; "" if none shows it.
    """

    alarm: NightAlarm
    subject: str
    message: str
    address: str


@dataclass(frozen=True)
class NightView:
    """A night's page.

    Attributes:
        night: the record.
        gates: worst first.
        actions: most urgent first.
        alarms: those that block first.
        metrics: one row for each slice and metric, alarms first.
        estimates: a drawing of the estimates beside the truth; None without estimates.
        facts: (what, value) of the log.
        before: the night before, if there is one.
        after: the next, if there is one.
    """

    night: NightRecord
    gates: tuple[Gate, ...]
    actions: tuple[Action, ...]
    alarms: tuple[Alarm, ...]
    metrics: tuple[MetricPoint, ...]
    estimates: Chart | None
    facts: tuple[tuple[str, str], ...]
    before: str | None
    after: str | None

    @property
    def findings(self) -> tuple[SliceFinding, ...]:
        """Slices that nobody configured."""
        return self.night.findings


def night_view(night: NightRecord, dates: Sequence[str], label: str = "stable") -> NightView:
    """The page of a night; `dates` are all nights, ascending; `label` is what a push moves."""
    ordered = sorted(night.decisions, key=lambda item: _RANK[item.outcome])
    at = dates.index(night.date) if night.date in dates else -1
    return NightView(
        night=night,
        gates=tuple(map(_gate, ordered)),
        actions=tuple(action_of(item, night.date, label) for item in night.actions),
        alarms=alarms_of(night),
        metrics=tuple(sorted(night.metrics, key=lambda point: not point.alarm)),
        estimates=_estimates(night.estimates) if night.estimates else None,
        facts=log_facts(night.log),
        before=dates[at - 1] if at > 0 else None,
        after=dates[at + 1] if 0 <= at < len(dates) - 1 else None,
    )


def _gate(decision: Decision) -> Gate:
    ordered = worst_first(decision.evidence)
    causes = stopping(decision)
    return Gate(
        decision=decision,
        title=words.gate(decision.gate),
        causes=causes[:REASONS_SHOWN],
        more_causes=max(0, len(causes) - REASONS_SHOWN),
        notable=tuple(item for item in ordered if item.outcome in _STOPPING),
        rest=tuple(item for item in ordered if item.outcome not in _STOPPING),
    )


def action_of(action: NightAction, date: str, label: str = "stable") -> Action:
    """An action in words, with the command that does it."""
    title = _ACTIONS[action.kind]
    commands = {
        "rewarm": f"encore nightly --date {date} --act",
        "retrain": "encore run --span N",
        "invalidate_slice": f"encore nightly --date {date} --act",
        "roll_back": f"encore label set {label} {action.version}" if action.version else "",
    }
    if action.kind == "roll_back" and action.version:
        title = f"Roll back to version {action.version}"
    if action.kind == "invalidate_slice" and action.features:
        where = " and ".join(f"{name} = {value}" for name, value in action.features.items())
        title = f"Withdraw cached answers where {where}"
    return Action(title, action, commands.get(action.kind, "") if action.state != "done" else "")


def alarms_of(night: NightRecord) -> tuple[Alarm, ...]:
    """The alarms of a night, those that block first."""
    ordered = sorted(night.alarms, key=lambda item: _RANK[item.outcome])
    return tuple(_alarm(item, night.date) for item in ordered)


def _alarm(alarm: NightAlarm, date: str) -> Alarm:
    name = words.subject(alarm.subject)
    address = ""
    if alarm.subject.startswith("slice:") and alarm.measure in _METRICS:
        address = link("/slices", slice=name, metric=alarm.measure)
    elif alarm.gate in {"skew", "drift"}:
        address = link("/drift", feature=name, night=date)
    return Alarm(alarm, name, alarm.message.removeprefix(f"{name}: "), address)


def log_facts(log: LogReport) -> tuple[tuple[str, str], ...]:
    """What the log held, in words; what is unknown is left out."""
    facts = [
        ("Requests", words.count(log.requests)),
        ("Rows", words.count(log.rows)),
        ("Independent rows", words.count(round(log.effective_rows)) if log.effective_rows else ""),
        ("Labelled rows", _of(log.labelled, log.rows)),
        ("From the cache", words.percent(log.hit_rate) if log.hit_rate is not None else ""),
        ("Failed requests", _failed(log.failed)),
        ("Unreadable records", _of(log.unreadable, log.records) if log.unreadable else "none"),
        ("Not evaluated", _counts(log.unusable)),
        ("Answered by", _versions(log.rows_by_version)),
        ("Log files", words.count(log.files)),
    ]
    return tuple((name, text) for name, text in facts if text)


def _of(part: int, whole: int) -> str:
    if not whole:
        return words.count(part)
    return f"{words.count(part)} ({words.percent(part / whole)})"


def _failed(found: dict[str, int]) -> str:
    return ", ".join(f"{words.count(n)} with code {code}" for code, n in sorted(found.items()))


def _counts(found: dict[str, int]) -> str:
    return ", ".join(f"{words.count(n)} {name}" for name, n in sorted(found.items()) if n)


def _versions(rows: dict[str, int]) -> str:
    total = sum(rows.values())
    ordered = sorted(rows.items(), key=lambda item: -item[1])
    if len(ordered) == 1:
        return f"version {ordered[0][0]}"
    return ", ".join(f"version {v} ({words.percent(n / total)})" for v, n in ordered if total)


MOST_ESTIMATES = 24


def _estimates(found: Iterable[PerformanceEstimate]) -> Chart:
    """Each estimate with its interval, the truth beside it as a hollow mark."""
    rows = sorted(found, key=lambda item: (item.metric, item.slice != "overall", item.slice))
    shown = rows[:MOST_ESTIMATES]
    several = len({item.metric for item in shown}) > 1
    names = [
        charts.short_slice(item.slice, 16 if several else 26)
        + (f", {words.measure(item.metric)}" if several else "")
        for item in shown
    ]
    places = list(range(len(shown)))
    estimated = {
        "type": "scatter",
        "mode": "markers",
        "name": "estimated",
        "y": places,
        "x": [item.estimated for item in shown],
        "showlegend": False,
        "error_x": {
            "type": "data",
            "symmetric": False,
            "color": "@now",
            "thickness": 1.5,
            "width": 0,
            "array": [item.interval[1] - item.estimated for item in shown],
            "arrayminus": [item.estimated - item.interval[0] for item in shown],
        },
        "marker": {"color": "@now", "size": 8},
        "hovertemplate": "%{x:.3f}<extra>estimated</extra>",
    }
    truth = {
        "type": "scatter",
        "mode": "markers",
        "name": "from labels",
        "y": places,
        "x": [item.actual for item in shown],
        "showlegend": False,
        "marker": {"color": "@before", "size": 9, "symbol": "circle-open", "line": {"width": 2}},
        "hovertemplate": "%{x:.3f}<extra>from labels</extra>",
    }
    return Chart(
        ident="estimates",
        label="Performance estimated from scores, with 95% intervals, beside the truth from labels",
        data=(estimated, truth),
        layout=charts.layout(
            hovermode="closest",
            margin={"l": 20, "t": 8},
            yaxis=charts.name_axis(names),
        ),
        height=max(140, 26 * len(shown) + 60),
        head=("Slice", "Metric", "Estimated", "95% interval", "Truth", "its interval", "Rows"),
        rows=tuple(map(_estimate_row, rows)),
    )


def _estimate_row(item: PerformanceEstimate) -> tuple[str, ...]:
    return (
        item.slice,
        words.measure(item.metric),
        words.decimal(item.estimated),
        words.interval(item.interval),
        words.decimal(item.actual),
        words.interval(item.actual_interval),
        words.count(item.n),
    )
