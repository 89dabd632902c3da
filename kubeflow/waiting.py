"""Following a run until it ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from tfx_encore.kubeflow.server import RunState
from tfx_encore.schemas.errors import KubeflowError, StepFailedError

_ENDED = {"SUCCEEDED", "FAILED", "SKIPPED", "CANCELED", "ERROR"}
_PATIENCE = 5  # answers in a row that the server may fail to give
_SERVER_ERROR = 500


@dataclass(frozen=True)
class Timing:
    """How long to wait, and how often to ask.

    Attributes:
        timeout_seconds: after that, it is left to itself.
        interval_seconds: between two questions.
        sleep: waits that long.
        clock: monotonic seconds.
    """

    timeout_seconds: float
    interval_seconds: float = 5.0
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic


def wait(
    ask: Callable[[], RunState],
    known: frozenset[str],
    told: Callable[[str, str], None],
    timing: Timing,
) -> RunState:
    """Asks until the run ends, telling of each task whose state changes.

    Args:
        ask: how the run goes now.
        known: the tasks of the pipeline; what the backend adds of its own is not told of.
        told: called with a task and its new state.
        timing: how long, how often.

    Raises:
        KubeflowError: the time is over, or the server does not answer any more.
    """
    began, failures, seen = timing.clock(), 0, dict[str, str]()
    while True:
        try:
            state, failures = ask(), 0
        except KubeflowError as error:
            failures += 1
            if not _passing(error) or failures >= _PATIENCE:
                raise
            state = None
        if state is not None:
            for task, value in state.tasks.items():
                if task in known and seen.get(task) != value:
                    seen[task] = value
                    told(task, value)
            if state.state in _ENDED:
                return state
        if timing.clock() - began >= timing.timeout_seconds:
            raise KubeflowError(
                f"the run has not ended after {timing.timeout_seconds:.0f} s; it goes on by itself"
            )
        timing.sleep(timing.interval_seconds)


def _passing(error: KubeflowError) -> bool:
    """Whether the next answer may be better: no answer, or one of the server's own errors."""
    return error.status is None or error.status >= _SERVER_ERROR


def check_succeeded(state: RunState, link: str) -> None:
    """Raises StepFailedError unless a run that has ended succeeded; names the tasks that failed."""
    if state.state == "SUCCEEDED":
        return
    failed = [task for task, value in state.tasks.items() if value in {"FAILED", "ERROR"}]
    cause = state.error or f"the run is {state.state}"
    raise StepFailedError(", ".join(failed) or "the run", cause, link)
