"""Answers of the cache beside answers of the model: what differs is found, and where it lies."""

from __future__ import annotations

import numpy as np
import pytest

from tfx_encore.monitoring.night_slices import NightSlices, PathCounts, ServedSlice
from tfx_encore.monitoring.served_paths import differing, judge_paths, wrong_slices
from tfx_encore.monitoring.slice_counts import row_code
from tfx_encore.schemas.decisions import Outcome
from tfx_encore.schemas.evaluation_policy import EvaluationPolicy

MODEL = "sha256:aa"
POLICY = EvaluationPolicy(
    label_key="y",
    slices=[["pay"], ["hour"], ["pay", "hour"]],
    rules=[{"metric": "accuracy", "max_drop": 0.02}],
)


def sampled(rows: int, wrong: int = 0) -> PathCounts:
    again = {row_code(1, 200, 100): wrong, row_code(1, 200, 200): rows - wrong}
    return PathCounts(
        {row_code(1, 200): rows},
        {code: n for code, n in again.items() if n},
        wrong,
        0.4 if wrong else 1e-7,
    )


def part(features: dict[str, str], hit: PathCounts, miss: PathCounts | None = None) -> ServedSlice:
    paths = {"hit": hit} | ({"miss": miss} if miss else {})
    return ServedSlice(MODEL, 3, features, paths, squares=1.0)


def night(*slices: ServedSlice) -> NightSlices:
    return NightSlices(0.5, slices)


SOUND = part({}, sampled(500), sampled(500))
CASH_WRONG = night(
    part({}, sampled(500, 40), sampled(500)),
    part({"pay": "Cash"}, sampled(100, 40), sampled(90)),
    part({"pay": "Card"}, sampled(400), sampled(410)),
    *(part({"hour": str(h)}, sampled(20, 4 if h < 10 else 0)) for h in range(25)),
)


def test_answers_that_all_agree_are_fine():
    decision = judge_paths(night(SOUND), MODEL, POLICY)
    assert (decision.gate, decision.outcome) == ("cached_path", Outcome.OK)
    assert "500 answers from the cache were computed again" in decision.reason


def test_wrong_cached_answers_block_and_name_the_slice_that_holds_them():
    decision = judge_paths(CASH_WRONG, MODEL, POLICY)
    assert decision.outcome is Outcome.BLOCK
    blamed = [e for e in decision.evidence if e.outcome is Outcome.BLOCK]
    assert [e.subject for e in blamed] == ["slice:overall", "slice:pay=Cash"]
    assert (blamed[1].value, blamed[1].n, blamed[1].effect) == (0.4, 100, 0.4)
    assert "40 of 500 answers from the cache differ from the model's own" in decision.reason
    assert decision.reason.endswith("all in pay=Cash")
    assert [s.features for s in wrong_slices(CASH_WRONG, MODEL)] == [{"pay": "Cash"}]


def test_one_wrong_answer_is_enough():
    tonight = night(part({}, sampled(500, 1)), part({"pay": "Cash"}, sampled(100, 1)))
    assert judge_paths(tonight, MODEL, POLICY).outcome is Outcome.BLOCK


def test_wrong_answers_everywhere_are_withdrawn_everywhere():
    tonight = night(
        part({}, sampled(500, 250)),
        part({"pay": "Cash"}, sampled(100, 51)),
        part({"pay": "Card"}, sampled(400, 199)),
        *(part({"hour": str(h)}, sampled(20, 10)) for h in range(25)),
    )
    assert [s.features for s in wrong_slices(tonight, MODEL)] == [{}]
    blamed = [
        e.subject
        for e in judge_paths(tonight, MODEL, POLICY).evidence
        if e.outcome is Outcome.BLOCK
    ]
    assert blamed == ["slice:overall"]


def test_wrong_answers_among_rows_without_a_value_are_not_pinned_on_those_with_one():
    tonight = night(
        part({}, sampled(500, 40)),
        part({"pay": "Cash"}, sampled(100, 39)),
        part({"pay": "Card"}, sampled(300)),
    )
    assert [s.features for s in wrong_slices(tonight, MODEL)] == [{}]


def test_two_wrong_slices_of_one_cut_are_both_named():
    tonight = night(
        part({}, sampled(500, 60)),
        *(part({"hour": str(h)}, sampled(20, 20 if h in {3, 4, 5} else 0)) for h in range(25)),
    )
    assert [s.name for s in wrong_slices(tonight, MODEL)] == ["hour=3", "hour=4", "hour=5"]


def test_a_cross_is_named_where_only_it_holds_them():
    tonight = night(
        part({}, sampled(1000, 30)),
        part({"pay": "Cash"}, sampled(500, 30)),
        part({"pay": "Card"}, sampled(500)),
        part({"hour": "8"}, sampled(80, 30)),
        part({"hour": "9"}, sampled(920)),
        part({"hour": "8", "pay": "Cash"}, sampled(32, 30)),
        part({"hour": "9", "pay": "Cash"}, sampled(468)),
        part({"hour": "8", "pay": "Card"}, sampled(48)),
    )
    assert [s.name for s in wrong_slices(tonight, MODEL)] == ["hour=8, pay=Cash"]


def test_a_model_that_does_not_repeat_itself_is_warned_of():
    tonight = night(part({}, sampled(500), sampled(500, 3)))
    decision = judge_paths(tonight, MODEL, POLICY)
    assert decision.outcome is Outcome.WARN
    assert "3 of 500 answers computed for the request differ" in decision.reason
    assert wrong_slices(tonight, MODEL) == ()


def test_where_computed_answers_differ_too_the_evidence_says_so():
    tonight = night(part({}, sampled(500, 5), sampled(500, 3)))
    decision = judge_paths(tonight, MODEL, POLICY)
    assert decision.outcome is Outcome.BLOCK
    assert decision.reason.endswith("the model may not repeat itself")
    assert [e.outcome for e in decision.evidence[:2]] == [Outcome.BLOCK, Outcome.WARN]


@pytest.mark.parametrize("paths", [{}, {"hit": PathCounts({row_code(1, 200): 9})}])
def test_a_night_without_a_sample_is_insufficient(paths):
    tonight = night(ServedSlice(MODEL, 3, {}, paths))
    decision = judge_paths(tonight, MODEL, POLICY)
    assert decision.outcome is Outcome.INSUFFICIENT_DATA
    assert "computed again" in decision.reason


def test_a_sample_of_misses_alone_says_nothing_of_the_cache():
    hits = PathCounts({row_code(1, 200): 9})
    decision = judge_paths(night(part({}, hits, sampled(50))), MODEL, POLICY)
    (item,) = [e for e in decision.evidence if e.outcome is Outcome.INSUFFICIENT_DATA]
    assert item.message == "no answer from the cache was computed again"


def test_metrics_of_both_paths_stand_side_by_side_and_never_decide():
    def rows(right: int, wrong: int) -> PathCounts:
        return PathCounts({row_code(1, 200): right, row_code(1, 100): wrong})

    tonight = night(ServedSlice(MODEL, 3, {}, {"hit": rows(500, 500), "miss": rows(900, 100)}))
    decision = judge_paths(tonight, MODEL, POLICY)
    (item,) = [e for e in decision.evidence if e.measure == "accuracy"]
    assert item.outcome is Outcome.OK
    assert (item.measure, item.value, item.baseline) == ("accuracy", 0.5, 0.9)
    assert item.effect == pytest.approx(-0.4)
    assert item.interval[0] < -0.4 < item.interval[1] < -0.3


def test_rounding_is_no_difference_and_more_is():
    again = np.array([0.9, 0.4, 0.2, 0.1], np.float32).astype(float)
    served = again + np.array([0, 6e-8, 5e-6, 1e-4])
    wrong, apart = differing(served, again)
    assert wrong.tolist() == [False, False, False, True]
    assert apart[3] == pytest.approx(1e-4)


def test_a_number_where_the_model_gives_none_differs():
    wrong, apart = differing([0.5, np.nan, np.nan], [np.nan, 0.5, np.nan])
    assert wrong.tolist() == [True, True, False]
    assert apart.tolist() == [1, 1, 0]
