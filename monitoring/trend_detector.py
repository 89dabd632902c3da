"""Finds where a series of nights began to decay: a mixture Shiryaev-Roberts statistic. No IO here.

Each night adds to every possible onset s and shape d the likelihood ratio of "since s the series
has been losing as d says" against "nothing has changed". The statistic is their sum,

    R_t = sum over s <= t of sum over shapes of weight * ratio(s..t).

While nothing changes R_t - t is a martingale with mean 0, so the average run length until R_t first
reaches A is at least A, whatever the shapes: that is how false alarms are set. It is close to the
best there is on average over the onset (Shiryaev 1963; Roberts 1966; Pollak 1985, 1987).

The reference is measured, not known. With an error of known variance, nights are no longer
independent of each other given the reference's value, and its error would add up night after night
to a false alarm. So each night is held against what reference *and earlier nights* predict (the
innovations of a Kalman filter with a constant level, or recursive residuals: Brown, Durbin and
Evans 1975; self-starting charts: Hawkins and Olwell 1998, chapter 7), and each shape goes through
the same filter. The ratios are then exact again, and so is the martingale.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

WINDOW = 365  # nights; a change is dated within the last so many


class Shape(NamedTuple):
    """One way to get worse.

    Attributes:
        size: loss a night (slope) or at once (step), in standard deviations of a usual night.
        weight: its share in the mixture; all shares add up to 1.
    """

    size: float
    weight: float


class Shapes(NamedTuple):
    """What the detector looks for."""

    slopes: tuple[Shape, ...]
    steps: tuple[Shape, ...]


SHAPES = Shapes(
    slopes=(Shape(0.02, 0.15), Shape(0.05, 0.5), Shape(0.12, 0.15)),
    steps=(Shape(0.5, 0.1), Shape(1.0, 0.1)),
)


class Nights(NamedTuple):
    """S series on T nights, in order of date.

    Attributes:
        loss: [S, T] loss against the reference in standard deviations of that night, which are
            known without the night's luck; NaN where a series has no (or too small a) night.
        sd: [S, T] those standard deviations in the metric's unit, > 0; any where `loss` is NaN.
        days: [T] day numbers, rising; a missed night only widens the gap.
        reference_variance: [S] variance of the reference's error, in the metric's unit squared.
    """

    loss: Array
    sd: Array
    days: npt.NDArray[np.int64]
    reference_variance: Array


class Path(NamedTuple):
    """The statistic night by night, and what it would be due to after the last.

    Attributes:
        log_r: [S, T] ln R_t; -inf before the first night of a series.
        onset: [S] index of the night from which a change most likely dates, were there one: the
            likeliest over both shapes of any size (maximum likelihood).
        sudden: [S] a step fits better than a slope.
    """

    log_r: Array
    onset: npt.NDArray[np.int64]
    sudden: npt.NDArray[np.bool_]


def follow(nights: Nights, shapes: Shapes = SHAPES, window: int = WINDOW) -> Path:
    """Computes the statistic of all series; its value on a night uses no later one.

    Onsets more than `window` nights back are forgotten, which can only lengthen the run length.
    Time and memory grow with S * T * min(T, window) and S * min(T, window).
    """
    count = nights.loss.shape[1]
    state = _State(nights, min(window, count))
    log_r = np.empty(nights.loss.shape)
    for night in range(count):
        log_r[:, night] = state.step(night, shapes)
    return Path(log_r, *state.origin())


class _State:
    """Running sums, by onset (a ring of slots) and series. Index 0 is slope, 1 is step."""

    def __init__(self, nights: Nights, slots: int) -> None:
        series = nights.loss.shape[0]
        self.nights = nights
        self.slots = slots
        self.level = np.zeros(series)  # expected error of the reference
        self.variance = nights.reference_variance.astype(np.float64).copy()
        self.precision = np.zeros(series)  # sum of 1/sd^2 over the nights so far
        self.seen = np.zeros(series)  # how many they are
        self.absorbed = np.zeros((2, slots, series))  # what the filter takes of each shape
        self.score = np.zeros((2, slots, series))
        self.energy = np.zeros((2, slots, series))
        self.alive = np.zeros((slots, series), bool)
        self.night_of = np.zeros(slots, np.int64)

    def step(self, night: int, shapes: Shapes) -> Array:
        """Takes in one night; returns ln R of each series."""
        loss = self.nights.loss[:, night]
        there = ~np.isnan(loss)
        by_sd = np.where(there, 1 / self.nights.sd[:, night], 0.0)
        self._open(night, there)
        used = min(night + 1, self.slots)
        residual, root, gain = self._innovation(np.where(there, loss, 0.0), by_sd)
        self._take(night, used, by_sd, (residual, root, gain), there)
        return self._sum(used, shapes)

    def _open(self, night: int, there: npt.NDArray[np.bool_]) -> None:
        """Begins a new onset in the slot of the oldest."""
        slot = night % self.slots
        self.night_of[slot] = night
        self.alive[slot] = there
        for sums in (self.absorbed, self.score, self.energy):
            sums[:, slot] = 0.0

    def _innovation(self, loss: Array, by_sd: Array) -> tuple[Array, Array, Array]:
        """The filter's step: (residual, root of its variance, gain)."""
        spread = 1 + by_sd**2 * self.variance
        root = np.sqrt(spread)
        gain = self.variance * by_sd / spread
        surprise = loss - by_sd * self.level
        self.level = self.level + gain * surprise
        self.variance = self.variance / spread
        return surprise / root, root, gain

    def _take(
        self,
        night: int,
        used: int,
        by_sd: Array,
        innovation: tuple[Array, Array, Array],
        there: npt.NDArray[np.bool_],
    ) -> None:
        residual, root, gain = innovation
        self.precision += by_sd**2
        self.seen += there
        usual = np.sqrt(self.seen / np.maximum(self.precision, 1e-300))
        by_usual = usual * by_sd
        days = self.nights.days
        lag = (days[night] - days[self.night_of[:used]] + 1).astype(np.float64)
        for shape, size in enumerate((lag[:, None], 1.0)):
            absorbed = self.absorbed[shape, :used]
            surprise = size * by_usual - by_sd * absorbed
            absorbed += gain * surprise
            surprise /= root
            self.score[shape, :used] += residual * surprise
            self.energy[shape, :used] += surprise * surprise

    def _sum(self, used: int, shapes: Shapes) -> Array:
        series = self.level.size
        terms = np.empty((len(shapes.slopes) + len(shapes.steps), used, series), np.float32)
        number = 0
        for shape, members in enumerate(shapes):
            score = self.score[shape, :used].astype(np.float32)
            energy = self.energy[shape, :used].astype(np.float32)
            for size, weight in members:
                term = np.multiply(score, np.float32(size), out=terms[number])
                term -= energy * np.float32(size * size / 2)
                term += np.float32(np.log(weight))
                number += 1
        terms[:, ~self.alive[:used]] = -np.inf
        top = np.maximum(terms.max(axis=(0, 1)), -1e30)
        terms -= top
        total = np.exp(terms, out=terms).sum(axis=(0, 1), dtype=np.float64)
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(total) + top, np.float64)

    def origin(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """The likeliest onset, and whether a step explains it better than a slope."""
        series = self.level.size
        if not self.slots:
            return np.zeros(series, np.int64), np.zeros(series, bool)
        gain = np.maximum(self.score, 0) ** 2 / np.maximum(self.energy, 1e-12)
        gain[:, ~self.alive] = -1.0
        best = gain.argmax(axis=1)  # [2, S]
        slope, step = gain.max(axis=1)
        sudden = step > slope
        return self.night_of[np.where(sudden, best[1], best[0])], sudden
