"""The life of one version, as a table. No IO here.

    START ----> LOADING ----> AVAILABLE ----> UNLOADING ----> END
      |            |                                           ^
      +------------+------------- failed or given up ----------+

The states are TensorFlow Serving's (core/servable_state.h). A version whose life has ended is tried
again, or wanted again, in a new life that begins at START.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from tfx_encore.gateway.errors import Code, ServingError
from tfx_encore.gateway.status import VersionState, VersionStatus


class Event(Enum):
    """What happens to a version."""

    LOAD = "its load begins"
    LOADED = "it is ready to answer"
    FAILED = "its load failed, or was given up"
    UNLOAD = "no request is sent to it any more"
    UNLOADED = "it is gone from memory"


LIFE: Mapping[VersionState, Mapping[Event, VersionState]] = {
    VersionState.START: {Event.LOAD: VersionState.LOADING, Event.FAILED: VersionState.END},
    VersionState.LOADING: {Event.LOADED: VersionState.AVAILABLE, Event.FAILED: VersionState.END},
    VersionState.AVAILABLE: {Event.UNLOAD: VersionState.UNLOADING},
    VersionState.UNLOADING: {Event.UNLOADED: VersionState.END},
    VersionState.END: {},
}

CANCELLED = ServingError(Code.CANCELLED, "Loading of servable cancelled")
"""How a load ends that nobody wants any more (core/loader_harness.cc)."""


def begin(version: int) -> VersionStatus:
    """Returns the beginning of a life."""
    return VersionStatus(version, VersionState.START)


def step(status: VersionStatus, event: Event, error: ServingError | None = None) -> VersionStatus:
    """Returns what an event makes of a version.

    Args:
        status: before.
        event: what happens.
        error: why, for FAILED; nothing else has one.

    Raises:
        ValueError: this cannot happen to a version in this state.
    """
    after = LIFE[status.state].get(event)
    if after is None or (error is None) == (event is Event.FAILED):
        raise ValueError(f"{event.name} cannot happen to {status} (error: {error})")
    if error is None:
        return VersionStatus(status.version, after)
    return VersionStatus(status.version, after, error.code, error.message)


def is_failed(status: VersionStatus) -> bool:
    """True for a version that could not be loaded."""
    return status.state == VersionState.END and status.code not in (Code.OK, Code.CANCELLED)
