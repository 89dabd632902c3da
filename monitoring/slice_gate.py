"""Judges a candidate slice by slice: counts and a policy in, a Decision out. No IO here.

A rule can be broken in two ways. Each is tested; all p-values are adjusted together.

| check | broken if | BLOCK (the rule's severity) | else |
|---|---|---|---|
| `minimum` | value < minimum | adjusted p of "the value is at least minimum" is at most \
`false_alarm_rate` | WARN |
| `max_drop` | loss > max_drop | adjusted p of "there is no loss" is at most `false_alarm_rate` | \
WARN if it is at most `false_warning_rate`, else INSUFFICIENT_DATA: noise would explain it |

So BLOCK needs a loss that is large (beyond what is tolerated) *and* significant (beyond noise,
counted over everything tested). A loss within the tolerance is OK however significant. The two
"else" differ because without any change half of all small slices lose something, while a value
below an absolute floor is unwelcome from whatever cause.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from tfx_encore.monitoring.multiple_testing import benjamini_hochberg
from tfx_encore.monitoring.slice_counts import SliceCounts, SliceKey, slice_key, slice_name
from tfx_encore.monitoring.slice_metrics import Difference, estimate, p_below, paired_difference
from tfx_encore.monitoring.slice_verdicts import (
    NOTHING_LIVE,
    absent_slice,
    decision_reason,
    empty_features,
    too_few,
    unlabelled_rows,
    verdict_on_floor,
    verdict_on_loss,
)
from tfx_encore.schemas.decisions import Decision, Evidence, Outcome, overall, worst_first
from tfx_encore.schemas.errors import DataError, ModelError
from tfx_encore.schemas.evaluation_policy import EvaluationPolicy, MetricRule

GATE = "sliced_evaluation"


@dataclass(frozen=True)
class Check:
    """One rule on one slice, before p-values are adjusted.

    Attributes:
        rule: the rule.
        evidence: all but the verdict; its outcome is what stands if there is nothing to test.
        p_value: of "nothing is wrong"; None if there was too little data to test.
    """

    rule: MetricRule
    evidence: Evidence
    p_value: float | None = None


def judge_slices(
    counts: Mapping[SliceKey, SliceCounts],
    policy: EvaluationPolicy,
    *,
    baseline: str | None = None,
    expected: Collection[SliceKey] = (),
) -> Decision:
    """Judges a candidate on every slice.

    Args:
        counts: of each slice found in the data, overall (`()`) among them.
        policy: what is demanded.
        baseline: what the baseline is called, as `release 3`; None if nothing is live.
        expected: slices that the baseline's own evaluation had; those absent now are reported, as
            are the policy's watched slices.

    Raises:
        ModelError: see `require_usable`.
        DataError: no row has a label.
    """
    require_usable(counts[()], policy, baseline)
    checks = _checks(counts, policy, compared=baseline is not None)
    evidence = [
        *judged(checks, policy),
        *missing_slices(counts, policy, expected),
        *unlabelled_rows(counts[()], policy.label_key),
    ]
    outcome = _outcome(evidence, checks, policy, compared=baseline is not None)
    evidence.sort(key=lambda item: 1.0 if item.p_value is None else item.p_value)
    ordered = worst_first(evidence)
    reason = decision_reason(ordered, outcome, len(counts), baseline)
    return Decision(GATE, outcome, reason, baseline, ordered)


def require_usable(
    everything: SliceCounts, policy: EvaluationPolicy, baseline: str | None = None
) -> None:
    """Refuses scores that are no probabilities, and data without labels.

    Raises:
        ModelError: a model answered NaN, a number outside [0, 1], or several numbers for a row.
        DataError: no row has a label 0 or 1.
    """
    models = [("the candidate model", everything.candidate())]
    live = everything.baseline()
    if live is not None:
        models.append((f"the live model ({baseline or 'baseline'})", live))
    for name, scores in models:
        if scores.not_a_number:
            raise ModelError(
                f"{name} answers NaN for {scores.not_a_number:,} of {everything.n:,} rows "
                f"(signature {policy.signature_name}); look at its training and at rows with "
                "missing features"
            )
        if scores.out_of_range:
            raise ModelError(
                f"{name} does not answer one probability in [0, 1] for {scores.out_of_range:,} of "
                f"{everything.n:,} rows (signature {policy.signature_name}); give the output that "
                "holds it as `prediction_key`, and end the model in a sigmoid"
            )
    if everything.unlabelled == everything.n:
        raise DataError(
            f"label {policy.label_key!r} is neither 0 nor 1 in any of {everything.n:,} rows; set "
            "`label_key` to the binary label"
        )


def _checks(
    counts: Mapping[SliceKey, SliceCounts], policy: EvaluationPolicy, *, compared: bool
) -> list[Check]:
    checks = []
    for key, rows in sorted(counts.items(), key=lambda item: (len(item[0]), item[0])):
        for rule in policy.rules:
            if not applies(rule, key):
                continue
            if rule.minimum is not None:
                checks.append(_floor_check(key, rows, rule, policy))
            if rule.max_drop is not None:
                checks.append(_loss_check(key, rows, rule, policy, compared=compared))
    return checks


def applies(rule: MetricRule, key: SliceKey) -> bool:
    """True if a rule holds on a slice."""
    if rule.slices is None:
        return True
    features = {feature for feature, _ in key}
    return any(
        slice_key(wanted) == key if isinstance(wanted, dict) else set(wanted) == features
        for wanted in rule.slices
    )


def _floor_check(
    key: SliceKey, rows: SliceCounts, rule: MetricRule, policy: EvaluationPolicy
) -> Check:
    blank = _blank(key, rows, rule, policy)
    small = too_few(rule.metric, rows.n, blank.n or 0, policy)
    if small:
        return Check(rule, replace(blank, message=small, threshold=rule.minimum))
    assert rule.minimum is not None
    p_value = p_below(rule.metric, rows.candidate(), rule.minimum)
    return Check(rule, replace(blank, threshold=rule.minimum), p_value)


def _loss_check(
    key: SliceKey, rows: SliceCounts, rule: MetricRule, policy: EvaluationPolicy, *, compared: bool
) -> Check:
    blank = _blank(key, rows, rule, policy)
    if not compared:
        outcome = Outcome(policy.without_baseline)
        return Check(rule, replace(blank, message=NOTHING_LIVE, outcome=outcome))
    live = rows.baseline()
    enough = rows.n >= policy.min_slice_examples
    difference = paired_difference(rule.metric, rows, policy.confidence_level) if enough else None
    small = too_few(rule.metric, rows.n, difference.cases if difference else 0, policy)
    if live is not None:
        old = estimate(rule.metric, live, policy.confidence_level)
        blank = replace(blank, baseline=old.value, n_baseline=old.cases)
    if small or difference is None:
        return Check(rule, replace(blank, message=small or "", interval=None))
    return Check(rule, _compared(blank, difference, rule), difference.p_loss)


def _compared(blank: Evidence, difference: Difference, rule: MetricRule) -> Evidence:
    assert rule.max_drop is not None
    return replace(
        blank, effect=difference.value, interval=difference.interval, threshold=-rule.max_drop
    )


def _blank(
    key: SliceKey, rows: SliceCounts, rule: MetricRule, policy: EvaluationPolicy
) -> Evidence:
    found = estimate(rule.metric, rows.candidate(), policy.confidence_level)
    return Evidence(
        subject=f"slice:{slice_name(key)}",
        measure=rule.metric,
        outcome=Outcome.INSUFFICIENT_DATA,
        message="",
        value=found.value,
        interval=found.interval,
        n=found.cases,
        severity=rule.severity_outcome,
    )


def judged(checks: list[Check], policy: EvaluationPolicy) -> Iterable[Evidence]:
    """The evidence with its verdicts, p-values adjusted over all checks that could be made."""
    tested = [check.p_value for check in checks if check.p_value is not None]
    adjusted = iter(benjamini_hochberg(tested))
    for check in checks:
        if check.p_value is None:
            yield check.evidence
            continue
        item = replace(check.evidence, p_value=float(next(adjusted)))
        judge = verdict_on_floor if item.effect is None else verdict_on_loss
        yield judge(item, policy)


def missing_slices(
    counts: Collection[SliceKey], policy: EvaluationPolicy, expected: Collection[SliceKey]
) -> Iterable[Evidence]:
    """Reports configured cuts without a slice, and watched or expected slices without a row."""
    yield from empty_features(counts, policy)
    watched = {slice_key(values): "watched" for values in policy.watched_slices}
    wanted = {**dict.fromkeys(expected, "in the baseline's evaluation"), **watched}
    for key, why in sorted(wanted.items()):
        if key not in counts:
            yield absent_slice(key, why)


def _outcome(
    evidence: list[Evidence], checks: list[Check], policy: EvaluationPolicy, *, compared: bool
) -> Outcome:
    if compared and all(check.p_value is None for check in checks):
        return max(overall(evidence), Outcome(policy.without_any_check), key=_SEVERITY.__getitem__)
    return overall(evidence)


_SEVERITY = {Outcome.OK: 0, Outcome.INSUFFICIENT_DATA: 1, Outcome.WARN: 2, Outcome.BLOCK: 3}
