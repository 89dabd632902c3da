"""What the pages show, worked out from records alone."""

import json

import pytest

from tfx_encore.pipeline.ui import charts, series
from tfx_encore.pipeline.ui.address import AddressError, Range, link, range_of
from tfx_encore.pipeline.ui.cache_view import cache_view
from tfx_encore.pipeline.ui.calendar_view import calendar, missed_dates
from tfx_encore.pipeline.ui.daily_view import daily_view
from tfx_encore.pipeline.ui.drift_checks import against
from tfx_encore.pipeline.ui.drift_view import drift_view
from tfx_encore.pipeline.ui.found import Damaged, Records, Releases
from tfx_encore.pipeline.ui.night_view import action_of, log_facts, night_view
from tfx_encore.pipeline.ui.overview_view import overview, window
from tfx_encore.pipeline.ui.records_view import records_view
from tfx_encore.pipeline.ui.slices_view import slices_view
from tfx_encore.schemas.decisions import Decision, Evidence, Outcome
from tfx_encore.schemas.nights import LogReport, NightAction, NightAlarm
from tfx_encore.schemas.records import Acknowledgement, Cause, InvalidationRecord, SelectAll

INCIDENT = 11  # 2016-01-12
SWITCH = 39  # 2016-02-09
ALARMED = 69  # 2016-03-10


@pytest.fixture
def nights(make_night):
    return tuple(make_night(number) for number in range(70) if number not in {19, 33, 34})


@pytest.fixture
def shown(nights):
    return Range(nights[0].date, nights[-1].date)


def _outcomes(view):
    return {
        day.date: day.state for month in view.months for week in month.weeks for day in week if day
    }


# --- addresses -----------------------------------------------------------------------------------


def test_without_a_range_the_last_days_that_have_nights_are_meant():
    dates = ["2016-01-01", "2016-02-01", "2016-03-10"]
    assert range_of({}, dates, 30) == Range("2016-02-10", "2016-03-10")
    assert range_of({}, dates[:1], 30) == Range("2016-01-01", "2016-01-01")


@pytest.mark.parametrize(
    "query",
    [
        {"from": "yesterday"},
        {"to": "2016-02-30"},
        {"from": "../../etc"},
        {"from": "2016-03-01", "to": "2016-02-01"},
        {"from": "0001-01-01", "to": "9999-12-31"},
    ],
)
def test_a_range_that_means_nothing_is_refused_with_the_value(query):
    with pytest.raises(AddressError) as error:
        range_of(query, ["2016-02-01"], 30)
    assert error.value.status == 400
    assert any(value[:10] in str(error.value) for value in query.values())


@pytest.mark.parametrize("text", ["0001-01-01", "9999-12-31"])
def test_the_ends_of_the_calendar_are_days_like_others(text):
    assert range_of({"from": text, "to": text}, [], 30) == Range(text, text)


def test_an_address_escapes_what_a_name_may_hold():
    assert link("/slices", slice="a=1&b", metric=None) == "/slices?slice=a%3D1%26b"


# --- the calendar --------------------------------------------------------------------------------


def test_a_calendar_has_every_day_of_its_months_in_weeks_from_monday(nights, shown):
    view = calendar(nights, [n.date for n in nights], shown)
    assert [month.name for month in view.months] == ["January 2016", "February 2016", "March 2016"]
    january = view.months[0]
    assert [day.number if day else None for day in january.weeks[0]] == [
        None, None, None, None, 1, 2, 3,
    ]  # fmt: skip
    assert sum(day is not None for week in january.weeks for day in week) == 31


def test_a_missed_night_a_damaged_one_and_a_blocked_one_look_different(nights, shown):
    damaged = Damaged("2016-01-05", "night.json is missing")
    found = [night if night.date != damaged.date else damaged for night in nights]
    view = calendar(found, [n.date for n in nights], shown)
    states = _outcomes(view)
    assert states["2016-01-12"] == "block"
    assert states["2016-01-20"] == "missed"
    assert states["2016-01-05"] == "damaged"
    assert states["2016-03-31"] == ""
    assert len({(day.mark, day.words) for day in view.days}) == 5
    assert {state: n for state, _, _, n in view.tally}["missed"] == 3


def test_a_missed_night_says_what_to_run(nights, shown):
    view = calendar(nights, [n.date for n in nights], shown)
    missed = next(day for day in view.days if day.date == "2016-01-20")
    assert "encore nightly --date 2016-01-20" in missed.reason
    assert not missed.address


def test_days_before_the_first_night_are_not_missed():
    assert missed_dates(["2016-01-03", "2016-01-05"]) == ("2016-01-04",)
    assert missed_dates([]) == ()


def test_the_calendar_leads_to_earlier_and_later_days_only_if_there_are_nights(nights):
    dates = [n.date for n in nights]
    middle = Range("2016-02-01", "2016-02-10")
    view = calendar([n for n in nights if middle.first <= n.date <= middle.last], dates, middle)
    assert view.earlier == "/nights?from=2016-01-22&to=2016-01-31"
    assert view.later == "/nights?from=2016-02-11&to=2016-02-20"
    whole = calendar(nights, dates, Range(dates[0], dates[-1]))
    assert (whole.earlier, whole.later) == ("", "")


# --- one night -----------------------------------------------------------------------------------


def test_a_night_shows_its_worst_gate_and_its_worst_check_first(make_night):
    view = night_view(make_night(INCIDENT), ["2016-01-11", "2016-01-12", "2016-01-13"])
    outcomes = [gate.decision.outcome for gate in view.gates]
    assert outcomes == sorted(outcomes, key=["BLOCK", "WARN", "INSUFFICIENT_DATA", "OK"].index)
    assert all(item.outcome is Outcome.BLOCK for item in view.gates[0].notable)
    assert (view.before, view.after) == ("2016-01-11", "2016-01-13")


def test_an_alarm_leads_to_the_page_that_shows_its_course(make_night):
    view = night_view(make_night(INCIDENT), [])
    addresses = {item.subject: item.address for item in view.alarms}
    assert addresses["payment_type"] == "/drift?feature=payment_type&night=2016-01-12"
    assert addresses["payment_type=Cash"].startswith("/slices?slice=payment_type%3DCash&metric=")


def test_an_alarm_on_what_has_no_course_leads_nowhere(make_night):
    alarm = NightAlarm(
        "cached_path", "slice:overall", "disagreement", Outcome.BLOCK, "", since="2016-01-06"
    )
    (shown,) = night_view(make_night(5, alarms=(alarm,)), []).alarms
    assert shown.address == ""


def test_an_alarm_names_its_subject_once(make_night):
    alarm = NightAlarm(
        "trend", "slice:a=1", "recall", Outcome.BLOCK, "a=1: fell", since="2016-01-06"
    )
    (shown,) = night_view(make_night(5, alarms=(alarm,)), []).alarms
    assert (shown.subject, shown.message) == ("a=1", "fell")


def test_an_action_says_what_to_type_until_it_is_done():
    action = NightAction("roll_back", "worse than version 3", version=3)
    assert action_of(action, "2016-01-12").command == "encore label set stable 3"
    done = NightAction("rewarm", "coverage fell", state="done", result="snapshots/2")
    assert action_of(done, "2016-01-12").command == ""


def test_what_a_log_does_not_say_is_left_out():
    facts = dict(log_facts(LogReport(requests=10, rows=20)))
    assert facts["Rows"] == "20"
    assert "From the cache" not in facts
    assert "Answered by" not in facts


def test_estimates_stand_beside_the_truth(make_night):
    chart = night_view(make_night(5), []).estimates
    estimated, truth = chart.data
    assert len(estimated["x"]) == len(truth["x"]) == 12
    assert len(chart.rows) == 12


# --- slices --------------------------------------------------------------------------------------


def test_a_course_breaks_where_nights_are_missing(nights, shown):
    view = slices_view(nights, shown, {})
    band, _, value = view.chart.data[:3]
    missing = [x for x, y in zip(value["x"], value["y"], strict=True) if y is None]
    assert missing == ["2016-01-20", "2016-02-03", "2016-02-04"]
    assert band["x"].count(None) == 2  # three pieces


def test_an_alarm_is_another_mark_and_names_its_first_night(nights, shown):
    view = slices_view(nights, shown, {"slice": "payment_type=Mobile", "metric": "recall"})
    value = view.chart.data[2]
    marked = [x for x, s in zip(value["x"], value["marker"]["symbol"], strict=True) if s == "x"]
    assert marked[0] == view.first_alarm
    assert marked[-1] == "2016-03-10"
    assert view.rows[0].name == "payment_type=Mobile"
    assert {alarm.gate for alarm in view.alarms} >= {"trend"}


def test_another_version_is_a_line_through_both_panels(nights, shown):
    layout = slices_view(nights, shown, {}).chart.layout
    assert [shape["x0"] for shape in layout["shapes"]] == ["2016-02-09"]
    assert [note["text"] for note in layout["annotations"]] == ["v2"]
    assert layout["shapes"][0]["yref"] == "paper"


def test_a_slice_that_is_not_there_is_refused_with_those_that_are(nights, shown):
    with pytest.raises(AddressError) as error:
        slices_view(nights, shown, {"slice": "payment_type=Barter", "from": "2016-01-01"})
    assert error.value.status == 404
    assert ("overall", "/slices?from=2016-01-01&slice=overall") in [
        (name, "/slices?" + "&".join(sorted(at.partition("?")[2].split("&"))))
        for name, at in error.value.exists
    ]


def test_nights_without_labels_have_no_course(make_night, shown):
    view = slices_view([make_night(1, metrics=())], shown, {})
    assert view.chart is None
    assert view.rows == ()


# --- drift ---------------------------------------------------------------------------------------


def test_training_data_and_earlier_nights_have_a_course_each(nights, shown):
    view = drift_view(nights, shown, {"feature": "payment_type"})
    assert {course.against for course in view.courses} == {"training data", "earlier nights"}
    assert all(course.bad == ("2016-01-12",) for course in view.courses)


def test_the_feature_that_is_worst_tonight_comes_first(nights, shown):
    view = drift_view(nights, shown, {})
    assert view.feature == view.rows[0].name == "company"
    assert view.rows[0].nights > 5


def test_a_check_that_could_be_made_counts_more_than_one_that_could_not(make_night, shown):
    small = Evidence("feature:fare", "psi", Outcome.INSUFFICIENT_DATA, "too few")
    made = Evidence("feature:fare", "l_infinity", Outcome.OK, "the same")
    night = make_night(1, decisions=(Decision("drift", Outcome.OK, "", None, (small, made)),))
    assert drift_view([night], shown, {}).rows[0].outcome is Outcome.OK


def test_the_matrix_shows_the_worst_verdict_of_a_night_as_sign_and_colour(nights, shown):
    trace = drift_view(nights, shown, {}).matrix.data[0]
    row = drift_view(nights, shown, {}).features.index("payment_type")
    column = trace["x"].index("2016-01-12")
    assert trace["text"][row][column] == "✕"
    assert trace["z"][row][column] == 3
    assert trace["z"][row][trace["x"].index("2016-01-20")] is None


def test_the_distribution_is_that_of_the_chosen_night(nights, shown, release_report):
    query = {"feature": "payment_type", "night": "2016-01-12"}
    view = drift_view(nights, shown, query, release_report.charts)
    assert view.night == "2016-01-12"
    assert view.distribution.head == ("Category", "Now", "Before")
    assert drift_view(nights, shown, {"night": "2099-01-01"}).night == "2016-03-10"


@pytest.mark.parametrize(
    ("gate", "baseline", "message", "expected"),
    [
        ("skew", "release 1", "moved", "training data"),
        ("drift", "", "moved, against the last 14 days (9 nights); x: OK", "last 14 days"),
        ("drift", "", "moved, against Mondays of the last 4 weeks (4 nights)", "same weekday"),
        ("drift", None, "moved", "earlier nights"),
    ],
)
def test_a_check_says_what_it_compared_with(gate, baseline, message, expected):
    decision = Decision(gate, Outcome.OK, "", baseline)
    item = Evidence("feature:fare", "psi", Outcome.OK, message)
    assert against(decision, item) == expected


def test_a_feature_that_was_not_checked_is_refused_with_those_that_were(nights, shown):
    with pytest.raises(AddressError) as error:
        drift_view(nights, shown, {"feature": "tips"})
    assert "payment_type" in [name for name, _ in error.value.exists]


# --- cache, savings, records ---------------------------------------------------------------------


def test_hit_rate_and_coverage_are_drawn_over_the_same_days(nights, shown):
    view = cache_view(nights, shown)
    expected, covered, hits = view.hits.data
    assert expected["x"] == covered["x"] == hits["x"]
    assert min(y for y in hits["y"] if y is not None) == hits["y"][SWITCH]
    assert view.covered.covered == pytest.approx(0.61 - 0.002 * ALARMED)


def test_savings_are_those_that_encore_daily_prints(make_night):
    log = LogReport(
        requests=100, rows=100, rows_by_path={"hit": 60, "miss": 40},
        requests_by_cache={"hit": 60, "miss": 40}, latency_us={"hit": 60_000.0, "miss": 400_000.0},
    )  # fmt: skip
    view = daily_view(make_night(3, log=log), ["2016-01-04"])
    assert view.summary.hit_rate == pytest.approx(0.6)
    assert view.summary.cpu_seconds_saved == pytest.approx(60 * (0.010 - 0.001))
    assert [way.name for way in view.ways] == ["hit", "miss"]


def test_a_plain_log_has_no_ways_and_no_savings(make_night):
    view = daily_view(make_night(3, log=LogReport(requests=5, rows=5)), [])
    assert (view.summary.hit_rate, view.ways) == (None, ())
    assert view.summary.cpu_seconds_saved is None


def _record(sequence):
    return InvalidationRecord("taxi", sequence, Cause.MANUAL, SelectAll(), "", "2016", "ada")


def test_a_consumer_is_behind_by_the_records_after_its_newest():
    acks = (Acknowledgement("taxi", 1, "old", "2016"), Acknowledgement("taxi", 3, "new", "2016"))
    view = records_view(Records((_record(1), _record(2), _record(3)), acks))
    assert {c.name: c.behind for c in view.consumers} == {"old": 2, "new": 0}
    assert [row.record.sequence for row in view.rows] == [3, 2, 1]
    assert [row.waiting for row in view.rows] == [("old",), ("old",), ()]


# --- the first page ------------------------------------------------------------------------------


def _overview(nights, dates, today="2016-03-11", releases=None):
    return overview(
        "taxi", "stable", releases=releases or Releases(), nights=nights, dates=dates,
        records=Records(), today=today,
    )  # fmt: skip


def test_what_blocks_comes_before_what_is_missing(nights):
    dates = [n.date for n in nights]
    view = _overview([n for n in nights if n.date in window(dates)], dates)
    assert [task.tone for task in view.tasks] == ["block", "warn"]
    assert view.tasks[1].command == "encore nightly --from 2016-01-20 --to 2016-02-04"


def test_nights_that_have_stopped_are_noticed_on_the_second_day(nights):
    dates = [n.date for n in nights[:5]]
    assert not _overview(nights[:5], dates, today="2016-01-06").tasks
    late = _overview(nights[:5], dates, today="2016-01-08").tasks
    assert late[0].command == "encore nightly --from 2016-01-06 --to 2016-01-07"


def test_an_action_that_is_done_needs_nobody(make_night):
    done = NightAction("rewarm", "coverage fell", state="done", result="snapshots/2")
    failed = NightAction("rewarm", "coverage fell.", state="failed", result="disk full")
    for action, count in ((done, 0), (failed, 1)):
        view = _overview([make_night(0, actions=(action,))], ["2016-01-01"], today="2016-01-02")
        assert len(view.tasks) == count


def test_a_damaged_night_needs_a_person_and_hides_nothing_else(make_night):
    damaged = Damaged("2016-01-01", "cut in half")
    view = _overview([damaged, make_night(1)], ["2016-01-01", "2016-01-02"], "2016-01-03")
    assert view.tasks[0].reason == "cut in half"
    assert view.last.date == "2016-01-02"


# --- drawings ------------------------------------------------------------------------------------


def test_a_text_from_data_has_no_meaning_for_the_drawing_library(hostile):
    said = charts.plain(f"{hostile} %{{y}} $x$")
    assert "<" not in said
    assert "%{" not in said
    assert "$" not in said


def test_every_specification_is_json_without_nan(nights, shown, release_report):
    drawn = [
        slices_view(nights, shown, {}).chart,
        drift_view(nights, shown, {}, release_report.charts).matrix,
        drift_view(nights, shown, {"feature": "fare"}, release_report.charts).distribution,
        cache_view(nights, shown, coverage=release_report.coverage).curve,
    ]
    for chart in drawn:
        assert json.loads(json.dumps(chart.spec, allow_nan=False)) == chart.spec or chart.spec
        assert all(len(row) == len(chart.head) for row in chart.rows)


def test_a_value_that_is_no_number_is_a_gap():
    assert charts.finite([1.0, float("nan"), float("inf"), None]) == [1.0, None, None, None]
    assert series.spark([1.0, 2.0, None, 3.0, 3.0]) == (
        "0.0,18.0 25.0,10.0", "75.0,2.0 100.0,2.0",
    )  # fmt: skip


def test_a_long_slice_keeps_its_values_and_gives_up_its_features():
    assert charts.short_slice("overall") == "overall"
    long = "payment_type=Cash, trip_start_hour=8"
    assert charts.short_slice(long) == "type=Cash, hour=8"
    assert charts.short_slice(long, most=12) == "Cash, 8"
