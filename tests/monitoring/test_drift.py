from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tfx_encore.monitoring import drift
from tfx_encore.monitoring.drift_charts import charts
from tfx_encore.monitoring.drift_statistics import (
    Bucket,
    CategoricalValues,
    DatasetStatistics,
    FeatureStatistics,
    NumericValues,
)
from tfx_encore.schemas.decisions import Outcome
from tfx_encore.schemas.drift_policy import DriftPolicy, DriftThresholds, FeatureDriftPolicy
from tfx_encore.schemas.errors import ConfigError
from tfx_encore.schemas.serial import from_json, json_schema, to_json

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "bench_drift.py"


@pytest.fixture(scope="module")
def bench(load_module):
    return load_module(BENCHMARK)


def categorical(name, n=3000, **counts):
    values = CategoricalValues({k: float(v) for k, v in counts.items()}, sum(counts.values()))
    present = float(values.total)
    return FeatureStatistics(
        name, "categorical", "STRING", present, n - present, categorical=values
    )


def numeric(name, bounds, n=3000, present=None, type_name="FLOAT"):
    present = n if present is None else present
    each = present / (len(bounds) - 1)
    buckets = tuple(Bucket(a, b, each) for a, b in pairwise(bounds))
    values = NumericValues(buckets)
    return FeatureStatistics(
        name, "numeric", type_name, float(present), float(n - present), numeric=values
    )


def data(*features, n=3000):
    return DatasetStatistics(n, {feature.name: feature for feature in features})


def decide(now, then, policy=None, features=None):
    names = features or sorted({*now.features, *then.features})
    return drift.decide(now, then, policy or DriftPolicy(), names, "release 1")


def check(decision, measure, feature=None):
    found = [
        e
        for e in decision.evidence
        if e.measure == measure and feature in (None, e.subject.removeprefix("feature:"))
    ]
    assert len(found) == 1
    return found[0]


FARE = numeric("fare", [float(x) for x in range(11)])
CENTS = numeric("fare", [100.0 * x for x in range(11)])
PAYMENT = categorical("payment", Cash=2100, Card=900)


def test_the_same_statistics_are_ok_and_the_reason_counts_the_checks():
    decision = decide(data(FARE, PAYMENT), data(FARE, PAYMENT))
    assert decision.outcome is Outcome.OK
    assert decision.reason == "no drift in 2 features (6 checks) against release 1"
    assert decision.baseline == "release 1"


def test_a_fare_in_cents_blocks_and_says_how_the_median_moved():
    decision = decide(data(CENTS), data(FARE))
    found = check(decision, "jensen_shannon")
    assert decision.outcome is found.outcome is Outcome.BLOCK
    assert "median 5 -> 500" in found.message
    assert found.message in decision.reason
    assert found.effect > found.threshold
    assert found.effect > found.null_floor
    assert found.p_value < 1e-6


def test_a_renamed_category_blocks_and_is_named_with_its_share():
    decision = decide(data(categorical("payment", CASH=2100, Card=900)), data(PAYMENT))
    found = check(decision, "unseen")
    assert decision.outcome is found.outcome is Outcome.BLOCK
    assert "CASH 70.0%" in found.message


def test_at_most_three_unseen_categories_are_named():
    new = categorical("payment", Cash=2100, a=300, b=250, c=200, d=100, e=50)
    message = check(decide(data(new), data(PAYMENT)), "unseen").message
    assert "a 10.0%, b 8.3%, c 6.7%, and 2 more" in message


def test_a_fifth_of_a_column_gone_missing_blocks():
    now = numeric("fare", [float(x) for x in range(11)], present=2400)
    found = check(decide(data(now), data(FARE)), "missing")
    assert found.outcome is Outcome.BLOCK
    assert (found.value, found.baseline) == (pytest.approx(0.2), 0)
    assert "0.0% -> 20.0% of examples" in found.message


def test_a_column_that_is_gone_altogether_blocks():
    decision = decide(data(PAYMENT), data(FARE, PAYMENT))
    assert check(decision, "missing", "fare").outcome is Outcome.BLOCK


def test_a_moderate_shift_warns_with_both_shares():
    decision = decide(data(categorical("payment", Cash=1760, Card=1240)), data(PAYMENT))
    found = check(decision, "l_infinity")
    assert decision.outcome is found.outcome is Outcome.WARN
    assert found.message.startswith("payment: L-infinity 0.113 (Card 0.30 -> 0.41), floor 0.0")
    assert found.message.endswith("threshold 0.2")


def test_a_small_but_certain_shift_is_ok():
    then, now = (
        categorical("payment", n=300_000, Cash=cash, Card=300_000 - cash)
        for cash in (210_000, 205_000)
    )
    found = check(decide(data(now, n=300_000), data(then, n=300_000)), "l_infinity")
    assert found.p_value < 1e-9
    assert found.outcome is Outcome.OK


def test_a_large_change_within_noise_says_that_it_cannot_tell():
    rng = np.random.default_rng(2)
    now, then = (
        categorical("id", n=300, **{f"c{v}": 1 for v in rng.choice(10**6, 300, replace=False)})
        for _ in range(2)
    )
    decision = decide(data(now, n=300), data(then, n=300))
    assert decision.outcome is not Outcome.BLOCK
    assert check(decision, "psi").outcome in (Outcome.OK, Outcome.INSUFFICIENT_DATA)
    assert check(decision, "psi").effect > 1


def test_severity_warn_never_blocks():
    policy = DriftPolicy(features={"fare": FeatureDriftPolicy(severity="WARN")})
    decision = decide(data(CENTS), data(FARE), policy)
    assert decision.outcome is Outcome.WARN
    assert check(decision, "jensen_shannon").severity is Outcome.WARN


def test_a_threshold_of_one_feature_overrides_the_policys():
    now = data(categorical("payment", Cash=1760, Card=1240))
    strict = DriftPolicy(features={"payment": FeatureDriftPolicy(l_infinity=0.05)})
    assert check(decide(now, data(PAYMENT), strict), "l_infinity").outcome is Outcome.BLOCK
    lax = DriftPolicy(thresholds=DriftThresholds(l_infinity=0.9))
    assert check(decide(now, data(PAYMENT), lax), "l_infinity").outcome is Outcome.OK


def test_an_ignored_feature_is_not_looked_at():
    policy = DriftPolicy(ignore_features=("fare",))
    decision = decide(data(CENTS, PAYMENT), data(FARE, PAYMENT), policy)
    assert decision.outcome is Outcome.OK
    assert not [e for e in decision.evidence if e.subject == "feature:fare"]


def test_a_label_is_judged_by_the_share_that_would_have_to_change():
    policy = DriftPolicy(labels=("tipped",))
    then = categorical("tipped", **{"0": 2400, "1": 600})
    now = categorical("tipped", **{"0": 1500, "1": 1500})
    found = check(decide(data(now), data(then), policy), "label_drift")
    assert found.effect == pytest.approx(0.3)
    assert found.outcome is Outcome.BLOCK


def test_a_numeric_label_is_judged_alike():
    policy = DriftPolicy(labels=("fare",))
    found = check(decide(data(CENTS), data(FARE), policy), "label_drift")
    assert found.outcome is Outcome.BLOCK


@pytest.mark.parametrize("key", ["ignore_features", "labels"])
def test_a_policy_that_names_an_unknown_feature_is_refused_with_the_choices(key):
    with pytest.raises(ConfigError, match=r"fair.*it has fare, payment") as caught:
        decide(data(FARE), data(FARE), DriftPolicy(**{key: ("fair",)}), ["payment", "fare"])
    assert caught.value.key == f"drift.{key}"


def test_an_override_of_an_unknown_feature_is_refused():
    policy = DriftPolicy(features={"fair": FeatureDriftPolicy(psi=1.0)})
    with pytest.raises(ConfigError, match=r"drift\.features.*'fair'"):
        decide(data(FARE), data(FARE), policy)


def test_too_few_examples_are_not_judged():
    few = data(numeric("fare", [0.0, 1000.0], n=57), n=57)
    decision = decide(few, data(FARE))
    assert decision.outcome is Outcome.INSUFFICIENT_DATA
    assert "57 examples now and 3000 in release 1" in decision.reason
    assert "at least 100" in decision.reason


def test_no_examples_at_all_are_not_judged():
    assert decide(data(n=0), data(FARE)).outcome is Outcome.INSUFFICIENT_DATA


def test_a_feature_all_missing_but_one_value_blocks_nothing():
    now = FeatureStatistics("tract", "numeric", "INT", 0.0, 3000.0, numeric=NumericValues(()))
    then = numeric("tract", [7.0, 7.0], present=1, type_name="INT")
    decision = decide(data(now, FARE), data(then, FARE))
    assert decision.outcome is Outcome.OK
    assert check(decision, "distribution", "tract").outcome is Outcome.INSUFFICIENT_DATA
    assert check(decision, "missing", "tract").outcome is Outcome.OK


def test_a_changed_type_blocks():
    now = categorical("fare", **{"3.25": 3000})
    found = check(decide(data(now), data(FARE)), "type")
    assert found.outcome is Outcome.BLOCK
    assert "FLOAT -> STRING" in found.message


def test_statistics_made_without_the_schema_are_told_apart_from_a_changed_type():
    as_category = FeatureStatistics(
        "hour", "categorical", "INT", 3000.0, 0.0, categorical=PAYMENT.categorical
    )
    as_number = numeric("hour", [0.0, 23.0], type_name="INT")
    found = check(decide(data(as_category), data(as_number)), "distribution")
    assert found.outcome is Outcome.INSUFFICIENT_DATA
    assert "the same schema" in found.message


def test_the_worst_evidence_comes_first():
    decision = decide(data(CENTS, PAYMENT), data(FARE, PAYMENT))
    assert decision.evidence[0].subject == "feature:fare"
    assert decision.evidence[0].outcome is Outcome.BLOCK


def test_a_decision_survives_being_written_and_read():
    decision = decide(data(CENTS, PAYMENT), data(FARE, PAYMENT))
    assert from_json(type(decision), to_json(decision)) == decision


def test_nothing_to_compare_with_is_said_whatever_the_policy_makes_of_it():
    for outcome in ("OK", "INSUFFICIENT_DATA"):
        decision = drift.without_baseline(DriftPolicy(without_baseline=outcome), "no release yet")
        assert decision.outcome.value == outcome
        assert (
            decision.reason == "nothing to compare with, so drift was not checked: no release yet"
        )
        assert decision.baseline is None


def test_the_policy_is_one_json_text_with_a_schema_that_explains_every_key():
    policy = DriftPolicy(labels=("a",), features={"a": FeatureDriftPolicy(severity="WARN")})
    assert from_json(DriftPolicy, to_json(policy)) == policy
    schema = json_schema(DriftPolicy)
    assert all("description" in field for field in schema["properties"].values())
    assert schema["additionalProperties"] is False


# Charts


def test_every_feature_has_a_chart_with_shares_of_both_sides():
    drawn = charts(data(CENTS, PAYMENT), data(FARE, PAYMENT), ["fare", "payment"])
    fare, payment = drawn
    assert fare.kind == "numeric"
    assert len(fare.edges) == len(fare.current) + 1 == len(fare.baseline) + 1
    assert sum(fare.current) == pytest.approx(1)
    assert sum(fare.baseline) == pytest.approx(1)
    assert payment.labels == ("Cash", "Card")
    assert payment.current == payment.baseline == pytest.approx((0.7, 0.3))
    assert (payment.n, payment.n_baseline) == (3000, 3000)


def test_an_outlier_is_not_drawn():
    bounds = [*[float(x) for x in range(10)], 1e7]
    (drawn,) = charts(data(numeric("fare", bounds)), None, ["fare"])
    assert drawn.edges[-1] < 100
    assert drawn.baseline == ()
    assert 0.85 < sum(drawn.current) <= 1


def test_many_categories_are_drawn_as_the_head_and_the_others():
    many = categorical("company", n=3000, **{f"c{i:02d}": 100 for i in range(30)})
    (drawn,) = charts(data(many), data(many), ["company"])
    assert len(drawn.labels) == len(drawn.current) == 13
    assert drawn.labels[-1] == "(other)"
    assert sum(drawn.current) == pytest.approx(1)


def test_a_feature_without_values_has_no_chart_and_a_constant_has_one_bar():
    empty = FeatureStatistics("tract", "numeric", "INT", 0.0, 3000.0, numeric=NumericValues(()))
    constant = numeric("zero", [0.0, 0.0])
    (drawn,) = charts(data(empty, constant), None, ["tract", "zero"])
    assert (drawn.feature, drawn.current) == ("zero", (1.0,))


# Simulations; benchmarks/bench_drift.py holds the long ones


@pytest.mark.parametrize("n", [300, 3000])
@pytest.mark.parametrize("categories", [10, 1000])
def test_without_drift_no_run_of_250_blocks(bench, n, categories):
    row = bench.false_alarms(n, categories, 250, seed=3)
    assert row["blocked"] == 0
    assert row["warned or blocked"] <= 2


@pytest.mark.slow
@pytest.mark.parametrize("n", [300, 3000, 30_000])
def test_without_drift_at_most_one_run_in_a_thousand_blocks(bench, n):
    row = bench.false_alarms(n, 1000, 5000, seed=4)  # many categories: the hardest
    assert row["blocked, 95% upper bound"] <= 0.001


@pytest.mark.parametrize(
    "what",
    [
        "a fare in cents",
        "first of 10 categories renamed",
        "a category of 7% renamed, of 10",
        "first of 1,000 categories renamed",
        "20% of a column gone missing",
    ],
)
def test_breakage_is_blocked_at_3000_examples(bench, what):
    assert bench.breakage(what, 3000, 20)["blocked"] == 20


def test_a_head_of_5000_categories_that_is_not_listed_in_full_does_not_look_drifted(bench):
    rng = np.random.default_rng(9)
    weights = 1 / np.arange(1, 5001)

    def side(n):
        counts = rng.multinomial(n, weights / weights.sum())
        order = np.argsort(-counts, kind="stable")[:1000]
        head = {f"c{i}": float(counts[i]) for i in order if counts[i]}
        return bench.dataset(n, {"company": CategoricalValues(head, float(n))})

    for n, m in [(3000, 3000), (30_000, 3000), (3000, 30_000), (30_000, 300)] * 10:
        assert decide(side(n), side(m)).outcome is Outcome.OK, (n, m)


def test_random_halves_of_trip_seconds_stay_near_zero(bench):
    row = bench.random_halves(100)
    assert row["median"] < 0.001
    assert row["greatest"] < 0.005
    assert row["above floor"] <= 1


def test_lumps_and_gaps_between_quantiles_do_not_pass_for_drift(bench):
    rng = np.random.default_rng(10)
    shapes = bench.numeric_features()
    for draw in (shapes[3], shapes[5], shapes[7]):  # two humps, whole minutes, small integers
        counts, p_values, certain = bench._numeric_counts(draw, rng, 3000, 300)
        found = bench.additive_effect("jensen_shannon", *counts, 3000, 3000)
        floor = bench.numeric_floor(found.floor, found.effect, certain)
        assert (found.effect > floor).sum() <= 2
        assert (p_values < 0.01).sum() <= 10
