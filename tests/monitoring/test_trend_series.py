"""Counts become losses in standard deviations that chance alone does not stretch."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tfx_encore.monitoring.night_slices import NightSlices, PathCounts, ServedSlice
from tfx_encore.monitoring.slice_counts import NOT_A_NUMBER, SliceCounts, row_code
from tfx_encore.monitoring.slice_report import SliceTable, slice_table
from tfx_encore.monitoring.trend_series import (
    Observation,
    losses,
    nights_reference,
    normal_scores,
    release_reference,
    series_of,
)
from tfx_encore.schemas.evaluation_policy import EvaluationPolicy
from tfx_encore.schemas.nightly_policy import TrendPolicy

EVALUATION = EvaluationPolicy(label_key="label")
LOW, HIGH = 100, 220  # score bins on either side of the threshold


def counts(tp: int, fn: int, tn: int, fp: int) -> dict[int, int]:
    cells = {(1, HIGH): tp, (1, LOW): fn, (0, LOW): tn, (0, HIGH): fp}
    return {row_code(label, place): n for (label, place), n in cells.items() if n}


def night(rows: dict[int, int], squares: float = 0.0, threshold: float = 0.5) -> NightSlices:
    item = ServedSlice("fp", 1, {}, {"miss": PathCounts(rows)}, squares, squares)
    return NightSlices(threshold, (item,))


def release(rows: dict[int, int], threshold: float = 0.5) -> SliceTable:
    table = {(): SliceCounts(threshold, rows)}
    return slice_table(table, threshold=threshold, confidence=0.95, baseline=None)


@pytest.mark.parametrize(("cases", "rate"), [(30, 0.99), (30, 0.5), (300, 0.9), (7, 0.02)])
def test_normal_scores_of_chance_alone_have_no_heavier_tail_than_the_normal(cases, rate):
    count = np.arange(cases + 1.0)
    share = stats.binom.pmf(count, cases, rate)
    score = normal_scores(count, np.full(cases + 1, float(cases)), rate)
    assert (np.diff(score) > 0).all()
    assert share @ score == pytest.approx(0, abs=1e-9)
    assert share @ score**2 <= 1
    for size in (-2.0, -0.5, 0.05, 0.5, 1.0, 2.0, 3.0):
        assert share @ np.exp(size * score) <= np.exp(size**2 / 2) * (1 + 1e-9)


def test_many_cases_score_as_the_textbook_has_it():
    found = normal_scores(np.array([880.0, 900.0, 915.0]), np.full(3, 1000.0), 0.9)
    textbook = (np.array([880, 900, 915]) - 900) / np.sqrt(90)
    np.testing.assert_allclose(found, textbook, atol=0.05)


def test_the_most_unlikely_counts_still_score_a_number():
    found = normal_scores(np.array([0.0, 50.0, 1e6]), np.array([1e6, 1e4, 1e6]), 0.9)
    assert np.isfinite(found).all()
    assert found[0] < -30
    assert found[2] > 30


def test_metrics_cases_and_repeats_come_from_the_counts():
    rows = {**counts(80, 20, 150, 50), row_code(None, HIGH): 40, row_code(1, NOT_A_NUMBER): 3}
    policy = TrendPolicy(metrics=("accuracy", "precision", "recall", "auc"))
    found = series_of({"2016-01-01": night(rows, squares=600.0)}, "fp", policy, EVALUATION)
    seen = {metric: series[0] for (_, metric), series in found.items()}
    assert seen["accuracy"].value == pytest.approx(230 / 300)
    assert seen["precision"].value == pytest.approx(80 / 130)
    assert seen["recall"].value == pytest.approx(0.8)
    assert 0.7 < seen["auc"].value < 0.9
    assert [seen[m].cases for m in ("accuracy", "precision", "recall", "auc")] == [
        *(300, 130, 100, 100)
    ]
    assert seen["accuracy"].effective == pytest.approx(150)  # 300^2 / 600
    assert seen["recall"].effective == pytest.approx(50)
    assert seen["recall"].sd == pytest.approx((0.8 * 0.2 / 50) ** 0.5, rel=0.02)


def test_nights_with_few_cases_or_another_threshold_or_model_are_left_out():
    nights = {
        "2016-01-01": night(counts(80, 20, 80, 20)),
        "2016-01-02": night(counts(9, 1, 80, 20)),
        "2016-01-03": night(counts(80, 20, 80, 20), threshold=0.4),
    }
    found = series_of(nights, "fp", TrendPolicy(), EVALUATION)
    assert [seen.date for seen in found[(), "recall"]] == ["2016-01-01"]
    assert [seen.date for seen in found[(), "accuracy"]] == ["2016-01-01", "2016-01-02"]
    assert series_of(nights, "another", TrendPolicy(), EVALUATION) == {}


def test_a_release_gives_its_value_with_its_own_error():
    found = release_reference(release(counts(900, 100, 80, 20)), ((), "recall"), 0.5)
    assert found is not None
    assert (found.value, found.cases, found.kind) == (0.9, 1000, "release")
    assert found.sd == pytest.approx((0.09 / 1000) ** 0.5, rel=0.01)
    assert release_reference(release(counts(4, 1, 80, 20)), ((), "recall"), 0.5) is None
    assert release_reference(release(counts(900, 100, 8, 2), 0.4), ((), "recall"), 0.5) is None
    elsewhere = ((("a", "b"),), "recall")
    assert release_reference(release(counts(900, 100, 80, 20)), elsewhere, 0.5) is None


def test_first_nights_are_pooled_by_their_independent_cases():
    nights = [
        Observation("2016-01-01", 0.8, 0.04, 100, 100.0),
        Observation("2016-01-02", 0.9, 0.03, 300, 100.0),
        Observation("2016-01-04", 0.1, 0.03, 100, 100.0),
    ]
    found = nights_reference(nights, 2)
    assert found is not None
    assert found.value == pytest.approx(0.85)
    assert found.sd == pytest.approx((0.04**2 + 0.03**2) ** 0.5 / 2)
    assert found.until == "2016-01-02"
    assert nights_reference(nights, 4) is None


def test_a_perfect_release_still_lets_nights_differ():
    reference = release_reference(release(counts(200, 0, 50, 50)), ((), "recall"), 0.5)
    assert reference is not None
    nights = [Observation(f"2016-01-0{i}", v, 0.02, 50, 50.0) for i, v in ((1, 1.0), (2, 0.96))]
    loss = losses("recall", nights, reference)
    assert loss[0] == pytest.approx(-0.3, abs=0.3)
    assert 1.5 < loss[1] < 6


def test_auc_is_measured_in_standard_deviations_of_the_release():
    rng = np.random.default_rng(1)
    labels = (rng.random(4000) < 0.3).astype(int)
    scores = 1 / (1 + np.exp(-(rng.standard_normal(4000) + 1.5 * labels)))
    table = {(): SliceCounts.of(0.5, labels.tolist(), scores.tolist())}
    made = slice_table(table, threshold=0.5, confidence=0.95, baseline=None)
    reference = release_reference(made, ((), "auc"), 0.4)
    assert reference is not None
    low = Observation("2016-01-01", reference.value - 0.03, 0.01, 300, 300.0)
    assert losses("auc", [low], reference)[0] == pytest.approx(0.03 * 300**0.5 / reference.unit)
    assert 0.15 < reference.unit < 0.4
