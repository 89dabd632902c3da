"""A night is held against nights like it: seasons and day effects are no drift, incidents are."""

import pytest

from tfx_encore.monitoring.drift_seasonal import compared_with, history_dates, judge_seasonal
from tfx_encore.schemas.decisions import Outcome
from tfx_encore.schemas.drift_policy import DriftPolicy
from tfx_encore.schemas.errors import ConfigError
from tfx_encore.schemas.nightly_policy import SeasonPolicy
from tfx_encore.schemas.nights import day_before, days_between

FEATURES = ("payment", "fare", "tips")
FARE = "jensen_shannon"
FIRST = "2016-01-04"  # a Monday
NIGHTS = days_between(FIRST, "2016-02-14")


@pytest.fixture
def history(make_night):
    def make(dates=NIGHTS, seed=1, **more):
        return {date: make_night(date, seed, **more) for date in dates}

    return make


def judge(tonight, earlier, date, *, policy=None, season=None, **more):
    return judge_seasonal(
        tonight, earlier, date, policy or DriftPolicy(), season or SeasonPolicy(), FEATURES, **more
    )


def of(decision, subject, measure=None):
    return [
        item
        for item in decision.evidence
        if item.subject == subject and measure in (None, item.measure)
    ]


@pytest.mark.slow
def test_quiet_weeks_with_a_weekend_season_and_day_effects_raise_no_alarm(history):
    for seed in range(4):
        nights = history(seed=seed)
        found = {date: judge(nights[date], nights, date).outcome for date in NIGHTS}
        assert [d for d, outcome in found.items() if outcome in ("WARN", "BLOCK")] == []
        assert all(found[date] is Outcome.OK for date in NIGHTS[2:])


def test_a_renamed_category_blocks_with_both_baselines_in_the_message(history, make_night):
    date = "2016-02-10"
    decision = judge(make_night(date, 9, rename="CASH"), history(), date)
    assert decision.outcome is Outcome.BLOCK
    assert decision.gate == "drift"
    (found,) = of(decision, "feature:payment", "unseen")
    assert "CASH" in found.message
    assert "Wednesdays of the last 4 weeks (4 nights)" in found.message
    assert "the last 7 days (7 nights)" in found.message
    assert decision.baseline == (
        "Wednesdays of the last 4 weeks (4 nights) and the last 7 days (7 nights)"
    )


def test_every_check_is_told_once_so_that_metrics_of_it_have_one_value(history, make_night):
    date = "2016-02-10"
    decision = judge(make_night(date, 9, rename="CASH"), history(), date)
    keys = [(item.subject, item.measure) for item in decision.evidence]
    assert len(keys) == len(set(keys))


def test_a_shift_of_a_number_is_found(history, make_night):
    date = "2016-02-10"
    decision = judge(make_night(date, 9, shift=1.5), history(), date)
    (found,) = of(decision, "feature:fare", "jensen_shannon")
    assert found.outcome is Outcome.BLOCK
    assert "median" in found.message


def test_predictions_are_judged_under_their_own_name(history, make_night):
    date = "2016-02-10"
    decision = judge(make_night(date, 9, score=2.0), history(), date)
    (found,) = of(decision, "predictions", "jensen_shannon")
    assert found.outcome is Outcome.BLOCK
    assert found.message.startswith("predictions: Jensen-Shannon")
    assert not of(decision, "feature:encore_score")


def test_a_feature_that_vanished_is_drift_and_one_that_never_came_is_not(history, make_night):
    date = "2016-02-10"
    decision = judge(make_night(date, 9, lost=("fare",)), history(), date)
    (found,) = of(decision, "feature:fare", "missing")
    assert found.outcome is Outcome.BLOCK
    assert not of(decision, "feature:tips")


def test_a_change_within_what_nights_vary_among_themselves_is_none(history, make_night):
    """The same shift blocks among calm nights and is nothing among lively ones."""
    date, shift = "2016-02-10", 0.9
    calm = judge(make_night(date, 9, shift=shift), history(), date)
    lively = history(level=0.7)
    restless = judge(make_night(date, 9, shift=shift, level=0.0), lively, date)
    assert of(calm, "feature:fare", "jensen_shannon")[0].outcome is Outcome.BLOCK
    assert of(restless, "feature:fare", "jensen_shannon")[0].outcome not in ("WARN", "BLOCK")


def test_before_the_same_weekday_has_come_often_enough_the_window_decides(history, make_night):
    date = "2016-01-15"  # a Friday; one Friday before it
    decision = judge(make_night(date, 9, rename="CASH"), history(), date)
    assert decision.outcome is Outcome.BLOCK
    assert decision.baseline == "the last 7 days (7 nights)"


def test_the_first_weekend_is_a_season_that_nobody_knows_yet(history, make_night):
    date = "2016-01-09"  # the first Saturday
    nights = history(varies=5000.0, level=0.01)  # days that hardly vary
    decision = judge(make_night(date, 9, varies=5000.0, shift=2.0), nights, date)
    assert decision.outcome is Outcome.OK
    (found,) = of(decision, "feature:fare", "jensen_shannon")
    assert found.outcome is Outcome.INSUFFICIENT_DATA


def test_what_no_weekend_brings_is_judged_from_the_first_nights_on(history, make_night):
    date = "2016-01-06"
    decision = judge(make_night(date, 9, rename="CASH"), history(), date)
    assert [item.measure for item in decision.evidence if item.outcome == "BLOCK"] == ["unseen"]


def test_beside_the_same_weekday_the_days_before_can_only_warn(history, make_night):
    """Six days at another level, and a Wednesday again as Wednesdays were."""
    date = "2016-02-10"
    nights = history()
    calm = {"varies": 5000.0, "level": 0.01}
    nights |= {
        day: make_night(day, 5, shift=2.2 if "2016-02-05" < day < "2016-02-08" else 3.0, **calm)
        for day in days_between("2016-02-04", "2016-02-09")
    }
    tonight = make_night(date, 9)
    window_alone = SeasonPolicy(weeks=0, window_days=6)
    (blocks,) = of(judge(tonight, nights, date, season=window_alone), "feature:fare", FARE)
    assert blocks.outcome is Outcome.BLOCK
    both = SeasonPolicy(window_days=6)
    (warns,) = of(judge(tonight, nights, date, season=both), "feature:fare", FARE)
    assert warns.outcome is Outcome.WARN
    assert "Wednesdays of the last 4 weeks (4 nights): " in warns.message


def test_a_night_with_an_incident_is_no_baseline_if_it_is_excluded(history, make_night):
    date, incident = "2016-02-10", "2016-02-03"
    nights = history() | {incident: make_night(incident, 5, rename="CASH")}
    tonight = make_night(date, 9, rename="CASH")
    clean = judge(tonight, nights, date, excluded=[incident])
    assert of(clean, "feature:payment", "unseen")[0].outcome is Outcome.BLOCK
    after = judge(make_night(date, 9), nights, date, excluded=[incident])
    assert after.outcome is Outcome.OK
    assert "(3 nights)" in after.baseline


def test_what_lasts_is_the_new_normal_once_no_baseline_remembers_another(history, make_night):
    """Every night of a lasting change is excluded while the old ones are still in reach."""
    change = "2016-01-25"
    nights, excluded, outcomes = history(days_between(FIRST, day_before(change))), set(), []
    for date in days_between(change, "2016-03-13"):
        nights[date] = make_night(date, 7, rename="CASH")
        decision = judge(nights[date], nights, date, excluded=excluded)
        outcomes.append(decision.outcome)
        if decision.outcome is Outcome.BLOCK:
            excluded.add(date)
    assert outcomes[0] is Outcome.BLOCK
    assert outcomes[-7:] == [Outcome.OK] * 7


def test_nothing_is_compared_before_there_are_enough_nights(history, make_night):
    decision = judge(make_night("2016-01-05", 9), history(), "2016-01-05")
    assert decision.outcome is Outcome.INSUFFICIENT_DATA
    assert "1 earlier night can be compared with" in decision.reason
    quiet = DriftPolicy(without_baseline="OK")
    assert judge(make_night(FIRST, 9), {}, FIRST, policy=quiet).outcome is Outcome.OK


def test_repeated_rows_are_no_evidence(history, make_night):
    date = "2016-02-10"
    decision = judge(make_night(date, 9, n=2000), history(), date, effective={date: 0.04})
    assert decision.outcome is Outcome.INSUFFICIENT_DATA
    assert "80 independent rows" in decision.reason
    fewer = judge(make_night(date, 9), history(), date, effective=dict.fromkeys(NIGHTS, 0.5))
    assert {item.n for item in of(fewer, "feature:payment", "unseen")} == {1000}


def test_later_nights_and_tonight_itself_are_never_looked_at(history, make_night):
    date = "2016-01-20"
    nights = history()
    all_of_them = judge(nights[date], nights, date)
    past = {d: night for d, night in nights.items() if d < date}
    assert judge(nights[date], past, date) == all_of_them


def test_the_order_in_which_nights_come_changes_nothing(history):
    date, nights = "2016-02-10", history()
    backwards = dict(reversed(nights.items()))
    assert judge(nights[date], backwards, date) == judge(nights[date], nights, date)


def test_history_reaches_as_far_as_the_longer_baseline():
    assert history_dates("2016-02-01", SeasonPolicy(weeks=1, window_days=3)) == days_between(
        "2016-01-25", "2016-01-31"
    )
    assert len(history_dates("2016-02-01", SeasonPolicy(weeks=0, window_days=0))) == 0


def test_charts_show_the_baseline_that_decides(history):
    nights = history()
    policy, season = DriftPolicy(), SeasonPolicy()
    assert compared_with(nights, "2016-02-10", policy, season).examples == 4 * 2000
    assert compared_with(nights, "2016-01-15", policy, season).examples == 7 * 2000
    assert compared_with({}, "2016-01-15", policy, season) is None


def test_a_policy_that_names_an_unknown_feature_is_refused_where_it_stands(history, make_night):
    with pytest.raises(ConfigError, match=r"nightly.drift.ignore_features"):
        judge(make_night(FIRST, 1), {}, FIRST, policy=DriftPolicy(ignore_features=("fair",)))
