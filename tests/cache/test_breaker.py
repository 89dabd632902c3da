"""The circuit breaker."""

from __future__ import annotations

import pytest

from tfx_encore.cache.breaker import BreakerPolicy, BreakerState, CircuitBreaker


@pytest.fixture
def breaker(clock) -> CircuitBreaker:
    return CircuitBreaker(BreakerPolicy(failures=3, open_seconds=2.0, max_open_seconds=7.0), clock)


def open_it(breaker: CircuitBreaker) -> None:
    for _ in range(3):
        breaker.failed()


def test_failures_in_a_row_open_it(breaker):
    breaker.failed()
    breaker.failed()
    breaker.succeeded()
    breaker.failed()
    breaker.failed()
    assert breaker.allows()
    breaker.failed()
    assert breaker.state is BreakerState.OPEN
    assert not breaker.allows()


def test_after_its_time_one_trial_is_let_through(breaker, clock):
    open_it(breaker)
    clock.now += 1.9
    assert not breaker.allows()
    clock.now += 0.1
    assert breaker.allows()
    assert breaker.state is BreakerState.HALF_OPEN
    assert not breaker.allows()
    breaker.succeeded()
    assert breaker.state is BreakerState.CLOSED
    assert breaker.allows()


def test_each_failed_trial_doubles_the_time_up_to_the_bound(breaker, clock):
    open_it(breaker)
    waits = []
    for _ in range(4):
        begun = clock.now
        while not breaker.allows():
            clock.now += 0.5
        waits.append(clock.now - begun)
        breaker.failed()
    assert waits == [2.0, 4.0, 7.0, 7.0]


def test_a_success_makes_the_next_time_short_again(breaker, clock):
    open_it(breaker)
    for passed in (2.0, 4.0):
        clock.now += passed
        assert breaker.allows()
        breaker.failed()
    clock.now += 7.0
    assert breaker.allows()
    breaker.succeeded()
    open_it(breaker)
    clock.now += 2.0
    assert breaker.allows()


def test_a_trial_that_says_nothing_is_followed_by_another(breaker, clock):
    open_it(breaker)
    clock.now += 2.0
    assert breaker.allows()
    clock.now += 2.0
    assert breaker.allows()


def test_failures_that_come_late_do_not_keep_it_open_longer(breaker, clock):
    open_it(breaker)
    clock.now += 1.0
    breaker.failed()
    clock.now += 1.0
    assert breaker.allows()


def test_every_change_is_told_once(clock):
    told = []
    breaker = CircuitBreaker(BreakerPolicy(failures=1), clock, told.append)
    breaker.failed()
    breaker.failed()
    clock.now += 1.0
    breaker.allows()
    breaker.succeeded()
    breaker.succeeded()
    assert [state.value for state in told] == ["open", "half-open", "closed"]
