"""Intervals and tests of rates and their differences, from counts alone. No IO here.

Every function takes scalars or arrays that broadcast together and returns float64 arrays of the
broadcast shape. `confidence` is two-sided, in (0, 1).

Which formula, and why: score intervals (Wilson; Tango for paired rates) keep 93 to 97% coverage
where the textbook interval does not, stay inside [-1, 1] and need no resampling. Tests are separate
from intervals: once corrected for many slices only their far tails matter, and there the exact
mid-p test is calibrated and the normal is not. `docs/components/sliced_evaluator.md` gives the
coverage that was simulated.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import NamedTuple, Union

import numpy as np
import numpy.typing as npt
from scipy import stats

Array = npt.NDArray[np.float64]
Counts = Union[npt.NDArray[np.int64], npt.NDArray[np.float64], int, float]
_BISECTIONS = 32  # ends to 2e-10


class Interval(NamedTuple):
    """Ends of a confidence interval, low <= high."""

    low: Array
    high: Array


class Paired(NamedTuple):
    """Two models judged on the same cases.

    Attributes:
        both: cases that both get right.
        only_first: cases that only the first gets right.
        only_second: cases that only the second gets right.
        neither: cases that neither gets right.
    """

    both: Counts
    only_first: Counts
    only_second: Counts
    neither: Counts


class PairedPrecision(NamedTuple):
    """Predicted positives of two models on the same rows, by true label.

    Attributes:
        both_right: positives that both models predict positive.
        both_wrong: negatives that both predict positive.
        first_right: positives that only the first predicts positive.
        first_wrong: negatives that only the first predicts positive.
        second_right: positives that only the second predicts positive.
        second_wrong: negatives that only the second predicts positive.
    """

    both_right: Counts
    both_wrong: Counts
    first_right: Counts
    first_wrong: Counts
    second_right: Counts
    second_wrong: Counts


def normal_quantile(confidence: float) -> float:
    """Half-width of a two-sided interval in standard errors; 1.96 for 0.95."""
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def ratio(numerator: npt.ArrayLike, denominator: npt.ArrayLike, empty: float = np.nan) -> Array:
    """Divides; gives `empty` where the denominator is 0."""
    top, bottom = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    out = np.full(np.broadcast_shapes(top.shape, bottom.shape), empty)
    return np.divide(top, bottom, out=out, where=bottom != 0)


def wilson(successes: Counts, cases: Counts, confidence: float = 0.95) -> Interval:
    """Score interval of a rate; NaN where there are no cases.

    Source: Wilson (1927); recommended for n > 40 and below by Brown, Cai and DasGupta (2001).
    """
    z2 = normal_quantile(confidence) ** 2
    n = np.asarray(cases, np.float64)
    rate = ratio(successes, n)
    share = ratio(z2, n)
    centre = (rate + share / 2) / (1 + share)
    half = np.sqrt(share * (rate * (1 - rate) + share / 4)) / (1 + share)
    # Rounding must not cut off a rate of exactly 0 or 1.
    return Interval(np.clip(centre - half, 0, rate), np.clip(centre + half, rate, 1))


def difference_interval(
    first: npt.ArrayLike,
    first_interval: Interval,
    second: npt.ArrayLike,
    second_interval: Interval,
    correlation: npt.ArrayLike = 0.0,
) -> Interval:
    """Interval of first - second from the interval of each and their correlation (MOVER).

    A correlation of 0 is the unpaired case, Newcombe's hybrid score interval.

    Source: Newcombe (1998), Statistics in Medicine 17:873 and 17:2635; Zou and Donner (2008).
    """
    difference = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    below_first = np.asarray(first) - first_interval.low
    above_first = first_interval.high - np.asarray(first)
    below_second = np.asarray(second) - second_interval.low
    above_second = second_interval.high - np.asarray(second)
    rho = np.asarray(correlation, np.float64)
    down = below_first**2 + above_second**2 - 2 * rho * below_first * above_second
    up = above_first**2 + below_second**2 - 2 * rho * above_first * below_second
    return Interval(
        difference - np.sqrt(np.maximum(down, 0)), difference + np.sqrt(np.maximum(up, 0))
    )


def rate_difference_unpaired(
    first_successes: Counts,
    first_cases: Counts,
    second_successes: Counts,
    second_cases: Counts,
    confidence: float = 0.95,
) -> Interval:
    """Interval of the difference of two rates measured on different rows."""
    return difference_interval(
        ratio(first_successes, first_cases),
        wilson(first_successes, first_cases, confidence),
        ratio(second_successes, second_cases),
        wilson(second_successes, second_cases, confidence),
    )


def rate_difference_paired(counts: Paired, confidence: float = 0.95) -> Interval:
    """Interval of the difference of two rates on the same cases (accuracy, recall).

    The differences that the paired score test does not reject, found by bisection; unlike the
    others it stays calibrated where only a handful of cases separate the models.

    Source: Tango (1998), Statistics in Medicine 17:891; recommended by Fagerland et al. (2014).
    """
    z = normal_quantile(confidence)
    b, c = np.asarray(counts.only_first, np.float64), np.asarray(counts.only_second, np.float64)
    n = _cases(counts)
    estimate = ratio(b - c, n)
    # Both ends at once, on a leading axis: the one below the estimate, and the one above.
    inside = np.stack([estimate, estimate])
    outside = np.stack([-np.ones_like(estimate), np.ones_like(estimate)])
    for _ in range(_BISECTIONS):
        middle = (inside + outside) / 2
        beyond = np.abs(_paired_score(b, c, n, middle)) > z
        inside, outside = np.where(beyond, inside, middle), np.where(beyond, middle, outside)
    return Interval(inside[0], inside[1])


def _paired_score(b: Array, c: Array, n: Array, difference: Array) -> Array:
    """Tango's score statistic of "the true difference is `difference`", in standard errors."""
    linear = (2 * n - b + c) * difference - b - c
    root = np.sqrt(np.maximum(linear**2 + 8 * n * c * difference * (1 - difference), 0))
    share = (root - linear) / (4 * n)  # of cases only the second gets right, if that were true
    variance = n * (2 * share + difference * (1 - difference))
    return np.asarray((b - c - n * difference) / np.sqrt(np.maximum(variance, 1e-12)), np.float64)


def precision_difference_paired(counts: PairedPrecision, confidence: float = 0.95) -> Interval:
    """Interval of the difference of two precisions on the same rows.

    The denominators differ by model, so the correlation comes from the influence of the rows that
    both predict positive (delta method). Source: Moskowitz and Pepe (2006).
    """
    (first_right, first_cases), (second_right, second_cases) = _predicted(counts)
    first, second = ratio(first_right, first_cases), ratio(second_right, second_cases)
    shared = np.asarray(counts.both_right) * (1 - first) * (1 - second)
    shared = shared + np.asarray(counts.both_wrong) * first * second
    spread = first * (1 - first) * second * (1 - second) * first_cases * second_cases
    return difference_interval(
        first,
        wilson(first_right, first_cases, confidence),
        second,
        wilson(second_right, second_cases, confidence),
        np.clip(ratio(shared, np.sqrt(spread), empty=0.0), -1, 1),
    )


def p_rate_below(successes: Counts, cases: Counts, minimum: float) -> Array:
    """p-value of "the rate is at least `minimum`"; small where it is below. Exact, mid-p."""
    below = stats.binom.cdf(successes, cases, minimum)
    return np.asarray(below - 0.5 * stats.binom.pmf(successes, cases, minimum), np.float64)


def p_rate_loss_paired(counts: Paired) -> Array:
    """p-value of "the first is not worse than the second" on the same cases; exact, mid-p.

    One-sided McNemar test given the discordant cases; 0.5 where there are none.
    Source: Fagerland, Lydersen and Laake (2013).
    """
    lost = np.asarray(counts.only_second)
    discordant = lost + np.asarray(counts.only_first)
    beyond = stats.binom.sf(lost, discordant, 0.5)
    return np.asarray(beyond + 0.5 * stats.binom.pmf(lost, discordant, 0.5), np.float64)


def p_precision_loss_paired(counts: PairedPrecision) -> Array:
    """p-value of "the first's precision is not below the second's", on the same rows.

    Score test: the variance is taken as if both had the pooled precision, which keeps the tail
    right in small slices. 0.5 where nothing speaks either way.
    Source: Kosinski (2013), Statistics in Medicine 32:964.
    """
    (first_right, first_n), (second_right, second_n) = _predicted(counts)
    pooled = ratio(first_right + second_right, first_n + second_n)
    by_first, by_second = ratio(1.0, first_n), ratio(1.0, second_n)

    def share(right: Counts, wrong: Counts, weight: Array) -> Array:
        spread = np.asarray(right) * (1 - pooled) ** 2 + np.asarray(wrong) * pooled**2
        return np.asarray(spread * weight**2, np.float64)

    variance = share(counts.first_right, counts.first_wrong, by_first)
    variance = variance + share(counts.second_right, counts.second_wrong, by_second)
    variance = variance + share(counts.both_right, counts.both_wrong, by_first - by_second)
    difference = first_right * by_first - second_right * by_second
    return p_below_zero(difference, np.sqrt(variance))


def p_below_zero(estimate: npt.ArrayLike, error: npt.ArrayLike) -> Array:
    """p-value of "the true value is at least 0", by the normal; 0.5 for an exact 0 of error 0."""
    value = np.asarray(estimate, np.float64)
    scaled = ratio(value, error, empty=0.0)
    certain = np.where(value < 0, -np.inf, np.where(value > 0, np.inf, 0.0))
    return np.asarray(stats.norm.cdf(np.where(np.asarray(error) == 0, certain, scaled)), np.float64)


def _cases(counts: Paired) -> Array:
    return np.asarray(sum(np.asarray(count, np.float64) for count in counts), np.float64)


def _predicted(counts: PairedPrecision) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """(right, predicted positive) of the first model and of the second."""
    values = [np.asarray(count, np.float64) for count in counts]
    both_right, both_wrong, first_right, first_wrong, second_right, second_wrong = values
    first, second = both_right + first_right, both_right + second_right
    return (
        (first, first + both_wrong + first_wrong),
        (second, second + both_wrong + second_wrong),
    )
