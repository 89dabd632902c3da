"""Metrics of a slice with their intervals, and candidate against baseline. No IO here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tfx_encore.monitoring import auc as auc_
from tfx_encore.monitoring import intervals
from tfx_encore.monitoring.intervals import Interval, Paired, PairedPrecision
from tfx_encore.monitoring.slice_counts import BINS, Confusion, ScoreCounts, SliceCounts
from tfx_encore.schemas.evaluation_policy import Metric

METRICS: tuple[Metric, ...] = ("accuracy", "precision", "recall", "auc")


@dataclass(frozen=True)
class Estimate:
    """One metric of one model on one slice.

    Attributes:
        value: in [0, 1]; None if it has no value, as precision without predicted positives.
        interval: its confidence interval (low, high); None without a value.
        cases: the denominator; for AUC the size of the smaller class.
    """

    value: float | None
    interval: tuple[float, float] | None
    cases: int


@dataclass(frozen=True)
class Difference:
    """Candidate minus baseline on one slice.

    Attributes:
        value: in [-1, 1].
        interval: its confidence interval (low, high).
        p_loss: p-value of "the candidate is not worse", in [0, 1].
        paired: measured on the same rows.
        cases: the smaller of the two denominators.
    """

    value: float
    interval: tuple[float, float]
    p_loss: float
    paired: bool
    cases: int


def estimate(metric: Metric, counts: ScoreCounts, confidence: float = 0.95) -> Estimate:
    """A metric with its interval: Wilson's for rates, DeLong's on the logit scale for AUC."""
    if metric == "auc":
        return _auc_estimate(counts, confidence)
    successes, cases = _rate(metric, counts.confusion)
    if cases == 0:
        return Estimate(None, None, 0)
    return Estimate(successes / cases, _ends(intervals.wilson(successes, cases, confidence)), cases)


def p_below(metric: Metric, counts: ScoreCounts, minimum: float) -> float:
    """p-value of "the metric is at least `minimum`"; 1 if the metric has no value."""
    if metric == "auc":
        if min(counts.confusion.positives, counts.confusion.negatives) < 2:
            return 1.0
        return float(auc_.p_auc_below(auc_.auc(*counts.dense()), minimum))
    successes, cases = _rate(metric, counts.confusion)
    return float(intervals.p_rate_below(successes, cases, minimum)) if cases else 1.0


def paired_difference(
    metric: Metric, counts: SliceCounts, confidence: float = 0.95
) -> Difference | None:
    """Candidate minus baseline on the rows both scored; None if either has no value."""
    if metric == "auc":
        return _auc_paired(counts, confidence)
    if metric == "precision":
        return _precision_paired(counts, confidence)
    table = _correct(counts) if metric == "accuracy" else _found(counts)
    cases = int(sum(table))
    if cases == 0:
        return None
    value = (int(table.only_first) - int(table.only_second)) / cases
    interval = _ends(intervals.rate_difference_paired(table, confidence))
    return Difference(value, interval, float(intervals.p_rate_loss_paired(table)), True, cases)


def unpaired_difference(
    metric: Metric, first: ScoreCounts, second: ScoreCounts, confidence: float = 0.95
) -> Difference | None:
    """First minus second where they were measured on different rows, as on two nights."""
    a, b = estimate(metric, first, confidence), estimate(metric, second, confidence)
    if a.value is None or b.value is None:
        return None
    cases = min(a.cases, b.cases)
    if metric == "auc":
        one, other = auc_.auc(*first.dense()), auc_.auc(*second.dense())
        interval = _ends(auc_.auc_difference_interval(one, other, 0.0, confidence))
        return Difference(
            a.value - b.value, interval, float(auc_.p_auc_loss(one, other)), False, cases
        )
    (k1, n1), (k2, n2) = _rate(metric, first.confusion), _rate(metric, second.confusion)
    interval = _ends(intervals.rate_difference_unpaired(k1, n1, k2, n2, confidence))
    pooled = (k1 + k2) / (n1 + n2)
    error = (pooled * (1 - pooled) * (1 / n1 + 1 / n2)) ** 0.5
    p_loss = float(intervals.p_below_zero(a.value - b.value, error))
    return Difference(a.value - b.value, interval, p_loss, False, cases)


def _rate(metric: Metric, confusion: Confusion) -> tuple[int, int]:
    """Numerator and denominator."""
    if metric == "accuracy":
        return confusion.correct, confusion.n
    if metric == "precision":
        return confusion.true_positives, confusion.positive_decisions
    return confusion.true_positives, confusion.positives


def _auc_estimate(counts: ScoreCounts, confidence: float) -> Estimate:
    confusion = counts.confusion
    cases = min(confusion.positives, confusion.negatives)
    if cases < 2:
        return Estimate(None, None, cases)
    found = auc_.auc(*counts.dense())
    return Estimate(float(found.value), _ends(auc_.auc_interval(found, confidence)), cases)


def _correct(counts: SliceCounts) -> Paired:
    """Right decisions: positives decided positive, negatives decided negative."""
    ones, zeros = counts.decisions(1), counts.decisions(0)
    return Paired(
        both=ones.both + zeros.neither,
        only_first=ones.only_candidate + zeros.only_baseline,
        only_second=ones.only_baseline + zeros.only_candidate,
        neither=ones.neither + zeros.both,
    )


def _found(counts: SliceCounts) -> Paired:
    """Positives decided positive."""
    ones = counts.decisions(1)
    return Paired(ones.both, ones.only_candidate, ones.only_baseline, ones.neither)


def _precision_paired(counts: SliceCounts, confidence: float) -> Difference | None:
    ones, zeros = counts.decisions(1), counts.decisions(0)
    table = PairedPrecision(
        both_right=ones.both,
        both_wrong=zeros.both,
        first_right=ones.only_candidate,
        first_wrong=zeros.only_candidate,
        second_right=ones.only_baseline,
        second_wrong=zeros.only_baseline,
    )
    first_right, second_right = ones.both + ones.only_candidate, ones.both + ones.only_baseline
    first = first_right + zeros.both + zeros.only_candidate
    second = second_right + zeros.both + zeros.only_baseline
    if not first or not second:
        return None
    interval = _ends(intervals.precision_difference_paired(table, confidence))
    p_loss = float(intervals.p_precision_loss_paired(table))
    value = first_right / first - second_right / second
    return Difference(value, interval, p_loss, True, min(first, second))


def _auc_paired(counts: SliceCounts, confidence: float) -> Difference | None:
    cells = counts.joint(1), counts.joint(0)
    cases = int(min(part[:, 2].sum() for part in cells))
    if cases < 2:
        return None
    first, second = (
        auc_.auc(*(_by_bin(part[:, column], part[:, 2]) for part in cells)) for column in (0, 1)
    )
    positives, negatives = ((part[:, 0], part[:, 1], part[:, 2]) for part in cells)
    covariance = auc_.auc_covariance(first, second, positives, negatives)
    interval = _ends(auc_.auc_difference_interval(first, second, covariance, confidence))
    p_loss = float(auc_.p_auc_loss(first, second, covariance))
    return Difference(float(first.value - second.value), interval, p_loss, True, cases)


def _by_bin(bins: np.ndarray, counts: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    return np.bincount(bins, weights=counts, minlength=BINS)


def _ends(interval: Interval) -> tuple[float, float]:
    return float(interval.low), float(interval.high)
