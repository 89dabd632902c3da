"""The gate's verdicts on single checks, and the words it says them in. No IO here."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from tfx_encore.monitoring.slice_counts import SliceCounts, SliceKey, slice_name
from tfx_encore.schemas.decisions import Evidence, Outcome
from tfx_encore.schemas.evaluation_policy import EvaluationPolicy, Metric

NOTHING_LIVE = "nothing live to compare with: this relative threshold was not checked"
_CASES: dict[str, str] = {
    "accuracy": "rows",
    "precision": "predicted positives",
    "recall": "positives",
    "auc": "rows in the smaller class",
}


def verdict_on_floor(item: Evidence, policy: EvaluationPolicy) -> Evidence:
    """Judges a value against an absolute minimum, by `item.p_value`, which is adjusted."""
    assert item.value is not None
    assert item.threshold is not None
    said = f"{item.measure} {item.value:.3f}{_range(item)}"
    if item.value >= item.threshold:
        return _with(item, Outcome.OK, f"{said}, at least {item.threshold:g} is demanded")
    if _significant(item, policy):
        message = f"{said} is below the minimum of {item.threshold:g}{_p(item)}"
        return _with(item, item.severity, message)
    message = f"{said} is below the minimum of {item.threshold:g}, but may be chance{_p(item)}"
    return _with(item, Outcome.WARN, message)


def verdict_on_loss(item: Evidence, policy: EvaluationPolicy) -> Evidence:
    """Judges a loss against the live model, by `item.p_value`, which is adjusted."""
    assert item.effect is not None
    assert item.threshold is not None
    said = f"{item.measure} {_number(item.value)} against {_number(item.baseline)}, "
    said += f"{item.effect:+.3f}{_range(item, signed=True)}"
    limit = f"{-item.threshold:g}"
    if item.effect >= item.threshold:
        return _with(item, Outcome.OK, f"{said}; a loss of {limit} is tolerated")
    if _significant(item, policy):
        message = f"{said}: it lost more than the {limit} tolerated{_p(item)}"
        return _with(item, item.severity, message)
    if item.p_value is not None and item.p_value <= policy.false_warning_rate:
        message = f"{said}: more than the {limit} tolerated, hardly by chance{_p(item)}"
        return _with(item, Outcome.WARN, message)
    cases = f"{item.n:,} {_CASES[item.measure]}"
    message = f"{said}: more than the {limit} tolerated, but {cases} cannot tell it from chance"
    return _with(item, Outcome.INSUFFICIENT_DATA, message + _p(item))


def too_few(metric: Metric, rows: int, cases: int, policy: EvaluationPolicy) -> str | None:
    """Why a metric cannot be judged on so little data; None if it can."""
    if rows < policy.min_slice_examples:
        return f"{rows:,} rows; at least {policy.min_slice_examples:,} are needed"
    if cases < policy.min_cases:
        return f"{cases:,} {_CASES[metric]}; {metric} needs at least {policy.min_cases:,}"
    return None


def absent_slice(key: SliceKey, why: str) -> Evidence:
    """Reports a slice of which today's data has no row."""
    return Evidence(
        subject=f"slice:{slice_name(key)}",
        measure="examples",
        outcome=Outcome.INSUFFICIENT_DATA,
        message=f"no row of this slice today; it is {why}",
        n=0,
    )


def empty_features(slices: Collection[SliceKey], policy: EvaluationPolicy) -> Iterable[Evidence]:
    """Reports configured cuts that gave no slice, because no row has a value."""
    found = {frozenset(feature for feature, _ in key) for key in slices}
    for names in policy.all_slices:
        if frozenset(names) not in found:
            yield Evidence(
                subject=f"slice:{' x '.join(names)}",
                measure="examples",
                outcome=Outcome.INSUFFICIENT_DATA,
                message=f"no row has a value of {' and '.join(names)}, so nothing was sliced",
                n=0,
            )


def unlabelled_rows(everything: SliceCounts, label_key: str) -> Iterable[Evidence]:
    """Warns of rows that no metric could use."""
    if everything.unlabelled:
        yield Evidence(
            subject="slice:overall",
            measure="examples",
            outcome=Outcome.WARN,
            message=f"label {label_key!r} is neither 0 nor 1 in {everything.unlabelled:,} of "
            f"{everything.n:,} rows; they were left out",
            n=everything.n - everything.unlabelled,
            severity=Outcome.WARN,
        )


def decision_reason(
    evidence: Sequence[Evidence], outcome: Outcome, slices: int, baseline: str | None
) -> str:
    """One line: what decided, and that nothing is live where that is so."""
    deciding = [item for item in evidence if item.outcome is outcome]
    if outcome in {Outcome.BLOCK, Outcome.WARN} and deciding:
        first = f"{deciding[0].subject.removeprefix('slice:')}: {deciding[0].message}"
        more = f" (and {len(deciding) - 1} more)" if len(deciding) > 1 else ""
        said = first + more
    elif outcome is Outcome.OK:
        said = f"{_counted(deciding)} hold on {slices:,} slices"
        said += f", compared with {baseline}" if baseline else ""
        unsure = sum(item.outcome is Outcome.INSUFFICIENT_DATA for item in evidence)
        said += f"; too little data for {unsure:,} more" if unsure and baseline else ""
    else:
        said = f"too little data to check any rule on {slices:,} slices"
    if baseline is None:
        nothing = "nothing live to compare with: relative thresholds were not checked"
        return f"{nothing}; {said}" if outcome is not Outcome.INSUFFICIENT_DATA else nothing
    return said


def _counted(checks: Sequence[Evidence]) -> str:
    return f"{len(checks):,} check{'' if len(checks) == 1 else 's'}"


def _significant(item: Evidence, policy: EvaluationPolicy) -> bool:
    return item.p_value is not None and item.p_value <= policy.false_alarm_rate


def _with(item: Evidence, outcome: Outcome, message: str) -> Evidence:
    return replace(item, outcome=outcome, message=message)


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _range(item: Evidence, *, signed: bool = False) -> str:
    if item.interval is None:
        return ""
    low, high = item.interval
    return f" ({low:+.3f} to {high:+.3f})" if signed else f" ({low:.3f} to {high:.3f})"


def _p(item: Evidence) -> str:
    return "" if item.p_value is None else f" (adjusted p {item.p_value:.2g})"
