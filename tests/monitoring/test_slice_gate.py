"""The gate: BLOCK only for what is large and significant; what could not be checked is said."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pydantic import ValidationError

from tfx_encore.monitoring.slice_counts import SliceCounts, SliceKey
from tfx_encore.monitoring.slice_gate import judge_slices
from tfx_encore.monitoring.slice_metrics import estimate, paired_difference, unpaired_difference
from tfx_encore.monitoring.slice_report import SliceTable, slice_table
from tfx_encore.schemas.decisions import Decision, Evidence, Outcome
from tfx_encore.schemas.errors import DataError, ModelError
from tfx_encore.schemas.evaluation_policy import EvaluationPolicy
from tfx_encore.schemas.serial import from_json, to_json

METRICS = ("accuracy", "precision", "recall", "auc")
CASH: SliceKey = (("payment_type", "Cash"),)
CARD: SliceKey = (("payment_type", "Card"),)


def rows(n: int, *, loss: float = 0.0, seed: int = 1, quality: float = 1.4) -> SliceCounts:
    """Two models alike but for `loss`, which the candidate takes off the positives' logits."""
    rng = np.random.default_rng(seed)
    labels = rng.random(n) < 0.4
    noise = rng.standard_normal((2, n))
    noise[1] = 0.9 * noise[0] + math.sqrt(1 - 0.81) * noise[1]
    logits = noise + quality * labels - quality / 2
    logits[0] -= loss * labels
    scores = 1 / (1 + np.exp(-logits))
    return SliceCounts.of(0.5, labels.tolist(), scores[0].tolist(), scores[1].tolist())


def alone(n: int) -> SliceCounts:
    """A candidate without a baseline: 80% right."""
    labels = [1, 0] * (n // 2)
    scores = [0.9 if (label == 1) == (i % 10 < 8) else 0.1 for i, label in enumerate(labels)]
    return SliceCounts.of(0.5, labels, scores)


def policy(**more) -> EvaluationPolicy:
    rules = [{"metric": metric, "max_drop": 0.02} for metric in METRICS]
    given = {"label_key": "y", "slices": [["payment_type"]], "rules": rules, **more}
    return EvaluationPolicy(**given)


def judged(counts: dict[SliceKey, SliceCounts], **more) -> Decision:
    baseline = more.pop("baseline", "release 3")
    expected = more.pop("expected", ())
    return judge_slices(counts, policy(**more), baseline=baseline, expected=expected)


def found(decision: Decision, subject: str, measure: str) -> Evidence:
    (item,) = [e for e in decision.evidence if (e.subject, e.measure) == (subject, measure)]
    return item


@pytest.mark.parametrize("metric", METRICS)
def test_a_large_and_significant_loss_on_one_slice_blocks(metric):
    rule = [{"metric": metric, "max_drop": 0.02}]
    counts = {(): rows(20_000), CASH: rows(3000, loss=0.8, seed=2), CARD: rows(3000, seed=3)}
    if metric == "precision":  # fewer positives found, and so a worse share among them
        counts[CASH] = rows(3000, loss=2.0, seed=2)
    decision = judged(counts, rules=rule)
    assert decision.outcome is Outcome.BLOCK
    assert decision.reason.startswith("payment_type=Cash: ")
    item = decision.evidence[0]
    assert item.subject == "slice:payment_type=Cash"
    assert item.effect < item.threshold == -0.02
    assert item.interval[1] < 0
    assert item.p_value < 0.01
    assert found(decision, "slice:payment_type=Card", metric).outcome is not Outcome.BLOCK


def test_a_significant_loss_within_the_tolerance_is_ok():
    rules = [{"metric": "accuracy", "max_drop": 0.1}]
    decision = judged({(): rows(20_000, loss=0.4)}, rules=rules)
    item = found(decision, "slice:overall", "accuracy")
    assert item.p_value < 0.001
    assert -0.1 < item.effect < 0
    assert decision.outcome is Outcome.OK


def test_a_large_loss_that_chance_explains_is_said_and_blocks_nothing():
    unlucky = next(
        counts
        for counts in (rows(200, seed=seed) for seed in range(100))
        if -0.06 < paired_difference("accuracy", counts).value < -0.025
        and paired_difference("accuracy", counts).p_loss > 0.05
    )
    rules = [{"metric": "accuracy", "max_drop": 0.02}]
    decision = judged({(): rows(5000), CASH: unlucky}, rules=rules)
    item = found(decision, "slice:payment_type=Cash", "accuracy")
    assert item.outcome is Outcome.INSUFFICIENT_DATA
    assert "cannot tell it from chance" in item.message
    assert decision.outcome is Outcome.OK


def test_a_loss_between_the_two_levels_of_significance_warns():
    rules = [{"metric": "accuracy", "max_drop": 0.02}]
    suspicious = next(
        counts
        for counts in (rows(300, seed=seed) for seed in range(1000))
        if 0.012 < paired_difference("accuracy", counts).p_loss < 0.024
    )
    alone = judged({CASH: suspicious, (): rows(5000)}, rules=rules)
    assert found(alone, "slice:payment_type=Cash", "accuracy").outcome is Outcome.WARN
    assert alone.outcome is Outcome.WARN
    many = {(("payment_type", str(i)),): rows(300, seed=5000 + i) for i in range(20)}
    among_many = judged({(): rows(5000), **many, CASH: suspicious}, rules=rules)
    item = found(among_many, "slice:payment_type=Cash", "accuracy")
    assert item.outcome is Outcome.INSUFFICIENT_DATA
    assert item.p_value > 0.05


def test_a_rule_of_severity_warn_never_blocks():
    rules = [{"metric": "accuracy", "max_drop": 0.02, "severity": "WARN"}]
    assert judged({(): rows(5000, loss=1.0)}, rules=rules).outcome is Outcome.WARN


def test_a_tiny_slice_blocks_nothing_however_bad():
    terrible = SliceCounts.of(0.5, [1] * 99, [0.0] * 99, [1.0] * 99)
    decision = judged({(): rows(5000), CASH: terrible})
    item = found(decision, "slice:payment_type=Cash", "accuracy")
    assert item.outcome is Outcome.INSUFFICIENT_DATA
    assert item.message == "99 rows; at least 100 are needed"
    assert decision.outcome is Outcome.OK


@pytest.mark.parametrize(
    ("metric", "labels", "scores", "why"),
    [
        ("precision", [1, 0], [0.2, 0.1], "0 predicted positives"),
        ("recall", [0, 0], [0.2, 0.8], "0 positives"),
        ("auc", [1, 1], [0.2, 0.8], "0 rows in the smaller class"),
    ],
)
def test_a_metric_without_a_denominator_is_insufficient(metric, labels, scores, why):
    counts = SliceCounts.of(0.5, labels * 100, scores * 100, [0.9, 0.8] * 100)
    rules = [{"metric": metric, "max_drop": 0.02, "minimum": 0.5}]
    decision = judged({(): counts}, rules=rules, slices=[])
    assert {item.outcome for item in decision.evidence} == {Outcome.INSUFFICIENT_DATA}
    assert all(why in item.message for item in decision.evidence)
    assert decision.outcome is Outcome.WARN  # a model is live, yet nothing could be checked
    assert "too little data" in decision.reason


def test_an_absolute_minimum_blocks_below_and_warns_where_chance_is_possible():
    def outcome(minimum: float) -> Outcome:
        rules = [{"metric": "accuracy", "minimum": minimum}]
        return judged({(): alone(1000)}, rules=rules, baseline=None).outcome

    assert outcome(0.79) is Outcome.OK
    assert outcome(0.81) is Outcome.WARN
    assert outcome(0.9) is Outcome.BLOCK


def test_a_missing_baseline_is_said_and_absolute_rules_still_hold():
    rules = [{"metric": "accuracy", "minimum": 0.7, "max_drop": 0.02}]
    decision = judged({(): alone(1000)}, rules=rules, slices=[], baseline=None)
    assert decision.outcome is Outcome.OK
    assert decision.baseline is None
    said = "nothing live to compare with: relative thresholds were not checked"
    assert decision.reason.startswith(said)
    assert [item.outcome for item in decision.evidence] == [Outcome.INSUFFICIENT_DATA, Outcome.OK]


@pytest.mark.parametrize("outcome", ["INSUFFICIENT_DATA", "WARN", "BLOCK"])
def test_what_a_missing_baseline_means_is_the_policys_choice(outcome):
    decision = judged({(): alone(1000)}, baseline=None, without_baseline=outcome)
    assert decision.outcome.value == outcome
    assert "nothing live to compare with" in decision.reason


def test_rules_hold_only_where_they_say():
    rules = [
        {"metric": "accuracy", "max_drop": 0.02, "slices": [[]]},
        {"metric": "recall", "max_drop": 0.02, "slices": [{"payment_type": "Cash"}]},
        {"metric": "auc", "max_drop": 0.02, "slices": [["payment_type"]]},
    ]
    decision = judged({(): rows(500), CASH: rows(500), CARD: rows(500)}, rules=rules)
    assert sorted((item.measure, item.subject) for item in decision.evidence) == [
        ("accuracy", "slice:overall"),
        ("auc", "slice:payment_type=Card"),
        ("auc", "slice:payment_type=Cash"),
        ("recall", "slice:payment_type=Cash"),
    ]


def test_slices_absent_today_are_reported():
    decision = judged(
        {(): rows(5000), CASH: rows(500)},
        watched_slices=[{"payment_type": "Voucher"}],
        expected=[(), CASH, CARD],
        slices=[["payment_type"], ["company"]],
    )
    card = found(decision, "slice:payment_type=Card", "examples")
    assert (card.outcome, card.n) == (Outcome.INSUFFICIENT_DATA, 0)
    assert "in the baseline's evaluation" in card.message
    assert "watched" in found(decision, "slice:payment_type=Voucher", "examples").message
    assert "no row has a value of company" in found(decision, "slice:company", "examples").message


@pytest.mark.parametrize(
    ("candidate", "live", "message"),
    [
        ([math.nan, 0.1, 0.2], [0.1, 0.2, 0.3], "the candidate model answers NaN for 100 of 300"),
        ([0.1, 0.1, 0.2], [math.nan] * 3, r"the live model \(release 3\) answers NaN for 300"),
        ([-3.0, 4.0, 0.2], [0.1, 0.2, 0.3], "candidate model does not answer one probability in"),
    ],
)
def test_answers_that_are_no_probabilities_are_refused_by_model_and_count(candidate, live, message):
    counts = SliceCounts.of(0.5, [1, 0, 1] * 100, candidate * 100, live * 100)
    with pytest.raises(ModelError, match=message):
        judged({(): counts})


def test_no_labels_is_an_error_and_some_is_a_warning():
    with pytest.raises(DataError, match="label 'y' is neither 0 nor 1 in any of 200 rows"):
        judged({(): SliceCounts.of(0.5, [7] * 200, [0.2] * 200, [0.2] * 200)})
    partly = rows(5000) + SliceCounts.of(0.5, [math.nan] * 9, [0.2] * 9, [0.2] * 9)
    item = found(judged({(): partly}), "slice:overall", "examples")
    assert item.outcome is Outcome.WARN
    assert "9 of 5,009 rows" in item.message


def test_models_of_equal_quality_are_hardly_ever_blocked():
    """21 slices, 4 metrics; the nominal rate of any false block is 1%."""
    blocked = 0
    for run in range(25):
        counts = {(): rows(3000, seed=run)}
        for i in range(20):
            counts[(("payment_type", str(i)),)] = rows(100 + 20 * i, seed=1000 * (run + 1) + i)
        blocked += judged(counts).outcome is Outcome.BLOCK
    assert blocked <= 1


def test_the_table_survives_json_and_holds_mergeable_counts():
    counts = {(): rows(800), CASH: rows(200)}
    table = slice_table(counts, threshold=0.5, confidence=0.95, baseline="release 3")
    again = from_json(SliceTable, to_json(table))
    assert again == table
    overall, cash = again.slices
    assert cash.features == {"payment_type": "Cash"}
    assert cash.key == CASH
    merged = overall.candidate.counts + cash.candidate.counts
    assert merged == (counts[()] + counts[CASH]).candidate()
    assert overall.candidate.metrics["auc"] == estimate("auc", counts[()].candidate())


@pytest.mark.parametrize("metric", METRICS)
def test_pairing_tells_more_than_two_separate_nights(metric):
    counts = rows(2000)
    paired = paired_difference(metric, counts)
    apart = unpaired_difference(metric, counts.candidate(), counts.baseline())
    assert paired.value == pytest.approx(apart.value)
    assert paired.interval[1] - paired.interval[0] < 0.75 * (apart.interval[1] - apart.interval[0])
    assert (paired.paired, apart.paired) == (True, False)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"rules": [{"metric": "auc"}]}, "sets neither `minimum` nor `max_drop`"),
        ({"rules": [{"metric": "auc", "minimum": 0.5, "slices": [["hour"]]}]}, "does not cut"),
        ({"rules": [{"metric": "f1", "minimum": 0.5}]}, "accuracy"),
        ({"decision_threshold": 1.0}, "less than 1"),
        ({"slice": []}, "Extra inputs"),
    ],
)
def test_a_wrong_policy_says_what_is_wrong(section, message):
    with pytest.raises(ValidationError, match=message):
        policy(**section)
