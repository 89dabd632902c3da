"""A night's record as samples: names, values, bounds."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from tfx_encore.monitoring import metric_families as families
from tfx_encore.monitoring.metric_families import EVERYTHING
from tfx_encore.monitoring.night_metrics import Limits, end_of, night_samples
from tfx_encore.schemas.decisions import Decision, Evidence, Outcome
from tfx_encore.schemas.nights import NightAlarm, NightRecord

ROOT = Path(__file__).parents[2]


def value(samples, family, *labels):
    (found,) = [s.value for s in samples if s.family is family and s.labels[1:] == labels]
    return found


def having(samples, family):
    return {s.labels[1:]: s.value for s in samples if s.family is family}


@pytest.fixture
def night(story):
    record, slices = story.night(story.story_of(59, "2016-03-01"), "taxi")
    return night_samples(record, slices)


def test_a_night_with_an_alarm_says_which_slice_and_for_how_long(night):
    assert value(night, families.NIGHT_OUTCOME, "BLOCK") == 1
    assert value(night, families.NIGHT_OUTCOME, "OK") == 0
    assert value(night, families.GATE_OUTCOME, "trend", "BLOCK") == 1
    alarms = having(night, families.ALARM_NIGHTS)
    assert alarms == {("trend", "slice:company=Sun Taxi", "recall", "BLOCK"): 8}
    assert value(night, families.TREND_ALARM, "company=Sun Taxi", "recall") == 1
    assert sum(having(night, families.TREND_ALARM).values()) == 1


def test_a_metric_comes_with_its_interval_and_its_reference(night):
    place = ("overall", "recall")
    low, mid, high = (
        value(night, family, *place)
        for family in (families.SLICE_LOW, families.SLICE_VALUE, families.SLICE_HIGH)
    )
    assert low < mid < high
    assert value(night, families.SLICE_REFERENCE, *place) == 0.81


def test_drift_comes_with_floor_threshold_and_level(story):
    record, _ = story.night(story.story_of(41, "2016-02-10"), "taxi")
    samples = night_samples(record)
    place = ("drift", "payment_type", "jensen_shannon")
    assert value(samples, families.DRIFT_EFFECT, *place) == 0.31
    assert value(samples, families.DRIFT_FLOOR, *place) == 0.008
    assert value(samples, families.DRIFT_THRESHOLD, *place) == 0.1
    assert value(samples, families.DRIFT_LEVEL, *place) == 2
    assert value(samples, families.DRIFT_LEVEL, "skew", "fare", "jensen_shannon") == 0


def test_of_several_baselines_the_worst_is_shown():
    fine = Evidence("feature:fare", "psi", Outcome.OK, "", effect=0.5)
    drifted = Evidence("feature:fare", "psi", Outcome.WARN, "", effect=0.3)
    decisions = tuple(Decision("drift", e.outcome, "", evidence=(e,)) for e in (fine, drifted))
    record = NightRecord("taxi", "2016-01-01", Outcome.WARN, "", decisions=decisions)
    samples = night_samples(record)
    assert having(samples, families.DRIFT_EFFECT) == {("drift", "fare", "psi"): 0.3}
    assert value(samples, families.GATE_OUTCOME, "drift", "WARN") == 1


def test_the_number_of_series_is_bounded_and_what_is_left_out_is_counted(story):
    record, slices = story.night(story.story_of(59, "2016-03-01"), "taxi")
    alarms = tuple(
        NightAlarm("log", f"slice:{n}", "x", Outcome.WARN, "", "2016-03-01") for n in range(9)
    )
    record = dataclasses.replace(record, alarms=(*record.alarms, *alarms))
    samples = night_samples(record, slices, Limits(slices=3, features=2, alarms=4))
    shown = {place[0] for place in having(samples, families.SLICE_VALUE)}
    # The slice with an alarm is shown although others have more cases.
    assert {"overall", "company=Sun Taxi"} < shown
    assert len(shown) == 3
    assert len({place[1] for place in having(samples, families.DRIFT_EFFECT)}) == 2
    assert having(samples, families.OMITTED) == {("slices",): 9, ("features",): 4, ("alarms",): 6}
    assert ("trend", "slice:company=Sun Taxi", "recall", "BLOCK") in having(
        samples, families.ALARM_NIGHTS
    )


def test_the_bound_that_the_docs_state_holds(story):
    """`docs/metrics.md`: at most 3,400 series by model from a night with 4 metrics, 5 measures."""
    base, slices = story.night(story.story_of(59, "2016-03-01"), "taxi")
    metrics = ("accuracy", "precision", "recall", "auc")
    points = tuple(
        dataclasses.replace(base.metrics[0], slice=f"s{n}", metric=metric)
        for n in range(300)
        for metric in metrics
    )
    estimates = tuple(
        dataclasses.replace(base.estimates[0], slice=f"s{n}", metric=metric)
        for n in range(300)
        for metric in metrics
    )
    evidence = tuple(
        dataclasses.replace(base.decisions[1].evidence[0], subject=f"feature:{n}", measure=str(m))
        for n in range(300)
        for m in range(5)
    )
    drift = tuple(Decision(g, Outcome.OK, "", evidence=evidence) for g in ("drift", "skew"))
    record = dataclasses.replace(
        base, metrics=points, estimates=estimates, decisions=(*base.decisions, *drift)
    )
    count = len(night_samples(record, slices))
    assert 3_000 < count < 4_600
    assert "4,600" in (ROOT / "docs/metrics.md").read_text()


def test_a_night_without_anything_says_what_it_is():
    samples = night_samples(NightRecord("taxi", "2016-01-01", Outcome.INSUFFICIENT_DATA, "no rows"))
    assert value(samples, families.NIGHT_END) == end_of("2016-01-01") == 1451692800
    assert value(samples, families.NIGHT_OUTCOME, "INSUFFICIENT_DATA") == 1
    assert having(samples, families.HIT_RATIO) == {}


def test_names_follow_prometheus_conventions():
    for family in EVERYTHING:
        assert re.fullmatch(r"encore_[a-z][a-z_]*[a-z]", family.name)
        assert family.name.endswith("_total") == (family.kind == "counter")
        assert not re.search(r"_(ms|us|micros|hours|days|kb|mb|count|sum|bucket)(_|$)", family.name)
        assert family.meaning.endswith(".")
    assert len({family.name for family in EVERYTHING}) == len(EVERYTHING)


def test_no_name_is_one_of_the_gateways():
    from tfx_encore.gateway.metrics_families import ENCORE

    assert {f.name for f in EVERYTHING} & {f.name for f in ENCORE} == set()


def test_the_docs_list_every_metric_with_its_labels_and_meaning():
    text = (ROOT / "docs/metrics.md").read_text().partition("## Nights")[2]
    rows = re.findall(r"^\| `(encore_\w+)` \| ([^|]*) \| ([^|]*) \|$", text, re.MULTILINE)
    listed = {n: (tuple(re.findall(r"`(\w+)`", labels)), m.strip()) for n, labels, m in rows}
    assert listed == {f.name: (f.labels, f.meaning) for f in EVERYTHING}
