"""Distances between two samples of counts. No IO here.

Every function takes `current` and `baseline` counts of shape [..., B] (float64 or int, at least 0)
and their totals, and returns an array of shape [...]. The `*_terms` functions return what each of
the B cells adds, of shape [..., B]; null floors need them apart.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def _xlog2_ratio(x: Array, y: Array) -> Array:
    """Returns x * log2(x / y), and 0 where x is 0."""
    out: Array = np.zeros(np.broadcast_shapes(x.shape, y.shape))
    x, y = np.broadcast_to(x, out.shape), np.broadcast_to(y, out.shape)
    some = x > 0
    out[some] = x[some] * np.log2(x[some] / y[some])
    return out


def jensen_shannon_terms(current: Array, baseline: Array, n: float, m: float) -> Array:
    """Each cell's part of the Jensen-Shannon divergence, in bits.

    Source: Lin, Divergence measures based on the Shannon entropy (1991), with equal weights. The
    sum lies in [0, 1] and is not a square root: it is TFDV's, and the square of scipy's
    `jensenshannon(base=2)`.
    """
    a, b = np.asarray(current / n), np.asarray(baseline / m)
    middle = (a + b) / 2
    return (_xlog2_ratio(a, middle) + _xlog2_ratio(b, middle)) / 2


def psi_terms(current: Array, baseline: Array, n: float, m: float) -> Array:
    """Each cell's part of the population stability index, in nats, at least 0.

    Source: Siddiqi, Credit Risk Scorecards (2006): the sum of (a - b) ln(a / b). Half an example of
    the smaller sample is added to both shares, so that an empty cell costs a finite amount.
    """
    half = 0.5 / min(n, m)
    a, b = current / n + half, baseline / m + half
    terms: Array = (a - b) * np.log(a / b)
    return terms


def total_variation_terms(current: Array, baseline: Array, n: float, m: float) -> Array:
    """Each cell's part of the total variation distance; the sum lies in [0, 1]."""
    terms: Array = np.abs(current / n - baseline / m) / 2
    return terms


def jensen_shannon(current: Array, baseline: Array, n: float, m: float) -> Array:
    """Jensen-Shannon divergence in bits, in [0, 1]."""
    return np.asarray(jensen_shannon_terms(current, baseline, n, m).sum(axis=-1))


def psi(current: Array, baseline: Array, n: float, m: float) -> Array:
    """Population stability index in nats, at least 0."""
    return np.asarray(psi_terms(current, baseline, n, m).sum(axis=-1))


def total_variation(current: Array, baseline: Array, n: float, m: float) -> Array:
    """Total variation distance: the share that would have to move, in [0, 1]."""
    return np.asarray(total_variation_terms(current, baseline, n, m).sum(axis=-1))


def l_infinity(current: Array, baseline: Array, n: float, m: float) -> Array:
    """Largest change of the share of any one cell, in [0, 1]."""
    return np.asarray(np.abs(current / n - baseline / m).max(axis=-1))


def unseen_share(current: Array, baseline: Array, n: float) -> Array:
    """Share of current values in cells that are empty at the baseline, in [0, 1]."""
    return np.asarray(np.where(baseline == 0, current, 0).sum(axis=-1) / n)
