"""Metrics of rows that repeat: an interval knows how much evidence there really is."""

from __future__ import annotations

import numpy as np
import pytest

from tfx_encore.monitoring import intervals
from tfx_encore.monitoring.night_slices import PathCounts, ServedSlice
from tfx_encore.monitoring.served_metrics import (
    NO_REPEATS,
    Repeats,
    effective_share,
    labelled_repeats,
    p_rate_below,
    p_rate_loss,
    served_difference,
    served_estimate,
)
from tfx_encore.monitoring.slice_counts import ScoreCounts, SliceCounts, row_code
from tfx_encore.monitoring.slice_metrics import estimate, unpaired_difference


def scored(right: int, wrong: int) -> ScoreCounts:
    """Positives only: so many found, so many missed."""
    scores = [0.9] * right + [0.1] * wrong
    return SliceCounts.of(0.5, [1.0] * len(scores), scores).candidate()


def test_equal_multiplicities_leave_as_many_rows_as_are_distinct():
    # 50 distinct rows, each four times
    assert effective_share(200, 50 * 4**2) * 200 == 50


def test_rows_of_which_nothing_is_known_count_in_full():
    assert effective_share(200, 0) == 1
    assert effective_share(0, 0) == 1


def test_repeats_widen_the_interval_and_leave_the_value():
    counts = scored(180, 20)
    plain, repeated = served_estimate("recall", counts), served_estimate("recall", counts, 0.25)
    assert repeated.value == plain.value == 0.9
    assert repeated.cases == 200
    assert repeated.interval == pytest.approx(tuple(intervals.wilson(45, 50)))
    assert plain.interval == estimate("recall", counts).interval


def test_repeats_widen_the_interval_of_auc_too():
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 2, 400).astype(float)
    scores = 1 / (1 + np.exp(-(labels - 0.5) * 1.5 - rng.normal(size=400)))
    counts = SliceCounts.of(0.5, labels, scores).candidate()
    plain, repeated = served_estimate("auc", counts), served_estimate("auc", counts, 0.25)
    assert plain == estimate("auc", counts)
    assert repeated.value == pytest.approx(plain.value)
    width = [high - low for low, high in (plain.interval, repeated.interval)]
    assert width[1] / width[0] == pytest.approx(2.0, rel=0.05)


@pytest.mark.parametrize(("right", "cases"), [(45, 60), (0, 60), (60, 60), (59, 60)])
def test_the_floor_test_is_as_good_as_the_exact_one(right, cases):
    exact = float(intervals.p_rate_below(right, cases, 0.8))
    assert exact - 1e-12 <= p_rate_below(right, cases, 0.8) <= 1.1 * exact + 0.01


def test_repeats_make_the_floor_test_more_cautious():
    few = [p_rate_below(140, 200, 0.8, Repeats(share)) for share in (1.0, 0.5, 0.25)]
    assert few == sorted(few)
    assert p_rate_below(140, 200, 0.8, Repeats(0.25, excess=20.0)) > few[-1]


def test_multiplicities_give_share_and_excess():
    times = np.array([1] * 90 + [10])
    item = ServedSlice(
        "",
        0,
        {},
        {"hit": PathCounts({row_code(1, 200): 100})},
        labelled_squares=float((times**2).sum()),
        labelled_cubes=float((times**3).sum()),
    )
    found = labelled_repeats(item, 0.5)
    assert found.share == pytest.approx(100 / 190)
    # the third moment of a mean of 100: sum c^3 / n^3
    assert found.lopsided(100) == pytest.approx((times**3).sum() / 100**3)


def test_the_loss_test_says_nothing_where_nothing_speaks():
    assert p_rate_loss((50, 50), (1000, 1000)) == 0.5
    assert p_rate_loss((0, 50), (0, 1000)) == 0.5
    assert p_rate_loss((0, 50), (1000, 1000)) < 1e-30


def test_without_repeats_the_difference_is_the_unpaired_one():
    ours = served_difference("recall", scored(150, 50), scored(450, 50))
    plain = unpaired_difference("recall", scored(150, 50), scored(450, 50))
    assert ours.value == pytest.approx(plain.value)
    assert ours.interval == pytest.approx(plain.interval)


@pytest.mark.parametrize(
    ("n", "n_release", "rate"), [(100, 5000, 0.98), (100, 2000, 0.95), (2000, 300, 0.95)]
)
def test_the_loss_test_holds_its_level_far_out_where_many_slices_are_tested(n, n_release, rate):
    """At 0.001 the pooled z test gives 2 to 5 times too many alarms in two of these."""
    rng = np.random.default_rng(11)
    first, second = rng.binomial(n, rate, 100_000), rng.binomial(n_release, rate, 100_000)
    pairs, times = np.unique(np.stack([first, second]), axis=1, return_counts=True)
    alarms = sum(
        count
        for (k1, k2), count in zip(pairs.T.tolist(), times.tolist(), strict=True)
        if k1 / n < k2 / n_release and p_rate_loss((k1, n), (k2, n_release)) <= 0.001
    )
    assert 20 <= alarms <= 160


def night_of_repeats(rng, distinct: int, rate: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How often each distinct row was asked, and in how many of those the answer was right."""
    times = np.minimum(rng.zipf(2.2, (5000, distinct)), 40)
    right = (rng.random((5000, distinct)) < rate) * times
    return times.sum(1), right.sum(1), (times**2).sum(1)


@pytest.mark.parametrize("rate", [0.6, 0.85])
def test_intervals_cover_the_truth_although_rows_repeat(rate):
    rng = np.random.default_rng(3)
    rows, right, squares = night_of_repeats(rng, 600, rate)
    share = np.minimum(rows / squares, 1)
    scaled = intervals.wilson(right * share, rows * share)
    naive = intervals.wilson(right, rows)
    covered = ((scaled.low <= rate) & (rate <= scaled.high)).mean()
    assert 0.935 <= covered <= 0.97
    assert ((naive.low <= rate) & (rate <= naive.high)).mean() < 0.85


def test_the_difference_to_the_release_is_covered_although_rows_repeat():
    rng = np.random.default_rng(4)
    rows, right, squares = night_of_repeats(rng, 600, 0.8)
    release = rng.binomial(2000, 0.85, len(rows))
    share = np.minimum(rows / squares, 1)
    found = intervals.rate_difference_unpaired(right * share, rows * share, release, 2000)
    assert 0.935 <= ((found.low <= -0.05) & (found.high >= -0.05)).mean() <= 0.97


@pytest.mark.parametrize("rate", [0.8, 0.97])
def test_a_few_very_popular_rows_raise_no_false_alarms(rate):
    """Zipf traffic, the most popular row 5% of it; nothing has changed since the release."""
    rng = np.random.default_rng(8)
    weights = 1 / np.arange(1, 4001) ** 0.8
    times = rng.multinomial(5000, weights / weights.sum())
    times = times[times > 0]
    n, squares, cubes = (int((times**power).sum()) for power in (1, 2, 3))
    repeats = Repeats(effective_share(n, squares), n * cubes / squares**2)
    right = (rng.random((10_000, len(times)), dtype=np.float32) < rate) @ times
    release = rng.binomial(4000, rate, len(right))
    told = {"ours": 0, "squares only": 0, "naive": 0}
    for k, r in zip(right.tolist(), release.tolist(), strict=True):
        first, second = (k, n), (r, 4000)
        if k / n > r / 4000 - 0.002:
            continue
        told["ours"] += p_rate_loss(first, second, (repeats, NO_REPEATS)) <= 0.001
        told["naive"] += p_rate_loss(first, second) <= 0.001
        only = (Repeats(repeats.share), NO_REPEATS)
        told["squares only"] += p_rate_loss(first, second, only) <= 0.001
    assert told["ours"] <= 18  # 10 expected
    assert told["naive"] > 500
    assert told["squares only"] > (50 if rate > 0.9 else 10)
