"""Area under the ROC curve with its interval, from binned scores. No IO here.

Scores come as counts by bin, apart for positives and negatives; ties (one bin) count one half.
The variance is DeLong's: that of the placement values, which depend on a row's bin alone, so that
the counts suffice and nothing is resampled.

Sources: DeLong, DeLong and Clarke-Pearson (1988), Biometrics 44:837; the interval on the logit
scale: Pepe (2003), The Statistical Evaluation of Medical Tests, section 5.2.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tfx_encore.monitoring.intervals import (
    Array,
    Interval,
    normal_quantile,
    p_below_zero,
    ratio,
)


class Auc(NamedTuple):
    """An AUC and what its variance is made of. B bins; leading axes, if any, are repetitions.

    Attributes:
        value: the AUC, in [0, 1].
        variance: of `value`.
        of_positives: [..., B] placement of a positive of that bin: the share of negatives below.
        of_negatives: [..., B] placement of a negative of that bin: the share of positives above.
        positives: [...] number of positives.
        negatives: [...] number of negatives.
    """

    value: Array
    variance: Array
    of_positives: Array
    of_negatives: Array
    positives: Array
    negatives: Array


def auc(positives: npt.ArrayLike, negatives: npt.ArrayLike) -> Auc:
    """AUC of counts by score bin, both of shape [..., B], bins in order of rising score.

    NaN where a class has fewer than two rows.
    """
    p, n = np.asarray(positives, np.float64), np.asarray(negatives, np.float64)
    total_p, total_n = p.sum(-1), n.sum(-1)
    of_p = ratio(np.cumsum(n, -1) - n / 2, total_n[..., None])
    of_n = ratio(np.cumsum(p[..., ::-1], -1)[..., ::-1] - p / 2, total_p[..., None])
    value = ratio((p * of_p).sum(-1), total_p)
    spread_p = (p * (of_p - value[..., None]) ** 2).sum(-1)
    spread_n = (n * (of_n - value[..., None]) ** 2).sum(-1)
    variance = ratio(spread_p, total_p * (total_p - 1)) + ratio(spread_n, total_n * (total_n - 1))
    return Auc(value, variance, of_p, of_n, total_p, total_n)


def auc_interval(estimate: Auc, confidence: float = 0.95) -> Interval:
    """Interval of an AUC, inside [0, 1].

    The normal interval on the logit scale. Where the classes are separated without error the
    variance is 0 and says nothing; then the score interval of "all right" out of as many cases as
    the smaller class has.
    """
    z = normal_quantile(confidence)
    value = np.clip(estimate.value, 1e-12, 1 - 1e-12)
    half = z * ratio(np.sqrt(estimate.variance), value * (1 - value))
    centre = np.log(value / (1 - value))
    low, high = _sigmoid(centre - half), _sigmoid(centre + half)
    smaller = np.minimum(estimate.positives, estimate.negatives)
    doubt = ratio(z**2, smaller + z**2)
    low = np.where(estimate.value >= 1, 1 - doubt, np.where(estimate.value <= 0, 0.0, low))
    high = np.where(estimate.value <= 0, doubt, np.where(estimate.value >= 1, 1.0, high))
    return Interval(low, high)


def auc_covariance(
    first: Auc,
    second: Auc,
    positives: tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike],
    negatives: tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike],
) -> float:
    """Covariance of two AUCs measured on the same rows.

    Args:
        first: AUC of the first model, without leading axes.
        second: AUC of the second model, without leading axes.
        positives: the joint histogram of the positives, sparse: bins of the first model, bins of
            the second, counts; all of shape [C].
        negatives: the same of the negatives.
    """
    total = 0.0
    for cells, a, b in (
        (positives, first.of_positives, second.of_positives),
        (negatives, first.of_negatives, second.of_negatives),
    ):
        row, column = np.asarray(cells[0], np.int64), np.asarray(cells[1], np.int64)
        count = np.asarray(cells[2], np.float64)
        rows = count.sum()
        product = (count * (a[row] - first.value) * (b[column] - second.value)).sum()
        total += float(product / (rows * (rows - 1))) if rows > 1 else 0.0
    return total


def auc_difference_interval(
    first: Auc, second: Auc, covariance: npt.ArrayLike = 0.0, confidence: float = 0.95
) -> Interval:
    """Interval of first - second (DeLong); a covariance of 0 is the unpaired case."""
    difference = first.value - second.value
    half = normal_quantile(confidence) * _difference_error(first, second, covariance)
    return Interval(np.maximum(difference - half, -1), np.minimum(difference + half, 1))


def p_auc_below(estimate: Auc, minimum: float) -> Array:
    """p-value of "the AUC is at least `minimum`", by the normal on the logit scale."""
    value = np.clip(estimate.value, 1e-12, 1 - 1e-12)
    floor = np.clip(minimum, 1e-12, 1 - 1e-12)
    distance = np.log(value / (1 - value)) - np.log(floor / (1 - floor))
    return p_below_zero(distance, ratio(np.sqrt(estimate.variance), value * (1 - value)))


def p_auc_loss(first: Auc, second: Auc, covariance: npt.ArrayLike = 0.0) -> Array:
    """p-value of "the first's AUC is not below the second's" (DeLong's test, one-sided)."""
    return p_below_zero(first.value - second.value, _difference_error(first, second, covariance))


def _difference_error(first: Auc, second: Auc, covariance: npt.ArrayLike) -> Array:
    variance = first.variance + second.variance - 2 * np.asarray(covariance, np.float64)
    return np.asarray(np.sqrt(np.maximum(variance, 0)), np.float64)


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -700, 700))), np.float64)
