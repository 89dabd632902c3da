import numpy as np
import pytest
from scipy import stats

from tfx_encore.monitoring import divergence, null_floors

RUNS = 3000


def shares(categories):
    weights = 1 / np.arange(1, categories + 1)
    return weights / weights.sum()


def pearson(current, baseline, n, m):
    """Terms of Pearson's two-sample statistic, whose null is known exactly."""
    pooled = np.maximum(current + baseline, 1e-9)
    expected, share = pooled * n / (n + m), m / (n + m)
    return (current - expected) ** 2 / np.maximum(expected * share, 1e-9)


def test_pearsons_statistic_has_the_moments_of_chi_square():
    null = null_floors.additive_null(pearson, np.full(10, 4000), 20_000, 20_000)
    assert null.mean == pytest.approx(9, rel=0.01)
    assert null.variance == pytest.approx(18, rel=0.02)
    assert null.quantile() == pytest.approx(stats.chi2.ppf(0.999, 9), rel=0.01)


@pytest.mark.parametrize("measure", ["jensen_shannon", "psi", "total_variation"])
@pytest.mark.parametrize(("n", "m"), [(300, 300), (300, 30_000), (3000, 3000)])
@pytest.mark.parametrize("categories", [10, 1000])
def test_the_null_has_the_mean_and_spread_of_simulated_samples(measure, n, m, categories):
    rng = np.random.default_rng(5)
    runs = RUNS if categories == 10 else 500
    now = rng.multinomial(n, shares(categories), runs).astype(float)
    then = rng.multinomial(m, shares(categories), runs).astype(float)
    terms = getattr(divergence, f"{measure}_terms")
    effect = terms(now, then, n, m).sum(axis=-1)
    null = null_floors.additive_null(terms, now + then, n, m, smooth=measure != "total_variation")
    z = (effect - null.mean) / np.sqrt(null.variance)
    assert abs(z.mean()) < 0.15
    assert 0.88 < z.std() < 1.12


@pytest.mark.parametrize("categories", [2, 10, 1000])
def test_small_p_values_are_as_rare_as_they_say(categories):
    rng = np.random.default_rng(6)
    runs = 20_000 if categories < 100 else 2000
    now, then = rng.multinomial(300, shares(categories), (2, runs)).astype(float)
    terms = divergence.jensen_shannon_terms
    effect = terms(now, then, 300, 300).sum(axis=-1)
    p_values = null_floors.additive_null(terms, now + then, 300, 300).p_value(effect)
    allowed = stats.binom.ppf(0.9999, runs, 0.012)
    assert 0 < (p_values < 0.01).sum() <= allowed


def test_a_thousand_categories_in_300_examples_look_far_apart_and_the_floor_knows():
    rng = np.random.default_rng(7)
    now, then = rng.multinomial(300, np.full(1000, 0.001), 2).astype(float)
    effect = divergence.jensen_shannon(now, then, 300, 300)
    null = null_floors.additive_null(divergence.jensen_shannon_terms, now + then, 300, 300)
    assert effect > 0.6
    assert effect < null.quantile()
    assert null.p_value(effect) > 0.001


def test_unseen_share_without_drift_follows_its_null():
    rng = np.random.default_rng(8)
    now, then = rng.multinomial(300, shares(1000), (2, 2000)).astype(float)
    effect = divergence.unseen_share(now, then, 300)
    null = null_floors.unseen_null(now + then, 300, 300)
    z = (effect - null.mean) / np.sqrt(null.variance)
    assert abs(z.mean()) < 0.15
    assert 0.88 < z.std() < 1.12
    assert (effect > null.quantile()).mean() < 0.005


@pytest.mark.parametrize(("k", "n", "m"), [(60, 300, 300), (20, 300, 3000), (300, 300, 300)])
def test_a_share_changes_about_as_rarely_as_the_hypergeometric_says(k, n, m):
    change = 0.08 if k < 300 else 0.12
    counts = np.arange(0, min(k, n) + 1)
    off = np.abs(counts / n - (k - counts) / m) >= change - 1e-12
    exact = stats.hypergeom.pmf(counts[off], n + m, k, n).sum()
    ours = null_floors.share_change_p_values(np.array([change]), np.array([k]), n, m)[0]
    assert exact * 0.5 <= ours <= exact * 3


def test_the_floor_of_the_largest_change_is_where_its_p_value_is_one_in_a_thousand():
    pooled = np.array([300.0, 200, 80, 20])
    floor = null_floors.largest_change_floor(pooled, 300, 300)
    assert null_floors.largest_change_p_value(floor, pooled, 300, 300) <= 0.001
    assert null_floors.largest_change_p_value(floor - 0.01, pooled, 300, 300) > 0.001


def test_a_cell_and_all_the_others_together_change_alike():
    few = null_floors.share_change_p_values(np.array([0.05]), np.array([40.0]), 300, 500)
    rest = null_floors.share_change_p_values(np.array([0.05]), np.array([760.0]), 300, 500)
    assert few == pytest.approx(rest)


def test_one_cell_alone_cannot_differ():
    null = null_floors.additive_null(divergence.psi_terms, np.array([600.0]), 300, 300)
    assert null.p_value(0.0) == 1
    assert null.quantile() == pytest.approx(0, abs=1e-9)


def test_floors_shrink_as_samples_grow():
    floors = [
        null_floors.additive_null(
            divergence.jensen_shannon_terms, 2 * n * shares(10), n, n
        ).quantile()
        for n in (300, 3000, 30_000)
    ]
    assert floors[0] > 5 * floors[1] > 25 * floors[2] > 0
