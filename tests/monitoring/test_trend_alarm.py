"""An alarm begins at the threshold, stands as long as the loss, and ends when it is over."""

from __future__ import annotations

import numpy as np

from tfx_encore.monitoring.trend_alarm import Alarms, alarms
from tfx_encore.monitoring.trend_detector import Nights, follow
from tfx_encore.monitoring.trend_threshold import log_threshold

THRESHOLD = log_threshold(18_250)


def judged(change: np.ndarray, series: int = 100, seed: int = 1) -> Alarms:
    loss = np.random.default_rng(seed).standard_normal((series, change.size)) + change
    return alarms(nights(loss), THRESHOLD)


def nights(loss: np.ndarray) -> Nights:
    return Nights(loss, np.ones(loss.shape), np.arange(loss.shape[1]), np.zeros(len(loss)))


def test_an_alarm_begins_on_the_night_the_statistic_reaches_the_threshold():
    loss = np.random.default_rng(2).standard_normal((30, 80)) + 0.03 * np.arange(80)
    found, log_r = alarms(nights(loss), THRESHOLD), follow(nights(loss)).log_r
    assert (found.alarm.argmax(axis=1) == (log_r >= THRESHOLD).argmax(axis=1)).all()


def test_a_loss_that_stays_as_it_is_stays_in_alarm():
    for size in (0.75, 1.5, 4.0):
        change = np.concatenate([np.zeros(20), np.full(120, size)])
        assert judged(change).alarm[:, -60:].mean() > 0.97


def test_a_loss_that_still_grows_stays_in_alarm():
    change = 0.05 * np.maximum(np.arange(150) - 20, 0)
    assert judged(change).alarm[:, -60:].all()


def test_a_loss_that_is_over_ends_the_alarm_within_weeks_and_is_not_counted_again():
    change = np.concatenate([np.zeros(20), np.full(40, 1.5), np.zeros(60)])
    found = judged(change)
    assert found.alarm[:, 55].mean() > 0.97
    assert np.median((~found.alarm[:, 60:]).argmax(axis=1)) <= 8
    assert found.alarm[:, -30:].mean() < 0.02
    assert np.median(found.log_r[:, -1]) < THRESHOLD / 2


def test_a_second_loss_alarms_again():
    change = np.concatenate([np.zeros(10), np.full(30, 2.0), np.zeros(40), np.full(30, 2.0)])
    found = judged(change)
    assert found.alarm[:, 75].mean() < 0.05
    assert found.alarm[:, -5:].mean() > 0.97
    assert abs(np.median(found.onset) - 80) <= 1


def test_missed_nights_neither_end_nor_begin_an_alarm():
    loss = np.random.default_rng(3).standard_normal((5, 60)) + 3.0
    loss[:, 20:50] = np.nan
    found = alarms(nights(loss), THRESHOLD)
    assert found.alarm[:, 10:].all()


def test_no_series_and_no_night_are_fine():
    assert alarms(nights(np.zeros((0, 0))), THRESHOLD).alarm.shape == (0, 0)
    assert not alarms(nights(np.full((2, 3), np.nan)), THRESHOLD).alarm.any()
