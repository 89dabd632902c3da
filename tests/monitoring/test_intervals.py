"""Intervals and tests of rates: published examples, limits, and coverage over a grid."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats

from tfx_encore.monitoring.intervals import (
    Interval,
    Paired,
    PairedPrecision,
    p_precision_loss_paired,
    p_rate_below,
    p_rate_loss_paired,
    precision_difference_paired,
    rate_difference_paired,
    rate_difference_unpaired,
    wilson,
)


def covers(interval: Interval, truth: float) -> np.ndarray:
    return (interval.low <= truth) & (truth <= interval.high)


def test_wilson_gives_the_published_example():
    # Newcombe (1998), 81 of 263.
    interval = wilson(81, 263)
    assert interval.low == pytest.approx(0.2553, abs=5e-5)
    assert interval.high == pytest.approx(0.3662, abs=5e-5)


@pytest.mark.parametrize(("successes", "low", "high"), [(0, 0.0, 0.161), (20, 0.839, 1.0)])
def test_wilson_has_width_where_nothing_or_everything_succeeds(successes, low, high):
    interval = wilson(successes, 20)
    assert interval.low == pytest.approx(low, abs=5e-4)
    assert interval.high == pytest.approx(high, abs=5e-4)


def test_no_cases_give_no_interval():
    assert np.isnan(wilson(0, 0).low)


def test_the_unpaired_difference_gives_the_published_example():
    # Newcombe (1998), method 10: 56/70 - 48/80.
    interval = rate_difference_unpaired(56, 70, 48, 80)
    assert interval.low == pytest.approx(0.0524, abs=5e-5)
    assert interval.high == pytest.approx(0.3339, abs=5e-5)


def constrained_score(table: Paired, difference: float) -> float:
    """The paired score statistic, its restricted likelihood maximised numerically."""
    concordant = table.both + table.neither
    n = concordant + table.only_first + table.only_second

    def unlikeliness(lost: float) -> float:
        cells = np.array([lost + difference, lost, 1 - 2 * lost - difference])
        counts = np.array([table.only_first, table.only_second, concordant])
        return float(-(counts * np.log(np.maximum(cells, 1e-300))).sum())

    low, high = max(0.0, -difference), (1 - difference) / 2
    lost = optimize.minimize_scalar(
        unlikeliness, bounds=(low, high), method="bounded", options={"xatol": 1e-12}
    ).x
    variance = n * (2 * lost + difference - difference**2)
    return float((table.only_first - table.only_second - n * difference) / np.sqrt(variance))


@pytest.mark.parametrize("table", [Paired(43, 0, 1, 0), Paired(60, 8, 20, 12), Paired(5, 9, 2, 4)])
def test_the_ends_of_the_paired_difference_are_where_the_score_test_rejects(table):
    interval = rate_difference_paired(table)
    assert constrained_score(table, float(interval.low)) == pytest.approx(1.96, abs=0.01)
    assert constrained_score(table, float(interval.high)) == pytest.approx(-1.96, abs=0.01)


def test_identical_decisions_give_a_narrow_interval_around_zero_and_no_evidence():
    same = Paired(900, 0, 0, 100)
    interval = rate_difference_paired(same)
    assert interval.low == pytest.approx(-interval.high)
    assert 0 < interval.high < 0.005
    assert p_rate_loss_paired(same) == 0.5


def test_pairing_narrows_the_interval():
    paired = rate_difference_paired(Paired(780, 20, 40, 160))
    unpaired = rate_difference_unpaired(800, 1000, 820, 1000)
    assert paired.high - paired.low < 0.5 * (unpaired.high - unpaired.low)


def test_swapping_the_models_mirrors_the_interval():
    forth = rate_difference_paired(Paired(700, 30, 60, 210))
    back = rate_difference_paired(Paired(700, 60, 30, 210))
    assert forth.low == pytest.approx(-back.high)
    assert forth.high == pytest.approx(-back.low)
    table = PairedPrecision(80, 20, 10, 5, 12, 9)
    mirrored = PairedPrecision(80, 20, 12, 9, 10, 5)
    forth, back = precision_difference_paired(table), precision_difference_paired(mirrored)
    assert forth.low == pytest.approx(-back.high)


def test_the_loss_test_is_the_mid_p_mcnemar_test():
    # 3 gains, 12 losses: P(X > 12) + P(X = 12) / 2 with X from Binomial(15, 1/2).
    expected = stats.binom.sf(12, 15, 0.5) + stats.binom.pmf(12, 15, 0.5) / 2
    assert p_rate_loss_paired(Paired(100, 3, 12, 50)) == pytest.approx(expected)
    assert p_rate_loss_paired(Paired(100, 12, 3, 50)) > 0.98


def test_the_floor_test_is_exact():
    expected = stats.binom.cdf(69, 100, 0.8) + stats.binom.pmf(70, 100, 0.8) / 2
    assert p_rate_below(70, 100, 0.8) == pytest.approx(expected)


def test_equal_precisions_are_no_evidence_of_loss():
    assert p_precision_loss_paired(PairedPrecision(80, 20, 0, 0, 0, 0)) == 0.5


def test_wilson_covers_93_to_97_percent_from_100_cases_on():
    """Exact coverage, for rates from 0.1 to 0.9."""
    for n in (100, 300, 1000):
        k = np.arange(n + 1)
        interval = wilson(k, n)
        shares = [
            (stats.binom.pmf(k, n, rate) * covers(interval, rate)).sum()
            for rate in np.linspace(0.1, 0.9, 161)
        ]
        assert min(shares) > 0.93
        assert max(shares) < 0.97


@pytest.mark.parametrize("n", [100, 300, 2000])
@pytest.mark.parametrize(
    ("both", "gained", "lost"), [(0.75, 0.05, 0.05), (0.85, 0.02, 0.04), (0.5, 0.1, 0.1)]
)
def test_paired_differences_cover_93_to_97_percent(n, both, gained, lost):
    cells = [both, gained, lost, 1 - both - gained - lost]
    drawn = np.random.default_rng(1).multinomial(n, cells, size=10_000).T
    share = covers(rate_difference_paired(Paired(*drawn)), gained - lost).mean()
    assert 0.93 < share < 0.97


def precision_draws(n: int, loss: float) -> tuple[np.ndarray, float]:
    """Counts for PairedPrecision, and the true difference."""
    right, wrong = 0.18, 0.06
    cells = np.array([right, wrong, 0.03, 0.02, 0.03 + loss, 0.02 - loss / 2, 0])
    cells[-1] = 1 - cells.sum()
    drawn = np.random.default_rng(2).multinomial(n, cells, size=10_000).T[:6]
    first = (right + cells[2]) / (right + wrong + cells[2] + cells[3])
    second = (right + cells[4]) / (right + wrong + cells[4] + cells[5])
    return drawn, first - second


@pytest.mark.parametrize("n", [300, 1000, 5000])
@pytest.mark.parametrize("loss", [0.0, 0.02])
def test_paired_precision_differences_cover_93_to_97_percent(n, loss):
    drawn, truth = precision_draws(n, loss)
    share = covers(precision_difference_paired(PairedPrecision(*drawn)), truth).mean()
    assert 0.93 < share < 0.97


def test_tests_of_loss_alarm_no_more_often_than_they_say():
    """Far in the tail, where many slices put the threshold, and with few rows."""
    rng = np.random.default_rng(3)
    for n in (100, 400):
        rates = rng.multinomial(n, [0.75, 0.05, 0.05, 0.15], size=200_000).T
        assert (p_rate_loss_paired(Paired(*rates)) < 0.001).mean() < 0.0013
    drawn, _ = precision_draws(400, 0.0)
    assert (p_precision_loss_paired(PairedPrecision(*drawn)) < 0.01).mean() < 0.015
