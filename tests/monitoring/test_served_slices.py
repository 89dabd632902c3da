"""A night against its release, slice by slice: blamed is what is large and real."""

from __future__ import annotations

from collections import Counter

import pytest

from tfx_encore.monitoring.night_slices import NightSlices, PathCounts, ServedSlice
from tfx_encore.monitoring.served_slices import judge_slices, metric_points
from tfx_encore.monitoring.slice_counts import SliceCounts, slice_key
from tfx_encore.monitoring.slice_report import SliceTable, slice_table
from tfx_encore.schemas.decisions import Decision, Evidence, Outcome
from tfx_encore.schemas.evaluation_policy import EvaluationPolicy

MODEL = "sha256:aa"
CASH, CARD = {"payment_type": "Cash"}, {"payment_type": "Card"}


def counts(n: int, accuracy: float, *, unlabelled: int = 0) -> SliceCounts:
    """Half positives; the same share of both classes is decided rightly."""
    right = round(n * accuracy / 2)
    scores = ([0.9] * right + [0.1] * (n // 2 - right)) + ([0.1] * right + [0.9] * (n // 2 - right))
    labels = [1.0] * (n // 2) + [0.0] * (n // 2) + [float("nan")] * unlabelled
    return SliceCounts.of(0.5, labels, scores + [0.7] * unlabelled)


def served(features: dict[str, str], rows: SliceCounts, *, times: int = 1) -> ServedSlice:
    """A slice of which each row was asked `times` times."""
    known = rows.n - rows.unlabelled
    return ServedSlice(
        MODEL,
        3,
        features,
        {"hit": PathCounts(dict(rows.rows))},
        squares=float(rows.n * times),
        labelled_squares=float(known * times),
    )


def night(*slices: ServedSlice) -> NightSlices:
    everything: Counter[int] = Counter()
    for item in slices:
        everything.update(item.counts(0.5).rows)
    total = ServedSlice(
        MODEL,
        3,
        {},
        {"hit": PathCounts(dict(everything))},
        sum(s.squares for s in slices),
        sum(s.labelled_squares for s in slices),
    )
    return NightSlices(0.5, (total, *slices))


def release(**accuracy: float) -> SliceTable:
    found = {slice_key({"payment_type": name}): counts(4000, a) for name, a in accuracy.items()}
    found[()] = counts(4000 * len(accuracy), sum(accuracy.values()) / len(accuracy))
    return slice_table(found, threshold=0.5, confidence=0.95, baseline=None)


def policy(**more) -> EvaluationPolicy:
    rules = [{"metric": "accuracy", "max_drop": 0.02}]
    given = {"label_key": "y", "slices": [["payment_type"]], "rules": rules, **more}
    return EvaluationPolicy(**given)


def found(decision: Decision, subject: str, measure: str = "accuracy") -> Evidence:
    (item,) = [e for e in decision.evidence if (e.subject, e.measure) == (subject, measure)]
    return item


BEFORE = release(Cash=0.9, Card=0.9)


def test_a_slice_that_lost_much_is_blamed_and_no_other():
    tonight = night(served(CASH, counts(1000, 0.8)), served(CARD, counts(9000, 0.9)))
    decision = judge_slices(tonight, MODEL, BEFORE, policy(), "release 3")
    assert (decision.gate, decision.outcome) == ("slices", Outcome.BLOCK)
    cash = found(decision, "slice:payment_type=Cash")
    assert cash.effect == pytest.approx(-0.1)
    assert cash.interval[0] < -0.1 < cash.interval[1] < -0.05
    assert (cash.value, cash.baseline, cash.n, cash.n_baseline) == (0.8, 0.9, 1000, 4000)
    assert found(decision, "slice:payment_type=Card").outcome is Outcome.OK
    assert decision.reason.startswith("payment_type=Cash: accuracy 0.800 against 0.900")
    assert decision.baseline == "release 3"


def test_the_same_loss_on_rows_that_repeat_is_no_evidence():
    tonight = night(served(CASH, counts(1000, 0.84), times=12), served(CARD, counts(9000, 0.9)))
    decision = judge_slices(tonight, MODEL, BEFORE, policy(min_slice_examples=50), "release 3")
    cash = found(decision, "slice:payment_type=Cash")
    assert cash.outcome is not Outcome.BLOCK
    assert cash.interval[0] < -0.13


def test_a_slice_that_is_large_only_by_repeats_is_too_small():
    tonight = night(served(CASH, counts(1000, 0.8), times=20), served(CARD, counts(9000, 0.9)))
    decision = judge_slices(tonight, MODEL, BEFORE, policy(), "release 3")
    cash = found(decision, "slice:payment_type=Cash")
    assert cash.outcome is Outcome.INSUFFICIENT_DATA
    assert "of 1,000 labelled rows many repeat: they count as 50" in cash.message


def test_a_loss_within_the_tolerance_is_fine_however_significant():
    tonight = night(served(CASH, counts(40_000, 0.885)), served(CARD, counts(40_000, 0.9)))
    assert judge_slices(tonight, MODEL, BEFORE, policy()).outcome is Outcome.OK


def test_a_minimum_holds_without_a_release_too():
    rules = [{"metric": "accuracy", "minimum": 0.85}, {"metric": "recall", "max_drop": 0.1}]
    tonight = night(served(CASH, counts(1000, 0.8)), served(CARD, counts(9000, 0.95)))
    decision = judge_slices(tonight, MODEL, None, policy(rules=rules))
    assert decision.outcome is Outcome.BLOCK
    assert found(decision, "slice:payment_type=Cash").outcome is Outcome.BLOCK
    assert found(decision, "slice:overall", "recall").outcome is Outcome.INSUFFICIENT_DATA
    assert decision.reason.startswith("the release has no evaluation to compare with")
    assert decision.baseline is None


def test_without_a_release_and_without_a_minimum_nothing_is_judged():
    decision = judge_slices(night(served(CASH, counts(1000, 0.5))), MODEL, None, policy())
    assert decision.outcome is Outcome.INSUFFICIENT_DATA
    assert "the release has no evaluation to compare with" in decision.reason


def test_a_night_without_labels_is_insufficient_and_says_so():
    tonight = night(served(CASH, counts(0, 0.9, unlabelled=500)))
    decision = judge_slices(tonight, MODEL, BEFORE, policy())
    assert decision.outcome is Outcome.INSUFFICIENT_DATA
    assert decision.reason == "none of 500 rows has a label yet"


def test_labels_that_are_still_to_come_are_no_warning():
    tonight = night(
        served(CASH, counts(1000, 0.9, unlabelled=4000)), served(CARD, counts(900, 0.9))
    )
    decision = judge_slices(tonight, MODEL, BEFORE, policy())
    assert decision.outcome is Outcome.OK
    assert decision.reason.endswith("1,900 of 5,900 rows have a label")
    assert found(decision, "slice:payment_type=Cash").n == 1000


def test_slices_that_are_watched_or_were_in_the_release_and_have_no_row_are_named():
    tonight = night(served(CARD, counts(900, 0.9)))
    decision = judge_slices(
        tonight, MODEL, BEFORE, policy(watched_slices=[{"payment_type": "Barter"}])
    )
    absent = [e.subject for e in decision.evidence if e.measure == "examples"]
    assert sorted(absent) == ["slice:payment_type=Barter", "slice:payment_type=Cash"]
    assert decision.outcome is Outcome.OK


def test_a_slice_that_is_new_since_the_release_is_not_compared():
    tonight = night(served({"payment_type": "Mobile"}, counts(900, 0.5)))
    item = found(judge_slices(tonight, MODEL, BEFORE, policy()), "slice:payment_type=Mobile")
    assert item.outcome is Outcome.INSUFFICIENT_DATA
    assert "no row of this slice" in item.message


def test_a_slice_too_small_in_the_release_is_not_compared():
    before = slice_table(
        {(): counts(9000, 0.9), slice_key(CASH): counts(60, 0.9)},
        threshold=0.5,
        confidence=0.95,
        baseline=None,
    )
    tonight = night(served(CASH, counts(900, 0.5)))
    item = found(judge_slices(tonight, MODEL, before, policy()), "slice:payment_type=Cash")
    assert item.outcome is Outcome.INSUFFICIENT_DATA
    assert item.message.startswith("the release's own evaluation has 60 rows")


def test_another_model_s_rows_are_not_judged():
    decision = judge_slices(night(served(CASH, counts(1000, 0.5))), "sha256:bb", BEFORE, policy())
    assert decision.outcome is Outcome.INSUFFICIENT_DATA
    assert decision.reason == "this model answered no row of the night"


def test_a_release_measured_at_another_threshold_is_not_compared():
    before = slice_table({(): counts(9000, 0.9)}, threshold=0.3, confidence=0.95, baseline=None)
    decision = judge_slices(night(served(CASH, counts(1000, 0.9))), MODEL, before, policy())
    assert decision.baseline is None


def test_answers_that_are_no_probabilities_are_warned_of():
    labels, scores = [1.0] * 200 + [1.0], [0.9] * 200 + [float("nan")]
    tonight = night(served(CASH, SliceCounts.of(0.5, labels, scores)))
    decision = judge_slices(tonight, MODEL, BEFORE, policy())
    assert found(decision, "slice:overall", "examples").outcome is Outcome.WARN


def test_metric_points_carry_value_interval_and_reference():
    tonight = night(served(CASH, counts(1000, 0.8), times=4), served(CARD, counts(900, 0.9)))
    points = metric_points(tonight, MODEL, policy(), BEFORE)
    assert points[0].slice == "overall"
    (cash,) = [p for p in points if p.features == CASH and p.metric == "accuracy"]
    assert (cash.value, cash.cases) == (0.8, 1000)
    assert cash.reference == pytest.approx(0.9)
    assert cash.interval[1] - cash.interval[0] > 0.09  # as of 250 rows
    assert {p.metric for p in points} == {"accuracy", "precision", "recall", "auc"}


def test_metric_points_without_labels_are_none():
    tonight = night(served(CASH, counts(0, 0.9, unlabelled=500)))
    assert metric_points(tonight, MODEL, policy()) == ()
