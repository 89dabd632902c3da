"""A manager whose loads end when the test says so, and model directories that nobody can load."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tfx_encore.gateway.errors import Code, ServingError
from tfx_encore.gateway.models.manager import Aspired, ManagerPolicy, ModelManager
from tfx_encore.gateway.observer import GatewayObserver
from tfx_encore.gateway.routing import Router, Target
from tfx_encore.gateway.servable import Servable
from tfx_encore.gateway.signature import Array, Signature, Tensors
from tfx_encore.gateway.status import VersionStatus

Key = tuple[str, int]


class FakeModel:
    """A version that answers nothing and knows whether it was closed."""

    def __init__(self, name: str, version: int) -> None:
        self.name = name
        self.version = version
        self.signatures: Mapping[str, Signature] = {}
        self.signature_def: Mapping[str, Any] = {}
        self.closed = 0

    async def run(
        self, signature: str, inputs: Tensors, outputs: Sequence[str]
    ) -> dict[str, Array]:
        raise AssertionError("nobody asks it")

    async def close(self) -> None:
        self.closed += 1


class FakeRunner(FakeModel):
    """Closed before its model is."""

    def __init__(self, model: FakeModel) -> None:
        super().__init__(model.name, model.version)
        self.model = model

    async def close(self) -> None:
        assert not self.model.closed
        await super().close()


@dataclass
class Loads:
    """`prepare`, under control: each load waits until it is told how to end."""

    begun: list[Aspired] = field(default_factory=list)
    waiting: dict[Key, asyncio.Future[None]] = field(default_factory=dict)
    made: list[Servable] = field(default_factory=list)
    cancelled: list[Key] = field(default_factory=list)
    at_once: bool = False
    stubborn: bool = False

    async def __call__(self, aspired: Aspired) -> Servable:
        key = aspired.model, aspired.version
        self.begun.append(aspired)
        if not self.at_once:
            self.waiting[key] = asyncio.get_running_loop().create_future()
            try:
                await self.waiting[key]
            except asyncio.CancelledError:
                self.cancelled.append(key)
                if not self.stubborn:
                    raise
            finally:
                self.waiting.pop(key, None)
        model = FakeModel(*key)
        self.made.append(servable_of(model))
        return self.made[-1]

    def versions(self) -> list[int]:
        return [aspired.version for aspired in self.begun]

    def succeed(self, version: int, model: str = "m") -> None:
        self.waiting[model, version].set_result(None)

    def fail(self, version: int, error: Exception | None = None, model: str = "m") -> None:
        default = ServingError(Code.NOT_FOUND, f"no graph in {version}")
        self.waiting[model, version].set_exception(error or default)

    async def until(self, version: int, model: str = "m") -> None:
        await until(lambda: (model, version) in self.waiting)

    async def make(self, version: int, model: str = "m") -> None:
        """Lets a load begin and succeed."""
        await self.until(version, model)
        self.succeed(version, model)

    def open(self) -> set[int]:
        """Versions of which nothing is closed yet; a runner is closed first, then its model."""
        for each in self.made:
            assert model_of(each).closed <= runner_of(each).closed <= 1
        return {each.version for each in self.made if not runner_of(each).closed}

    def are_closed(self) -> bool:
        return all(model_of(each).closed and runner_of(each).closed for each in self.made)


class Heard(GatewayObserver):
    """Remembers what it is told of versions and labels."""

    def __init__(self) -> None:
        self.states: list[tuple[str, int, str, str]] = []
        self.switches: list[tuple[str, str, int]] = []

    def version_state(self, model: str, version: int, state: str, problem: str) -> None:
        self.states.append((model, version, state, problem))

    def switched(self, model: str, label: str, version: int) -> None:
        self.switches.append((model, label, version))

    def states_of(self, version: int) -> list[str]:
        return [state for _, number, state, _ in self.states if number == version]


class World:
    """A manager and everything around it."""

    def __init__(self, agree: Any = None, **policy: Any) -> None:
        self.router = Router()
        self.loads = Loads()
        self.heard = Heard()
        settings: dict[str, Any] = {"drain_poll_seconds": 0.001, **policy}
        self.manager = ModelManager(
            self.router, self.loads, self.heard, ManagerPolicy(**settings), agree=agree
        )

    def answers(
        self, model: str = "m", *, version: int | None = None, label: str | None = None
    ) -> int | None:
        """The version that a request reaches; None if it is refused."""
        try:
            target = self.router.pointer(Target(model, version, label)).target
        except ServingError:
            return None
        assert target is not None
        assert not model_of(target).closed
        return target.version

    def states(self, model: str = "m") -> dict[int, str]:
        return {s.version: s.state.name for s in self.manager.status(model)}

    def status(self, version: int, model: str = "m") -> VersionStatus:
        (status,) = self.manager.status(model, version)
        return status

    async def until(self, condition: Callable[[], bool]) -> None:
        await until(condition)

    async def until_state(self, version: int, state: str, model: str = "m") -> None:
        await until(lambda: self.knows(model) and self.states(model).get(version) == state)

    async def until_answers(self, version: int, model: str = "m") -> None:
        await until(lambda: self.answers(model) == version)

    async def quiet(self) -> None:
        """Lets whatever can happen now happen."""
        for _ in range(30):
            await asyncio.sleep(0.001)

    def knows(self, model: str) -> bool:
        try:
            return bool(self.manager.status(model))
        except ServingError:
            return False


def servable_of(model: FakeModel) -> Servable:
    runner = FakeRunner(model)
    fingerprint = f"sha256:{model.version}"
    return Servable(model, fingerprint, plans={}, cache=None, merged=runner, alone=runner)


def model_of(servable: Servable) -> FakeModel:
    assert isinstance(servable.model, FakeModel)
    return servable.model


def runner_of(servable: Servable) -> FakeRunner:
    assert isinstance(servable.merged, FakeRunner)
    return servable.merged


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Waits until a condition holds; the bound is only there so that a broken test ends."""
    end = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < end, "it never came about"
        await asyncio.sleep(0.001)


@pytest.fixture
def run() -> Callable[..., World]:
    """Returns what runs a scenario with a manager, and closes it: nothing is left open."""

    def run_scenario(
        scenario: Callable[[World], Awaitable[None]], agree: Any = None, **policy: Any
    ) -> World:
        async def whole() -> World:
            world = World(agree, **policy)
            try:
                await asyncio.wait_for(scenario(world), 60)
            finally:
                await world.manager.close()
            assert world.loads.open() == set()
            assert world.loads.are_closed()
            return world

        return asyncio.run(whole())

    return run_scenario


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[[str], Path]:
    """Returns a function that makes a SavedModel look-alike of the given content."""

    def make(content: str) -> Path:
        model = tmp_path / "made" / content
        (model / "variables").mkdir(parents=True, exist_ok=True)
        (model / "saved_model.pb").write_text(f"graph {content}")
        (model / "variables" / "variables.index").write_text("index")
        (model / "variables" / "variables.data-00000-of-00001").write_text(f"weights {content}")
        return model

    return make
