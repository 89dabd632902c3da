"""The days of the nightly example: what is real in them, and which faults they bear."""

import collections
import json

import numpy as np
import pytest

from tfx_encore.pipeline.taxi import traffic
from tfx_encore.pipeline.taxi.data import shipped_csv
from tfx_encore.pipeline.taxi.replay import body_of, read_trips, write_labels

PLAN = traffic.Plan(requests=2000)


@pytest.fixture(scope="module")
def trips():
    return read_trips(shipped_csv(), 2016)


def rows_of(asks):
    return [
        (trip, label) for ask in asks for trip, label in zip(ask.trips, ask.labels, strict=True)
    ]


def share_positive(asks, column, value):
    labels = [label for trip, label in rows_of(asks) if trip[column] == value]
    return np.mean(labels)


def test_a_day_is_the_same_each_time_and_unlike_the_others(trips):
    assert traffic.traffic(trips, 3, PLAN) == traffic.traffic(trips, 3, PLAN)
    assert traffic.traffic(trips, 3, PLAN) != traffic.traffic(trips, 4, PLAN)


def test_every_trip_that_is_asked_for_is_a_real_one(trips):
    asked = [trip for trip, _ in rows_of(traffic.traffic(trips, 5, PLAN))]
    assert all(trip in trips for trip in asked)


def test_popular_trips_stay_popular_from_day_to_day(trips):
    first, second = (
        collections.Counter(
            trips.index(trip) for trip, _ in rows_of(traffic.traffic(trips, n, PLAN))
        )
        for n in (1, 2)
    )
    head = {trip for trip, _ in first.most_common(50)}
    assert len(head & {trip for trip, _ in second.most_common(100)}) > 25


def test_the_payment_type_has_another_name_on_day_12_alone(trips):
    for number, expected in ((11, 0), (12, True), (13, 0)):
        payments = [t["payment_type"] for t, _ in rows_of(traffic.traffic(trips, number, PLAN))]
        assert bool(payments.count("CreditCard")) == bool(expected)
        assert bool(payments.count("Credit Card")) != bool(expected)


def test_tips_of_the_one_company_vanish_slowly_and_those_of_the_others_do_not(trips):
    column, value = traffic.DECAY_SLICE
    early, late = (traffic.traffic(trips, n, PLAN) for n in (9, 30))
    assert share_positive(late, column, value) < 0.25 * share_positive(early, column, value)
    other = share_positive(late, column, "Blue Ribbon Taxi Association Inc.")
    assert other > 0.6 * share_positive(early, column, "Blue Ribbon Taxi Association Inc.")


@pytest.mark.parametrize(("number", "share"), [(1, 0.0), (9, 0.0), (10, 0.05), (30, 1.0)])
def test_the_decay_grows_by_the_day(number, share):
    assert traffic.decay(number) == pytest.approx(share)


def test_a_request_says_each_row_as_an_example(trips):
    ask = traffic.Ask("r-1", (trips[0], trips[1]), (0, 1))
    rows = json.loads(body_of(ask))["instances"]
    assert [list(row) for row in rows] == [["examples"], ["examples"]]


def test_labels_name_request_and_row(trips, tmp_path):
    write_labels(tmp_path / "a" / "day.csv", [traffic.Ask("r-1", (trips[0], trips[1]), (0, 1))])
    assert (tmp_path / "a" / "day.csv").read_text() == "request_id,row,label\nr-1,0,0\nr-1,1,1\n"
