"""What a score has meant: the rate of positives by score bin, from labelled rows. No IO here.

Isotonic regression over the bins (a higher score never means fewer positives), drawn as straight
lines between the centres of its blocks, so that a shift of scores inside a block still counts.
The curve is linear in the blocks' rates, hence so is the variance of whatever is computed from it.

Sources: Zadrozny and Elkan (2002), Transforming classifier scores into accurate multiclass
probability estimates; centred isotonic regression: Oron and Flournoy (2017), Statistics in
Biopharmaceutical Research 9:258.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
_HALF = 0.5  # Jeffreys: a block without any positive does not prove that there are none


@dataclass(frozen=True)
class Calibration:
    """P(positive | score bin), and how sure it is. K blocks, B bins.

    Attributes:
        rates: [B] rate of positives by bin, in (0, 1), never falling.
        blocks: [K] rates of the blocks.
        variances: [K] of `blocks`, which are independent.
        weights: [B, K] how `rates` follows from `blocks`; each row adds up to 1.
        spread: [B] share of the labelled rows by bin.
    """

    rates: Array
    blocks: Array
    variances: Array
    weights: Array
    spread: Array

    def variance_of(self, gradient: Array) -> float:
        """Variance of a number whose derivative by `rates` is `gradient`, shape [B]."""
        return float((gradient @ self.weights) ** 2 @ self.variances)


def calibrate(
    positives: Array, negatives: Array, prior: Calibration | None = None, prior_rows: float = 0.0
) -> Calibration | None:
    """Fits the rates to labelled rows; None if there are none of a class.

    Args:
        positives: [B] positives by score bin, bins in order of rising score.
        negatives: [B] negatives likewise.
        prior: rates that few rows are drawn towards.
        prior_rows: how many rows the prior counts for: half of them spread like the rows, half like
            those of the prior, so that bins without rows follow it.
    """
    rows = own = positives + negatives
    total = float(rows.sum())
    if prior is None:
        if not positives.sum() or not negatives.sum():
            return None
    elif not total:
        return prior
    else:
        share = prior_rows * (rows / total + prior.spread) / 2
        positives, rows = positives + share * prior.rates, rows + share
    blocks = _blocks(positives, rows)
    used = np.flatnonzero(rows)
    starts = np.asarray([used[first] for first, _ in blocks])
    member = np.searchsorted(starts, np.arange(len(rows)), side="right") - 1
    count = np.bincount(member[used], rows[used], minlength=len(blocks))
    right = np.bincount(member[used], positives[used], minlength=len(blocks))
    centre = np.bincount(member[used], rows[used] * used, minlength=len(blocks)) / count
    doubt = _HALF * ((right <= 0) | (right >= count))
    rates = (right + doubt) / (count + 2 * doubt)
    smooth = (right + _HALF) / (count + 2 * _HALF)
    weights = _lines(centre, len(member))
    seen = np.maximum(np.bincount(member[used], own[used], minlength=len(blocks)), 1.0)
    return Calibration(weights @ rates, rates, smooth * (1 - smooth) / seen, weights, own / total)


def _blocks(positives: Array, rows: Array) -> list[tuple[int, int]]:
    """Pools adjacent violators: (first, last) among the bins that have rows."""
    used = np.flatnonzero(rows)
    stack: list[tuple[float, float, int, int]] = []  # positives, rows, first, last
    for number, place in enumerate(used.tolist()):
        block = (float(positives[place]), float(rows[place]), number, number)
        while stack and stack[-1][0] * block[1] >= block[0] * stack[-1][1]:
            before = stack.pop()
            block = (before[0] + block[0], before[1] + block[1], before[2], block[3])
        stack.append(block)
    return [(first, last) for _, _, first, last in stack]


def _lines(centres: Array, bins: int) -> Array:
    """Weights [B, K] of straight lines between the centres, flat beyond the outer ones."""
    place = np.arange(bins, dtype=np.float64)
    weights = np.zeros((bins, len(centres)))
    right = np.clip(np.searchsorted(centres, place), 1, max(len(centres) - 1, 1))
    if len(centres) == 1:
        weights[:, 0] = 1.0
        return weights
    left = right - 1
    share = np.clip((place - centres[left]) / (centres[right] - centres[left]), 0.0, 1.0)
    np.put_along_axis(weights, left[:, None], (1 - share)[:, None], axis=1)
    weights[np.arange(bins), right] += share
    return weights
