"""When a series comes into alarm, and when it comes out again. No IO here.

In: the statistic reaches the threshold. Out: the nights since speak a thousand to one for "no loss"
against "the loss there has been", by a CUSUM of their likelihood ratio (Page 1954); a loss that no
longer grows is no recovery. The series then starts afresh with the next night, so that what is over
is not counted again. Until then only a new release ends an alarm.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tfx_encore.monitoring.trend_detector import Nights, follow

RECOVERY = math.log(1000)
BEFORE = 7  # nights before the alarm that already count for the size of the loss
LEAST_LOSS = 0.5  # standard deviations of a night

Array = npt.NDArray[np.float64]


class Alarms(NamedTuple):
    """S series on T nights.

    Attributes:
        log_r: [S, T] the statistic, from 0 again after an alarm that ended.
        alarm: [S, T] in alarm.
        onset: [S] as `trend_detector.Path.onset`.
        sudden: [S] as `trend_detector.Path.sudden`.
    """

    log_r: Array
    alarm: npt.NDArray[np.bool_]
    onset: npt.NDArray[np.int64]
    sudden: npt.NDArray[np.bool_]


def alarms(nights: Nights, threshold: float) -> Alarms:
    """Follows all series, each afresh after every alarm that ended."""
    found = _alarms(nights, threshold)
    begun = np.zeros(nights.loss.shape[0], np.int64)
    while True:
        ended = _ended(found, begun)
        rows = np.flatnonzero(ended < nights.loss.shape[1])
        if not rows.size:
            return found
        begun[rows] = ended[rows] + 1
        before = np.arange(nights.loss.shape[1]) < begun[rows, None]
        loss = np.where(before, np.nan, nights.loss[rows])
        anew = Nights(loss, nights.sd[rows], nights.days, nights.reference_variance[rows])
        _splice(found, rows, before, _alarms(anew, threshold))


def _splice(
    found: Alarms, rows: npt.NDArray[np.int64], before: npt.NDArray[np.bool_], anew: Alarms
) -> None:
    found.log_r[rows] = np.where(before, found.log_r[rows], anew.log_r)
    found.alarm[rows] = np.where(before, found.alarm[rows], anew.alarm)
    found.onset[rows] = anew.onset
    found.sudden[rows] = anew.sudden


def _alarms(nights: Nights, threshold: float) -> Alarms:
    path = follow(nights)
    alarm = np.zeros(path.log_r.shape, bool)
    for row in np.flatnonzero((path.log_r >= threshold).any(axis=1)):
        first = int((path.log_r[row] >= threshold).argmax())
        alarm[row, first : _recovery(nights.loss[row], first)] = True
    return Alarms(path.log_r, alarm, path.onset, path.sudden)


def _recovery(loss: Array, first: int) -> int:
    """The night on which an alarm that began at `first` is over; the number of nights if none."""
    seen = [value for value in loss[max(first - BEFORE, 0) : first + 1] if not np.isnan(value)]
    total, count, statistic = sum(seen), len(seen), 0.0
    for night in range(first + 1, loss.size):
        if np.isnan(loss[night]):
            continue
        size = max(total / count, LEAST_LOSS)
        statistic = max(0.0, statistic + size * (size / 2 - loss[night]))
        if statistic >= RECOVERY:
            return night
        total, count = total + loss[night], count + 1
    return int(loss.size)


def _ended(found: Alarms, begun: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """[S] the first night out of the alarm that began since `begun`; T if there is none."""
    count = found.alarm.shape[1]
    ended = np.full(begun.size, count)
    for row in np.flatnonzero(found.alarm.any(axis=1)):
        alarm = found.alarm[row, begun[row] :]
        after = np.flatnonzero(alarm[:-1] & ~alarm[1:])
        if after.size:
            ended[row] = begun[row] + after[0] + 1
    return ended
