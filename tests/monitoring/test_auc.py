"""AUC from binned scores: against the definition, against DeLong by hand, and its coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tfx_encore.monitoring.auc import (
    auc,
    auc_covariance,
    auc_difference_interval,
    auc_interval,
    p_auc_below,
    p_auc_loss,
)
from tfx_encore.monitoring.slice_counts import BINS, SliceCounts, bin_edges


def histograms(positives: np.ndarray, negatives: np.ndarray, bins: int) -> tuple:
    return np.bincount(positives, minlength=bins), np.bincount(negatives, minlength=bins)


@pytest.fixture
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Bins of two models: positives [2, 60] and negatives [2, 90]."""
    rng = np.random.default_rng(5)
    shared = rng.normal(size=150)
    scores = np.stack([shared, 0.8 * shared + 0.6 * rng.normal(size=150)])
    scores[:, :60] += 1
    bins = np.clip(np.round(scores * 4 + 15), 0, 39).astype(int)
    return bins[:, :60], bins[:, 60:]


def placements(positives: np.ndarray, negatives: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """DeLong's structural components, from the definition, ties one half."""
    wins = (positives[:, None] > negatives) + 0.5 * (positives[:, None] == negatives)
    return wins.mean(1), wins.mean(0)


def test_value_and_variance_are_those_of_the_definition(drawn):
    positives, negatives = drawn[0][0], drawn[1][0]
    found = auc(*histograms(positives, negatives, 40))
    of_p, of_n = placements(positives, negatives)
    assert found.value == pytest.approx(of_p.mean())
    assert found.variance == pytest.approx(of_p.var(ddof=1) / 60 + of_n.var(ddof=1) / 90)


def test_the_covariance_is_that_of_the_definition(drawn):
    positives, negatives = drawn
    first, second = (auc(*histograms(positives[i], negatives[i], 40)) for i in (0, 1))
    found = auc_covariance(
        first,
        second,
        (*positives, np.ones(60)),
        (*negatives, np.ones(90)),
    )
    (p1, n1), (p2, n2) = (placements(positives[i], negatives[i]) for i in (0, 1))
    expected = np.cov(p1, p2)[0, 1] / 60 + np.cov(n1, n2)[0, 1] / 90
    assert found == pytest.approx(expected)


def test_the_same_model_twice_differs_by_exactly_nothing(drawn):
    positives, negatives = drawn[0][0], drawn[1][0]
    one = auc(*histograms(positives, negatives, 40))
    cells = (positives, positives, np.ones(60)), (negatives, negatives, np.ones(90))
    covariance = auc_covariance(one, one, *cells)
    interval = auc_difference_interval(one, one, covariance)
    assert interval.low == pytest.approx(0, abs=1e-7)
    assert interval.high == pytest.approx(0, abs=1e-7)
    assert p_auc_loss(one, one, one.variance) == 0.5


def test_perfect_separation_still_has_doubt():
    found = auc([0, 0, 50], [200, 0, 0])
    assert found.value == 1
    interval = auc_interval(found)
    assert 0.9 < interval.low < 0.95
    assert interval.high == 1
    worst = auc_interval(auc([50, 0, 0], [0, 0, 200]))
    assert worst.low == 0
    assert 0.05 < worst.high < 0.1


def test_one_class_alone_has_no_auc():
    assert np.isnan(auc([3, 4], [0, 0]).value)


def test_a_floor_is_tested_on_the_logit_scale(drawn):
    found = auc(*histograms(drawn[0][0], drawn[1][0], 40))
    assert p_auc_below(found, float(found.value)) == pytest.approx(0.5)
    low = float(auc_interval(found, 0.9).low)
    assert p_auc_below(found, low) == pytest.approx(0.95)


def test_binning_hardly_moves_the_auc_even_of_a_timid_model():
    """Scores a fifth of a logit apart, as of a model that learnt little."""
    rng = np.random.default_rng(6)
    labels = rng.random(20_000) < 0.3
    scores = stats.logistic.cdf(-3 + 0.2 * (rng.normal(size=20_000) + 0.5 * labels))
    counts = SliceCounts.of(0.5, labels.tolist(), scores.tolist()).candidate()
    ranks = stats.rankdata(scores)[labels]
    n = labels.sum()
    exact = (ranks.sum() - n * (n + 1) / 2) / (n * (20_000 - n))
    assert float(auc(*counts.dense()).value) == pytest.approx(exact, abs=0.003)


def simulated(repeats: int, n: int, areas: tuple[float, float], rho: float) -> tuple:
    """Bins of two models with these AUCs: positives [2, repeats, n], negatives [2, repeats, 2n]."""
    noise = np.random.default_rng(7).standard_normal((2, repeats, 3 * n))
    noise[1] = rho * noise[0] + np.sqrt(1 - rho**2) * noise[1]
    for model, area in enumerate(areas):
        noise[model, :, :n] += stats.norm.ppf(area) * np.sqrt(2)
    bins = np.searchsorted(np.array(bin_edges(0.5)), stats.logistic.cdf(noise))
    return bins[:, :, :n], bins[:, :, n:]


def stacked(bins: np.ndarray) -> np.ndarray:
    return np.stack([np.bincount(row, minlength=BINS) for row in bins])


@pytest.mark.parametrize("n", [50, 300])
@pytest.mark.parametrize("area", [0.6, 0.8, 0.9])
def test_auc_intervals_cover_93_to_97_percent(n, area):
    positives, negatives = simulated(3000, n, (area, area), 0.0)
    interval = auc_interval(auc(stacked(positives[0]), stacked(negatives[0])))
    assert 0.93 < ((interval.low <= area) & (area <= interval.high)).mean() < 0.97


@pytest.mark.parametrize("rho", [0.0, 0.9])
def test_paired_auc_differences_cover_93_to_97_percent(rho):
    areas, covered, repeats = (0.85, 0.82), 0, 1500
    positives, negatives = simulated(repeats, 100, areas, rho)
    ones = np.ones(100), np.ones(200)
    for i in range(repeats):
        p, n = positives[:, i], negatives[:, i]
        first, second = (auc(*histograms(p[m], n[m], BINS)) for m in (0, 1))
        covariance = auc_covariance(first, second, (*p, ones[0]), (*n, ones[1]))
        interval = auc_difference_interval(first, second, covariance)
        covered += bool(interval.low <= areas[0] - areas[1] <= interval.high)
    assert 0.93 < covered / repeats < 0.97
