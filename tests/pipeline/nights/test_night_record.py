"""A night's decision record: outcome, reason, alarms and actions from what the gates said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tfx_encore.monitoring.night_record import Found, compose, judge_log, outcome_of
from tfx_encore.schemas.decisions import Decision, Evidence, Outcome
from tfx_encore.schemas.nightly_policy import LogPolicy, RewarmPolicy
from tfx_encore.schemas.nights import LogReport, NightCoverage

OK, WARN, BLOCK = Outcome.OK, Outcome.WARN, Outcome.BLOCK
NOTHING = Outcome.INSUFFICIENT_DATA
LOG = LogReport(files=1, records=200, requests=200, rows=200, labelled=150)


def decision(gate: str, outcome: Outcome, *checks: Evidence) -> Decision:
    return Decision(gate, outcome, f"{gate} is {outcome.value}", evidence=checks)


def check(subject: str, outcome: Outcome, measure: str = "accuracy") -> Evidence:
    return Evidence(subject, measure, outcome, f"{subject} fell")


def found(*decisions: Decision, log: LogReport = LOG, **rest: object) -> Found:
    judged = (judge_log(log, LogPolicy()), *decisions)
    return Found("taxi", "2016-01-12", log, judged, 3, "sha256:3", **rest)  # type: ignore[arg-type]


def record_of(*decisions: Decision, **rest: object):
    return compose(found(*decisions, **rest), RewarmPolicy())


def test_the_worst_gate_decides_and_is_named_with_those_as_bad() -> None:
    record = record_of(decision("drift", BLOCK), decision("slices", BLOCK), decision("skew", WARN))
    assert record.outcome is BLOCK
    assert record.reason == "slices: slices is BLOCK (also drift)"
    assert [d.gate for d in record.decisions] == ["slices", "drift", "skew", "log"]


def test_a_log_that_could_be_read_does_not_make_a_night_ok() -> None:
    assert outcome_of([decision("log", OK), decision("slices", NOTHING)]) is NOTHING
    assert outcome_of([decision("log", OK), decision("slices", OK)]) is OK
    assert outcome_of([decision("log", BLOCK), decision("slices", OK)]) is BLOCK


def test_a_day_without_traffic_is_no_error() -> None:
    record = record_of(log=LogReport())
    assert (record.outcome, record.reason) == (NOTHING, "no requests logged")
    assert [action.kind for action in record.actions] == ["nothing"]
    assert record.alarms == ()


@pytest.mark.parametrize(("unreadable", "outcome"), [(2, OK), (3, BLOCK)])
def test_a_damaged_log_blocks_above_the_share_that_is_tolerated(
    unreadable: int, outcome: Outcome
) -> None:
    log = replace(LOG, unreadable=unreadable, set_aside="/kept")
    decided = judge_log(log, LogPolicy(tolerate_unreadable_share=0.01))
    assert decided.outcome is outcome
    assert f"{unreadable} of 200 records" in " ".join(c.message for c in decided.evidence)


def test_an_alarm_keeps_the_night_on_which_it_began() -> None:
    bad = decision("slices", BLOCK, check("slice:payment_type=Cash", BLOCK))
    first = compose(found(bad), RewarmPolicy())
    second = compose(replace(found(bad, before=first.alarms), date="2016-01-13"), RewarmPolicy())
    (alarm,) = second.alarms
    assert alarm.since == "2016-01-12"
    other = decision("slices", BLOCK, check("slice:payment_type=Card", BLOCK))
    third = compose(replace(found(other, before=second.alarms), date="2016-01-14"), RewarmPolicy())
    assert [alarm.since for alarm in third.alarms] == ["2016-01-14"]


def test_a_trend_alarm_says_when_the_change_began_and_others_do_not() -> None:
    checks = [check("slice:overall", BLOCK)]
    onsets = {("slice:overall", "accuracy"): "2016-01-02"}
    record = record_of(
        decision("trend", BLOCK, *checks), decision("slices", WARN, *checks), onsets=onsets
    )
    assert {a.gate: a.onset for a in record.alarms} == {"trend": "2016-01-02", "slices": None}


def test_an_alarm_says_what_it_is_about() -> None:
    said = Evidence("slice:payment_type=Cash", "auc", WARN, "auc 0.8 against 0.9")
    (alarm,) = record_of(decision("slices", WARN, said)).alarms
    assert alarm.message == "payment_type=Cash: auc 0.8 against 0.9"


def test_a_gate_without_evidence_is_an_alarm_by_itself() -> None:
    (alarm,) = record_of(decision("trend", WARN)).alarms
    assert (alarm.gate, alarm.subject, alarm.message) == ("trend", "trend", "trend is WARN")


def test_wrong_answers_come_before_a_bad_model_before_a_cold_cache() -> None:
    record = record_of(
        decision("trend", BLOCK),
        decision("cached_path", BLOCK),
        decision("slices", BLOCK),
        wrong=({"payment_type": "Cash"},),
        roll_back_to=2,
        coverage=NightCoverage(0.4, 0.8, 100, "/snapshot"),
    )
    kinds = [(a.kind, a.features, a.version) for a in record.actions]
    assert kinds == [
        ("invalidate_slice", {"payment_type": "Cash"}, None),
        ("roll_back", {}, 2),
        ("retrain", {}, None),
        ("rewarm", {}, None),
    ]
    assert {a.state for a in record.actions} == {"proposed"}


def test_without_an_older_version_a_bad_model_is_trained_anew() -> None:
    assert [a.kind for a in record_of(decision("slices", BLOCK)).actions] == ["retrain"]


def test_a_warning_proposes_nothing() -> None:
    record = record_of(decision("slices", WARN), decision("drift", WARN))
    assert [a.kind for a in record.actions] == ["nothing"]


@pytest.mark.parametrize(
    ("covered", "expected", "kinds"),
    [(0.69, 0.8, ["rewarm"]), (0.75, 0.8, ["nothing"]), (0.1, None, ["nothing"])],
)
def test_the_cache_is_warmed_anew_when_coverage_has_fallen(
    covered: float, expected: float | None, kinds: list[str]
) -> None:
    coverage = NightCoverage(covered, expected, 10, "/snapshot")
    record = record_of(decision("slices", OK), coverage=coverage)
    assert [a.kind for a in record.actions] == kinds
