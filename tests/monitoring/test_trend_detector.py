"""The statistic: false alarms as rare as set, decay found as quickly as promised."""

from __future__ import annotations

import numpy as np
import pytest

from tfx_encore.monitoring.trend_detector import SHAPES, Nights, follow
from tfx_encore.monitoring.trend_threshold import log_threshold, run_length
from tfx_encore.schemas.nightly_policy import TrendPolicy

FIFTY_SERIES = 18_250.0


def nights(loss: np.ndarray, variance: float = 0.0, sd: float = 1.0) -> Nights:
    series, count = loss.shape
    days = np.arange(count)
    return Nights(loss, np.full(loss.shape, sd), days, np.full(series, variance))


def quiet(series: int, count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((series, count))


def delays(loss: np.ndarray, onset: int, threshold: float) -> np.ndarray:
    """Nights from the onset to the alarm, both counted; series that alarmed before are left out."""
    alarm = follow(nights(loss)).log_r >= threshold
    alarm = alarm[~alarm[:, :onset].any(axis=1), onset:]
    return np.where(alarm.any(axis=1), alarm.argmax(axis=1) + 1, 10_000)


def test_fifty_series_and_one_false_alarm_a_year_are_a_run_length_of_18_250_nights():
    policy = TrendPolicy(false_alarms_per_year=1.0)
    assert run_length(policy, 50) == FIFTY_SERIES


@pytest.mark.parametrize("onset", [0, 30])
def test_a_decay_of_a_twentieth_of_a_standard_deviation_a_night_alarms_within_27_nights(onset):
    loss = quiet(500, onset + 60)
    loss[:, onset:] += 0.05 * np.arange(1, 61)
    assert np.median(delays(loss, onset, log_threshold(FIFTY_SERIES))) <= 27


def test_a_sudden_loss_of_one_standard_deviation_is_found_in_about_a_fortnight():
    loss = quiet(300, 80)
    loss[:, 30:] += 1.0
    assert np.median(delays(loss, 30, log_threshold(FIFTY_SERIES))) <= 17


def test_run_length_of_200_nights_is_kept():
    alarm = follow(nights(quiet(400, 800))).log_r >= log_threshold(200)
    first = np.where(alarm.any(axis=1), alarm.argmax(axis=1) + 1, alarm.shape[1])
    mean = first.sum() / alarm.any(axis=1).sum()  # the few that never alarm count as nights
    assert mean == pytest.approx(200, rel=0.15)  # three standard errors


def test_a_longer_run_length_needs_a_higher_threshold():
    lengths = np.geomspace(50, 1e8, 60)
    thresholds = [log_threshold(length) for length in lengths]
    assert (np.diff(thresholds) > 0).all()
    assert all(t <= np.log(n) for t, n in zip(thresholds, lengths, strict=True))
    with pytest.raises(ValueError, match="at least 50"):
        log_threshold(10)


@pytest.mark.parametrize("variance", [0.0, 0.02, 1.0])
def test_the_statistic_less_the_nights_is_a_fair_game_even_if_the_reference_is_uncertain(variance):
    rng = np.random.default_rng(3)
    error = rng.standard_normal((40_000, 1)) * variance**0.5
    sd = rng.uniform(0.5, 2.0, 9)
    loss = rng.standard_normal((40_000, 9)) + error / sd
    loss[:, 4] = np.nan  # a night missed
    game = Nights(loss, np.broadcast_to(sd, loss.shape), np.arange(9), np.full(40_000, variance))
    r = np.exp(follow(game, SHAPES).log_r)
    assert r[:, 3].mean() == pytest.approx(4, rel=0.02)
    assert r[:, 8].mean() == pytest.approx(8, rel=0.05)


def test_a_reference_from_few_cases_alarms_no_more_often_but_would_if_taken_for_exact():
    rng = np.random.default_rng(4)
    wrong = rng.standard_normal((400, 1)) * 0.5  # 1,200 cases against 300 a night
    loss = rng.standard_normal((400, 200)) + wrong
    threshold = log_threshold(FIFTY_SERIES)
    allowed = follow(nights(loss, variance=0.25)).log_r >= threshold
    taken = follow(nights(loss)).log_r >= threshold
    assert allowed.any(axis=1).mean() < 0.03  # 0.011 are expected
    assert taken.any(axis=1).mean() > 0.2


def test_no_night_is_judged_by_a_later_one():
    loss = quiet(5, 40)
    whole, part = follow(nights(loss, 0.1)), follow(nights(loss[:, :25], 0.1))
    np.testing.assert_allclose(whole.log_r[:, :25], part.log_r, rtol=1e-5)


def test_a_missed_night_adds_nothing_and_decay_goes_on_meanwhile():
    loss = quiet(1, 12)
    holed = loss.copy()
    holed[:, 6] = np.nan
    dropped = Nights(
        np.delete(loss, 6, axis=1), np.ones((1, 11)), np.delete(np.arange(12), 6), np.zeros(1)
    )
    log_r = follow(nights(holed)).log_r[0]
    assert log_r[6] == pytest.approx(log_r[5], rel=1e-5)
    np.testing.assert_allclose(np.delete(log_r, 6), follow(dropped).log_r[0], rtol=1e-5)


def test_a_series_begins_when_it_is_first_seen():
    loss = quiet(1, 20)
    loss[:, :8] = np.nan
    log_r = follow(nights(loss)).log_r[0]
    assert (log_r[:8] == -np.inf).all()
    np.testing.assert_allclose(log_r[8:], follow(nights(loss[:, 8:])).log_r[0], rtol=1e-5)


def test_the_unit_of_the_metric_does_not_matter():
    loss = quiet(3, 30)
    one = follow(nights(loss, variance=0.3, sd=1.0)).log_r
    other = follow(nights(loss, variance=0.3e-4, sd=0.01)).log_r
    np.testing.assert_allclose(one, other, rtol=1e-4)


def test_the_onset_is_dated_and_slope_told_from_step():
    slope, step = quiet(200, 70, seed=6), quiet(200, 70, seed=7)
    slope[:, 30:] += 0.1 * np.arange(1, 41)
    step[:, 30:] += 1.5
    found, sudden = follow(nights(slope)), follow(nights(step))
    assert abs(np.median(found.onset) - 30) <= 2
    assert abs(np.median(sudden.onset) - 30) <= 1
    assert found.sudden.mean() < 0.2
    assert sudden.sudden.mean() > 0.8


def test_only_so_many_nights_are_looked_back_on():
    loss = quiet(2, 60)
    far = follow(nights(loss), window=60).log_r
    near = follow(nights(loss), window=20).log_r
    np.testing.assert_allclose(far[:, :20], near[:, :20], rtol=1e-5)
    assert (near[:, 20:] <= far[:, 20:] + 1e-5).all()
