"""DriftValidator in the nightly pipeline: against the training data, and against earlier nights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tensorflow_metadata.proto.v0 import statistics_pb2
from tfx import types
from tfx.types import standard_artifacts

from tfx_encore.components import DriftValidator
from tfx_encore.components.drift_validator.executor import Executor
from tfx_encore.components.drift_validator.nights import EarlierNights, read_history
from tfx_encore.metadata import night_store
from tfx_encore.metadata.night_store import NightStore
from tfx_encore.monitoring.slice_counts import SliceCounts, row_code
from tfx_encore.monitoring.slice_report import slice_table
from tfx_encore.schemas.artifacts import DriftReport, RequestLogReport, SliceReport
from tfx_encore.schemas.charts import FeatureChart
from tfx_encore.schemas.decisions import Decision, Outcome
from tfx_encore.schemas.drift_policy import DriftPolicy
from tfx_encore.schemas.nightly_policy import SeasonPolicy
from tfx_encore.schemas.nights import LogReport, NightRecord, days_between
from tfx_encore.schemas.serial import from_json, to_json

SCHEMA = """
feature { name: "fare" type: FLOAT }
feature { name: "payment" type: BYTES }
feature { name: "tips" type: FLOAT }
"""
TONIGHT = "2016-02-10"


def _numeric(dataset, name, examples, unit, buckets=10):
    feature = dataset.features.add(type=statistics_pb2.FeatureNameStatistics.FLOAT)
    feature.path.step.append(name)
    feature.num_stats.common_stats.num_non_missing = examples
    feature.num_stats.common_stats.tot_num_values = examples
    histogram = feature.num_stats.histograms.add(type=statistics_pb2.Histogram.QUANTILES)
    for i in range(buckets):
        low, high = i * unit / buckets, (i + 1) * unit / buckets
        histogram.buckets.add(low_value=low, high_value=high, sample_count=examples / buckets)


def statistics_bytes(examples=3000, unit=10.0, cash="Cash", score=1.0, share=0.7):
    found = statistics_pb2.DatasetFeatureStatisticsList()
    dataset = found.datasets.add(name="All Examples", num_examples=examples)
    _numeric(dataset, "fare", examples, unit)
    if score:
        _numeric(dataset, "encore_score", examples, score)
    payment = dataset.features.add(type=statistics_pb2.FeatureNameStatistics.STRING)
    payment.path.step.append("payment")
    payment.string_stats.common_stats.num_non_missing = examples
    payment.string_stats.common_stats.tot_num_values = examples
    for label, part in ((cash, share), ("Card", 1 - share)):
        payment.string_stats.rank_histogram.buckets.add(label=label, sample_count=examples * part)
    return found.SerializeToString()


@pytest.fixture
def execute(tmp_path):
    """Runs the executor of a component made with `nights`, or not; returns decision and charts."""

    def artifact(kind, name, files, **properties):
        made = kind()
        made.uri = str(tmp_path / name)
        for path, content in files.items():
            target = Path(made.uri, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        for key, value in properties.items():
            setter = made.set_int_custom_property
            (setter if isinstance(value, int) else made.set_string_custom_property)(key, value)
        return [made]

    def run(tonight, *, log=None, training=None, release=None, **parameters):
        statistics = {} if tonight is None else {"Split-night/FeatureStats.pb": tonight}
        log = to_json(log or LogReport(rows=3000, effective_rows=3000.0)).encode()
        inputs = {
            "statistics": artifact(standard_artifacts.ExampleStatistics, "night", statistics),
            "schema": artifact(standard_artifacts.Schema, "s", {"schema.pbtxt": SCHEMA.encode()}),
            "log_report": artifact(RequestLogReport, "log", {"log.json": log}),
        }
        if training is not None:
            inputs["baseline_statistics"] = artifact(
                *(standard_artifacts.ExampleStatistics, "training"),
                {"Split-train/FeatureStats.pb": training},
                present=1,
                release="release 3",
            )
        if release is not None:
            files = {"slices.json": to_json(release).encode()}
            inputs["slice_report"] = artifact(SliceReport, "release", files, present=1)
        component = DriftValidator(
            statistics=types.Channel(type=standard_artifacts.ExampleStatistics),
            schema=types.Channel(type=standard_artifacts.Schema),
            log_report=types.Channel(type=RequestLogReport),
            **parameters,
        )
        report = DriftReport()
        report.uri = str(tmp_path / "report")
        Executor().Do(inputs, {"report": [report]}, component.exec_properties)
        folder = Path(report.uri)
        decision = from_json(Decision, (folder / "decision.json").read_bytes())
        charts = from_json(tuple[FeatureChart, ...], (folder / "charts.json").read_bytes())
        assert report.get_string_custom_property("outcome") == decision.outcome
        return decision, charts

    return run


@pytest.fixture
def nights(tmp_path):
    """Commits nights; returns what DriftValidator is told of them."""

    def make(dates, *, drifted=(), effective=3000.0, content=None):
        store = NightStore(tmp_path / "releases", "taxi")
        with store.writing():
            for number, date in enumerate(dates):
                outcome = Outcome.BLOCK if date in drifted else Outcome.OK
                decision = Decision("drift", outcome, "as the test has it")
                log = LogReport(rows=3000, effective_rows=effective)
                record = NightRecord("taxi", date, outcome, "test", decisions=(decision,), log=log)
                share = 0.7 + 0.02 * (number % 3 - 1)
                files = {
                    night_store.RECORD: to_json(record).encode(),
                    night_store.STATISTICS: content or statistics_bytes(share=share),
                }
                store.commit(date, files)
        root = str(tmp_path / "releases")
        return EarlierNights(releases=root, model="taxi", date=TONIGHT)

    return make


def subjects(decision):
    return {item.subject for item in decision.evidence}


def test_a_night_like_the_training_data_has_no_skew(execute):
    decision, charts = execute(statistics_bytes(), training=statistics_bytes(score=0))
    assert (decision.gate, decision.outcome) == ("skew", Outcome.OK)
    assert decision.baseline == "release 3"
    assert subjects(decision) == {"feature:fare", "feature:payment"}
    assert [chart.feature for chart in charts] == ["fare", "payment", "encore_score"]


def test_skew_blocks_and_its_charts_show_both_sides(execute):
    decision, charts = execute(statistics_bytes(cash="CASH"), training=statistics_bytes())
    assert decision.outcome is Outcome.BLOCK
    payment = next(chart for chart in charts if chart.feature == "payment")
    assert payment.current
    assert payment.baseline


def test_scores_are_compared_with_the_releases_evaluation(execute):
    codes = {row_code(1, which): 20 for which in range(120, 200)}  # scores near 1/2
    release = slice_table(
        {(): SliceCounts(0.5, codes)}, threshold=0.5, confidence=0.95, baseline=None
    )
    decision, _ = execute(statistics_bytes(score=0.1), training=statistics_bytes(), release=release)
    (found,) = [item for item in decision.evidence if item.measure == "jensen_shannon"][:1]
    assert (found.subject, found.outcome) == ("predictions", Outcome.BLOCK)


def test_a_night_of_repeats_has_too_few_independent_rows(execute):
    log = LogReport(rows=3000, effective_rows=60.0)
    decision, _ = execute(statistics_bytes(), training=statistics_bytes(), log=log)
    assert decision.outcome is Outcome.INSUFFICIENT_DATA
    assert "60 examples now" in decision.reason


@pytest.mark.parametrize("gate", ["skew", "drift"])
def test_a_night_without_rows_is_not_judged(execute, nights, gate):
    earlier = nights([]) if gate == "drift" else None
    decision, charts = execute(None, log=LogReport(), nights=earlier)
    assert (decision.gate, decision.outcome) == (gate, Outcome.INSUFFICIENT_DATA)
    assert charts == ()


def test_a_night_like_the_earlier_ones_has_no_drift(execute, nights):
    earlier = nights(days_between("2016-01-10", "2016-02-09"))
    decision, charts = execute(statistics_bytes(), nights=earlier)
    assert (decision.gate, decision.outcome) == ("drift", Outcome.OK)
    assert "Wednesdays of the last 4 weeks (4 nights)" in decision.baseline
    assert "predictions" in subjects(decision)
    assert {chart.feature for chart in charts} == {"fare", "payment", "encore_score"}


def test_drift_from_the_earlier_nights_blocks(execute, nights):
    earlier = nights(days_between("2016-01-10", "2016-02-09"))
    decision, _ = execute(statistics_bytes(cash="CASH"), nights=earlier)
    assert decision.outcome is Outcome.BLOCK
    assert decision.evidence[0].subject == "feature:payment"


def test_nights_that_had_drift_themselves_are_no_baseline(nights, tmp_path):
    dates = days_between("2016-01-10", "2016-02-09")
    nights(dates, drifted=("2016-02-03",), effective=1500.0)
    found = read_history(tmp_path / "releases", "taxi", TONIGHT, SeasonPolicy())
    assert found.excluded == {"2016-02-03"}
    assert set(found.statistics) == set(dates) - {"2016-01-10", "2016-01-11", "2016-01-12"}
    assert set(found.effective.values()) == {0.5}


def test_the_season_reaches_no_further_than_the_policy_says(nights, tmp_path):
    nights(days_between("2016-01-10", "2016-02-09"))
    season = SeasonPolicy(weeks=0, window_days=3)
    found = read_history(tmp_path / "releases", "taxi", TONIGHT, season)
    assert sorted(found.statistics) == list(days_between("2016-02-07", "2016-02-09"))


def test_the_first_night_has_nothing_to_be_compared_with(execute, nights):
    decision, charts = execute(statistics_bytes(), nights=nights([]))
    assert decision.outcome is Outcome.INSUFFICIENT_DATA
    assert "0 earlier nights" in decision.reason
    assert len(charts) == 3


def test_tfxs_cache_answers_unless_earlier_nights_are_read():
    channels = {
        "statistics": types.Channel(type=standard_artifacts.ExampleStatistics),
        "schema": types.Channel(type=standard_artifacts.Schema),
    }
    earlier = EarlierNights(releases="r", model="taxi", date=TONIGHT)
    nonces = {DriftValidator(**channels, nights=earlier).exec_properties["nonce"] for _ in range(2)}
    assert len(nonces) == 2
    assert DriftValidator(**channels, nights=earlier).READS_WORLD
    plain = DriftValidator(**channels, policy=DriftPolicy())
    assert not plain.READS_WORLD
    assert set(plain.exec_properties) - {"policy", "baseline_name"} == set() or not any(
        plain.exec_properties[key] for key in ("nights", "signatures", "nonce")
    )


def test_two_nodes_of_it_stand_in_one_pipeline():
    channels = {
        "statistics": types.Channel(type=standard_artifacts.ExampleStatistics),
        "schema": types.Channel(type=standard_artifacts.Schema),
        "log_report": types.Channel(type=RequestLogReport),
    }
    skew = DriftValidator(**channels, signatures=("serving_default",)).with_id("SkewValidator")
    earlier = EarlierNights(releases="r", model="taxi", date=TONIGHT)
    drift = DriftValidator(**channels, nights=earlier).with_id("SeasonalDriftValidator")
    assert {skew.id, drift.id} == {"SkewValidator", "SeasonalDriftValidator"}
    assert json.loads(skew.exec_properties["signatures"]) == ["serving_default"]
