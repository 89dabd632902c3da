"""Judges a night slice by slice, against the evidence of the release that served it. No IO here.

As the release's own gate (`slice_gate`): a minimum is broken if the value is below it beyond
chance, a largest loss if the loss is larger than tolerated *and* beyond chance, all p-values
adjusted together. What differs: the night's rows are others than the release's, so the difference
is that of two independent samples, and popular rows repeat, see `served_metrics`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from tfx_encore.monitoring.night_slices import NightSlices, ServedSlice
from tfx_encore.monitoring.served_metrics import (
    NO_REPEATS,
    effective_share,
    labelled_repeats,
    labelled_rows,
    labelled_share,
    p_served_below,
    rate,
    served_difference,
    served_estimate,
)
from tfx_encore.monitoring.served_paths import judge_paths, wrong_slices
from tfx_encore.monitoring.slice_counts import ScoreCounts, SliceKey, slice_name
from tfx_encore.monitoring.slice_gate import Check, applies, judged, missing_slices
from tfx_encore.monitoring.slice_metrics import METRICS
from tfx_encore.monitoring.slice_report import SliceTable
from tfx_encore.monitoring.slice_verdicts import decision_reason, too_few
from tfx_encore.schemas.decisions import Decision, Evidence, Outcome, overall, worst_first
from tfx_encore.schemas.evaluation_policy import EvaluationPolicy, Metric, MetricRule
from tfx_encore.schemas.nights import MetricPoint

__all__ = [
    "effective_share",
    "judge_paths",
    "judge_slices",
    "labelled_share",
    "metric_points",
    "wrong_slices",
]

GATE = "slices"
_NOT_COMPARED = "the release has no evaluation to compare with: losses were not checked"
_NOT_THERE = "the release's own evaluation has no row of this slice"
_Baseline = Mapping[SliceKey, ScoreCounts]


def judge_slices(
    night: NightSlices,
    fingerprint: str,
    baseline: SliceTable | None,
    policy: EvaluationPolicy,
    baseline_name: str | None = None,
) -> Decision:
    """Judges what one model answered in a night.

    Args:
        night: the night's counts.
        fingerprint: of the model.
        baseline: the release's own evaluation (its `slices.json`); None if it has none.
        policy: what is demanded.
        baseline_name: what the release is called, as `release 3`.
    """
    slices = night.of(fingerprint)
    everything = slices.get(())
    labelled = labelled_rows(everything, night.threshold) if everything else 0
    if everything is None or not labelled:
        return Decision(GATE, Outcome.INSUFFICIENT_DATA, _nothing_known(everything, night))
    known = baseline_counts(baseline, night.threshold)
    name = (baseline_name or "the release") if known else None
    checks = [c for item in _ordered(slices) for c in _checks(item, night.threshold, known, policy)]
    evidence = [
        *judged(checks, policy),
        *missing_slices(slices, policy, tuple(known)),
        *_no_probabilities(everything, night.threshold),
    ]
    if not known:
        evidence += _not_compared(policy)
    outcome = overall(evidence)
    evidence.sort(key=lambda item: 1.0 if item.p_value is None else item.p_value)
    ordered = worst_first(evidence)
    reason = decision_reason(ordered, outcome, len(slices), name or "nothing")
    if not known:
        reason = f"{_NOT_COMPARED}; {reason.removesuffix(', compared with nothing')}"
    n = everything.counts(night.threshold).n
    if labelled < n:
        reason += f"; {labelled:,} of {n:,} rows have a label"
    return Decision(GATE, outcome, reason, name, ordered)


def metric_points(
    night: NightSlices,
    fingerprint: str,
    policy: EvaluationPolicy,
    baseline: SliceTable | None = None,
) -> tuple[MetricPoint, ...]:
    """Every metric of every slice that one model answered, overall first.

    Those without a value are left out; intervals allow for repeats.
    """
    known = baseline_counts(baseline, night.threshold)
    return tuple(
        point
        for item in _ordered(night.of(fingerprint))
        for metric in METRICS
        if (point := _point(metric, item, night.threshold, known, policy))
    )


def baseline_counts(baseline: SliceTable | None, threshold: float) -> dict[SliceKey, ScoreCounts]:
    """The release's own counts by slice; none at another threshold, whose bins differ."""
    if baseline is None or baseline.threshold != threshold:
        return {}
    return {item.key: item.candidate.counts for item in baseline.slices}


def _point(
    metric: Metric,
    item: ServedSlice,
    threshold: float,
    known: _Baseline,
    policy: EvaluationPolicy,
) -> MetricPoint | None:
    share = labelled_share(item, threshold)
    counts = item.counts(threshold).candidate()
    found = served_estimate(metric, counts, share, policy.confidence_level)
    if found.value is None or found.interval is None:
        return None
    release = known.get(item.key)
    reference = served_estimate(metric, release).value if release else None
    return MetricPoint(
        slice=item.name,
        features=item.features,
        metric=metric,
        value=found.value,
        interval=found.interval,
        cases=found.cases,
        reference=reference,
    )


def _checks(
    item: ServedSlice, threshold: float, known: _Baseline, policy: EvaluationPolicy
) -> Iterable[Check]:
    for rule in policy.rules:
        if not applies(rule, item.key):
            continue
        if rule.minimum is not None:
            yield _floor_check(item, threshold, rule, policy)
        if rule.max_drop is not None and known:
            yield _loss_check(item, threshold, rule, known.get(item.key), policy)


def _floor_check(
    item: ServedSlice, threshold: float, rule: MetricRule, policy: EvaluationPolicy
) -> Check:
    assert rule.minimum is not None
    blank = replace(_blank(item, threshold, rule, policy), threshold=rule.minimum)
    small = _small(item, threshold, rule.metric, policy)
    if small:
        return Check(rule, replace(blank, message=small))
    counts = item.counts(threshold).candidate()
    repeats = labelled_repeats(item, threshold)
    return Check(rule, blank, p_served_below(rule.metric, counts, rule.minimum, repeats))


def _loss_check(
    item: ServedSlice,
    threshold: float,
    rule: MetricRule,
    release: ScoreCounts | None,
    policy: EvaluationPolicy,
) -> Check:
    assert rule.max_drop is not None
    blank = _blank(item, threshold, rule, policy)
    if release is None:
        return Check(rule, replace(blank, message=_NOT_THERE, interval=None))
    before = served_estimate(rule.metric, release, confidence=policy.confidence_level)
    blank = replace(blank, baseline=before.value, n_baseline=before.cases)
    small = _small(item, threshold, rule.metric, policy)
    rows = release.confusion.n
    if not small and (lacking := too_few(rule.metric, rows, before.cases, policy)):
        small = f"the release's own evaluation has {lacking}"
    repeats = labelled_repeats(item, threshold), NO_REPEATS
    counts = item.counts(threshold).candidate()
    found = served_difference(rule.metric, counts, release, repeats, policy.confidence_level)
    if small or found is None:
        return Check(rule, replace(blank, message=small or "no value", interval=None))
    compared = replace(blank, effect=found.value, interval=found.interval, threshold=-rule.max_drop)
    return Check(rule, compared, found.p_loss)


def _blank(
    item: ServedSlice, threshold: float, rule: MetricRule, policy: EvaluationPolicy
) -> Evidence:
    counts, share = item.counts(threshold).candidate(), labelled_share(item, threshold)
    found = served_estimate(rule.metric, counts, share, policy.confidence_level)
    return Evidence(
        subject=f"slice:{item.name}",
        measure=rule.metric,
        outcome=Outcome.INSUFFICIENT_DATA,
        message="",
        value=found.value,
        interval=found.interval,
        n=found.cases,
        severity=rule.severity_outcome,
    )


def _small(
    item: ServedSlice, threshold: float, metric: Metric, policy: EvaluationPolicy
) -> str | None:
    """Why the labelled rows, repeats taken for what they are, are too few; None if they are not."""
    share, rows = labelled_share(item, threshold), labelled_rows(item, threshold)
    confusion = item.counts(threshold).candidate().confusion
    if metric == "auc":
        cases = min(confusion.positives, confusion.negatives)
    else:
        cases = rate(metric, confusion)[1]
    small = too_few(metric, int(rows * share + 1e-9), int(cases * share + 1e-9), policy)
    if small and share < 0.995:
        small += f" (of {rows:,} labelled rows many repeat: they count as {int(rows * share):,})"
    return small


def _no_probabilities(everything: ServedSlice, threshold: float) -> Iterable[Evidence]:
    counts = everything.counts(threshold)
    scores = counts.candidate()
    wrong = scores.not_a_number + scores.out_of_range
    if wrong:
        yield Evidence(
            subject="slice:overall",
            measure="examples",
            outcome=Outcome.WARN,
            message=f"{scores.not_a_number:,} answers are NaN and {scores.out_of_range:,} lie "
            f"outside [0, 1], of {counts.n:,}; no metric counts them",
            value=float(wrong),
            n=counts.n,
            severity=Outcome.WARN,
        )


def _not_compared(policy: EvaluationPolicy) -> Iterable[Evidence]:
    for rule in policy.rules:
        if rule.max_drop is not None:
            yield Evidence(
                subject=f"slice:{slice_name(())}",
                measure=rule.metric,
                outcome=Outcome.INSUFFICIENT_DATA,
                message=_NOT_COMPARED,
                severity=rule.severity_outcome,
            )


def _nothing_known(everything: ServedSlice | None, night: NightSlices) -> str:
    if everything is None:
        return "this model answered no row of the night"
    return f"none of {everything.counts(night.threshold).n:,} rows has a label yet"


def _ordered(slices: Mapping[SliceKey, ServedSlice]) -> list[ServedSlice]:
    return [slices[key] for key in sorted(slices, key=lambda key: (len(key), key))]
