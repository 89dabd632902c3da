"""The life of one version: its table, and what cannot happen."""

from __future__ import annotations

import itertools

import pytest

from tfx_encore.gateway.errors import Code, ServingError
from tfx_encore.gateway.models.version_life import CANCELLED, LIFE, Event, begin, is_failed, step
from tfx_encore.gateway.status import VersionState, VersionStatus

ERROR = ServingError(Code.NOT_FOUND, "no graph")


def after(*events: Event) -> VersionStatus:
    status = begin(7)
    for event in events:
        status = step(status, event, ERROR if event is Event.FAILED else None)
    return status


def test_a_life_without_trouble_goes_through_every_state() -> None:
    states = [
        after(*events).state.name
        for events in itertools.accumulate(
            [(), (Event.LOAD,), (Event.LOADED,), (Event.UNLOAD,), (Event.UNLOADED,)]
        )
    ]
    assert states == ["START", "LOADING", "AVAILABLE", "UNLOADING", "END"]
    assert after(Event.LOAD, Event.LOADED, Event.UNLOAD, Event.UNLOADED).code == Code.OK


def test_a_load_that_fails_ends_the_life_with_its_error() -> None:
    status = after(Event.LOAD, Event.FAILED)
    assert status == VersionStatus(7, VersionState.END, Code.NOT_FOUND, "no graph")
    assert is_failed(status)


def test_what_was_given_up_has_not_failed() -> None:
    status = step(begin(7), Event.FAILED, CANCELLED)
    assert (status.code, status.message) == (Code.CANCELLED, "Loading of servable cancelled")
    assert not is_failed(status)


def test_states_only_ever_grow() -> None:
    for state, events in LIFE.items():
        assert all(reached > state for reached in events.values())


def test_every_state_is_in_the_table_and_reached_from_the_beginning() -> None:
    reached = {VersionState.START, *(s for events in LIFE.values() for s in events.values())}
    assert reached == set(LIFE) == set(VersionState) - {VersionState.UNKNOWN}


@pytest.mark.parametrize("state", list(LIFE))
@pytest.mark.parametrize("event", list(Event))
def test_what_the_table_does_not_say_cannot_happen(state: VersionState, event: Event) -> None:
    error = ERROR if event is Event.FAILED else None
    if event in LIFE[state]:
        assert step(VersionStatus(7, state), event, error).state == LIFE[state][event]
    else:
        with pytest.raises(ValueError, match=event.name):
            step(VersionStatus(7, state), event, error)


def test_only_a_failure_has_an_error() -> None:
    with pytest.raises(ValueError, match="LOAD"):
        step(begin(7), Event.LOAD, ERROR)
    with pytest.raises(ValueError, match="FAILED"):
        step(begin(7), Event.FAILED)
