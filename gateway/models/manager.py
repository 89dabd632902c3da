"""Every model that is served: what is wanted, what is there, what is published. asyncio.

Sources say what is wanted (`aspire`); the manager loads what is missing, publishes it, and lets go
of the rest. As tensorflow_serving/core/aspired_versions_manager.cc with the availability preserving
policy, with two differences: a version whose load failed is at END with its error while it waits to
be tried again (TensorFlow Serving says LOADING), and a label stays where it is until the version
that it is to point at answers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Protocol, runtime_checkable

from tfx_encore.gateway.errors import Code, ServingError, not_found
from tfx_encore.gateway.models.aspirations import Aspirations, Aspired
from tfx_encore.gateway.models.file_set import FileSet
from tfx_encore.gateway.models.served_model import ServedModel
from tfx_encore.gateway.models.served_version import Agree, ManagerPolicy, Parts
from tfx_encore.gateway.models.sources import Source
from tfx_encore.gateway.observer import GatewayObserver
from tfx_encore.gateway.routing import Router
from tfx_encore.gateway.servable import Servable
from tfx_encore.gateway.status import VersionState, VersionStatus

__all__ = ["Agree", "Aspirations", "Aspired", "ManagerPolicy", "ModelManager", "close_servable"]

log = logging.getLogger("tfx_encore.gateway")

_RUNNER_SECONDS = 10.0


@runtime_checkable
class _Closable(Protocol):
    async def close(self) -> None: ...


async def close_servable(servable: Servable) -> None:
    """Lets go of what computes a version, and of the version.

    A runner finishes what it has begun; one that hangs is left behind after a while.
    """
    runners = [servable.merged]
    if servable.alone is not servable.merged:
        runners.append(servable.alone)
    for runner in runners:
        if isinstance(runner, _Closable):
            try:
                await asyncio.wait_for(runner.close(), _RUNNER_SECONDS)
            except asyncio.TimeoutError:
                log.warning("runner hangs model=%s version=%d", servable.name, servable.version)
    await servable.model.close()


class ModelManager:
    """Loads, publishes and unloads versions. A `status.Models`. Used on one event loop.

    Args:
        router: where routes are published.
        prepare: makes a version ready to answer; runs in a task of its own and is cancelled when
            nobody wants the version any more. Whatever it raises ends the version's life.
        observer: told of states and switches.
        policy: how versions are loaded and let go of.
        agree: awaited with a model's next routes (None: it is served no more) before they are
            published, so that several workers switch together; the routes stay as they are until
            it returns. It is cancelled when other routes are to be offered instead. If it raises,
            or returns False, it is asked again a second later. It may publish what it was offered
            itself: the versions in it stay loaded. By default nobody is asked.
        close: lets go of a version that no request uses any more.
    """

    def __init__(
        self,
        router: Router,
        prepare: Callable[[Aspired], Awaitable[Servable]],
        observer: GatewayObserver,
        policy: ManagerPolicy | None = None,
        *,
        agree: Agree | None = None,
        close: Callable[[Servable], Awaitable[None]] = close_servable,
    ) -> None:
        self.policy = policy or ManagerPolicy()
        self._models: dict[str, ServedModel] = {}
        self._sources: list[Source] = []
        self._waiting: list[asyncio.Future[None]] = []
        self._parts = Parts(
            router,
            prepare,
            close,
            observer,
            self.policy,
            agree,
            may_load=self._may_load,
            changed=self._pump,
        )

    # --- what is wanted: for sources -------------------------------------------------------------

    def aspire(self, model: str, aspirations: Aspirations) -> None:
        """Says which versions, labels and default of a model are wanted from now on.

        Nothing wanted unloads everything; the model stays known and may be wanted again.
        """
        self._model(model).aspire(aspirations)
        self._wake()

    def remove(self, model: str) -> None:
        """Serves a model no more; the states of its versions stay known."""
        if model in self._models:
            self._models[model].remove()
            self._wake()

    def trouble(self, model: str, reason: str) -> None:
        """Says why it is not known now what is wanted of a model; empty when it is known again.

        What is served stays.
        """
        self._model(model).trouble = reason

    def failed(self, model: str) -> Mapping[int, tuple[str, FileSet]]:
        """Versions that are wanted and could not be loaded: path, and the files there then."""
        return self._models[model].failed() if model in self._models else {}

    def try_again(self, model: str, version: int) -> None:
        """Loads a version that failed, now; its retries are counted anew."""
        if model in self._models:
            self._models[model].try_again(version)
            self._wake()

    # --- sources ---------------------------------------------------------------------------------

    async def follow(self, source: Source) -> None:
        """Starts a source; the manager pokes and closes it from now on.

        Raises:
            EncoreError: whatever the source refuses to start with.
        """
        await source.start(self)
        self._sources.append(source)

    def poke(self) -> None:
        """Lets every source look at once."""
        for source in self._sources:
            source.poke()

    async def reload(self, config: Any) -> None:
        """Serves what a `tensorflow.serving.ModelServerConfig` says, from now on.

        Returns when each model that is new has a version that answers.

        Raises:
            ServingError: INVALID_ARGUMENT or FAILED_PRECONDITION, it cannot be, and nothing has
                changed; UNKNOWN, a new model could not be loaded, and the rest was done.
        """
        if not self._sources:
            raise ServingError(Code.UNAVAILABLE, "The server is not started yet.")
        for source in self._sources:
            await source.reload(config)

    # --- what is known ---------------------------------------------------------------------------

    def status(
        self, model: str, version: int | None = None, label: str | None = None
    ) -> list[VersionStatus]:
        """Returns the versions that are known, the newest first.

        A label narrows nothing, as in model_servers/get_model_status_impl.cc.

        Raises:
            ServingError: NOT_FOUND, no such model or version.
        """
        del label
        known = self._models[model].statuses() if model in self._models else []
        if version is None:
            if not known:
                raise not_found(f"Could not find any versions of model {model}")
            return known
        found = [status for status in known if status.version == version]
        if not found:
            raise not_found(f"Could not find version {version} of model {model}")
        return found

    def names(self) -> tuple[str, ...]:
        """The models that are served or are to be, sorted."""
        return tuple(sorted(n for n, model in self._models.items() if not model.is_removed))

    def is_available(self, model: str, version: int) -> bool:
        """True if a version answers."""
        known = self._models[model].statuses() if model in self._models else []
        return any(s.version == version and s.state == VersionState.AVAILABLE for s in known)

    def ready(self) -> tuple[bool, str]:
        """Tells whether every model has come to answer, and in one line what is missing or wrong.

        A model is ready when its default and its labelled versions are AVAILABLE, and from then on
        as long as its default answers.
        """
        names = self.names()
        if not names:
            return False, "no model is known yet"
        reports = [self._models[name].report() for name in names]
        is_ready = all(each for each, _ in reports)
        return is_ready, "; ".join(line for _, line in reports if line)

    async def settled(self, models: Collection[str], what: str = "model") -> None:
        """Waits until each model has a version that answers or could not be loaded.

        Args:
            models: names.
            what: models are called in the message.

        Raises:
            ServingError: UNKNOWN, some could not be loaded (server_core.cc,
                WaitUntilModelsAvailable).
        """
        while (reached := self._reached(models)) is None:
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            await waiting
        failed = {m: s for m, s in reached.items() if s.state != VersionState.AVAILABLE}
        if failed:
            each = "".join(_in_braces(model, status) for model, status in sorted(failed.items()))
            raise ServingError(
                Code.UNKNOWN, f"{len(failed)} {what}(s) did not become available: {{{each}}}"
            )

    def _reached(self, models: Collection[str]) -> dict[str, VersionStatus] | None:
        """What each model has come to; None while one of them has not."""
        reached = {}
        for name in models:
            model = self._models.get(name)
            if model is not None and not model.is_awaited:
                continue
            status = model.reached() if model is not None else None
            if status is None:
                return None
            reached[name] = status
        return reached

    # --- the end ---------------------------------------------------------------------------------

    async def close(self) -> None:
        """Stops the sources and lets go of every version. The listeners are closed before."""
        sources, self._sources = self._sources, []
        for source in sources:
            await source.close()
        for model in self._models.values():
            await model.close()
        for waiting in self._waiting:
            waiting.cancel()

    # --- inside ----------------------------------------------------------------------------------

    def _model(self, name: str) -> ServedModel:
        if name not in self._models:
            self._models[name] = ServedModel(name, self._parts)
        return self._models[name]

    def _may_load(self) -> bool:
        return sum(m.loading for m in self._models.values()) < self.policy.num_load_threads

    def _pump(self) -> None:
        for model in list(self._models.values()):
            model.pump()
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.done():
                one.set_result(None)


def _in_braces(model: str, status: VersionStatus) -> str:
    """As core/servable_id.h and absl::Status print it."""
    problem = "" if status.code == Code.OK else f" due to error: {status.code.name}: "
    return f"{{{{name: {model} version: {status.version}}}{problem}{status.message}}}, "
