"""How much more nights vary than their cases alone would make them. No IO here.

Weather, weekdays and events move a metric from night to night, or for some days. Two estimates of
the factor by which that widens the variance, the greater counts:

- nights: the mean of half the squared differences of successive nights, which a slow decay hardly
  changes (von Neumann 1941; Rice 1984);
- weeks: the same of the means of successive weeks, times seven: what nights that go together for
  days have in common adds up in it, and weekdays cancel out. Noisy, it counts only above a floor.

Each square is capped, so that one odd night does not hide what follows, and each mean is drawn
towards 1 as if that many quiet nights had been seen before.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

QUIET_NIGHTS, NIGHTS_CAP = 20.0, 16.0
WEEK, QUIET_WEEKS, WEEKS_CAP, WEEKS_FLOOR = 7, 40.0, 8.0, 1.4


def dispersion(losses: Array) -> Array:
    """The factor of the variance, at least 1, for each night from the nights before it alone.

    Args:
        losses: [T] losses of a series in standard deviations, in order of date.

    Returns:
        [T + 1] factors; the last is for a night to come.
    """
    by_weeks = _drawn(_halves(losses, WEEK), losses.size, QUIET_WEEKS, WEEKS_CAP)
    by_weeks[by_weeks <= WEEKS_FLOOR] = 1.0
    return np.maximum(by_weeks, _drawn(_halves(losses, 1), losses.size, QUIET_NIGHTS, NIGHTS_CAP))


def _halves(losses: Array, span: int) -> Array:
    """Half the squared differences of successive means of `span` nights, times `span`."""
    upto = np.concatenate([[0.0], np.cumsum(losses)])
    sums = upto[span:] - upto[:-span]
    return np.asarray((sums[span:] - sums[:-span]) ** 2 / (2 * span), np.float64)


def _drawn(halves: Array, nights: int, quiet: float, cap: float) -> Array:
    """Their mean up to each night, drawn towards 1 and at least that; shape [nights + 1]."""
    first = nights + 1 - halves.size  # the first factor that knows any
    total = np.concatenate([np.zeros(first), np.cumsum(np.minimum(halves, cap))])
    count = np.maximum(np.arange(nights + 1) - (first - 1.0), 0.0)
    return np.asarray(np.maximum(1.0, (quiet + total) / (quiet + count)), np.float64)
