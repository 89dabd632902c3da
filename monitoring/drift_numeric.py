"""Numeric features: a distribution function from quantile buckets, and bins for two. No IO here.

TFDV keeps a numeric feature as quantile buckets. At their bounds the distribution function is known
(to the sketch's accuracy), between them it is taken as linear. Bins hold equal shares of both data
sets together, so an outlier stretches no bin: what lies far out is mass in the first or last one.

Where values come in lumps or leave gaps, linear is wrong, and two samples of one distribution seem
to differ. So the size of a change is measured on the linear guess, but whether it is real is asked
only of what the bounds make certain (`nearest_shares`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tfx_encore.monitoring.drift_statistics import Bucket, NumericValues

Array = npt.NDArray[np.float64]

BINS = 10
_FAR = 1e300  # stands for infinity where bounds are subtracted


@dataclass(frozen=True)
class Distribution:
    """A distribution function with steps.

    Attributes:
        at: ascending distinct values, shape [K].
        below: P(X < at), shape [K].
        upto: P(X <= at), shape [K].
        total: number of values behind it.
    """

    at: Array
    below: Array
    upto: Array
    total: float

    def cdf(self, x: npt.ArrayLike) -> Array:
        """P(X <= x), linear between known values; shape of `x`."""
        return self._evaluate(np.asarray(x, dtype=np.float64), self.upto)

    def cdf_below(self, x: npt.ArrayLike) -> Array:
        """P(X < x), linear between known values; shape of `x`."""
        return self._evaluate(np.asarray(x, dtype=np.float64), self.below)

    def bracket(self, x: Array) -> tuple[Array, Array]:
        """The least and the greatest that P(X <= x) can be, given the buckets; shape of `x`."""
        left = np.searchsorted(self.at, x, side="right") - 1
        inside = np.clip(left, 0, self.at.size - 1)
        after = np.minimum(inside + 1, self.at.size - 1)
        exact = (x == self.at[inside]) & ((inside > 0) | (self.upto[inside] > 0))
        low = np.where(left < 0, 0.0, self.upto[inside])
        high = np.where(left < 0, 0.0, np.where(exact, self.upto[inside], self.upto[after]))
        return np.minimum(low, high), high

    def quantile(self, q: npt.ArrayLike) -> Array:
        """The smallest value with P(X <= value) >= q; shape of `q`."""
        return _inverse(self.at, self.below, self.upto, np.asarray(q, dtype=np.float64))

    def _evaluate(self, x: Array, known: Array) -> Array:
        left = np.clip(np.searchsorted(self.at, x, side="right") - 1, 0, self.at.size - 1)
        right = np.minimum(left + 1, self.at.size - 1)
        width = self.at[right] - self.at[left]
        part = np.divide(x - self.at[left], width, out=np.zeros(x.shape), where=width > 0)
        inner = self.upto[left] + (self.below[right] - self.upto[left]) * part
        known_here = np.where(x == self.at[left], known[left], inner)
        return np.where(x < self.at[0], 0.0, np.where(x > self.at[-1], 1.0, known_here))


@dataclass(frozen=True)
class Mixture(Distribution):
    """Several data sets together. What each of them makes certain stays certain, and no more.

    Attributes:
        parts: the data sets' own distribution functions.
    """

    parts: tuple[Distribution, ...] = ()

    def bracket(self, x: Array) -> tuple[Array, Array]:
        """The least and the greatest that P(X <= x) can be, given each part's buckets."""
        bounds = [(part.total / self.total, *part.bracket(x)) for part in self.parts]
        low = sum((weight * least for weight, least, _ in bounds), np.zeros(x.shape))
        high = sum((weight * most for weight, _, most in bounds), np.zeros(x.shape))
        return low, np.maximum(low, np.minimum(high, 1.0))


def mixture(parts: Sequence[Distribution]) -> Distribution | None:
    """The distribution function of all values of `parts`, each weighing as many as it has."""
    if len(parts) < 2:
        return parts[0] if parts else None
    total = sum(part.total for part in parts)
    at = np.unique(np.concatenate([part.at for part in parts]))
    below = sum((part.total / total * part.cdf_below(at) for part in parts), np.zeros(at.shape))
    upto = sum((part.total / total * part.cdf(at) for part in parts), np.zeros(at.shape))
    upto[-1] = 1.0
    return Mixture(at, below, upto, total, tuple(parts))


def _inverse(at: Array, below: Array, upto: Array, levels: Array) -> Array:
    heights = np.column_stack([below, upto]).ravel()
    return np.interp(levels, np.maximum.accumulate(heights), np.repeat(at, 2))


def _finite(buckets: Sequence[Bucket]) -> tuple[Array, Array, Array]:
    rows = np.array([(b.low, b.high, b.count) for b in buckets], dtype=np.float64).reshape(-1, 3)
    bounds = np.clip(rows[:, :2], -_FAR, _FAR)
    return bounds[:, 0], bounds[:, 1], np.maximum(rows[:, 2], 0.0)


def distribution(values: NumericValues) -> Distribution | None:
    """The distribution function behind quantile buckets; None if they hold no value."""
    if values.parts:
        found = [distribution(part) for part in values.parts]
        return mixture([part for part in found if part is not None])
    low, high, count = _finite(values.buckets)
    total = float(count.sum())
    if total <= 0:
        return None
    at = np.unique(np.concatenate([low, high]))
    step = low == high
    steps = np.array([count[step & (high == x)].sum() for x in at])
    upto = np.array([count[high <= x].sum() for x in at]) / total
    below = upto - steps / total
    if at[0] == 0 and at.size > 1:  # how many are 0 is known exactly; the bucket blurs it
        upto[0] = np.clip(values.zeros / total, upto[0], below[1])
    below[0] = 0.0
    return Distribution(at, below, upto, total)


def common_edges(current: Distribution, baseline: Distribution, bins: int = BINS) -> Array:
    """Inner edges, ascending, that cut both data sets together into nearly equal shares.

    Shape [at most bins - 1]; a value that many examples share leaves fewer.
    """
    at = np.union1d(current.at, baseline.at)
    weight = current.total / (current.total + baseline.total)
    below = weight * current.cdf_below(at) + (1 - weight) * baseline.cdf_below(at)
    upto = weight * current.cdf(at) + (1 - weight) * baseline.cdf(at)
    return np.unique(_inverse(at, below, upto, np.arange(1, bins) / bins))


def nearest_shares(current: Distribution, baseline: Distribution) -> tuple[Array, Array]:
    """Shares of values up to each known value, as near to each other as the buckets allow.

    Shapes [K], current and baseline. Where they differ, they do whatever lies between the bounds.
    """
    at = np.union1d(current.at, baseline.at)
    low, high = current.bracket(at)
    low_then, high_then = baseline.bracket(at)
    least, most = np.maximum(low, low_then), np.minimum(high, high_then)
    between = (least + most) / 2
    return np.clip(between, low, high), np.clip(between, low_then, high_then)


def noisiest_shares(current: Distribution, baseline: Distribution) -> Array:
    """Share of both together up to each known value: of those possible, the nearest to 1/2.

    Shape [K]. There a share is most variable, so no change seems rarer than it is.
    """
    at = np.union1d(current.at, baseline.at)
    weight = current.total / (current.total + baseline.total)
    low, high = current.bracket(at)
    low_then, high_then = baseline.bracket(at)
    least = weight * low + (1 - weight) * low_then
    most = weight * high + (1 - weight) * high_then
    return np.asarray(np.clip(0.5, least, most))


def bin_counts(which: Distribution, edges: Array) -> Array:
    """Number of values in (-inf, e1], (e1, e2], ... (ek, inf); shape [len(edges) + 1]."""
    return _counts(which.cdf(edges), which.total)


def _counts(heights: Array, total: float) -> Array:
    rising = np.maximum.accumulate(np.concatenate([[0.0], heights, [1.0]]))
    return np.asarray(np.diff(rising) * total)


def robust_range(which: Distribution) -> tuple[float, float]:
    """A range to draw: the middle of the values, and as much again on both sides at most."""
    first, last = which.quantile(np.array([0.1, 0.9]))
    low, high = max(which.at[0], 2 * first - last), min(which.at[-1], 2 * last - first)
    return (float(low), float(high)) if low < high else (float(which.at[0]), float(which.at[-1]))
