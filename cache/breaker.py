"""A circuit breaker: a tier that keeps failing is left alone for a while. No IO here.

state      what happens                 next
closed     failures in a row < limit    closed
closed     the limit is reached         open
open       its time has not passed      open (nothing is asked of the tier)
open       its time has passed          half-open (one trial at a time)
half-open  the trial succeeds           closed
half-open  the trial fails              open, twice as long as before, up to a bound
half-open  the trial says nothing       another trial after the open time
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from pydantic import BaseModel, ConfigDict, Field


class BreakerState(str, Enum):
    """Whether a tier is asked."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class BreakerPolicy(BaseModel):
    """The `breaker` section of a cache's configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    failures: int = Field(
        default=5, ge=1, le=10_000, description="Failures in a row that open the breaker."
    )
    open_seconds: float = Field(
        default=1.0, gt=0.0, le=3600.0, description="How long it stays open the first time."
    )
    max_open_seconds: float = Field(
        default=30.0, gt=0.0, le=86_400.0, description="How long it stays open at most."
    )


class CircuitBreaker:
    """Decides whether to ask a tier. Used from one thread.

    Args:
        policy: limits and times.
        clock: seconds, never going back.
        on_change: told the new state each time it changes.

    Attributes:
        failures: failures in a row.
        is_closed: the state is closed; kept apart because it is asked for on each hit.
    """

    def __init__(
        self,
        policy: BreakerPolicy,
        clock: Callable[[], float],
        on_change: Callable[[BreakerState], None] | None = None,
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._on_change = on_change
        self._state = BreakerState.CLOSED
        self.is_closed = True
        self.failures = 0
        self._open_seconds = policy.open_seconds
        self._until = 0.0

    @property
    def state(self) -> BreakerState:
        """The state as of the last call; an open breaker turns half-open when it is asked."""
        return self._state

    def allows(self) -> bool:
        """True if the tier may be asked now; the caller then reports success or failure."""
        if self.is_closed:
            return True
        now = self._clock()
        if now < self._until:
            return False
        # The next trial may start if this one has said nothing by then (it was cancelled).
        self._until = now + self._open_seconds
        self._move(BreakerState.HALF_OPEN)
        return True

    def succeeded(self) -> None:
        """Reports that the tier answered."""
        self.failures = 0
        if self._state is not BreakerState.CLOSED:
            self._open_seconds = self._policy.open_seconds
            self._move(BreakerState.CLOSED)

    def failed(self) -> None:
        """Reports that the tier failed, or answered too late."""
        self.failures += 1
        if self._state is BreakerState.HALF_OPEN:
            self._open_seconds = min(2 * self._open_seconds, self._policy.max_open_seconds)
            self._open()
        elif self._state is BreakerState.CLOSED and self.failures >= self._policy.failures:
            self._open()

    def _open(self) -> None:
        self._until = self._clock() + self._open_seconds
        self._move(BreakerState.OPEN)

    def _move(self, state: BreakerState) -> None:
        if state is not self._state:
            self._state = state
            self.is_closed = state is BreakerState.CLOSED
            if self._on_change is not None:
                self._on_change(state)
