"""What a divergence between two samples of the same distribution looks like. No IO here.

Two samples of sizes n and m fall into B cells. If nothing has changed, then given the pooled
counts k each cell's current count is binomial(k, n / (n + m)), all of them together conditioned to
sum to n (a multivariate hypergeometric). Nothing about the true distribution has to be known or
estimated, and sparse cells (1,000 categories in 300 examples) are treated as they are.

A measure that is a sum over cells then has a mean and variance that follow from its moments in
single cells: Holst, Biometrika 59 (1972) and Morris, Annals of Statistics 3 (1975) give the part
that conditioning removes along the sum; one more Hermite term removes the quadratic part, which
makes Pearson's statistic come out as B - 1 and 2 (B - 1), as it must. A gamma distribution with
these two moments gives the tail: exactly chi-square where cells are full, nearly normal where there
are many sparse ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

Array = npt.NDArray[np.float64]
Terms = Callable[[Array, Array, float, float], Array]

FLOOR_QUANTILE = 0.999
_GRID = 321  # points across +-10 standard deviations when a cell's support is wider
_REACH = 10.0


@dataclass(frozen=True)
class CellMoments:
    """Moments of f(X) for X ~ binomial(k, share), by cell; arrays of one shape.

    Attributes:
        mean: E f.
        variance: Var f.
        linear: Cov(f, X).
        quadratic: E (f - E f) (X - E X)^2.
    """

    mean: Array
    variance: Array
    linear: Array
    quadratic: Array


@dataclass(frozen=True)
class GammaNull:
    """Null distribution of a non-negative statistic by its two moments; arrays of one shape."""

    mean: Array
    variance: Array

    def p_value(self, effect: npt.ArrayLike) -> Array:
        """Chance of `effect` or more when nothing has changed; 1 where nothing can vary."""
        effect = np.asarray(effect, dtype=np.float64)
        shape, scale, varies = self._parameters()
        tail = special.gammaincc(shape, np.maximum(effect, 0) / scale)
        return np.asarray(np.where(varies, tail, np.where(effect > self.mean + 1e-12, 0.0, 1.0)))

    def quantile(self, q: float = FLOOR_QUANTILE) -> Array:
        """The `q` quantile: by default the null floor."""
        shape, scale, varies = self._parameters()
        return np.asarray(np.where(varies, special.gammaincinv(shape, q) * scale, self.mean))

    def _parameters(self) -> tuple[Array, Array, npt.NDArray[np.bool_]]:
        varies = (self.variance > 1e-30) & (self.mean > 1e-15)
        variance = np.where(varies, self.variance, 1.0)
        mean = np.where(varies, self.mean, 1.0)
        return np.asarray(mean**2 / variance), np.asarray(variance / mean), np.asarray(varies)


def _support(pooled: Array, share: float) -> Array:
    """Points to sum over, shape [K, points]: all counts where they fit, else an even grid."""
    centre, spread = pooled * share, np.sqrt(pooled * share * (1 - share))
    low = np.maximum(0.0, np.floor(centre - _REACH * spread - 10))
    high = np.minimum(pooled, np.ceil(centre + _REACH * spread + 10))
    if (high - low).max() < _GRID:
        steps = np.arange((high - low).max() + 1)
        return np.asarray(low[:, None] + steps)
    return np.asarray(low[:, None] + (high - low)[:, None] * np.linspace(0, 1, _GRID))


def _binomial(pooled: Array, share: float, counts: Array) -> Array:
    """Binomial weights over `counts`, normalised; 0 beyond the pooled count."""
    k = pooled[:, None]
    inside = counts <= k
    x = np.minimum(counts, k)
    log = (
        special.gammaln(k + 1)
        - special.gammaln(x + 1)
        - special.gammaln(k - x + 1)
        + special.xlogy(x, share)
        + special.xlog1py(k - x, -share)
    )
    weights = np.where(inside, np.exp(log), 0.0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _moments(terms: Terms, pooled: Array, n: float, m: float) -> CellMoments:
    share = n / (n + m)
    counts = _support(pooled, share)
    weights = _binomial(pooled, share, counts)
    counts = np.minimum(counts, pooled[:, None])
    values = terms(counts, pooled[:, None] - counts, n, m)
    mean = (weights * values).sum(axis=1)
    off, shift = values - mean[:, None], counts - (pooled * share)[:, None]
    return CellMoments(
        mean,
        (weights * off**2).sum(axis=1),
        (weights * off * shift).sum(axis=1),
        (weights * off * shift**2).sum(axis=1),
    )


def additive_moments(terms: Terms, pooled: Array, n: float, m: float) -> CellMoments:
    """Moments of an additive measure in cells with integer pooled counts of shape [K].

    Small cells are summed over all their possible counts, large ones over an even grid.
    """
    pooled = np.asarray(pooled, dtype=np.float64)
    parts = np.empty((4, pooled.size))
    spread = np.minimum(pooled, 20 * np.sqrt(pooled * n * m) / (n + m) + 22)
    groups = np.minimum(np.log2(spread + 1).astype(int), int(np.log2(_GRID)))
    for group in np.unique(groups):
        chosen = groups == group
        part = _moments(terms, pooled[chosen], n, m)
        parts[:, chosen] = part.mean, part.variance, part.linear, part.quadratic
    return CellMoments(*parts)


def unseen_moments(pooled: Array, n: float, m: float) -> CellMoments:
    """Moments of `count / n if the baseline's cell is empty else 0`, in closed form; shape [K]."""
    k, share = np.asarray(pooled, dtype=np.float64), n / (n + m)
    chance = share**k
    value, shift = k / n, k * (1 - share)
    mean = chance * value
    return CellMoments(
        mean,
        chance * value**2 - mean**2,
        chance * value * shift,
        chance * value * shift**2 - mean * k * share * (1 - share),
    )


def conditional(moments: CellMoments, n: float, m: float, *, smooth: bool = True) -> GammaNull:
    """Null of the sum over cells (last axis of `moments`), conditioned on the current total n.

    `smooth` says that a cell's term is nearly quadratic about its mean; conditioning then lowers
    the variance once more. For an absolute value it does not (two cells show it exactly).
    """
    share = n / (n + m)
    total = n * (1 - share)  # variance of the unconditioned current total
    linear = moments.linear.sum(axis=-1)
    quadratic = (moments.quadratic.sum(axis=-1) - linear * (1 - 2 * share)) / total
    mean = moments.mean.sum(axis=-1) - quadratic / 2
    variance = moments.variance.sum(axis=-1) - linear**2 / total
    if smooth:
        variance = variance - quadratic**2 / 2
    return GammaNull(np.maximum(mean, 0.0), np.maximum(variance, 0.0))


def _by_cell(of_counts: Callable[[Array], CellMoments], pooled: npt.ArrayLike) -> CellMoments:
    """Computes moments once for each distinct count and spreads them over `pooled`."""
    counts = np.rint(np.asarray(pooled, dtype=np.float64))
    distinct, where = np.unique(counts, return_inverse=True)
    found = of_counts(distinct)
    where = where.reshape(counts.shape)
    return CellMoments(
        found.mean[where], found.variance[where], found.linear[where], found.quadratic[where]
    )


def additive_null(
    terms: Terms, pooled: npt.ArrayLike, n: float, m: float, *, smooth: bool = True
) -> GammaNull:
    """Null distribution of the sum of `terms` over cells.

    Args:
        terms: as `divergence.jensen_shannon_terms`.
        pooled: counts of both samples together, shape [..., B]; rounded to whole numbers.
        n: size of the current sample.
        m: size of the baseline.
        smooth: as in `conditional`.
    """
    moments = _by_cell(lambda k: additive_moments(terms, k, n, m), pooled)
    return conditional(moments, n, m, smooth=smooth)


def unseen_null(pooled: npt.ArrayLike, n: float, m: float) -> GammaNull:
    """Null distribution of `divergence.unseen_share`; arguments as in `additive_null`."""
    return conditional(_by_cell(lambda k: unseen_moments(k, n, m), pooled), n, m, smooth=False)


def largest_change_p_value(
    effect: npt.ArrayLike, pooled: npt.ArrayLike, n: float, m: float
) -> Array:
    """Upper bound of the chance that some cell's share differs by `effect` or more.

    The union bound over cells of `share_change_p_values`.

    Args:
        effect: shape [...].
        pooled: counts of both samples together, shape [..., B].
        n: size of the current sample.
        m: size of the baseline.
    """
    changes = np.asarray(effect, dtype=np.float64)[..., None]
    tails = share_change_p_values(changes, pooled, n, m)
    return np.asarray(np.minimum(1.0, tails.sum(axis=-1)))


def share_change_p_values(
    changes: npt.ArrayLike, pooled: npt.ArrayLike, n: float, m: float
) -> Array:
    """Chance that one cell's share differs by its `changes` or more, in either direction.

    A cell's count is taken as binomial with its pooled count scaled by 1 - k / N, which has the
    variance of the hypergeometric that it truly is.

    Args:
        changes: at least 0; broadcast against `pooled`.
        pooled: counts of both samples together, shape [..., B].
        n: size of the current sample.
        m: size of the baseline.
    """
    k = np.asarray(pooled, dtype=np.float64)
    k = np.minimum(k, n + m - k)  # a cell's share changes as much as that of all the others
    share = n / (n + m)
    counts = k * (1 - k / (n + m))
    reach = np.asarray(changes, dtype=np.float64) * (n * m / (n + m))
    above = np.ceil(k * share + reach - 1e-9)  # current counts that far up, and that far down
    below = np.floor(k * share - reach + 1e-9)
    upper = _scaled_tail(above, k, counts, share)
    lower = _scaled_tail(k - below, k, counts, 1 - share)
    return np.asarray(np.minimum(1.0, upper + lower))


def _scaled_tail(at_least: Array, pooled: Array, counts: Array, share: float) -> Array:
    """Tail beyond `at_least` of `pooled`, moved to the scaled binomial around its own mean."""
    moved = np.minimum(at_least - (pooled - counts) * share, counts)
    return np.where(at_least > pooled, 0.0, _binomial_tail(moved, counts, share))


def _binomial_tail(at_least: Array, counts: Array, share: float) -> Array:
    """P(X >= at_least) for binomial(counts, share), continued to real arguments."""
    inside = (at_least > 0) & (at_least <= counts)
    safe = np.where(inside, at_least, 1.0)
    rest = np.where(inside, counts - at_least + 1, 1.0)
    return np.where(inside, special.betainc(safe, rest, share), (at_least <= 0) * 1.0)


def largest_change_floor(
    pooled: npt.ArrayLike, n: float, m: float, q: float = FLOOR_QUANTILE
) -> Array:
    """The largest change of a share that noise exceeds with chance 1 - q; shape [...]."""
    k = np.asarray(pooled, dtype=np.float64)
    low, high = np.zeros(k.shape[:-1]), np.ones(k.shape[:-1])
    for _ in range(30):
        middle = (low + high) / 2
        rare = largest_change_p_value(middle, k, n, m) <= 1 - q
        low, high = np.where(rare, low, middle), np.where(rare, middle, high)
    return high
