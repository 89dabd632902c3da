"""What scores have meant: monotone, drawn towards the prior where rows are few."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfx_encore.monitoring.auc import auc
from tfx_encore.monitoring.estimate_calibration import calibrate
from tfx_encore.monitoring.estimate_metrics import expected
from tfx_encore.monitoring.slice_metrics import METRICS

COUNTS = st.lists(st.integers(0, 30), min_size=6, max_size=6)


@given(COUNTS, COUNTS)
def test_rates_never_fall_with_the_score_and_lie_between_0_and_1(positives, negatives):
    curve = calibrate(np.array(positives, float), np.array(negatives, float))
    if curve is None:
        assert not sum(positives) or not sum(negatives)
        return
    assert (np.diff(curve.rates) >= -1e-12).all()
    assert (curve.rates > 0).all()
    assert (curve.rates < 1).all()
    assert np.allclose(curve.weights.sum(axis=1), 1)
    assert np.allclose(curve.weights @ curve.blocks, curve.rates)
    assert (curve.variances > 0).all()


def test_rising_rates_are_kept_and_falling_ones_pooled():
    rows = np.array([100.0, 100, 100, 100])
    curve = calibrate(np.array([10.0, 50, 30, 90]), rows - np.array([10.0, 50, 30, 90]))
    assert curve.blocks == pytest.approx([0.1, 0.4, 0.9])
    assert curve.rates == pytest.approx([0.1, 0.3, 0.4 + 0.5 / 3, 0.9])


def test_a_bin_without_rows_lies_between_its_neighbours():
    curve = calibrate(np.array([20.0, 0, 60]), np.array([80.0, 0, 40]))
    assert curve.rates == pytest.approx([0.2, 0.4, 0.6])


def test_a_few_rows_are_drawn_towards_the_prior_and_many_are_not():
    overall = calibrate(np.array([100.0, 900]), np.array([900.0, 100]))
    few = calibrate(np.array([2.0, 2]), np.array([2.0, 2]), overall, 30.0)
    many = calibrate(np.array([2000.0, 2001]), np.array([2000.0, 1999]), overall, 30.0)
    assert few.rates[0] < 0.2 < 0.8 < few.rates[1]
    assert many.rates == pytest.approx([0.5, 0.5], abs=0.01)
    assert few.variances.min() > 10 * many.variances.max()


def test_no_rows_leave_the_prior():
    overall = calibrate(np.array([100.0, 900]), np.array([900.0, 100]))
    assert calibrate(np.zeros(2), np.zeros(2), overall, 30.0) is overall


@pytest.mark.parametrize("metric", METRICS)
def test_the_derivative_is_that_of_the_metric(metric):
    rng = np.random.default_rng(5)
    rows, rates = rng.integers(1, 50, 12).astype(float), np.sort(rng.random(12))
    found = expected(metric, rows, rates, 5)
    step = 1e-6
    for place in range(12):
        moved = rates + step * (np.arange(12) == place) / rows[place]
        change = expected(metric, rows, moved, 5).value - found.value
        assert change / step == pytest.approx(found.by_row[place], abs=1e-5)


@given(COUNTS, COUNTS)
def test_with_the_true_rates_the_expected_metric_is_the_true_one(positives, negatives):
    p, n = np.array(positives, float), np.array(negatives, float)
    rows = p + n
    rates = np.divide(p, rows, out=np.zeros(6), where=rows > 0)
    hits, predicted = p[3:].sum(), rows[3:].sum()
    truth = {
        "accuracy": (hits + n[:3].sum()) / rows.sum() if rows.sum() else None,
        "precision": hits / predicted if predicted else None,
        "recall": hits / p.sum() if p.sum() else None,
        "auc": float(auc(p, n).value) if p.sum() and n.sum() else None,
    }
    for metric, value in truth.items():
        found = expected(metric, rows, rates, 2)
        assert (found.value if found else None) == pytest.approx(value)
