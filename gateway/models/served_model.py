"""The versions of one model as they come, answer and go. asyncio.

Every decision is made in one step of the event loop, from what is wanted and what is there
(`aspirations`); only loading, agreeing and draining wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from functools import partial

from tfx_encore.gateway.models.aspirations import (
    Aspirations,
    Aspired,
    Choice,
    choose,
    lacking,
    load_order,
)
from tfx_encore.gateway.models.file_set import FileSet
from tfx_encore.gateway.models.served_version import Agree, Parts, ServedVersion
from tfx_encore.gateway.models.version_life import CANCELLED, Event
from tfx_encore.gateway.routing import Routes
from tfx_encore.gateway.status import VersionState, VersionStatus

log = logging.getLogger("tfx_encore.gateway")

# TensorFlow Serving remembers every version it ever had; this many that are gone are enough.
_REMEMBERED = 100
_AGREE_AGAIN_SECONDS = 1.0


class ServedModel:
    """One model.

    Args:
        name: the model's name.
        parts: what every model uses.

    Attributes:
        wanted: what is wanted of it.
        is_removed: True if it is not to be served any more.
        trouble: why it is not known what is wanted of it now; empty if it is.
    """

    def __init__(self, name: str, parts: Parts) -> None:
        self.name = name
        self.wanted = Aspirations()
        self.is_removed = False
        self.trouble = ""
        self._parts = parts
        self._versions: dict[int, ServedVersion] = {}
        self._offer: Routes | None = None
        self._is_offered = False
        self._agreeing: asyncio.Task[None] | None = None
        self._held: set[int] = set()
        self._told: dict[str | None, int] = {}
        self._was_ready = False
        self._is_closed = False

    # --- what is known ---------------------------------------------------------------------------

    @property
    def loading(self) -> int:
        """How many versions are being loaded now."""
        return sum(v.state == VersionState.LOADING for v in self._versions.values())

    def statuses(self) -> list[VersionStatus]:
        """Every version that is known, the newest first. AVAILABLE are those that answer."""
        return [self._status(number) for number in sorted(self._versions, reverse=True)]

    def failed(self) -> dict[int, tuple[str, FileSet]]:
        """Versions that are wanted and could not be loaded: path, and what was there then."""
        return {
            number: (version.aspired.path, version.files)
            for number, version in self._versions.items()
            if number in self.wanted.versions and version.is_failed
        }

    def reached(self) -> VersionStatus | None:
        """The newest version that is wanted and has either come to answer or failed."""
        for number in sorted(self.wanted.versions, reverse=True):
            version = self._versions.get(number)
            if version is not None and version.is_failed:
                return version.status
            if version is not None and self._status(number).state == VersionState.AVAILABLE:
                return version.status
        return None

    @property
    def is_awaited(self) -> bool:
        """True if something of it is to be served."""
        is_withdrawn = self.wanted.release and not self.wanted.versions
        return not self.is_removed and not is_withdrawn

    def report(self) -> tuple[bool, str]:
        """Tells whether the model is ready, and what is wrong with it, in one line.

        Once ready it stays so while its default answers: a version that is still loading, or
        cannot be loaded, does not take the one that serves out of service.
        """
        lacks = self._lacks()
        failed = [self._versions[number].status for number in sorted(self.failed())]
        problems = [f"version {each.version}: {each.message}" for each in failed]
        reasons = "; ".join([self.trouble, *problems] if self.trouble else problems)
        if not lacks and not reasons:
            return True, ""
        line = f"{self.name}: {', '.join(lacks) or 'serves as before'}"
        return not lacks, f"{line} ({reasons})" if reasons else line

    def _lacks(self) -> list[str]:
        if _answering(self._routed(), None) == 0:
            return lacking(self.wanted, frozenset(), self.failed())
        if self._was_ready:
            return []
        return lacking(self.wanted, self._available(), self.failed())

    def _status(self, number: int) -> VersionStatus:
        """Until other workers agree, a version that is loaded here does not answer yet."""
        status = self._versions[number].status
        if status.state != VersionState.AVAILABLE or number in self._routed().versions:
            return status
        return status._replace(state=VersionState.LOADING)

    def _available(self) -> frozenset[int]:
        return frozenset(
            number
            for number, version in self._versions.items()
            if version.state == VersionState.AVAILABLE
        )

    # --- what is wanted --------------------------------------------------------------------------

    def aspire(self, wanted: Aspirations) -> None:
        """Replaces what is wanted."""
        is_news = wanted != self.wanted or self.is_removed or not self._is_offered
        self.wanted, self.is_removed = wanted, False
        if is_news:
            self.pump()

    def remove(self) -> None:
        """Wants nothing of this model any more; its states stay known."""
        self.wanted, self.is_removed, self.trouble = Aspirations(), True, ""
        self._was_ready = False
        self.pump()

    def try_again(self, number: int) -> None:
        """Loads a version that could not be loaded, as if it had never been tried."""
        if number in self.failed():
            self._begin(number)
            self.pump()

    def pump(self) -> None:
        """Does what can be done now about what is wanted."""
        if self._is_closed:
            return
        for number, version in self._versions.items():
            if number not in self.wanted.versions:
                version.give_up()
        for number, path in self.wanted.versions.items():
            known = self._versions.get(number)
            moved = known is not None and known.is_failed and known.aspired.path != path
            if known is None or known.is_over or moved:
                self._begin(number)
        self._load_some()
        self._publish_soon()
        self._forget_some()
        self._was_ready = self._was_ready or (not self.is_removed and not self._lacks())

    def _begin(self, number: int, failures: int = 0) -> None:
        before = self._versions.get(number)
        if before is not None:
            before.forget_retry()
        wanted = self.wanted
        aspired = Aspired(self.name, number, wanted.versions[number], wanted.release)
        self._versions[number] = ServedVersion(aspired, self._parts, failures)

    # --- loading ---------------------------------------------------------------------------------

    def _load_some(self) -> None:
        for number in load_order(self.wanted):
            version = self._versions[number]
            if version.state != VersionState.START:
                continue
            if not self._may_load():
                return
            version.step(Event.LOAD)
            self._start(version, version.load(partial(self._wants, number)))

    def _may_load(self) -> bool:
        if self._parts.policy.num_load_threads == 0:
            return self.loading == 0
        return self._parts.may_load()

    def _wants(self, number: int) -> bool:
        return number in self.wanted.versions

    def _start(self, version: ServedVersion, work: Coroutine[None, None, None]) -> None:
        version.task = asyncio.create_task(work)
        version.task.add_done_callback(partial(self._done, version))

    def _done(self, version: ServedVersion, task: asyncio.Task[None]) -> None:
        """A version was loaded or not, or let go of."""
        version.task = None
        if not task.cancelled() and task.exception() is not None:
            log.error("a version's task failed model=%s", self.name, exc_info=task.exception())
        if version.state == VersionState.LOADING:
            version.step(Event.FAILED, CANCELLED)  # cancelled before its first step
        if self._is_retried(version):
            pause = max(self._parts.policy.load_retry_interval_micros, 0) / 1e6
            loop = asyncio.get_running_loop()
            version.again = loop.call_later(pause, self._retry, version)
        self._parts.changed()

    def _is_retried(self, version: ServedVersion) -> bool:
        number = version.aspired.version
        is_current = self._versions.get(number) is version and number in self.failed()
        return (
            is_current
            and version.failures < self._parts.policy.max_num_load_retries
            and not self._is_closed
        )

    def _retry(self, version: ServedVersion) -> None:
        version.again = None
        if self._is_retried(version):
            self._begin(version.aspired.version, version.failures + 1)
            self.pump()

    # --- publishing ------------------------------------------------------------------------------

    def _routed(self) -> Routes:
        """What is published. Who agrees for several workers may publish too, so it is looked up."""
        return self._parts.router.routes(self.name)

    def _next(self) -> Routes | None:
        """What is to be published; None once the model is removed."""
        if self.is_removed:
            return None
        now = self._routed()
        choice = choose(
            self.wanted,
            self._available(),
            Choice(frozenset(now.versions), dict(now.labels), now.default),
        )
        servables = {number: self._versions[number].servable for number in sorted(choice.versions)}
        loaded = {number: servable for number, servable in servables.items() if servable}
        return Routes(loaded, choice.labels, choice.default)

    def _publish_soon(self) -> None:
        routes = self._next()
        if self._is_offered and routes == self._offer:
            self._retire_some()
            return
        self._offer, self._is_offered = routes, True
        if self._agreeing is not None:
            self._agreeing.cancel()
            self._agreeing = None
        if self._parts.agree is None:
            self._publish(routes)
        else:
            self._held |= set(routes.versions) if routes else set()
            self._agreeing = asyncio.create_task(self._agree(self._parts.agree, routes))

    async def _agree(self, agree: Agree, routes: Routes | None) -> None:
        """Publishes an offer when the others agree; a later offer cancels this."""
        while True:
            try:
                is_agreed = await agree(self.name, routes)
            except Exception:
                log.exception("routes not agreed model=%s", self.name)
                is_agreed = False
            if is_agreed is not False:
                break
            await asyncio.sleep(_AGREE_AGAIN_SECONDS)
        self._agreeing = None
        self._publish(routes)
        self._parts.changed()

    def _publish(self, routes: Routes | None) -> None:
        """Publishes in one step; what is left over goes."""
        self._parts.router.publish(self.name, routes)
        self._held = set(routes.versions) if routes else set()
        self._tell_switches(routes or Routes())
        self._retire_some()

    def _tell_switches(self, routes: Routes) -> None:
        before, self._told = self._told, {None: _answering(routes, None)}
        self._told |= {label: _answering(routes, label) for label in sorted(routes.labels)}
        for label in {**before, **self._told}:
            version = self._told.get(label, 0)
            if version != before.get(label, 0):
                what = "default" if label is None else f"label={label}"
                log.info("moved model=%s %s version=%d", self.name, what, version)
                self._parts.observer.switched(self.name, label or "", version)

    # --- letting go ------------------------------------------------------------------------------

    def _retire_some(self) -> None:
        used = self._held | self.wanted.versions.keys()
        for number, version in self._versions.items():
            if version.state == VersionState.AVAILABLE and number not in used:
                version.step(Event.UNLOAD)
                self._start(version, version.unload())

    def _forget_some(self) -> None:
        gone = [
            number
            for number, version in self._versions.items()
            if version.state == VersionState.END
            and version.task is None
            and number not in self.wanted.versions
        ]
        for number in sorted(gone, reverse=True)[_REMEMBERED:]:
            del self._versions[number]

    async def close(self) -> None:
        """Stops loading, and lets go of every version without waiting for its requests."""
        self._is_closed = True
        self.wanted = Aspirations()
        if self._agreeing is not None:
            self._agreeing.cancel()
            await asyncio.gather(self._agreeing, return_exceptions=True)
        self._parts.router.publish(self.name, None)
        for version in self._versions.values():
            version.give_up()
            version.is_hurried = True
            if version.state == VersionState.AVAILABLE:
                version.step(Event.UNLOAD)
                self._start(version, version.unload())
        tasks = [version.task for version in self._versions.values() if version.task]
        await asyncio.gather(*tasks, return_exceptions=True)


def _answering(routes: Routes, label: str | None) -> int:
    """The version that answers a label, or the default; 0 if none does."""
    servable = routes.target(None, label)
    return servable.version if servable is not None else 0
