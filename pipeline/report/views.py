"""The report's content in reading order: what each section lists, worst first. No IO here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from tfx_encore.pipeline.report import words
from tfx_encore.pipeline.report.data import DRIFT_GATE, SLICE_GATE, ReleaseReport
from tfx_encore.pipeline.report.slice_row import SliceRow
from tfx_encore.schemas.charts import FeatureChart
from tfx_encore.schemas.decisions import Decision, Evidence, Outcome, worst_first

_RANK = {Outcome.BLOCK: 0, Outcome.WARN: 1, Outcome.INSUFFICIENT_DATA: 2, Outcome.OK: 3}
_SLICE_RANK = {Outcome.BLOCK: 0, Outcome.WARN: 1, Outcome.OK: 2, Outcome.INSUFFICIENT_DATA: 3}
_STOPPING = {Outcome.WARN, Outcome.BLOCK}
REASONS_SHOWN = 4


@dataclass(frozen=True)
class Verdict:
    """The first thing a reader sees: the outcome to colour it by, and the words."""

    outcome: Outcome
    words: str
    line: str


@dataclass(frozen=True)
class GateView:
    """One gate's decision: what warned or blocked in full, the rest folded."""

    decision: Decision
    title: str
    notable: tuple[Evidence, ...]
    rest: tuple[Evidence, ...]


@dataclass(frozen=True)
class FeatureView:
    """One feature's chart with the worst verdict on it."""

    chart: FeatureChart
    outcome: Outcome
    checks: tuple[Evidence, ...]

    @property
    def compared(self) -> bool:
        """True if there was a baseline, even one without a value of this feature."""
        return bool(self.chart.baseline or self.chart.n_baseline)

    @property
    def undrawn(self) -> tuple[float, float]:
        """Share of the values now, and before, that lie outside the range that is drawn."""
        if self.chart.kind == "categorical":
            return 0.0, 0.0
        now, before = sum(self.chart.current), sum(self.chart.baseline)
        return (max(0.0, 1 - now) if now else 0.0), (max(0.0, 1 - before) if before else 0.0)

    @property
    def drifted(self) -> bool:
        """True if a check of it warned or blocked."""
        return self.outcome in _STOPPING


@dataclass(frozen=True)
class MetricView:
    """One metric over all slices, worst first; slices with too little data come last.

    Attributes:
        measure: the metric's name.
        rows: every check of the metric.
        differences: candidate minus baseline, row for row as in `values`; empty if there was no
            baseline.
        values: the metric itself, one row for each slice.
    """

    measure: str
    rows: tuple[Evidence, ...]
    differences: tuple[SliceRow, ...]
    values: tuple[SliceRow, ...]

    @property
    def places(self) -> int:
        """Decimals that suit this metric's values."""
        return words.places(value for row in self.rows for value in (row.value, row.baseline))

    @property
    def worst(self) -> Evidence | None:
        """The comparison that leans furthest to the bad side, of those that could be made."""
        compared = (row for row in self.rows if is_difference(row))
        return next((row for row in compared if row.outcome is not Outcome.INSUFFICIENT_DATA), None)


@dataclass(frozen=True)
class Strip:
    """One check drawn in a table cell, in percent of the cell's width.

    Attributes:
        zero: where no effect lies.
        effect: the effect.
        floor: right end of what chance gives, if there is a null floor.
        threshold: where BLOCK becomes possible, if there is a threshold.
        low, high: the interval, if there is one and it is the effect's.
    """

    zero: float
    effect: float
    floor: float | None
    threshold: float | None
    low: float | None
    high: float | None


def verdict(report: ReleaseReport) -> Verdict:
    """Says what became of the release, in two words and in a line."""
    line = report.outcome_line
    if report.version is None and report.blocked:
        gates = " and ".join(words.gate(item.gate).lower() for item in report.blocked)
        return Verdict(Outcome.BLOCK, "Refused", line or f"Nothing was pushed: {gates} blocked it.")
    if report.version is None and report.failed_steps:
        names = ", ".join(step.name for step in report.failed_steps)
        return Verdict(
            Outcome.BLOCK, "Not released", line or f"Nothing was pushed: {names} failed."
        )
    if report.version is None:
        return Verdict(Outcome.INSUFFICIENT_DATA, "Not released", line or "Nothing was pushed.")
    pointed = ", ".join(report.labels)
    line = line or (f"Labels here: {pointed}." if pointed else "No label points at it.")
    if any(item.outcome is Outcome.WARN for item in report.decisions):
        return Verdict(Outcome.WARN, "Released with warnings", line)
    return Verdict(Outcome.OK, "Released", line)


def gates(report: ReleaseReport) -> tuple[GateView, ...]:
    """The decisions, worst first."""
    ordered = sorted(report.decisions, key=lambda item: _RANK[item.outcome])
    return tuple(_gate(item) for item in ordered)


def _gate(decision: Decision) -> GateView:
    ordered = worst_first(decision.evidence)
    return GateView(
        decision=decision,
        title=words.gate(decision.gate),
        notable=tuple(item for item in ordered if item.outcome in _STOPPING),
        rest=tuple(item for item in ordered if item.outcome not in _STOPPING),
    )


def stopping(decision: Decision) -> tuple[Evidence, ...]:
    """The checks to name beside a verdict: those that blocked, or warned if none did.

    One that the decision's reason already quotes is left out.
    """
    for outcome in (Outcome.BLOCK, Outcome.WARN):
        found = tuple(item for item in decision.evidence if item.outcome is outcome)
        if found:
            return tuple(item for item in found if item.message not in decision.reason)
    return ()


def tally(evidence: Iterable[Evidence]) -> str:
    """Returns how many checks came out how, as `2 warned, 9 passed`."""
    counted = Counter(item.outcome for item in evidence)
    return ", ".join(f"{counted[o]} {words.OUTCOMES[o]}" for o in _RANK if counted[o])


def said(item: Evidence) -> tuple[str, str]:
    """Returns a check's subject and message so that together they name the subject once.

    The subject is empty if the message has it somewhere else than at its beginning.
    """
    name = words.subject(item.subject)
    if item.message.startswith(f"{name}: "):
        return name, item.message[len(name) + 2 :]
    return ("" if name in item.message else name), item.message


def columns(rows: Iterable[Evidence]) -> frozenset[str]:
    """The optional numbers that at least one row has, so that no table shows an empty column."""
    optional = (
        "effect",
        "null_floor",
        "threshold",
        "p_value",
        "interval",
        "value",
        "baseline",
        "n",
    )
    found = list(rows)
    return frozenset(n for n in optional if any(getattr(row, n) is not None for row in found))


def features(report: ReleaseReport) -> tuple[FeatureView, ...]:
    """The features' charts, the most drifted first; order within a verdict is the evidence's."""
    decision = report.decision(DRIFT_GATE)
    by_name: dict[str, list[Evidence]] = {}
    for item in worst_first(decision.evidence if decision else ()):
        by_name.setdefault(words.subject(item.subject), []).append(item)
    order = {name: index for index, name in enumerate(by_name)}
    found = [_feature(chart, by_name.get(chart.feature, [])) for chart in report.charts]
    last = len(order)
    return tuple(
        sorted(found, key=lambda view: (_RANK[view.outcome], order.get(view.chart.feature, last)))
    )


def _feature(chart: FeatureChart, checks: list[Evidence]) -> FeatureView:
    outcome = checks[0].outcome if checks else Outcome.OK
    return FeatureView(chart, outcome, tuple(checks))


def metrics(report: ReleaseReport) -> tuple[MetricView, ...]:
    """The slice metrics; a metric with a worse verdict comes first."""
    decision = report.decision(SLICE_GATE)
    by_measure: dict[str, list[Evidence]] = {}
    for item in decision.evidence if decision else ():
        by_measure.setdefault(item.measure, []).append(item)
    found = [_metric(name, rows) for name, rows in by_measure.items()]
    return tuple(sorted(found, key=lambda view: _SLICE_RANK[view.rows[0].outcome]))


def _metric(measure: str, found: list[Evidence]) -> MetricView:
    rows = tuple(sorted(found, key=lambda item: (_SLICE_RANK[item.outcome], -_badness(item))))
    values = _values(rows)
    return MetricView(measure, rows, _differences(rows, values), values)


def is_difference(item: Evidence) -> bool:
    """True if a check compares with a baseline, so that its interval is that of the effect."""
    return item.effect is not None and item.baseline is not None and not _absolute(item)


def _absolute(item: Evidence) -> bool:
    """True if the interval lies around the value and not around the effect."""
    if item.interval is None or item.value is None or item.effect is None:
        return item.effect is None
    low, high = item.interval
    return low <= item.value <= high and not low <= item.effect <= high


def _badness(item: Evidence) -> float:
    """How far a check leans to the bad side; the threshold's sign says which side that is."""
    if not is_difference(item):
        return -(item.value or 0.0)
    worse = 1.0 if item.threshold is not None and item.threshold > 0 else -1.0
    return worse * (item.effect or 0.0)


def _differences(rows: Iterable[Evidence], values: Iterable[SliceRow]) -> tuple[SliceRow, ...]:
    """Row for row the slices of `values`, so that both drawings line up; empty if none compares."""
    compared = {words.subject(item.subject): item for item in rows if is_difference(item)}
    if not compared:
        return ()
    return tuple(_difference(row, compared.get(row.name)) for row in values)


def _difference(row: SliceRow, item: Evidence | None) -> SliceRow:
    if item is None:
        return SliceRow(row.name, row.outcome, None)
    return SliceRow(row.name, item.outcome, item.effect, item.interval, item.threshold)


def _values(rows: Iterable[Evidence]) -> tuple[SliceRow, ...]:
    """One row for each slice, worst first; an absolute check gives it interval and threshold."""
    by_slice: dict[str, SliceRow] = {}
    for item in rows:
        name = words.subject(item.subject)
        known = by_slice.get(name)
        outcome = known.outcome if known else item.outcome
        absolute = item.value is not None and not is_difference(item)
        by_slice[name] = SliceRow(
            name=name,
            outcome=outcome,
            x=item.value if item.value is not None else known.x if known else None,
            interval=item.interval if absolute else known.interval if known else None,
            threshold=item.threshold if absolute else known.threshold if known else None,
            baseline=item.baseline
            if item.baseline is not None
            else known.baseline
            if known
            else None,
        )
    return tuple(row for row in by_slice.values() if row.x is not None or row.baseline is not None)


def strip(item: Evidence) -> Strip | None:
    """Places a check's effect, floor, threshold and interval on one scale that includes zero."""
    if item.effect is None:
        return None
    bounds = None if _absolute(item) else item.interval
    marks = [0.0, item.effect, *(bounds or ())]
    marks += [mark for mark in (item.null_floor, item.threshold) if mark is not None]
    low, high = min(marks), max(marks)
    width = (high - low) or 1.0

    def place(mark: float | None) -> float | None:
        return None if mark is None else round(4 + 92 * (mark - low) / width, 1)

    return Strip(
        zero=place(0.0) or 0.0,
        effect=place(item.effect) or 0.0,
        floor=place(item.null_floor),
        threshold=place(item.threshold),
        low=place(bounds[0]) if bounds else None,
        high=place(bounds[1]) if bounds else None,
    )
