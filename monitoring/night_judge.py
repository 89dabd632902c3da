"""Judges a night: everything found on the day, held against the release and the nights before.

No IO here: whoever calls it has read the day, the nights and the release.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tfx_encore.monitoring import drift_seasonal, served_slices, slice_discovery, trend
from tfx_encore.monitoring import estimate as estimating
from tfx_encore.monitoring.drift_statistics import DatasetStatistics
from tfx_encore.monitoring.night_record import Found, compose, judge_log
from tfx_encore.monitoring.night_slices import NightSlices, ordered
from tfx_encore.monitoring.slice_report import SliceTable
from tfx_encore.schemas.decisions import Decision
from tfx_encore.schemas.evaluation_policy import EvaluationPolicy
from tfx_encore.schemas.nightly_policy import NightlyPolicy
from tfx_encore.schemas.nights import (
    LogReport,
    MetricPoint,
    NightAlarm,
    NightCoverage,
    NightRecord,
    PerformanceEstimate,
    SliceFinding,
)

_Points = Mapping[tuple[str, str, str], trend.TrendPoint]


@dataclass(frozen=True)
class Night:
    """What the day's own evaluation found; it follows from the day's rows.

    Attributes:
        model: the model's name.
        date: the day, as `2016-01-12`.
        log: what was read.
        slices: counts by slice; None if there were no rows.
        pairs: counts for slice discovery, if it is enabled.
        statistics: of the day's rows; None if there were none.
        skew: traffic against the training data.
        coverage: what the newest snapshot was worth.
        evaluation_digest: see `NightRecord`.
    """

    model: str
    date: str
    log: LogReport
    slices: NightSlices | None = None
    pairs: slice_discovery.PairCounts | None = None
    statistics: DatasetStatistics | None = None
    skew: Decision | None = None
    coverage: NightCoverage | None = None
    evaluation_digest: str = ""


@dataclass(frozen=True)
class Release:
    """The release that served most of the night's rows.

    Attributes:
        version: its version, if known.
        fingerprint: its fingerprint, if known.
        name: as evidence calls it, `release 3`; None if nothing is known of it.
        table: its own evaluation by slice.
        roll_back_to: an older version that could answer instead.
    """

    version: int | None = None
    fingerprint: str | None = None
    name: str | None = None
    table: SliceTable | None = None
    roll_back_to: int | None = None


@dataclass(frozen=True)
class Past:
    """The earlier nights that are looked at.

    Attributes:
        slices: date -> counts of the nights that the same model served.
        statistics: date -> statistics of the nights that drift is measured against.
        excluded: dates of those that are no baseline, as they had drift of their own.
        shares: date -> share of the rows that are independent, in (0, 1].
        findings: what slice discovery found in the nights just before, oldest first.
        alarms: of the night before.
        digest: see `NightRecord.history_digest`.
    """

    slices: Mapping[str, NightSlices] = field(default_factory=dict)
    statistics: Mapping[str, DatasetStatistics] = field(default_factory=dict)
    excluded: frozenset[str] = frozenset()
    shares: Mapping[str, float] = field(default_factory=dict)
    findings: tuple[tuple[SliceFinding, ...], ...] = ()
    alarms: tuple[NightAlarm, ...] = ()
    digest: str = ""


@dataclass(frozen=True)
class Policies:
    """By what is judged.

    Attributes:
        nightly: the `nightly` section of the configuration.
        evaluation: the `evaluation` section.
        features: names of the features that the schema has.
        digest: see `NightRecord.policy_digest`.
    """

    nightly: NightlyPolicy
    evaluation: EvaluationPolicy
    features: tuple[str, ...] = ()
    digest: str = ""


@dataclass(frozen=True)
class Judged:
    """The record, and the series behind its trend decision."""

    record: NightRecord
    trends: trend.TrendJudgement | None = None


def judge_night(night: Night, release: Release, past: Past, policies: Policies) -> Judged:
    """The decision record of a night."""
    found = Found(
        model=night.model,
        date=night.date,
        log=night.log,
        decisions=(judge_log(night.log, policies.nightly.log),),
        version=release.version,
        fingerprint=release.fingerprint,
        before=past.alarms,
        roll_back_to=release.roll_back_to,
        evaluation_digest=night.evaluation_digest,
        history_digest=past.digest,
        policy_digest=policies.digest,
    )
    if night.slices is None or not night.log.rows:
        return Judged(compose(found, policies.nightly.rewarm))
    return _judge_rows(found, night, night.slices, release, past, policies)


def independent_share(log: LogReport) -> float:
    """Share of a night's rows that are independent evidence, in (0, 1]."""
    share = log.effective_rows / log.rows if log.rows else 0.0
    return min(share, 1.0) if share > 0 else 1.0


def _judge_rows(  # noqa: PLR0917 - what a judgement looks at
    found: Found,
    night: Night,
    slices: NightSlices,
    release: Release,
    past: Past,
    policies: Policies,
) -> Judged:
    nightly, evaluation = policies.nightly, policies.evaluation
    model, table, name = release.fingerprint or "", release.table, release.name
    estimates = estimating.estimate(slices, model, table, evaluation, nightly.estimate)
    nights = {**past.slices, night.date: slices}
    trends = trend.judge_trends(nights, model, table, nightly.trend, evaluation, release_name=name)
    decisions = (
        *found.decisions,
        served_slices.judge_slices(slices, model, table, evaluation, name),
        served_slices.judge_paths(slices, model, evaluation),
        trends.decision,
        *([night.skew] if night.skew else []),
        *_drift(night, past, policies),
        *_estimates(estimates, release, policies),
    )
    points = served_slices.metric_points(slices, model, evaluation, table)
    seen = trends.points
    wrong = served_slices.wrong_slices(slices, model)
    whole = replace(
        found,
        decisions=decisions,
        wrong=tuple(item.features for item in wrong),
        metrics=tuple(_followed(point, seen, night.date) for point in points),
        estimates=estimates,
        findings=_findings(night, past, policies),
        coverage=night.coverage,
        onsets=trends.onsets,
    )
    return Judged(compose(whole, nightly.rewarm), trends)


def _drift(night: Night, past: Past, policies: Policies) -> tuple[Decision, ...]:
    if night.statistics is None:
        return ()
    decision = drift_seasonal.judge_seasonal(
        night.statistics,
        past.statistics,
        night.date,
        policies.nightly.drift,
        policies.nightly.season,
        policies.features,
        {**past.shares, night.date: independent_share(night.log)},
        excluded=past.excluded,
    )
    return (decision,)


def _estimates(
    estimates: tuple[PerformanceEstimate, ...], release: Release, policies: Policies
) -> tuple[Decision, ...]:
    if not policies.nightly.estimate.enabled:
        return ()
    decision = estimating.judge_estimates(
        estimates,
        release.table,
        policies.evaluation,
        policies.nightly.estimate,
        release.name,
    )
    return (decision,)


def _findings(night: Night, past: Past, policies: Policies) -> tuple[SliceFinding, ...]:
    policy = policies.nightly.discovery
    if night.pairs is None or not policy.enabled:
        return ()
    configured = policies.evaluation.all_slices
    found = slice_discovery.find(night.pairs, policy, configured)
    return slice_discovery.with_recurrence(found, past.findings, policy, night.pairs)


def _followed(point: MetricPoint, points: _Points, date: str) -> MetricPoint:
    """The point with its trend statistic, where the metric is followed."""
    seen = points.get((point.slice, point.metric, date))
    if seen is None:
        return point
    return replace(
        point,
        reference=seen.reference if seen.reference is not None else point.reference,
        statistic=seen.statistic,
        threshold=seen.threshold,
        alarm=seen.alarm,
    )


def name_models(slices: NightSlices, fingerprints: Mapping[int, str]) -> NightSlices:
    """Gives rows whose log names a version only the fingerprint of that version.

    Args:
        slices: as counted.
        fingerprints: version -> fingerprint.
    """
    total = NightSlices(slices.threshold)
    for item in slices.slices:
        name = item.fingerprint or fingerprints.get(item.version, "")
        total += NightSlices(slices.threshold, (replace(item, fingerprint=name),))
    return NightSlices(slices.threshold, ordered(total.slices))
