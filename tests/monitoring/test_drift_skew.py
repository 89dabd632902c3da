"""Traffic against training: what the model reads and what it answers, and nothing else."""

import numpy as np
import pytest

from tfx_encore.monitoring import drift_numeric
from tfx_encore.monitoring.drift_skew import carried, judge_skew, score_statistics
from tfx_encore.monitoring.drift_statistics import DatasetStatistics
from tfx_encore.monitoring.slice_counts import SliceCounts, bin_edges, row_code, score_bin
from tfx_encore.monitoring.slice_report import slice_table
from tfx_encore.schemas.decisions import Outcome
from tfx_encore.schemas.drift_policy import DriftPolicy
from tfx_encore.schemas.errors import ConfigError

FEATURES = ("payment", "fare", "tips")
DAY = "2016-02-10"


@pytest.fixture
def training(make_night):
    """The training data: as a working day, and the label that traffic lacks."""
    night = make_night(DAY, 1, n=6000, varies=0, level=0.0)
    label = night.features["fare"]
    features = {**night.features, "tips": label}
    del features["encore_score"]
    return DatasetStatistics(night.examples, features)


@pytest.fixture
def release():
    """An evaluation whose scores are distributed as `make_night` gives them."""
    rng, edges = np.random.default_rng(4), bin_edges(0.5)
    codes = {}
    for score in 1 / (1 + np.exp(-rng.normal(0, 1, 4000))):
        code = row_code(int(rng.random() < score), score_bin(float(score), edges))
        codes[code] = codes.get(code, 0) + 1
    counts = {(): SliceCounts(0.5, codes)}
    return slice_table(counts, threshold=0.5, confidence=0.95, baseline=None)


def judge(tonight, training, **more):
    return judge_skew(tonight, training, DriftPolicy(), FEATURES, **more)


def of(decision, subject):
    return {item.measure: item for item in decision.evidence if item.subject == subject}


def test_traffic_as_the_training_data_has_no_skew(make_night, training, release):
    decision = judge(make_night(DAY, 2, varies=0, level=0.0), training, release=release)
    assert decision.outcome is Outcome.OK
    assert (decision.gate, decision.baseline) == ("skew", "the training data")
    assert decision.reason.startswith("no skew in 3 features")


def test_a_feature_that_no_request_carries_is_no_skew(make_night, training):
    decision = judge(make_night(DAY, 2), training)
    assert not of(decision, "feature:tips")


def test_a_feature_that_is_read_and_vanished_is_skew(make_night, training):
    tonight = make_night(DAY, 2, lost=("fare",))
    blind = judge(tonight, training)
    assert not of(blind, "feature:fare")
    decision = judge(tonight, training, reads=("payment", "fare"))
    assert of(decision, "feature:fare")["missing"].outcome is Outcome.BLOCK


def test_features_that_the_model_does_not_read_are_left_out(make_night, training):
    decision = judge(make_night(DAY, 2, shift=5.0), training, reads=("payment",))
    assert not of(decision, "feature:fare")
    assert carried(make_night(DAY, 2), FEATURES, None) == ("payment", "fare")


def test_a_renamed_category_is_skew(make_night, training):
    decision = judge(make_night(DAY, 2, rename="CASH"), training, baseline_name="release 3")
    assert decision.outcome is Outcome.BLOCK
    assert decision.reason.endswith("against release 3")


def test_served_scores_are_compared_with_those_of_the_evaluation(make_night, training, release):
    same = judge(make_night(DAY, 2, varies=0, level=0.0), training, release=release)
    assert of(same, "predictions")["jensen_shannon"].outcome is Outcome.OK
    moved = judge(make_night(DAY, 2, score=1.5), training, release=release)
    assert of(moved, "predictions")["jensen_shannon"].outcome is Outcome.BLOCK
    assert not of(judge(make_night(DAY, 2, score=1.5), training), "predictions")


def test_repeated_rows_weigh_as_the_independent_ones_that_they_are(make_night, training, release):
    decision = judge(make_night(DAY, 2), training, release=release, effective_share=0.25)
    assert {e["missing"].n for e in (of(decision, "feature:fare"),)} == {500}


def test_bookkeeping_is_never_judged(make_night, training):
    tonight = make_night(DAY, 2)
    row = tonight.features["fare"]
    extra = DatasetStatistics(
        tonight.examples, {**tonight.features, "encore_version": row, "encore_row": row}
    )
    names = (*FEATURES, "encore_version", "encore_row")
    decision = judge_skew(extra, training, DriftPolicy(), names)
    assert {item.subject for item in decision.evidence} == {"feature:payment", "feature:fare"}


def test_without_training_statistics_nothing_is_compared(make_night):
    decision = judge(make_night(DAY, 2), None)
    assert decision.outcome is Outcome.INSUFFICIENT_DATA
    assert "skew was not checked" in decision.reason


def test_labels_and_exceptions_for_features_that_traffic_lacks_are_no_error(make_night, training):
    policy = DriftPolicy(labels=("tips",), ignore_features=("fare",), features={"tips": {}})
    decision = judge_skew(make_night(DAY, 2), training, policy, FEATURES)
    assert not of(decision, "feature:fare")
    with pytest.raises(ConfigError, match=r"nightly.skew.labels"):
        judge_skew(make_night(DAY, 2), training, DriftPolicy(labels=("tip",)), FEATURES)


def test_a_histogram_of_scores_is_a_numeric_feature_with_all_its_rows(release):
    found = score_statistics(release.slices[0].candidate.counts)
    side = drift_numeric.distribution(found.numeric)
    assert found.present == side.total == 4000
    assert float(side.cdf(0.5)) == pytest.approx(0.5, abs=0.03)
