"""What each section lists, and in which order."""

import dataclasses

import pytest

from tfx_encore.pipeline.report import slice_charts, views
from tfx_encore.pipeline.report.data import ReleaseReport, StepTime
from tfx_encore.schemas.charts import FeatureChart
from tfx_encore.schemas.decisions import Decision, Evidence, Outcome


def _slices(*evidence):
    return ReleaseReport(
        "taxi",
        decisions=(Decision("sliced_evaluation", Outcome.OK, "fine", "release 1", evidence),),
    )


def _compared(name, effect, outcome=Outcome.OK, threshold=-0.02, measure="accuracy"):
    return Evidence(
        f"slice:{name}", measure, outcome, "", effect=effect, threshold=threshold,
        interval=(effect - 0.01, effect + 0.01), value=0.8 + effect, baseline=0.8, n=100,
    )  # fmt: skip


def test_a_blocked_run_is_refused_and_says_by_what(refused):
    verdict = views.verdict(refused)
    assert verdict.words == "Refused"
    assert "sliced evaluation and drift blocked it" in verdict.line


def test_a_failed_step_is_not_called_a_refusal():
    report = ReleaseReport("taxi", steps=(StepTime("Trainer", 3.0, "failed"),))
    assert views.verdict(report).words == "Not released"
    assert "Trainer failed" in views.verdict(report).line


def test_warnings_show_in_the_verdict_of_a_release(released):
    assert views.verdict(released).words == "Released with warnings"
    clean = dataclasses.replace(released, decisions=released.decisions[1:])
    assert views.verdict(clean).words == "Released"


def test_gates_that_blocked_come_before_those_that_passed(released, refused):
    assert [gate.decision.outcome for gate in views.gates(released)] == [Outcome.WARN, Outcome.OK]
    swapped = dataclasses.replace(released, decisions=tuple(reversed(released.decisions)))
    assert views.gates(swapped) == views.gates(released)


def test_a_check_that_the_reason_quotes_is_not_said_again():
    item = Evidence("feature:fare", "psi", Outcome.BLOCK, "fare: it moved")
    other = Evidence("feature:tips", "psi", Outcome.BLOCK, "tips: so did they")
    decision = Decision("drift", Outcome.BLOCK, "fare: it moved, and 1 more", None, (item, other))
    assert views.stopping(decision) == (other,)


def test_only_what_warned_or_blocked_is_shown_unfolded(refused):
    drift = next(gate for gate in views.gates(refused) if gate.decision.gate == "drift")
    assert [item.outcome for item in drift.notable] == [Outcome.BLOCK, Outcome.WARN, Outcome.WARN]
    assert {item.outcome for item in drift.rest} == {Outcome.OK, Outcome.INSUFFICIENT_DATA}


def test_drifted_features_come_first_and_the_worst_of_them_at_the_top(refused):
    found = views.features(refused)
    assert [view.chart.feature for view in found[:3]] == ["fare", "payment_type", "trip_miles"]
    assert [view.drifted for view in found] == [True] * 3 + [False] * (len(found) - 3)


def test_slices_are_worst_first_and_tiny_ones_last():
    rows = views.metrics(
        _slices(
            _compared("a", +0.01),
            _compared("tiny", -0.4, Outcome.INSUFFICIENT_DATA),
            _compared("b", -0.01),
            _compared("c", -0.05, Outcome.BLOCK),
        )
    )[0].rows
    assert [row.subject for row in rows] == ["slice:c", "slice:b", "slice:a", "slice:tiny"]


def test_for_a_loss_the_worst_slice_is_the_one_that_grew():
    rows = views.metrics(
        _slices(
            _compared("down", -0.05, threshold=0.02, measure="loss"),
            _compared("up", +0.05, threshold=0.02, measure="loss"),
        )
    )[0].rows
    assert rows[0].subject == "slice:up"


def test_a_metric_that_blocked_comes_before_one_that_passed():
    report = _slices(_compared("a", 0.0), _compared("a", -0.1, Outcome.BLOCK, measure="auc"))
    assert [view.measure for view in views.metrics(report)] == ["auc", "accuracy"]


def test_an_absolute_check_gives_its_interval_to_the_value():
    absolute = Evidence(
        "slice:overall",
        "accuracy",
        Outcome.OK,
        "",
        value=0.83,
        threshold=0.7,
        interval=(0.81, 0.85),
    )
    view = views.metrics(_slices(_compared("overall", 0.03), absolute))[0]
    assert len(view.differences) == 1
    assert view.differences[0].interval == (0.03 - 0.01, 0.03 + 0.01)
    (value,) = view.values
    assert (value.interval, value.threshold, value.baseline) == ((0.81, 0.85), 0.7, 0.8)


def test_both_drawings_of_a_metric_have_the_same_rows():
    tiny = Evidence(
        "slice:tiny", "accuracy", Outcome.INSUFFICIENT_DATA, "4 rows", value=1.0, baseline=0.5, n=4
    )
    view = views.metrics(_slices(_compared("a", 0.1), tiny, _compared("b", -0.1)))[0]
    assert [row.name for row in view.differences] == [row.name for row in view.values]
    assert view.differences[-1] == slice_charts.SliceRow("tiny", Outcome.INSUFFICIENT_DATA, None)


def test_an_absolute_check_that_also_knows_the_baseline_is_not_a_difference():
    item = Evidence(
        "slice:a", "auc", Outcome.OK, "", effect=0.02, value=0.83, baseline=0.81, threshold=0.7,
        interval=(0.8, 0.86),
    )  # fmt: skip
    assert not views.is_difference(item)


def test_a_metric_without_a_live_model_still_has_values():
    item = Evidence("slice:a", "auc", Outcome.OK, "", value=0.83, interval=(0.8, 0.86), n=50)
    (view,) = views.metrics(_slices(item))
    assert (view.differences, view.worst) == ((), None)
    assert view.values[0].x == 0.83


def test_a_strip_keeps_the_order_of_its_marks():
    strip = views.strip(
        Evidence(
            "feature:fare", "psi", Outcome.BLOCK, "", effect=0.9, threshold=0.2, null_floor=0.01
        )
    )
    assert strip.zero < strip.floor < strip.threshold < strip.effect <= 96


def test_a_strip_of_nothing_but_zero_does_not_divide_by_it():
    strip = views.strip(Evidence("feature:fare", "psi", Outcome.OK, "", effect=0.0))
    assert strip.effect == strip.zero
    assert views.strip(Evidence("feature:fare", "psi", Outcome.OK, "")) is None


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("fare: it moved", ("fare", "it moved")),
        ("it moved", ("fare", "it moved")),
        ("the fare moved", ("", "the fare moved")),
    ],
)
def test_a_check_names_its_subject_once(message, said):
    assert views.said(Evidence("feature:fare", "psi", Outcome.OK, message)) == said


def test_values_beyond_the_drawn_range_are_counted():
    chart = FeatureChart("fare", "numeric", (0.5, 0.4), (0.5, 0.5), edges=(0.0, 1.0, 2.0))
    view = views.FeatureView(chart, Outcome.OK, ())
    assert view.undrawn == (pytest.approx(0.1), 0.0)


def test_a_table_has_no_column_that_is_empty_throughout():
    assert views.columns([_compared("a", 0.1)]) == {
        "effect", "threshold", "interval", "value", "baseline", "n",
    }  # fmt: skip
