"""The trend gate's evidence and words. No IO here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tfx_encore.monitoring.slice_counts import slice_name
from tfx_encore.monitoring.trend_series import Observation, Reference, SeriesKey
from tfx_encore.schemas.decisions import Decision, Evidence, Outcome, overall, worst_first
from tfx_encore.schemas.nightly_policy import TrendPolicy

GATE = "trend"
RECENT = 7  # nights: whole weeks, so that weekdays weigh the same
FEWEST = 3  # nights that have to be followed before a series is judged


@dataclass(frozen=True)
class Verdict:
    """Where a series stands tonight.

    Attributes:
        series: its slice and metric.
        recent: its last `RECENT` nights.
        reference: what it is held against; None if there is none yet.
        followed: nights that were judged so far.
        statistic: ln R tonight; None before the first such night.
        threshold: where it alarms.
        p_value: adjusted over all series.
        alarm: it alarms.
        since: first night of the alarm.
        onset: night from which the loss is estimated to date.
        slope: loss a night since then; None if it came at once.
    """

    series: SeriesKey
    recent: tuple[Observation, ...]
    reference: Reference | None
    followed: int
    statistic: float | None
    threshold: float
    p_value: float | None = None
    alarm: bool = False
    since: str | None = None
    onset: str | None = None
    slope: float | None = None


def adjusted_p_values(log_e: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Adjusted p-values from the logarithms of e-values, both of shape [S].

    Rejecting where the result is at most q keeps the false discovery rate at q however the series
    depend on each other. R_t / t is an e-value: its mean is at most 1 while nothing changes.
    Source: e-BH, Wang and Ramdas (2022), Journal of the Royal Statistical Society B 84:822.
    """
    order = np.argsort(-log_e)
    ranks = np.arange(1, log_e.size + 1)
    scaled = np.log(log_e.size / ranks) - log_e[order] if log_e.size else log_e
    stepped = np.minimum.accumulate(scaled[::-1])[::-1]
    adjusted = np.empty_like(log_e)
    adjusted[order] = np.exp(np.minimum(stepped, 0.0))
    return adjusted


def decide(verdicts: list[Verdict], policy: TrendPolicy, baseline: str | None) -> Decision:
    """The gate's decision, the strongest statistic first among equals."""
    ranked = sorted(verdicts, key=lambda item: -(item.statistic or float("-inf")))
    evidence = worst_first(_evidence(item, policy) for item in ranked)
    outcome = overall(evidence)
    return Decision(GATE, outcome, _reason(evidence, outcome, verdicts), baseline, evidence)


def _evidence(item: Verdict, policy: TrendPolicy) -> Evidence:
    key, metric = item.series
    effective = sum(night.effective for night in item.recent)
    value = sum(night.value * night.effective for night in item.recent) / effective
    severity = Outcome(policy.severity)
    outcome, message = _said(item, value, severity)
    reference, effect, interval = item.reference, None, None
    if reference is not None:
        effect = value - reference.value
        half = 1.96 * (reference.unit**2 / effective + reference.sd**2) ** 0.5
        interval = (max(effect - half, -1.0), min(effect + half, 1.0))
    return Evidence(
        subject=f"slice:{slice_name(key)}",
        measure=metric,
        outcome=outcome,
        message=message,
        effect=effect,
        interval=interval,
        p_value=item.p_value,
        value=value,
        baseline=reference.value if reference else None,
        n=sum(night.cases for night in item.recent),
        n_baseline=reference.cases if reference else None,
        severity=severity,
    )


def _said(item: Verdict, value: float, severity: Outcome) -> tuple[Outcome, str]:
    metric, nights = item.series[1], len(item.recent)
    said = f"{metric} {value:.3f} over the last {nights} night{'' if nights == 1 else 's'}"
    if item.reference is None:
        few = f"{said}; too few nights yet to be held against the first ones"
        return Outcome.INSUFFICIENT_DATA, few
    whose = "the release" if item.reference.kind == "release" else "its first nights"
    said += f" against {item.reference.value:.3f} of {whose}"
    if item.alarm:
        slope = item.slope or 0.0
        how = f"losing {slope:.4f} a night" if slope > 0 else "lower"
        said += f": {how} since about {item.onset}"
        said += f", in alarm since {item.since}" if item.since else ""
        return severity, said + _numbers(item)
    if item.followed < FEWEST:
        return Outcome.INSUFFICIENT_DATA, f"{said}; {item.followed} of {FEWEST} nights needed"
    return Outcome.OK, f"{said}: no decay{_numbers(item)}"


def _numbers(item: Verdict) -> str:
    if item.statistic is None:
        return ""
    return f" (statistic {item.statistic:.1f}, alarm at {item.threshold:.1f})"


def _reason(evidence: tuple[Evidence, ...], outcome: Outcome, verdicts: list[Verdict]) -> str:
    alarms = [item for item in evidence if item.outcome is outcome]
    if outcome in {Outcome.BLOCK, Outcome.WARN}:
        more = f" (and {len(alarms) - 1} more)" if len(alarms) > 1 else ""
        return f"{alarms[0].subject.removeprefix('slice:')}: {alarms[0].message}{more}"
    if outcome is Outcome.OK:
        nights = max(item.followed for item in verdicts)
        return f"no decay in {len(alarms):,} series over {nights:,} nights"
    if not verdicts:
        return "no labelled night of this release has enough cases"
    return f"too few nights of this release to follow any of {len(verdicts):,} series"
