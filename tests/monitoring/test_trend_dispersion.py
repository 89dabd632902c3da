"""Nights that vary more than their cases explain do not bring false alarms."""

from __future__ import annotations

import numpy as np
import pytest

from tfx_encore.monitoring.trend_detector import Nights, follow
from tfx_encore.monitoring.trend_dispersion import dispersion
from tfx_encore.monitoring.trend_threshold import log_threshold

THRESHOLD = log_threshold(18_250)


def alarmed(loss: np.ndarray, *, allowed_for: bool) -> float:
    """Share of the series that alarm."""
    factor = np.array([dispersion(row)[:-1] for row in loss]) if allowed_for else np.ones(1)
    sd = np.broadcast_to(np.sqrt(factor), loss.shape)
    days = np.arange(loss.shape[1])
    found = follow(Nights(loss / sd, sd, days, np.zeros(len(loss))))
    return float((found.log_r >= THRESHOLD).any(axis=1).mean())


def test_nights_half_as_variable_again_alarm_hardly_more_often_than_calm_ones():
    loss = np.random.default_rng(4).standard_normal((300, 250)) * 1.5**0.5
    assert alarmed(loss, allowed_for=True) < 0.04  # 0.014 are expected of calm nights
    assert alarmed(loss, allowed_for=False) > 0.06


def test_bad_weekends_are_no_decay():
    weekend = np.where(np.arange(210) % 7 >= 5, 1.5, -0.6)
    loss = np.random.default_rng(5).standard_normal((200, 210)) + weekend
    assert alarmed(loss, allowed_for=True) < 0.02


def test_nights_that_go_together_for_days_are_seen_in_their_weeks():
    rng = np.random.default_rng(7)
    weather = rng.standard_normal((200, 250)) * 0.5**0.5
    for night in range(1, 250):
        weather[:, night] = 0.5 * weather[:, night - 1] + 0.75**0.5 * weather[:, night]
    loss = rng.standard_normal((200, 250)) + weather
    assert np.mean([dispersion(row)[-1] for row in loss]) > 1.5
    assert alarmed(loss, allowed_for=True) < 0.5 * alarmed(loss, allowed_for=False)


def test_decay_is_still_found_where_nights_vary_more():
    noise = np.random.default_rng(6).standard_normal((200, 90)) * 1.5**0.5
    decay = 0.05 * 1.5**0.5 * np.maximum(np.arange(90) - 30, 0)
    assert alarmed(noise + decay, allowed_for=True) > 0.95


def test_dispersion_is_one_where_nights_vary_as_their_cases_say():
    found = [dispersion(row)[-1] for row in np.random.default_rng(2).standard_normal((200, 100))]
    assert 1.0 <= np.mean(found) < 1.15


def test_dispersion_follows_wilder_nights_and_hardly_decay_or_one_step():
    rng = np.random.default_rng(2)
    wild = rng.standard_normal((200, 150)) * 1.5**0.5
    assert np.mean([dispersion(row)[-1] for row in wild]) == pytest.approx(1.48, abs=0.1)
    calm = rng.standard_normal((200, 100))
    plain = np.mean([dispersion(row)[-1] for row in calm])
    decaying = np.mean([dispersion(row + 0.05 * np.arange(100))[-1] for row in calm])
    stepping = np.mean([dispersion(row + 5.0 * (np.arange(100) > 50))[-1] for row in calm])
    assert decaying < plain + 0.15
    assert stepping < 2


def test_dispersion_of_a_night_does_not_know_that_night():
    loss = np.random.default_rng(3).standard_normal(30)
    changed = loss.copy()
    changed[20] += 8
    assert (dispersion(loss)[:21] == dispersion(changed)[:21]).all()
    assert dispersion(changed)[21] > dispersion(loss)[21]
    for few in range(20):
        assert dispersion(np.full(few, 9.0)).tolist() == [1.0] * (few + 1)
