"""A model that does as it is told, for the tests of batching, of the request log and of metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest

from tfx_encore.gateway.errors import ServingError
from tfx_encore.gateway.observer import GatewayObserver
from tfx_encore.gateway.signature import Signature


class Run(NamedTuple):
    """One call of the model that has begun."""

    signature: str
    inputs: Mapping[str, np.ndarray]
    outputs: tuple[str, ...]
    done: asyncio.Future[None]


class PuppetModel:
    """Answers `y = 2 x + 1` and the row's `name` once it is told to; at once if it is not held.

    Args:
        refuses: returns the error of a batch, or None.
    """

    name = "puppet"
    version = 1

    def __init__(
        self,
        *,
        held: bool = False,
        refuses: Callable[[Mapping[str, np.ndarray]], ServingError | None] = lambda _: None,
    ) -> None:
        self.signatures: Mapping[str, Signature] = {}
        self.signature_def: Mapping[str, Any] = {}
        self.held = held
        self.refuses = refuses
        self.runs: list[Run] = []
        self.most_at_once = 0
        self._at_once = 0

    @property
    def sizes(self) -> list[int]:
        return [len(run.inputs["x"]) for run in self.runs]

    async def run(
        self, signature: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]
    ) -> dict[str, np.ndarray]:
        run = Run(signature, inputs, tuple(outputs), asyncio.get_running_loop().create_future())
        self.runs.append(run)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            if self.held:
                await run.done
            error = self.refuses(inputs)
        finally:
            self._at_once -= 1
        if error is not None:
            raise error
        return {name: _OUTPUTS[name](inputs) for name in outputs}

    def release(self, place: int) -> None:
        """Lets the run that began as number `place` end."""
        if not self.runs[place].done.done():
            self.runs[place].done.set_result(None)

    async def close(self) -> None:
        """Nothing to let go of."""


_OUTPUTS: Mapping[str, Callable[[Mapping[str, np.ndarray]], np.ndarray]] = {
    "y": lambda inputs: 2 * inputs["x"] + 1,
    "name": lambda inputs: np.array([b"n%d" % int(v.flat[0]) for v in inputs["x"]], dtype=object),
    "scalar": lambda inputs: np.asarray(inputs["x"].sum()),
    "short": lambda inputs: inputs["x"][:-1],
}


class Watching(GatewayObserver):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, int]] = []
        self.waiting: list[int] = []
        self.logs: list[tuple[str, int, int]] = []

    def batch(self, model: str, signature: str, *, rows: int, padded: int, seconds: float) -> None:
        assert seconds >= 0.0
        self.batches.append((rows, padded))

    def queued(self, model: str, rows: int) -> None:
        self.waiting.append(rows)

    def logged(self, model: str, requests: int, dropped: int) -> None:
        self.logs.append((model, requests, dropped))


@pytest.fixture(scope="session")
def puppet() -> type[PuppetModel]:
    return PuppetModel


@pytest.fixture
def watching() -> Watching:
    return Watching()


async def settle(turns: int = 20) -> None:
    """Lets everything run that can."""
    for _ in range(turns):
        await asyncio.sleep(0)


@pytest.fixture
def let_run() -> Callable[..., Any]:
    return settle
