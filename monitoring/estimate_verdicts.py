"""Judges estimates: a drop that is warned of, or an estimate that was wrong. No IO here.

While fewer than half of a slice's rows have a label, the check `estimated_<metric>`: WARN if the
estimate lies below the release's own value by more than `max_drop`, and the adjusted p of "no loss"
is at most `false_warning_rate`.

As soon as labels give a value, the check `<metric>_estimate_error`: WARN if the adjusted p of "the
truth is what was estimated" is at most `false_alarm_rate`: scores no longer mean what they meant at
release.

An estimate never blocks: it rests on an assumption that it cannot check. Where labels are there,
the truth is judged by the other gates, and the estimate is only held against it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from scipy import stats

from tfx_encore.monitoring.intervals import normal_quantile, p_below_zero
from tfx_encore.monitoring.multiple_testing import benjamini_hochberg
from tfx_encore.monitoring.slice_report import SliceTable
from tfx_encore.schemas.decisions import Decision, Evidence, Outcome, overall, worst_first
from tfx_encore.schemas.evaluation_policy import EvaluationPolicy
from tfx_encore.schemas.nightly_policy import EstimatePolicy
from tfx_encore.schemas.nights import PerformanceEstimate

GATE = "estimate"
_KNOWN = 0.5  # share of labelled rows from which on the truth is left to the other gates
_ASSUMED = "if scores mean what they meant at release"


def judge_estimates(
    estimates: Sequence[PerformanceEstimate],
    baseline: SliceTable | None,
    policy: EvaluationPolicy,
    estimate_policy: EstimatePolicy,
    baseline_name: str | None = None,
) -> Decision:
    """Judges what `estimate` gave; WARN at most.

    Args:
        estimates: of one night.
        baseline: the release's own evaluation.
        policy: rates of false alarms and warnings.
        estimate_policy: the drop that is warned of.
        baseline_name: what the release is called, as `release 3`.
    """
    unknown = [e for e in estimates if e.actual is None or e.labelled < _KNOWN * e.n]
    losses = _adjusted([_loss(e, baseline, policy, estimate_policy) for e in unknown])
    errors = _adjusted([_error(e, policy) for e in estimates if e.actual is not None])
    evidence = worst_first(
        sorted(
            [
                *(_of_effect(_judge_loss(item, policy)) for item in losses),
                *(_of_effect(_judge_error(item, policy)) for item in errors),
            ],
            key=lambda item: 1.0 if item.p_value is None else item.p_value,
        )
    )
    outcome = overall(evidence)
    return Decision(GATE, outcome, _reason(evidence, outcome), baseline_name, evidence)


def _loss(
    found: PerformanceEstimate,
    baseline: SliceTable | None,
    policy: EvaluationPolicy,
    estimate_policy: EstimatePolicy,
) -> Evidence:
    """The estimate against the release's value; its raw p-value, None if that is unknown.

    Both rest on the same labelled rows, so their errors partly cancel; taking them as independent
    errs on the quiet side.
    """
    blank = Evidence(
        subject=f"slice:{found.slice}",
        measure=f"estimated_{found.metric}",
        outcome=Outcome.INSUFFICIENT_DATA,
        message="",
        threshold=-estimate_policy.max_drop,
        value=found.estimated,
        interval=found.interval,
        n=found.n,
        severity=Outcome.WARN,
    )
    released = _released(found, baseline)
    if released is None:
        return blank
    value, interval, cases = released
    error = math.hypot(_standard_error(found.interval, policy), _standard_error(interval, policy))
    effect = found.estimated - value
    p_value = float(p_below_zero(effect, error))
    return replace(blank, effect=effect, baseline=value, n_baseline=cases, p_value=p_value)


def _released(
    found: PerformanceEstimate, baseline: SliceTable | None
) -> tuple[float, tuple[float, float], int] | None:
    for item in baseline.slices if baseline else ():
        metric = item.candidate.metrics.get(found.metric)
        if item.name == found.slice and metric and metric.value is not None and metric.interval:
            return metric.value, metric.interval, metric.cases
    return None


def _error(found: PerformanceEstimate, policy: EvaluationPolicy) -> Evidence:
    """The estimate against the truth, with its raw p-value (two-sided).

    The interval is of the metric of all rows; labels of a part of them add their own chance.
    """
    assert found.actual is not None
    assert found.actual_interval is not None
    unknown = max(0.0, 1 - found.labelled / found.n) if found.n else 0.0
    error = math.hypot(
        _standard_error(found.interval, policy),
        math.sqrt(unknown) * _standard_error(found.actual_interval, policy),
    )
    effect = found.actual - found.estimated
    distance = abs(effect) / error if error else math.inf if effect else 0.0
    return Evidence(
        subject=f"slice:{found.slice}",
        measure=f"{found.metric}_estimate_error",
        outcome=Outcome.OK,
        message="",
        effect=effect,
        value=found.actual,
        interval=found.interval,
        baseline=found.estimated,
        p_value=float(2 * stats.norm.sf(distance)),
        n=found.labelled,
        n_baseline=found.n,
        severity=Outcome.WARN,
    )


def _standard_error(interval: tuple[float, float], policy: EvaluationPolicy) -> float:
    return (interval[1] - interval[0]) / (2 * normal_quantile(policy.confidence_level))


def _adjusted(evidence: list[Evidence]) -> list[Evidence]:
    """p-values adjusted over all that have one."""
    tested = [item.p_value for item in evidence if item.p_value is not None]
    adjusted = iter(benjamini_hochberg(tested))
    return [
        item if item.p_value is None else replace(item, p_value=float(next(adjusted)))
        for item in evidence
    ]


def _judge_loss(item: Evidence, policy: EvaluationPolicy) -> Evidence:
    said = f"estimated without labels: {_metric(item)} {item.value:.3f}{_range(item)}"
    if item.effect is None or item.p_value is None or item.threshold is None:
        return replace(item, message=f"{said}; the release has no value to compare with")
    said += f" against {item.baseline:.3f} at release, {item.effect:+.3f}"
    limit = f"{-item.threshold:g}"
    if item.effect >= item.threshold:
        return replace(item, outcome=Outcome.OK, message=f"{said}; a loss of {limit} is tolerated")
    if item.p_value <= policy.false_warning_rate:
        message = f"{said}: it lost more than {limit}, {_ASSUMED} (adjusted p {item.p_value:.2g})"
        return replace(item, outcome=Outcome.WARN, message=message)
    message = f"{said}: more than {limit}, but may be chance (adjusted p {item.p_value:.2g})"
    return replace(item, outcome=Outcome.INSUFFICIENT_DATA, message=message)


def _judge_error(item: Evidence, policy: EvaluationPolicy) -> Evidence:
    assert item.interval is not None
    assert item.value is not None
    said = f"{_metric(item)} was estimated {item.baseline:.3f}{_range(item)}"
    said += f", labels say {item.value:.3f}"
    if item.p_value is not None and item.p_value <= policy.false_alarm_rate:
        message = (
            f"{said}: the estimate was wrong (adjusted p {item.p_value:.2g}); scores no longer "
            "mean what they meant at release (concept drift), so trust labels only until a "
            "retrained release is evaluated"
        )
        return replace(item, outcome=Outcome.WARN, message=message)
    inside = item.interval[0] <= item.value <= item.interval[1]
    held = "inside" if inside else "outside, as chance explains"
    return replace(item, message=f"{said}: {held}")


def _of_effect(item: Evidence) -> Evidence:
    """Turns the interval of the estimate, which the message names, into that of the effect."""
    if item.interval is None or item.effect is None or item.baseline is None:
        return item
    low, high = item.interval
    if item.measure.endswith("_estimate_error"):
        assert item.value is not None
        return replace(item, interval=(item.value - high, item.value - low))
    return replace(item, interval=(low - item.baseline, high - item.baseline))


def _metric(item: Evidence) -> str:
    return item.measure.removeprefix("estimated_").removesuffix("_estimate_error")


def _range(item: Evidence) -> str:
    return f" ({item.interval[0]:.3f} to {item.interval[1]:.3f})" if item.interval else ""


def _reason(evidence: Sequence[Evidence], outcome: Outcome) -> str:
    if not evidence:
        return "nothing estimated: no calibration from the release, or too few rows"
    if outcome is Outcome.WARN:
        warned = [item for item in evidence if item.outcome is outcome]
        more = f" (and {len(warned) - 1} more)" if len(warned) > 1 else ""
        return f"{warned[0].subject.removeprefix('slice:')}: {warned[0].message}{more}"
    checked = sum(item.measure.endswith("_estimate_error") for item in evidence)
    if outcome is Outcome.OK:
        return (
            f"{len(evidence) - checked:,} estimates without labels show no loss beyond what is "
            f"tolerated; {checked:,} agree with the labels that have come"
        )
    return "nothing to hold the estimates against: the release's evaluation has no such slice"
