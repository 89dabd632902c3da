"""Drift on the taxi data that comes with TFX, through TFDV's own statistics."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from tfx_encore.monitoring import drift, tfdv_reader
from tfx_encore.monitoring.drift_charts import charts
from tfx_encore.schemas.decisions import Outcome
from tfx_encore.schemas.drift_policy import DriftPolicy
from tfx_encore.schemas.errors import DataError

POLICY = DriftPolicy(ignore_features=("trip_start_timestamp",))
TYPES = {
    schema_pb2.BYTES: (pa.large_binary(), lambda x: str(x).encode()),
    schema_pb2.INT: (pa.int64(), int),
    schema_pb2.FLOAT: (pa.float32(), float),
}


@pytest.fixture(scope="module")
def schema():
    text = (Path(__file__).parents[2] / "schemas" / "taxi.pbtxt").read_text()
    return text_format.Parse(text, schema_pb2.Schema())


@pytest.fixture(scope="module")
def trips():
    (root,) = importlib.util.find_spec("tfx").submodule_search_locations
    return pd.read_csv(Path(root) / "examples/chicago_taxi_pipeline/data/simple/data.csv")


@pytest.fixture(scope="module")
def spans(trips):
    year = pd.to_datetime(trips["trip_start_timestamp"], unit="s").dt.year
    return trips[year <= 2014], trips[year > 2014]


@pytest.fixture(scope="module")
def statistics(schema):
    def compute(frame, **options):
        columns = {}
        for feature in schema.feature:
            kind, convert = TYPES[feature.type]
            rows = [None if pd.isna(x) else [convert(x)] for x in frame[feature.name]]
            columns[feature.name] = pa.array(rows, type=pa.large_list(kind))
        batch = pa.RecordBatch.from_arrays(list(columns.values()), list(columns))
        made = tfdv.StatsOptions(schema=schema, **options)
        return tfdv_reader.read_statistics(stats_impl.generate_statistics_in_memory(batch, made))

    return compute


@pytest.fixture(scope="module")
def judge(schema, statistics):
    def decide(now, then, policy=POLICY):
        features = tfdv_reader.schema_features(schema)
        return drift.decide(statistics(now), statistics(then), policy, features, "release 1")

    return decide


@pytest.fixture(scope="module")
def halves(trips):
    """Two samples of 3,000 trips of the same distribution."""
    mixed = trips.sample(6000, random_state=1)
    return mixed[:3000].copy(), mixed[3000:].copy()


def blocked(decision):
    return {
        (e.subject.removeprefix("feature:"), e.measure)
        for e in decision.evidence
        if e.outcome is Outcome.BLOCK
    }


def test_the_reader_finds_what_pandas_finds(statistics, trips):
    found = statistics(trips)
    assert found.examples == len(trips)
    company, miles = found.features["company"], found.features["trip_miles"]
    assert company.missing == trips["company"].isna().sum()
    assert company.categorical.counts == trips["company"].value_counts().to_dict()
    assert company.categorical.complete
    assert miles.numeric.zeros == (trips["trip_miles"] == 0).sum()
    assert found.features["trip_start_hour"].kind == "categorical"
    assert found.features["fare"].kind == "numeric"
    assert found.feature("no such feature").missing == len(trips)


def test_a_truncated_list_keeps_its_remainder(statistics, trips):
    values = statistics(trips, num_rank_histogram_buckets=5).features["company"].categorical
    counts = trips["company"].value_counts()
    assert values.counts == counts[:5].to_dict()
    assert values.remainder == counts[5:].sum()
    assert not values.complete


def test_nan_is_a_missing_value(statistics, trips):
    frame = trips.copy()
    options = tfdv.StatsOptions()
    column = pa.array([[float(x)] for x in frame["dropoff_latitude"]], pa.large_list(pa.float32()))
    batch = pa.RecordBatch.from_arrays([column], ["dropoff_latitude"])
    found = tfdv_reader.read_statistics(stats_impl.generate_statistics_in_memory(batch, options))
    assert found.features["dropoff_latitude"].missing == frame["dropoff_latitude"].isna().sum()


def test_statistics_without_a_data_set_are_refused():
    with pytest.raises(DataError, match=r"stats\.pb: holds no data set"):
        tfdv_reader.read_statistics(
            statistics_pb2.DatasetFeatureStatisticsList(), source="stats.pb"
        )


def test_features_that_the_schema_has_retired_are_not_asked_for():
    text = 'feature { name: "a" } feature { name: "b" lifecycle_stage: DEPRECATED }'
    assert tfdv_reader.schema_features(text_format.Parse(text, schema_pb2.Schema())) == ("a",)


def test_the_second_span_warns_and_does_not_block(judge, spans):
    decision = judge(spans[1], spans[0])
    assert decision.outcome is Outcome.WARN
    assert "payment_type: L-infinity 0.114 (Credit Card 0.29 -> 0.40)" in decision.reason


def test_the_second_span_with_its_label_warns_too(judge, spans):
    policy = POLICY.model_copy(update={"labels": ("tips",)})
    decision = judge(spans[1], spans[0], policy)
    (label,) = [e for e in decision.evidence if e.measure == "label_drift"]
    assert decision.outcome is label.outcome is Outcome.WARN


def test_the_first_span_against_the_second_does_not_block_either(judge, spans):
    assert judge(spans[0], spans[1]).outcome is Outcome.WARN


def test_random_halves_are_ok_in_every_check(judge, trips):
    for seed in range(3):
        mixed = trips.sample(len(trips), random_state=seed)
        decision = judge(mixed[:7501], mixed[7501:])
        assert decision.outcome is Outcome.OK
        (seconds,) = [
            e
            for e in decision.evidence
            if (e.subject, e.measure) == ("feature:trip_seconds", "jensen_shannon")
        ]
        assert seconds.effect < 0.005


def test_a_column_with_hardly_a_value_does_no_harm(judge, halves):
    decision = judge(*halves)
    outcomes = {e.outcome for e in decision.evidence if e.subject == "feature:pickup_census_tract"}
    assert outcomes <= {Outcome.OK, Outcome.INSUFFICIENT_DATA}
    assert decision.outcome is Outcome.OK


def test_fares_in_cents_are_blocked(judge, halves):
    now, then = halves
    decision = judge(now.assign(fare=now["fare"] * 100), then)
    assert blocked(decision) == {("fare", "jensen_shannon")}
    assert re.search(r"fare: Jensen-Shannon 0\.\d+ \(median 7\.\d+ -> 7\d\d", decision.reason)


def test_a_renamed_category_is_blocked(judge, halves):
    now, then = halves
    renamed = now.assign(payment_type=now["payment_type"].replace("Credit Card", "CREDIT"))
    assert {("payment_type", "unseen"), ("payment_type", "l_infinity")} <= blocked(
        judge(renamed, then)
    )


def test_a_fifth_of_a_column_gone_missing_is_blocked(judge, halves):
    now, then = halves
    gone = np.random.default_rng(1).random(len(now)) < 0.2
    assert blocked(judge(now.assign(fare=now["fare"].mask(gone)), then)) == {("fare", "missing")}


def test_the_charts_of_both_spans_are_drawn(schema, statistics, spans):
    features = tfdv_reader.schema_features(schema)
    drawn = {c.feature: c for c in charts(statistics(spans[1]), statistics(spans[0]), features)}
    assert set(features) - set(drawn) <= {"pickup_census_tract"}
    assert drawn["fare"].edges[-1] < 100
    assert drawn["payment_type"].labels[:2] == ("Cash", "Credit Card")
    for chart in drawn.values():
        if chart.feature != "pickup_census_tract":
            assert 0.5 < sum(chart.current) <= 1 + 1e-9
            assert 0.5 < sum(chart.baseline) <= 1 + 1e-9
