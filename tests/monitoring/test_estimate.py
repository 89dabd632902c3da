"""Performance without labels: what is estimated, how sure, and when it is wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tfx_encore.monitoring.estimate import estimate, judge_estimates
from tfx_encore.monitoring.night_slices import NightSlices, PathCounts, ServedSlice
from tfx_encore.monitoring.slice_counts import SliceCounts, SliceKey
from tfx_encore.monitoring.slice_metrics import METRICS
from tfx_encore.monitoring.slice_report import SliceTable, slice_table
from tfx_encore.schemas.decisions import Outcome
from tfx_encore.schemas.evaluation_policy import EvaluationPolicy
from tfx_encore.schemas.nightly_policy import EstimatePolicy
from tfx_encore.schemas.nights import PerformanceEstimate
from tfx_encore.schemas.serial import to_json

POLICY = EvaluationPolicy(label_key="y", slices=[[], ["pay"]])
ESTIMATE = EstimatePolicy()
CASH: SliceKey = (("pay", "Cash"),)
MODEL = "f1"


def rows(seed: int, n: int, *, shift: float = 0.0, concept: float = 0.0, spread: float = 1.5):
    """Labels and scores; `shift` moves the traffic, `concept` what a score means."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(shift, spread, n)
    labels = rng.random(n) < 1 / (1 + np.exp(-(logit + concept)))
    return labels.astype(float), 1 / (1 + np.exp(-logit))


def release(**slices: tuple[np.ndarray, np.ndarray]) -> SliceTable:
    """A release's evaluation: `overall` and the values of `pay`."""
    counts = {key_of(name): SliceCounts.of(0.5, *found) for name, found in slices.items()}
    return slice_table(counts, threshold=0.5, confidence=0.95, baseline=None)


def key_of(name: str) -> SliceKey:
    return () if name == "overall" else (("pay", name),)


def night(*, labelled: bool = False, repeats: float = 1.0, **slices) -> NightSlices:
    found = []
    for name, (labels, scores) in slices.items():
        known = labels if labelled else np.full(len(labels), np.nan)
        counts = SliceCounts.of(0.5, known, scores)
        squares = len(labels) * repeats
        served = ServedSlice(
            MODEL,
            1,
            dict(key_of(name)),
            {"miss": PathCounts(counts.rows)},
            squares,
            squares if labelled else 0.0,
        )
        found.append(served)
    return NightSlices(0.5, tuple(found))


def estimates(
    tonight: NightSlices, table: SliceTable | None
) -> dict[tuple[str, str], PerformanceEstimate]:
    found = estimate(tonight, MODEL, table, POLICY, ESTIMATE)
    return {(item.slice, item.metric): item for item in found}


def judged(tonight: NightSlices, table: SliceTable | None, policy: EstimatePolicy = ESTIMATE):
    found = estimate(tonight, MODEL, table, POLICY, policy)
    return judge_estimates(found, table, POLICY, policy, "release 1")


@pytest.mark.parametrize("shift", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_traffic_that_shifts_is_estimated_within_the_interval(seed, shift):
    """A night's true metrics, computed from labels the estimate has not seen."""
    table = release(overall=rows(seed, 8000))
    day = rows(100 + seed, 5000, shift=shift)
    blind = estimates(night(overall=day), table)
    truth = estimates(night(labelled=True, overall=day), table)
    inside = 0
    for metric in METRICS:
        found, actual = blind["overall", metric], truth["overall", metric].actual
        assert found.actual is None
        assert abs(found.estimated - actual) < 0.03
        inside += found.interval[0] <= actual <= found.interval[1]
    assert inside >= 3


def test_labels_change_nothing_but_the_truth_beside_it():
    table, day = release(overall=rows(1, 3000)), rows(2, 2000)
    blind = estimates(night(overall=day), table)
    seen = estimates(night(labelled=True, overall=day), table)
    assert blind.keys() == seen.keys()
    for place, item in seen.items():
        assert item.actual is not None
        assert item.labelled == item.n == 2000
        assert replace(item, actual=None, actual_interval=None, labelled=0) == blind[place]


def test_scores_that_are_no_probabilities_are_calibrated_first():
    labels, scores = rows(3, 20_000)
    table = release(overall=(labels, scores**3 / (scores**3 + (1 - scores) ** 3)))
    day = rows(4, 20_000)
    sharp = day[1] ** 3 / (day[1] ** 3 + (1 - day[1]) ** 3)
    found = estimates(night(overall=(day[0], sharp)), table)["overall", "accuracy"]
    actual = float(np.mean((sharp > 0.5) == day[0]))
    said = float(np.mean(np.maximum(sharp, 1 - sharp)))
    assert abs(found.estimated - actual) < 0.01 < abs(said - actual)


def test_a_slice_has_its_own_calibration_where_the_release_saw_enough_of_it():
    cash, card = rows(5, 4000, concept=-2.0), rows(6, 4000)
    both = tuple(np.concatenate(parts) for parts in zip(cash, card, strict=True))
    day = rows(7, 3000, concept=-2.0)
    actual = float(np.mean((day[1] > 0.5) == day[0]))
    tonight = night(overall=day, Cash=day)
    known = estimates(tonight, release(overall=both, Cash=cash))
    new = estimates(tonight, release(overall=both, Cash=(cash[0][:50], cash[1][:50])))
    low, high = known["pay=Cash", "accuracy"].interval
    assert low <= actual <= high
    assert new["pay=Cash", "accuracy"].estimated == new["overall", "accuracy"].estimated
    assert new["pay=Cash", "accuracy"].estimated > high


@pytest.mark.parametrize("labelled", [False, True])
def test_the_intervals_of_a_decision_are_of_its_effects(labelled):
    day = night(labelled=labelled, overall=rows(3, 2000))
    decision = judged(day, release(overall=rows(2, 4000)))
    effects = [item for item in decision.evidence if item.effect is not None]
    assert effects
    assert all(item.interval[0] <= item.effect <= item.interval[1] for item in effects)


def test_repeats_widen_the_interval():
    table, day = release(overall=rows(8, 50_000)), rows(9, 5000)
    once = estimates(night(overall=day), table)["overall", "accuracy"]
    often = estimates(night(overall=day, repeats=10.0), table)["overall", "accuracy"]
    assert often.estimated == pytest.approx(once.estimated)
    width = np.subtract(*often.interval) / np.subtract(*once.interval)
    assert 2 < width < np.sqrt(10)


def test_a_small_calibration_widens_the_interval():
    day = rows(10, 100_000)
    small, large = (
        estimates(night(overall=day), release(overall=rows(11, n)))["overall", "accuracy"].interval
        for n in (500, 50_000)
    )
    assert np.diff(small) > 5 * np.diff(large)


def test_an_interval_close_to_1_stays_sane():
    """As for payments in cash, of which none has a tip: nearly every decision is right."""
    rare = {"shift": -9.0, "spread": 1.0}
    table = release(overall=rows(40, 10_000), Cash=rows(41, 1500, **rare))
    day = rows(42, 400, **rare)
    found = estimates(night(Cash=day), table)["pay=Cash", "accuracy"]
    low, high = found.interval
    assert 0.9 < low < float(np.mean((day[1] > 0.5) == day[0])) <= 1
    assert low < found.estimated < high <= 1


@pytest.mark.parametrize(
    "table",
    [
        None,
        SliceTable(0.5, 0.95),
        SliceTable(0.4, 0.95, None, release(overall=rows(12, 500)).slices),
        release(overall=(np.ones(500), rows(12, 500)[1])),
    ],
    ids=["no evaluation", "empty", "another threshold", "one class"],
)
def test_nothing_is_estimated_without_something_to_calibrate_by(table):
    tonight = night(overall=rows(13, 1000))
    assert estimates(tonight, table) == {}
    decision = judged(tonight, table)
    assert decision.outcome is Outcome.INSUFFICIENT_DATA
    assert "no calibration" in decision.reason


def test_a_night_too_small_is_not_estimated():
    table = release(overall=rows(14, 3000))
    assert estimates(night(overall=rows(15, 99)), table) == {}
    assert estimates(night(overall=rows(15, 1000), repeats=11.0), table) == {}


def test_other_models_rows_are_left_out():
    table, tonight = release(overall=rows(16, 3000)), night(overall=rows(17, 1000))
    assert estimate(tonight, "f2", table, POLICY, ESTIMATE) == ()


def test_it_can_be_switched_off():
    table, tonight = release(overall=rows(16, 3000)), night(overall=rows(17, 1000))
    off = EstimatePolicy(enabled=False)
    assert estimate(tonight, MODEL, table, POLICY, off) == ()


def test_estimates_come_overall_first_and_are_equal_whenever_made():
    table = release(overall=rows(18, 3000), Cash=rows(19, 600), Card=rows(20, 600))
    tonight = night(Cash=rows(21, 900), overall=rows(22, 2000), Card=rows(23, 900))
    found = estimate(tonight, MODEL, table, POLICY, ESTIMATE)
    assert [item.slice for item in found[::4]] == ["overall", "pay=Card", "pay=Cash"]
    assert [item.metric for item in found[:4]] == list(METRICS)
    backwards = NightSlices(0.5, tonight.slices[::-1])
    assert to_json(found) == to_json(estimate(backwards, MODEL, table, POLICY, ESTIMATE))


def test_harder_traffic_is_warned_of_without_labels():
    """Scores crowd around the threshold: the model says itself that it is less sure."""
    table = release(overall=rows(24, 10_000, spread=3.0))
    decision = judged(night(overall=rows(25, 5000, spread=0.7)), table)
    assert decision.outcome is Outcome.WARN
    worst = decision.evidence[0]
    assert worst.measure in {"estimated_accuracy", "estimated_auc"}
    assert worst.effect < -ESTIMATE.max_drop
    assert "estimated without labels" in decision.reason
    assert "if scores mean what they meant at release" in decision.reason


def test_equal_traffic_is_not_warned_of():
    table = release(overall=rows(26, 5000))
    for seed in range(20):
        assert judged(night(overall=rows(200 + seed, 1000)), table).outcome is Outcome.OK


def test_concept_drift_is_not_seen_until_labels_come_and_is_then_said_to_be_it():
    table, day = release(overall=rows(27, 10_000)), rows(28, 5000, concept=-1.5)
    blind = judged(night(overall=day), table)
    assert blind.outcome is Outcome.OK
    seen = judged(night(labelled=True, overall=day), table)
    assert seen.outcome is Outcome.WARN
    assert seen.evidence[0].measure.endswith("_estimate_error")
    assert "the estimate was wrong" in seen.reason
    assert "concept drift" in seen.reason


def test_labels_that_agree_are_said_to_agree():
    table, day = release(overall=rows(29, 10_000)), rows(30, 5000, shift=0.5)
    decision = judged(night(labelled=True, overall=day), table)
    assert decision.outcome is Outcome.OK
    assert "4 agree with the labels" in decision.reason


def test_where_labels_are_a_loss_is_left_to_the_gates_that_know_the_truth():
    table = release(overall=rows(24, 10_000, spread=3.0))
    decision = judged(night(labelled=True, overall=rows(25, 5000, spread=0.7)), table)
    assert decision.outcome is Outcome.OK
    assert all(item.measure.endswith("_estimate_error") for item in decision.evidence)


def test_a_few_labels_do_not_silence_the_warning():
    table = release(overall=rows(24, 10_000, spread=3.0))
    day = rows(25, 5000, spread=0.7)
    known, unknown = (
        night(labelled=label, overall=tuple(part[chosen] for part in day))
        for label, chosen in ((True, slice(200)), (False, slice(200, 5000)))
    )
    decision = judged(known + unknown, table)
    assert decision.outcome is Outcome.WARN
    found = {item.measure: item.outcome for item in decision.evidence}
    assert found["estimated_accuracy"] is Outcome.WARN
    assert found["accuracy_estimate_error"] is Outcome.OK


def test_it_never_blocks():
    table, day = release(overall=rows(31, 10_000)), rows(32, 5000, concept=-5.0)
    decision = judged(night(labelled=True, overall=day), table)
    assert decision.outcome is Outcome.WARN
    assert {item.severity for item in decision.evidence} == {Outcome.WARN}


def test_a_slice_the_release_never_saw_has_nothing_to_be_held_against():
    table = release(overall=rows(33, 3000))
    decision = judged(night(New=rows(34, 1000)), table)
    assert decision.outcome is Outcome.INSUFFICIENT_DATA
    assert "no value to compare with" in decision.evidence[0].message
