"""Which loaded version answers a request. Changed in one step. No IO here.

A request names a model, and perhaps a version or a label. What it named is a `Pointer`, and the
version that the pointer points at now is its target. A switch sets targets between two steps of the
event loop, so that nobody sees half of it. Whoever has worked for a while looks again before
answering: `pointer.target is servable`. If it is not, the answer is another model's, and is made
again.

Several workers behind one port agree through a board (`routing_board`): a worker that sees a higher
epoch there takes over what was agreed before it does anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from tfx_encore.gateway.errors import ServingError, invalid, not_found

if TYPE_CHECKING:
    from tfx_encore.gateway.servable import Servable


class Target(NamedTuple):
    """What a request names; at most one of version and label.

    Attributes:
        model: the model's name.
        version: a version, or None.
        label: a label, or None.
    """

    model: str
    version: int | None = None
    label: str | None = None


class Pointer:
    """Where requests that name the same target go.

    Attributes:
        name: what they name.
        target: the version that answers; None if none does.
        sync: takes over what other workers have agreed on, before the target is looked at again.
    """

    __slots__ = ("name", "sync", "target")

    def __init__(self, name: Target, sync: Callable[[], None] = lambda: None) -> None:
        self.name = name
        self.target: Servable | None = None
        self.sync = sync


@dataclass(frozen=True)
class Routes:
    """The versions of one model that answer.

    Attributes:
        versions: version -> what is loaded.
        labels: label -> version; a label whose version is not loaded answers nothing.
        default: version for requests that name neither; None for the highest.
    """

    versions: Mapping[int, Servable] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)
    default: int | None = None

    def target(self, version: int | None, label: str | None) -> Servable | None:
        """Returns the version that answers, or None."""
        if version is not None:
            return self.versions.get(version)
        if label is not None:
            return self.versions.get(self.labels.get(label, 0))
        if self.default is not None:
            return self.versions.get(self.default)
        return self.versions[max(self.versions)] if self.versions else None


class Router:
    """The routes of every model.

    Args:
        catch_up: called before a request is resolved when `behind` says so.
        behind: True if other workers have agreed on routes that are not published here yet.
    """

    def __init__(
        self,
        behind: Callable[[], bool] | None = None,
        catch_up: Callable[[], None] | None = None,
    ) -> None:
        self._routes: dict[str, Routes] = {}
        self._pointers: dict[Target, Pointer] = {}
        self._behind = behind
        self._catch_up = catch_up

    def sync(self) -> None:
        """Takes over what other workers have agreed on. Cheap if nothing changed."""
        if self._behind is not None and self._catch_up is not None and self._behind():
            self._catch_up()

    def models(self) -> tuple[str, ...]:
        """Names of the models that have routes, sorted."""
        return tuple(sorted(self._routes))

    def routes(self, model: str) -> Routes:
        """The routes of a model; empty if there is none."""
        return self._routes.get(model, Routes())

    def publish(self, model: str, routes: Routes | None) -> None:
        """Replaces the routes of a model in one step; None removes the model."""
        if routes is None:
            self._routes.pop(model, None)
        else:
            self._routes[model] = routes
        now = routes or Routes()
        for name, pointer in list(self._pointers.items()):
            if name.model == model:
                pointer.target = now.target(name.version, name.label)
                if pointer.target is None:
                    del self._pointers[name]  # what clients make up must not stay in memory

    def pointer(self, name: Target) -> Pointer:
        """Returns the pointer of what a request names; its target is set.

        Raises:
            ServingError: NOT_FOUND, no such model or version; INVALID_ARGUMENT, no such label.
        """
        self.sync()
        pointer = self._pointers.get(name)
        if pointer is None or pointer.target is None:
            target = self.routes(name.model).target(name.version, name.label)
            if target is None:
                raise _nothing_there(name, self.routes(name.model))
            pointer = self._pointers[name] = Pointer(name, self.sync)
            pointer.target = target
        return pointer


def _nothing_there(name: Target, routes: Routes) -> ServingError:
    """As TensorFlow Serving says it (core/basic_manager.cc, model_servers/server_core.cc)."""
    if name.label is not None and name.label not in routes.labels:
        return invalid(f"Unrecognized servable version label: {name.label}")
    version = name.version if name.label is None else routes.labels[name.label]
    wanted = f"Latest({name.model})" if version is None else f"Specific({name.model}, {version})"
    return not_found(f"Servable not found for request: {wanted}")
