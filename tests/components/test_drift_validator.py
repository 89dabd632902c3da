import json

import pytest
from tensorflow_metadata.proto.v0 import statistics_pb2
from tfx import types
from tfx.types import standard_artifacts

from tfx_encore.components import DriftValidator
from tfx_encore.components.drift_validator.executor import Executor
from tfx_encore.schemas.artifacts import DriftReport
from tfx_encore.schemas.charts import FeatureChart
from tfx_encore.schemas.decisions import Decision, Outcome
from tfx_encore.schemas.drift_policy import DriftPolicy
from tfx_encore.schemas.errors import ConfigError, DataError
from tfx_encore.schemas.serial import from_json, to_json

SCHEMA = """
feature { name: "fare" type: FLOAT }
feature { name: "payment" type: BYTES }
"""


def statistics_bytes(examples=3000, unit=1.0, cash="Cash"):
    found = statistics_pb2.DatasetFeatureStatisticsList()
    dataset = found.datasets.add(name="All Examples", num_examples=examples)
    fare = dataset.features.add(type=statistics_pb2.FeatureNameStatistics.FLOAT)
    fare.path.step.append("fare")
    fare.num_stats.common_stats.num_non_missing = examples
    fare.num_stats.common_stats.tot_num_values = examples
    histogram = fare.num_stats.histograms.add(type=statistics_pb2.Histogram.QUANTILES)
    for i in range(10):
        histogram.buckets.add(
            low_value=i * unit, high_value=(i + 1) * unit, sample_count=examples / 10
        )
    payment = dataset.features.add(type=statistics_pb2.FeatureNameStatistics.STRING)
    payment.path.step.append("payment")
    payment.string_stats.common_stats.num_non_missing = examples
    payment.string_stats.common_stats.tot_num_values = examples
    for label, share in ((cash, 0.7), ("Card", 0.3)):
        payment.string_stats.rank_histogram.buckets.add(label=label, sample_count=examples * share)
    return found.SerializeToString()


@pytest.fixture
def artifact(tmp_path):
    """Makes an `ExampleStatistics` artifact laid out as StatisticsGen does."""

    def make(name, content=None, split="train", **properties):
        made = standard_artifacts.ExampleStatistics()
        made.uri = str(tmp_path / name)
        made.split_names = json.dumps([split])
        for key, value in properties.items():
            setter = made.set_int_custom_property
            (setter if isinstance(value, int) else made.set_string_custom_property)(key, value)
        folder = tmp_path / name
        folder.mkdir()
        if content is not None:
            (folder / f"Split-{split}").mkdir()
            (folder / f"Split-{split}" / "FeatureStats.pb").write_bytes(content)
        return made

    return make


@pytest.fixture
def execute(tmp_path):
    def run(statistics, baseline=None, policy=None, name=""):
        schema = standard_artifacts.Schema()
        schema.uri = str(tmp_path / "schema")
        (tmp_path / "schema").mkdir()
        (tmp_path / "schema" / "schema.pbtxt").write_text(SCHEMA)
        report = DriftReport()
        report.uri = str(tmp_path / "report")
        inputs = {"statistics": [statistics], "schema": [schema]}
        if baseline is not None:
            inputs["baseline_statistics"] = [baseline]
        properties = {"policy": to_json(policy or DriftPolicy()), "baseline_name": name}
        Executor().Do(inputs, {"report": [report]}, properties)
        decision = from_json(Decision, (tmp_path / "report" / "decision.json").read_bytes())
        charts = from_json(
            tuple[FeatureChart, ...], (tmp_path / "report" / "charts.json").read_bytes()
        )
        return report, decision, charts

    return run


def test_drift_is_written_into_the_report_with_its_charts(artifact, execute):
    now = artifact("now", statistics_bytes(unit=100, cash="CASH"))
    then = artifact("then", statistics_bytes(), present=1, release="release 3")
    report, decision, charts = execute(now, then)
    assert decision.outcome is Outcome.BLOCK
    assert decision.baseline == "release 3"
    assert "against release 3" in decision.reason
    assert report.get_string_custom_property("outcome") == "BLOCK"
    assert report.get_string_custom_property("reason") == decision.reason
    assert [chart.feature for chart in charts] == ["fare", "payment"]
    assert all(chart.baseline for chart in charts)


def test_no_drift_is_ok(artifact, execute):
    then = artifact("then", statistics_bytes(), present=1, release="release 3")
    _, decision, _ = execute(artifact("now", statistics_bytes()), then)
    assert decision.outcome is Outcome.OK


def test_a_name_given_by_the_pipeline_wins(artifact, execute):
    now, then = artifact("now", statistics_bytes()), artifact("then", statistics_bytes())
    _, decision, _ = execute(now, then, name="span 12")
    assert decision.baseline == "span 12"


@pytest.mark.parametrize(
    ("properties", "why"),
    [
        ({"present": 0}, "no release is live yet"),
        (
            {"present": 0, "release": "release 2"},
            "release 2 was pushed without training statistics",
        ),
        ({}, "holds no statistics of split 'train'"),
    ],
)
def test_an_empty_baseline_is_said_and_the_charts_are_still_drawn(
    artifact, execute, properties, why
):
    now, then = artifact("now", statistics_bytes()), artifact("then", **properties)
    report, decision, charts = execute(now, then)
    assert decision.outcome is Outcome.INSUFFICIENT_DATA
    assert decision.reason.startswith("nothing to compare with, so drift was not checked: ")
    assert why in decision.reason
    assert report.get_string_custom_property("outcome") == "INSUFFICIENT_DATA"
    assert len(charts) == 2


def test_no_baseline_at_all_is_what_the_policy_says(artifact, execute):
    policy = DriftPolicy(without_baseline="OK")
    _, decision, _ = execute(artifact("now", statistics_bytes()), policy=policy)
    assert decision.outcome is Outcome.OK
    assert "nothing to compare with" in decision.reason


def test_a_live_release_whose_statistics_are_gone_is_an_error(artifact, execute):
    then = artifact("then", present=1, release="release 3")
    with pytest.raises(DataError, match=r"holds no statistics of split 'train'.*release 3 is live"):
        execute(artifact("now", statistics_bytes()), then)


def test_unreadable_statistics_name_the_file(artifact, execute):
    with pytest.raises(DataError, match=r"FeatureStats\.pb: not TFDV statistics"):
        execute(artifact("now", b"\xff\xff no proto"))


def test_a_split_that_the_data_lacks_is_refused_with_those_it_has(artifact, execute):
    policy = DriftPolicy(split="test")
    with pytest.raises(DataError, match=r"no statistics of split 'test'; it has \[\"train\"\]"):
        execute(artifact("now", statistics_bytes()), policy=policy)


def test_another_split_can_be_compared(artifact, execute):
    now, then = (artifact(name, statistics_bytes(), split="eval") for name in ("now", "then"))
    _, decision, _ = execute(now, then, DriftPolicy(split="eval"))
    assert decision.outcome is Outcome.OK


def test_a_policy_that_names_an_unknown_feature_is_refused_even_without_a_baseline(
    artifact, execute
):
    policy = DriftPolicy(ignore_features=("fair",))
    with pytest.raises(ConfigError, match="it has fare, payment"):
        execute(artifact("now", statistics_bytes()), policy=policy)


def test_the_component_takes_standard_channels_and_passes_its_policy_as_one_text():
    statistics = types.Channel(type=standard_artifacts.ExampleStatistics)
    component = DriftValidator(
        statistics=statistics,
        schema=types.Channel(type=standard_artifacts.Schema),
        baseline_statistics=types.Channel(type=standard_artifacts.ExampleStatistics),
        policy=DriftPolicy(labels=("tips",)),
    )
    assert set(component.inputs) == {"statistics", "schema", "baseline_statistics"}
    assert component.outputs["report"].type is DriftReport
    policy = from_json(DriftPolicy, component.exec_properties["policy"])
    assert policy.labels == ("tips",)


def test_the_component_needs_neither_baseline_nor_policy():
    component = DriftValidator(
        statistics=types.Channel(type=standard_artifacts.ExampleStatistics),
        schema=types.Channel(type=standard_artifacts.Schema),
    )
    assert set(component.inputs) == {"statistics", "schema"}
