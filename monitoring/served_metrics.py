"""Metrics of logged rows, in which popular rows repeat: intervals and tests. No IO here.

A row that is asked a hundred times is not a hundred pieces of evidence. Counts are scaled down to
Kish's effective number of independent rows, n_eff = (sum c)^2 / sum c^2 over the multiplicities c
of equal rows: the variance of a mean is larger by n / n_eff (the design effect) where equal rows
share their outcome. Equal rows with differing labels carry somewhat more, so intervals are a little
too wide and tests a little too slow, never the reverse. One factor serves all metrics of a slice.

That is enough for intervals, not for tests of many slices, which live in the far tail: if one row
makes up a tenth of the traffic and happens to be wrong, a tenth of the accuracy is lost at once.
Tests therefore know the third moment of the multiplicities too, and take the distribution of the
sum as Pearson's type III instead of the normal.

Sources: Kish (1965), Survey Sampling, section 11.7; for the third moment Johnson, Kotz and
Balakrishnan (1994), Continuous Univariate Distributions, chapter 12.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy import special

from tfx_encore.monitoring import auc as auc_
from tfx_encore.monitoring import intervals
from tfx_encore.monitoring.night_slices import ServedSlice
from tfx_encore.monitoring.slice_counts import Confusion, ScoreCounts
from tfx_encore.monitoring.slice_metrics import Difference, Estimate
from tfx_encore.schemas.evaluation_policy import Metric


def effective_share(rows: float, squares: float) -> float:
    """n_eff / n of rows whose squared multiplicities add up to `squares`; in (0, 1].

    1 where nothing is known of repeats (`squares` 0).
    """
    return min(rows / squares, 1.0) if rows > 0 and squares > 0 else 1.0


def labelled_rows(item: ServedSlice, threshold: float) -> int:
    """Rows of a slice that have a label."""
    counts = item.counts(threshold)
    return counts.n - counts.unlabelled


class Repeats(NamedTuple):
    """How much rows repeat.

    Attributes:
        share: n_eff / n, in (0, 1].
        excess: how much more lopsided than with equal multiplicities, `n sum c^3 / (sum c^2)^2`;
            at least 1.
    """

    share: float = 1.0
    excess: float = 1.0

    def lopsided(self, cases: float) -> float:
        """`sum c^3 / n^3` of so many cases: third moment of a mean, in those of one case."""
        return self.excess / (cases * self.share) ** 2 if cases else 0.0


NO_REPEATS = Repeats()


def labelled_repeats(item: ServedSlice, threshold: float) -> Repeats:
    """Of the labelled rows of a slice."""
    rows, squares = labelled_rows(item, threshold), item.labelled_squares
    share = effective_share(rows, squares)
    known = squares > 0 and item.labelled_cubes > 0
    return Repeats(share, max(rows * item.labelled_cubes / squares**2, 1.0) if known else 1.0)


def labelled_share(item: ServedSlice, threshold: float) -> float:
    """n_eff / n of the labelled rows of a slice: by it counts are scaled down."""
    return effective_share(labelled_rows(item, threshold), item.labelled_squares)


def rate(metric: Metric, confusion: Confusion) -> tuple[int, int]:
    """Numerator and denominator of accuracy, precision or recall."""
    if metric == "accuracy":
        return confusion.correct, confusion.n
    if metric == "precision":
        return confusion.true_positives, confusion.positive_decisions
    return confusion.true_positives, confusion.positives


def served_estimate(
    metric: Metric, counts: ScoreCounts, share: float = 1.0, confidence: float = 0.95
) -> Estimate:
    """A metric of logged rows.

    Args:
        metric: which.
        counts: all rows, repeats included.
        share: n_eff / n, see `effective_share`.
        confidence: of the interval.

    Returns:
        Value and denominator of all rows; the interval is that of the effective number.
    """
    if metric == "auc":
        cases = min(counts.confusion.positives, counts.confusion.negatives)
        if cases < 2 or cases * share <= 1:
            return Estimate(None, None, cases)
        found = _auc(counts, share)
        interval = auc_.auc_interval(found, confidence)
        return Estimate(float(found.value), (float(interval.low), float(interval.high)), cases)
    successes, cases = rate(metric, counts.confusion)
    if not cases:
        return Estimate(None, None, 0)
    low, high = intervals.wilson(successes * share, cases * share, confidence)
    return Estimate(successes / cases, (float(low), float(high)), cases)


def p_served_below(
    metric: Metric, counts: ScoreCounts, minimum: float, repeats: Repeats = NO_REPEATS
) -> float:
    """p-value of "the metric is at least `minimum`"; 1 if it has no value."""
    if served_estimate(metric, counts, repeats.share).value is None:
        return 1.0
    if metric == "auc":
        return float(auc_.p_auc_below(_auc(counts, repeats.share), minimum))
    successes, cases = rate(metric, counts.confusion)
    return p_rate_below(successes, cases, minimum, repeats)


def served_difference(
    metric: Metric,
    first: ScoreCounts,
    second: ScoreCounts,
    repeats: tuple[Repeats, Repeats] = (NO_REPEATS, NO_REPEATS),
    confidence: float = 0.95,
) -> Difference | None:
    """First minus second, of different rows, as a night's and a release's; None without a value.

    The interval is Newcombe's (DeLong's for AUC). The p-value of a rate is `p_rate_loss`, that of
    an AUC DeLong's, or type III where that is more cautious. The pooled z test rejects 3 to 15
    times too often at the levels that are left after correcting for many slices.

    Args:
        metric: which.
        first: counts of the first.
        second: counts of the second.
        repeats: how much the rows of each repeat.
        confidence: of the interval.
    """
    shares = [of.share for of in repeats]
    a = served_estimate(metric, first, shares[0], confidence)
    b = served_estimate(metric, second, shares[1], confidence)
    if a.value is None or b.value is None or a.interval is None or b.interval is None:
        return None
    value, cases = a.value - b.value, min(a.cases, b.cases)
    if metric == "auc":
        one, other = _auc(first, shares[0]), _auc(second, shares[1])
        low, high = auc_.auc_difference_interval(one, other, 0.0, confidence)
        third = _third_of_auc(first, repeats[0]) - _third_of_auc(second, repeats[1])
        lopsided = _p_type_three(value, float(one.variance + other.variance), third)
        p_loss = max(float(auc_.p_auc_loss(one, other)), lopsided)
        return Difference(value, (float(low), float(high)), p_loss, False, cases)
    low, high = intervals.difference_interval(
        a.value, _interval(a.interval), b.value, _interval(b.interval)
    )
    p_loss = p_rate_loss(rate(metric, first.confusion), rate(metric, second.confusion), repeats)
    return Difference(value, (float(low), float(high)), p_loss, False, cases)


def p_rate_below(
    successes: float, cases: float, minimum: float, repeats: Repeats = NO_REPEATS
) -> float:
    """p-value of "the rate is at least `minimum`"; successes and cases as counted.

    The exact mid-p test of the effective number, or type III where that is more cautious. The
    binomial distribution is continued between whole numbers by the incomplete beta function.
    """
    k, n = successes * repeats.share, cases * repeats.share
    exact = (_binomial(k, n, minimum) + _binomial(k - 1, n, minimum)) / 2
    spread = minimum * (1 - minimum)
    third = spread * (1 - 2 * minimum) * repeats.lopsided(cases)
    return max(exact, _p_type_three(successes / cases - minimum, spread / n, third))


def p_rate_loss(
    first: tuple[float, float],
    second: tuple[float, float],
    repeats: tuple[Repeats, Repeats] = (NO_REPEATS, NO_REPEATS),
) -> float:
    """p-value of "the first rate is not below the second", of different rows.

    The more cautious of two tests under a common rate: type III, and the signed root of the
    likelihood ratio, which stays right where type III has an end. 0.5 where nothing speaks either
    way. Source of the latter: Barndorff-Nielsen and Cox (1994), Inference and Asymptotics, 3.3.

    Args:
        first: successes and cases, as counted.
        second: likewise.
        repeats: how much the rows of each repeat.
    """
    (k1, n1), (k2, n2) = (
        (k * of.share, n * of.share) for (k, n), of in zip((first, second), repeats, strict=True)
    )
    pooled = (k1 + k2) / (n1 + n2)
    spread = pooled * (1 - pooled)
    ours, theirs = repeats[0].lopsided(first[1]), repeats[1].lopsided(second[1])
    difference, third = k1 / n1 - k2 / n2, spread * (1 - 2 * pooled) * (ours - theirs)
    deviance = 2 * (_deviance(k1, n1, pooled) + _deviance(k2, n2, pooled))
    root = float(special.ndtr(np.sign(difference) * math.sqrt(max(deviance, 0.0))))
    return max(root, _p_type_three(difference, spread * (1 / n1 + 1 / n2), third))


def _third_of_auc(counts: ScoreCounts, repeats: Repeats) -> float:
    """Third central moment of an AUC: that of the placements, as its variance is theirs."""
    found = _auc(counts, repeats.share)
    total = 0.0
    for rows, placed in zip(counts.dense(), (found.of_positives, found.of_negatives), strict=True):
        n = float(rows.sum())
        total += float((rows * (placed - found.value) ** 3).sum()) / n * repeats.lopsided(n)
    return total


def _p_type_three(value: float, variance: float, third: float) -> float:
    """Chance of a value at most that large, around 0; 0.5 for an exact 0 without variance."""
    if variance <= 0:
        return 0.5 if value == 0 else float(value > 0)
    at, skewness = value / math.sqrt(variance), third / variance**1.5
    if abs(skewness) < 1e-3:
        return float(special.ndtr(at))
    shape = 4 / skewness**2  # a gamma distribution, centred and scaled, mirrored if negative
    if skewness > 0:
        return float(special.gammainc(shape, max(shape + at * math.sqrt(shape), 0.0)))
    return float(special.gammaincc(shape, max(shape - at * math.sqrt(shape), 0.0)))


def _deviance(successes: float, cases: float, pooled: float) -> float:
    failures = cases - successes
    wrong = cases * (1 - pooled)
    return float(special.rel_entr(successes, cases * pooled) + special.rel_entr(failures, wrong))


def _binomial(successes: float, cases: float, chance: float) -> float:
    """Probability of at most so many successes."""
    if successes < 0:
        return 0.0
    if successes >= cases:
        return 1.0
    return float(special.betainc(cases - successes, successes + 1, 1 - chance))


def _auc(counts: ScoreCounts, share: float) -> auc_.Auc:
    positives, negatives = counts.dense()
    return auc_.auc(positives * share, negatives * share)


def _interval(ends: tuple[float, float]) -> intervals.Interval:
    return intervals.Interval(np.asarray(ends[0]), np.asarray(ends[1]))
