"""A night's decision record as metrics, bounded in number. No IO here."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from tfx_encore.monitoring import metric_families as families
from tfx_encore.monitoring.metric_families import MetricFamily, Sample
from tfx_encore.monitoring.night_slices import NightSlices
from tfx_encore.schemas.decisions import Decision, Evidence, Outcome
from tfx_encore.schemas.nights import (
    PATHS,
    MetricPoint,
    NightAlarm,
    NightRecord,
    PerformanceEstimate,
)

OVERALL = "overall"
MAX_ALARMS = 50
DRIFT_GATES = ("drift", "skew")
_LEVELS = {Outcome.OK: 0, Outcome.WARN: 1, Outcome.BLOCK: 2, Outcome.INSUFFICIENT_DATA: -1}
DAY_SECONDS = 86_400


class Limits(NamedTuple):
    """How many of what is shown at most.

    Attributes:
        slices: slices: overall, those with an alarm, then those with most cases.
        features: features: those whose drift was concluded to be worst, then those farthest above
            their floor.
        alarms: alarms, BLOCK first.
    """

    slices: int = 50
    features: int = 50
    alarms: int = MAX_ALARMS


def night_samples(
    record: NightRecord, slices: NightSlices | None = None, limits: Limits | None = None
) -> tuple[Sample, ...]:
    """What a night's record says, as samples.

    Args:
        record: the newest night's.
        slices: its counts by slice, for the rows that were computed again; None leaves them out.
        limits: how many slices, features and alarms are shown at most.
    """
    bounds = limits or Limits()
    model = record.model
    omitted: dict[str, int] = {}
    samples = [
        *_head(record),
        *_alarms(record, bounds, omitted),
        *_log(record),
        *_paths(record, slices),
        *_slices(model, record.metrics, bounds, omitted),
        *_estimates(model, record.estimates, bounds),
        *_drift(model, record.decisions, bounds, omitted),
        *_coverage(record),
    ]
    samples += [
        Sample(families.OMITTED, (model, what), count) for what, count in sorted(omitted.items())
    ]
    return tuple(samples)


def end_of(date: str) -> float:
    """The end of a day (UTC), seconds since 1970."""
    day = dt.datetime.fromisoformat(date).replace(tzinfo=dt.timezone.utc)
    return day.timestamp() + DAY_SECONDS


def seconds_of(moment: str) -> float | None:
    """A time as RFC 3339 in seconds since 1970; None if it is none."""
    try:
        return dt.datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None


def outcome_samples(
    family: MetricFamily, labels: tuple[str, ...], outcome: Outcome
) -> Iterator[Sample]:
    """1 for the outcome, 0 for the three others: so a series never lingers when it changes."""
    for each in Outcome:
        yield Sample(family, (*labels, each.value), float(each == outcome))


def _head(record: NightRecord) -> Iterator[Sample]:
    model = record.model
    yield Sample(families.NIGHT_END, (model,), end_of(record.date))
    written = seconds_of(record.created_at)
    if written is not None:
        yield Sample(families.NIGHT_WRITTEN, (model,), written)
    yield Sample(families.NIGHT_REVISION, (model,), record.revision)
    if record.version is not None:
        yield Sample(families.NIGHT_VERSION, (model,), record.version)
    yield from outcome_samples(families.NIGHT_OUTCOME, (model,), record.outcome)
    for gate, outcome in _worst_by_gate(record.decisions).items():
        yield from outcome_samples(families.GATE_OUTCOME, (model, gate), outcome)
    yield from _counted(families.ACTIONS, model, ((a.kind, a.state) for a in record.actions))
    states = {"proposed": 0, "promoted": 0}
    for finding in record.findings:
        states["promoted" if finding.promoted else "proposed"] += 1
    for state, count in states.items():
        yield Sample(families.FINDINGS, (model, state), count)


def _worst_by_gate(decisions: Iterable[Decision]) -> dict[str, Outcome]:
    """The outcome of each gate; of several decisions under one name, the worst."""
    found: dict[str, Outcome] = {}
    for decision in decisions:
        before = found.get(decision.gate)
        if before is None or _LEVELS[decision.outcome] > _LEVELS[before]:
            found[decision.gate] = decision.outcome
    return dict(sorted(found.items()))


def _counted(
    family: MetricFamily, model: str, items: Iterable[tuple[str, ...]]
) -> Iterator[Sample]:
    counts: dict[tuple[str, ...], int] = {}
    for item in items:
        counts[item] = counts.get(item, 0) + 1
    for labels, count in sorted(counts.items()):
        yield Sample(family, (model, *labels), count)


def _alarms(record: NightRecord, limits: Limits, omitted: dict[str, int]) -> Iterator[Sample]:
    unique: dict[tuple[str, str, str, str], NightAlarm] = {}
    for alarm in sorted(record.alarms, key=lambda a: (-_LEVELS[a.outcome], a.since)):
        place = (alarm.gate, alarm.subject, alarm.measure, alarm.outcome.value)
        unique.setdefault(place, alarm)
    omitted["alarms"] = max(0, len(unique) - limits.alarms)
    for place, alarm in list(unique.items())[: limits.alarms]:
        nights = (end_of(record.date) - end_of(alarm.since)) / DAY_SECONDS + 1
        yield Sample(families.ALARM_NIGHTS, (record.model, *place), max(1.0, nights))


def _log(record: NightRecord) -> Iterator[Sample]:
    model, log = record.model, record.log
    yield Sample(families.REQUESTS, (model,), log.requests)
    for code, count in sorted(log.failed.items()):
        yield Sample(families.FAILED_REQUESTS, (model, code), count)
    for path in PATHS:
        yield Sample(families.ROWS, (model, path), log.rows_by_path.get(path, 0))
    yield Sample(families.EFFECTIVE_ROWS, (model,), log.effective_rows)
    yield Sample(families.LABELLED_ROWS, (model,), log.labelled)
    yield Sample(families.LOG_RECORDS, (model,), log.records)
    yield Sample(families.UNREADABLE, (model,), log.unreadable)
    if log.hit_rate is not None:
        yield Sample(families.HIT_RATIO, (model,), log.hit_rate)


def _paths(record: NightRecord, slices: NightSlices | None) -> Iterator[Sample]:
    if slices is None:
        return
    overall = [item for item in slices.slices if not item.features]
    for path in PATHS:
        counts = [item.paths[path] for item in overall if path in item.paths]
        recomputed = sum(sum(each.recomputed.values()) for each in counts)
        disagreeing = sum(each.disagreeing for each in counts)
        yield Sample(families.RECOMPUTED, (record.model, path), recomputed)
        yield Sample(families.DISAGREEING, (record.model, path), disagreeing)


# --- slices and estimates ------------------------------------------------------------------------


def _slices(
    model: str, points: Sequence[MetricPoint], limits: Limits, omitted: dict[str, int]
) -> Iterator[Sample]:
    kept = _kept_slices(points, limits.slices)
    omitted["slices"] = len({point.slice for point in points}) - len(kept)
    for point in points:
        if point.slice in kept:
            yield from _point(model, point)


def _kept_slices(points: Sequence[MetricPoint], limit: int) -> set[str]:
    """Overall, then those with an alarm, then those with most cases."""
    rank: dict[str, tuple[bool, bool, int]] = {}
    for point in points:
        before = rank.get(point.slice, (False, False, 0))
        alarm, cases = before[1] or point.alarm, max(before[2], point.cases)
        rank[point.slice] = (point.slice == OVERALL, alarm, cases)
    return set(sorted(rank, key=lambda name: (*(-n for n in rank[name]), name))[:limit])


def _point(model: str, point: MetricPoint) -> Iterator[Sample]:
    labels = (model, point.slice, point.metric)
    yield Sample(families.SLICE_VALUE, labels, point.value)
    yield Sample(families.SLICE_LOW, labels, point.interval[0])
    yield Sample(families.SLICE_HIGH, labels, point.interval[1])
    yield Sample(families.SLICE_CASES, labels, point.cases)
    yield from _known(families.SLICE_REFERENCE, labels, point.reference)
    if point.statistic is not None:
        yield Sample(families.TREND_STATISTIC, labels, point.statistic)
        yield from _known(families.TREND_THRESHOLD, labels, point.threshold)
        yield Sample(families.TREND_ALARM, labels, float(point.alarm))


def _known(family: MetricFamily, labels: tuple[str, ...], value: float | None) -> Iterator[Sample]:
    if value is not None:
        yield Sample(family, labels, value)


def _estimates(
    model: str, estimates: Sequence[PerformanceEstimate], limits: Limits
) -> Iterator[Sample]:
    largest = sorted(estimates, key=lambda e: (e.slice != OVERALL, -e.n, e.slice))
    kept = set(list(dict.fromkeys(each.slice for each in largest))[: limits.slices])
    for each in estimates:
        if each.slice not in kept:
            continue
        labels = (model, each.slice, each.metric)
        yield Sample(families.ESTIMATE, labels, each.estimated)
        yield Sample(families.ESTIMATE_LOW, labels, each.interval[0])
        yield Sample(families.ESTIMATE_HIGH, labels, each.interval[1])
        yield from _known(families.ESTIMATE_ACTUAL, labels, each.actual)


# --- drift ---------------------------------------------------------------------------------------


def _drift(
    model: str, decisions: Sequence[Decision], limits: Limits, omitted: dict[str, int]
) -> Iterator[Sample]:
    omitted["features"] = 0
    for gate in DRIFT_GATES:
        found = [e for d in decisions if d.gate == gate for e in d.evidence]
        ranked = sorted(found, key=_drifts_most)
        features = list(dict.fromkeys(_feature(item) for item in ranked))
        omitted["features"] += max(0, len(features) - limits.features)
        kept = set(features[: limits.features])
        seen: set[tuple[str, str]] = set()
        for item in ranked:
            place = (_feature(item), item.measure)
            if place[0] in kept and place not in seen:
                seen.add(place)  # of several baselines the worst is shown
                yield from _evidence((model, gate, *place), item)


def _drifts_most(item: Evidence) -> tuple[float, float, str, str]:
    floor = item.null_floor or item.threshold or 1.0
    excess = 0.0 if item.effect is None else item.effect / floor
    return (-_LEVELS[item.outcome], -excess, item.subject, item.measure)


def _feature(item: Evidence) -> str:
    return item.subject.removeprefix("feature:")


def _evidence(labels: tuple[str, ...], item: Evidence) -> Iterator[Sample]:
    yield from _known(families.DRIFT_EFFECT, labels, item.effect)
    yield from _known(families.DRIFT_FLOOR, labels, item.null_floor)
    yield from _known(families.DRIFT_THRESHOLD, labels, item.threshold)
    yield Sample(families.DRIFT_LEVEL, labels, _LEVELS[item.outcome])


def _coverage(record: NightRecord) -> Iterator[Sample]:
    coverage, labels = record.coverage, (record.model,)
    if coverage is None:
        return
    yield Sample(families.COVERAGE, labels, coverage.covered)
    yield from _known(families.COVERAGE_EXPECTED, labels, coverage.expected)
    yield Sample(families.COVERAGE_ENTRIES, labels, coverage.entries)
