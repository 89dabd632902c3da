"""Is one part of the rows answered worse than another? Exact tests on whole tables. No IO here.

Counts are [..., 3]: rows, right answers, sum of squared multiplicities. Repeats are no independent
evidence, so rows and wrong answers are scaled down to Kish's effective number of rows first.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

from tfx_encore.monitoring.intervals import rate_difference_unpaired, ratio

Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


def accuracy(counts: Counts) -> Array:
    """Share of right answers, shape [...]; NaN without rows."""
    return ratio(counts[..., 1], counts[..., 0])


def effective(counts: Counts) -> Array:
    """Kish's effective number of independent rows, shape [...]; 0 without rows."""
    rows = counts[..., 0].astype(np.float64)
    return ratio(rows**2, counts[..., 2], empty=0.0)


def p_worse(first: Counts, second: Counts) -> Array:
    """p-value of "the first part is answered no worse than the second"; 1 where either is empty.

    Fisher's exact test, one-sided, mid-p: the wrong answers of the first part among those of both.
    """
    n1, n2 = effective(first), effective(second)
    wrong1 = n1 * (1 - np.nan_to_num(accuracy(first)))
    wrong2 = n2 * (1 - np.nan_to_num(accuracy(second)))
    at_least = hypergeometric_tail(wrong1, n1, wrong1 + wrong2, n1 + n2)
    beyond = hypergeometric_tail(wrong1 + 1, n1, wrong1 + wrong2, n1 + n2)
    p_value = np.where((n1 > 0) & (n2 > 0), (at_least + beyond) / 2, 1.0)
    return np.asarray(np.clip(p_value, 0.0, 1.0), np.float64)


def difference_interval(first: Counts, second: Counts, confidence: float = 0.95) -> Array:
    """Interval (low, high) of the first part's accuracy minus the second's, shape [..., 2]."""
    n1, n2 = effective(first), effective(second)
    found = rate_difference_unpaired(
        n1 * accuracy(first), n1, n2 * accuracy(second), n2, confidence
    )
    return np.stack([found.low, found.high], axis=-1)


def hypergeometric_tail(
    least: npt.ArrayLike, drawn: npt.ArrayLike, marked: npt.ArrayLike, total: npt.ArrayLike
) -> Array:
    """P(at least `least` marked among `drawn` of `total`, of which `marked` are marked).

    Any of them may be fractions. By Wise's binomial, for the smallest of the sets that can be taken
    as the one drawn; it is right to 1% where that is below a tenth of the total, and errs upwards
    beyond.

    Source: Wise (1954), Biometrika 41:317; Johnson, Kemp and Kotz (2005), section 6.5.
    """
    x, n, k, m = (np.asarray(a, np.float64) for a in (least, drawn, marked, total))
    direct = _wise(x, np.minimum(n, k), np.maximum(n, k), m)
    other = 1 - _wise(k - x + 1, np.minimum(m - n, k), np.maximum(m - n, k), m)
    return np.where(n <= m / 2, direct, other)


def _wise(least: Array, drawn: Array, marked: Array, total: Array) -> Array:
    below = np.clip(least - 1, 0, None)
    rate = np.clip(ratio(marked - below / 2, total - (drawn - 1) / 2, empty=0.0), 0.0, 1.0)
    rest = drawn - least + 1
    tail = special.betainc(np.maximum(least, 1e-12), np.maximum(rest, 1e-12), rate)
    tail = np.where(least <= 0, 1.0, np.where((rest <= 0) | (least > marked), 0.0, tail))
    return np.asarray(tail, np.float64)
