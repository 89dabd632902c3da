"""Which requests are logged: at the rate, never more than the budget, all errors."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfx_encore.gateway.errors import Code
from tfx_encore.gateway.request_log import RequestLogPolicy, TfRecordRequestLog
from tfx_encore.gateway.request_log_sampling import MinuteBudget, Sampler


def make_log(tmp_path, *, now=lambda: 0.0, knows=lambda _: True, **policy):
    return TfRecordRequestLog(
        RequestLogPolicy(directory=tmp_path, **{"max_per_minute": 0, **policy}),
        knows=knows,
        seed=7,
        steady_clock=now,
    )


@pytest.mark.parametrize("rate", [0.5, 0.01, 0.001])
def test_requests_are_chosen_at_the_rate(tmp_path, rate):
    log = make_log(tmp_path, rate=rate)
    chosen = sum(log.wants("m", Code.OK) for _ in range(200_000))
    # Six standard deviations of a binomial distribution.
    assert abs(chosen - 200_000 * rate) < 6 * (200_000 * rate) ** 0.5


def test_all_or_none_are_chosen_at_the_ends(tmp_path):
    log = make_log(tmp_path, rate=0.0, rates={"all": 1.0})
    assert all(log.wants("all", Code.OK) for _ in range(1000))
    assert not any(log.wants("none", Code.OK) for _ in range(1000))


def test_traffic_with_a_rhythm_is_not_met_always_in_the_same_beat(tmp_path):
    log = make_log(tmp_path, rate=0.1)
    beats = [at % 10 for at in range(20_000) if log.wants("m", Code.OK)]
    assert all(100 < beats.count(beat) < 300 for beat in range(10))


def test_the_same_seed_chooses_the_same_requests(tmp_path):
    logs = [make_log(tmp_path, rate=0.05) for _ in range(2)]
    assert len({tuple(log.wants("m", Code.OK) for _ in range(1000)) for log in logs}) == 1


def test_every_error_is_logged_unless_it_is_told_otherwise(tmp_path):
    assert make_log(tmp_path, rate=0.0).wants("m", Code.NOT_FOUND)
    assert not make_log(tmp_path, rate=0.0, always_errors=False).wants("m", Code.NOT_FOUND)


def test_errors_do_not_use_up_the_budget_of_answers(tmp_path):
    log = make_log(tmp_path, rate=1.0, max_per_minute=1)
    assert [log.wants("m", Code.INTERNAL) for _ in range(3)] == [True, False, False]
    assert [log.wants("m", Code.OK) for _ in range(3)] == [True, False, False]


def test_models_that_are_not_served_are_not_logged_and_take_no_room(tmp_path):
    log = make_log(tmp_path, rate=1.0, knows=lambda model: model == "m")
    assert log.wants("m", Code.OK)
    assert not any(log.wants(f"made-up-{at}", Code.NOT_FOUND) for at in range(100))
    assert list(log._samplers) == ["m"]


def test_names_that_clients_make_up_take_a_bounded_room(tmp_path):
    log = make_log(tmp_path, rate=1.0)
    for at in range(3000):
        log.wants(f"made-up-{at}", Code.NOT_FOUND)
    assert len(log._samplers) == 1000


@given(
    most=st.integers(1, 400),
    steps=st.lists(st.tuples(st.floats(0, 30), st.integers(1, 50)), min_size=1, max_size=60),
)
def test_no_sixty_seconds_have_more_than_the_budget(most, steps):
    now, taken = 1000.0, []
    budget = MinuteBudget(most, now)
    for pause, asked in steps:
        now += pause
        taken += [now for _ in range(asked) if budget.take(now)]
    for start in taken:
        assert sum(start <= at < start + 60.0 for at in taken) <= most


@pytest.mark.parametrize("most", [1, 2, 3, 60, 600])
def test_no_sixty_seconds_have_more_than_the_budget_however_much_is_asked(most):
    budget = MinuteBudget(most, 0.0)
    asked = [at / 50 for at in range(50 * 60 * 5)]  # five minutes, 50 a second
    taken = [at for at in asked if budget.take(at)]
    assert all(later - first >= 60.0 for first, later in zip(taken, taken[most:], strict=False))


@pytest.mark.parametrize("most", [1, 2, 3, 60, 600])
def test_the_budget_is_not_much_smaller_than_it_says(most):
    budget = MinuteBudget(most, 0.0)
    taken = sum(budget.take(at / 100) for at in range(100 * 60 * 30))  # half an hour, 100 a second
    assert 30 * most * 0.5 <= taken <= 30 * most + most / 6 + 1


def test_a_rate_of_almost_nothing_does_not_overflow():
    assert Sampler(1e-300, 0, Random(1), 0.0).left > 2**40
