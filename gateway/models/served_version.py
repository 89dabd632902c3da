"""One version of a model: its life, its load, and how it is let go of. asyncio."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from tfx_encore.gateway.errors import Code, ServingError
from tfx_encore.gateway.models.aspirations import Aspired
from tfx_encore.gateway.models.file_set import FileSet, file_set
from tfx_encore.gateway.models.version_life import CANCELLED, Event, begin, is_failed, step
from tfx_encore.gateway.observer import GatewayObserver
from tfx_encore.gateway.routing import Router, Routes
from tfx_encore.gateway.servable import Servable
from tfx_encore.gateway.status import VersionState
from tfx_encore.schemas.errors import EncoreError

log = logging.getLogger("tfx_encore.gateway")

Agree = Callable[[str, "Routes | None"], Awaitable["bool | None"]]
"""Model and its next routes, None for no more -> False if they are to be offered again later."""


class ManagerPolicy(BaseModel):
    """How versions are loaded and let go of. The first three are TensorFlow Serving's flags."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_load_threads: int = Field(
        default=0,
        ge=0,
        description="loads at a time, of all models; 0 for one of each model at a time",
    )
    max_num_load_retries: int = Field(
        default=5, ge=0, description="how often a load is tried again after its first failure"
    )
    load_retry_interval_micros: int = Field(
        default=60_000_000, description="pause before it is tried again; negative for none"
    )
    drain_seconds: float = Field(
        default=60.0, ge=0, description="how long a version is kept for requests it still computes"
    )
    drain_poll_seconds: float = Field(
        default=0.05, gt=0, le=10, description="pause between two looks whether there are any"
    )


@dataclass(frozen=True)
class Parts:
    """What every model uses.

    Attributes:
        router: where routes are published.
        prepare: makes a version ready.
        close: lets go of a version that nothing runs any more.
        observer: told of states and switches.
        policy: how versions are loaded and let go of.
        agree: awaited before routes are published; None to publish at once.
        may_load: True if one more load may begin now.
        changed: called after every change that a task made.
    """

    router: Router
    prepare: Callable[[Aspired], Awaitable[Servable]]
    close: Callable[[Servable], Awaitable[None]]
    observer: GatewayObserver
    policy: ManagerPolicy
    agree: Agree | None
    may_load: Callable[[], bool]
    changed: Callable[[], None]


class ServedVersion:
    """One life of one version.

    Args:
        aspired: what is to be loaded.
        parts: what every model uses.
        failures: how often the load failed before this life.

    Attributes:
        status: where it is in its life.
        is_given_up: True once nobody wants it, until its next life.
        is_hurried: True to let go of it whatever it still computes.
        files: what its directory held when its load began.
        servable: what answers, while it is AVAILABLE and UNLOADING.
        task: loads it, or lets go of it.
        again: will have its load tried again.
    """

    def __init__(self, aspired: Aspired, parts: Parts, failures: int = 0) -> None:
        self.aspired = aspired
        self.failures = failures
        self.status = begin(aspired.version)
        self.is_given_up = False
        self.is_hurried = False
        self.files: FileSet = ()
        self.servable: Servable | None = None
        self.task: asyncio.Task[None] | None = None
        self.again: asyncio.TimerHandle | None = None
        self._parts = parts
        self._tell()

    @property
    def state(self) -> VersionState:
        """Where it is in its life."""
        return self.status.state

    @property
    def is_failed(self) -> bool:
        """True if it could not be loaded."""
        return is_failed(self.status)

    @property
    def is_over(self) -> bool:
        """True if its life has ended and, wanted again, it begins a new one at once."""
        ended = self.state == VersionState.END and self.task is None
        return ended and (self.is_given_up or not self.is_failed)

    def give_up(self) -> None:
        """What nobody wants is not loaded, nor tried again."""
        self.is_given_up = True
        self.forget_retry()
        if self.state == VersionState.START:
            self.step(Event.FAILED, CANCELLED)
        elif self.state == VersionState.LOADING and self.task is not None:
            self.task.cancel()

    def forget_retry(self) -> None:
        """Does not try the load again."""
        if self.again is not None:
            self.again.cancel()
            self.again = None

    async def load(self, is_wanted: Callable[[], bool]) -> None:
        """Goes from LOADING to AVAILABLE or to END.

        Args:
            is_wanted: asked once more when it is ready.
        """
        try:
            servable = await self._attempt()
        except asyncio.CancelledError:
            unasked = ServingError(Code.UNKNOWN, "the load was cancelled by what it called")
            self.step(Event.FAILED, CANCELLED if self.is_given_up else unasked)
        except Exception as error:  # noqa: BLE001 - a model's code may raise anything
            self.step(Event.FAILED, _as_serving_error(error))
        else:
            if is_wanted():
                self.servable = servable
                self.step(Event.LOADED)
            else:
                await self._close(servable)
                self.step(Event.FAILED, CANCELLED)

    async def _attempt(self) -> Servable:
        """Makes the version ready.

        Raises:
            ServingError: UNAVAILABLE, its files changed meanwhile: it is still being copied.
            Exception: whatever `prepare` raises.
        """
        path = self.aspired.path
        self.files = await asyncio.to_thread(file_set, path)
        servable = await self._parts.prepare(self.aspired)
        try:
            if await asyncio.to_thread(file_set, path) == self.files:
                return servable
        except asyncio.CancelledError:
            await self._close(servable)
            raise
        await self._close(servable)
        raise ServingError(
            Code.UNAVAILABLE,
            f"{path} changed while it was being loaded; it is loaded again when it is complete",
        )

    async def unload(self) -> None:
        """Goes from UNLOADING to END when no request is computed any more."""
        servable = self.servable
        if servable is None:
            raise ValueError(f"nothing is loaded of {self.aspired}")
        await self._drain(servable)
        await self._close(servable)
        self.servable = None
        self.step(Event.UNLOADED)

    async def _drain(self, servable: Servable) -> None:
        """Waits until two looks in a row find no request: one may be between two steps."""
        policy, idle = self._parts.policy, 0
        loop = asyncio.get_running_loop()
        end = loop.time() + policy.drain_seconds
        while idle < 2 and not self.is_hurried:
            if loop.time() >= end and servable.in_flight:
                log.warning(
                    "version closed under requests model=%s version=%d requests=%d seconds=%g",
                    *(servable.name, servable.version, servable.in_flight, policy.drain_seconds),
                )
                return
            await asyncio.sleep(policy.drain_poll_seconds)
            idle = 0 if servable.in_flight else idle + 1

    async def _close(self, servable: Servable) -> None:
        try:
            await self._parts.close(servable)
        except Exception:
            log.exception("not closed model=%s version=%d", servable.name, servable.version)

    def step(self, event: Event, error: ServingError | None = None) -> None:
        """Lets something happen to it, and tells who wants to know."""
        self.status = step(self.status, event, error)
        self._tell()

    def _tell(self) -> None:
        model, (number, state, _, message) = self.aspired.model, self.status
        log.log(
            logging.WARNING if self.is_failed else logging.DEBUG,
            "version state model=%s version=%d state=%s problem=%r",
            *(model, number, state.name, message),
        )
        self._parts.observer.version_state(model, number, state.name, message)


def _as_serving_error(error: Exception) -> ServingError:
    if isinstance(error, ServingError):
        # CANCELLED is the word for what nobody wants any more; and a failure is never OK.
        is_ours = error.code in (Code.OK, Code.CANCELLED)
        return ServingError(Code.UNKNOWN, error.message) if is_ours else error
    if isinstance(error, EncoreError):
        return ServingError(Code.FAILED_PRECONDITION, str(error))
    if isinstance(error, MemoryError):
        return ServingError(Code.RESOURCE_EXHAUSTED, "there is not enough memory to load it")
    log.error("unexpected error in a load", exc_info=error)
    return ServingError(Code.INTERNAL, f"{type(error).__name__}: {error}")
