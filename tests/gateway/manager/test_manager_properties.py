"""Whatever is wanted, and however loads end: what answers is loaded, and goes on answering."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tfx_encore.gateway.models.manager import Aspirations
from tfx_encore.gateway.routing import Routes

Run = Callable[..., Any]

VERSIONS = (1, 2, 3, 4)
LABELS = ("canary", "stable")


@st.composite
def aspirations(draw: st.DrawFn) -> Aspirations:
    versions = draw(st.sets(st.sampled_from(VERSIONS), max_size=3))
    labels = draw(st.dictionaries(st.sampled_from(LABELS), st.sampled_from(VERSIONS)))
    default = draw(st.none() | st.sampled_from(VERSIONS))
    return Aspirations({v: f"/nowhere/{v}" for v in versions}, labels, default)


STEPS = st.lists(
    st.one_of(
        aspirations().map(lambda wanted: ("aspire", wanted)),
        st.tuples(st.just("succeed"), st.integers(0, 3)),
        st.tuples(st.just("succeed"), st.integers(0, 3)),
        st.tuples(st.just("fail"), st.integers(0, 3)),
        st.tuples(st.just("again"), st.sampled_from(VERSIONS)),
        st.tuples(st.just("busy"), st.integers(0, 3)),
        st.tuples(st.just("idle"), st.none()),
        st.tuples(st.just("agree"), st.none()),
        st.tuples(st.just("rest"), st.none()),
    ),
    max_size=40,
)


class Inline(ThreadPoolExecutor):
    """Runs at once what is handed to a thread, so that a scenario is the same each time."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


class Others:
    """Workers that agree when they are told to."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[bool]] = []

    async def __call__(self, model: str, routes: Routes | None) -> bool:
        self.waiting = [asyncio.get_running_loop().create_future()]
        return await self.waiting[0]

    def agree(self) -> None:
        waiting, self.waiting = self.waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(True)


class Watcher:
    """Checks after every step of the loop what may never be otherwise."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.wanted = Aspirations()
        self.default: int | None = None
        self.labels: dict[str, int | None] = {}

    def check(self) -> None:
        routes = self.world.router.routes("m")
        states = self.world.states() if self.world.knows("m") else {}
        for version in routes.versions:
            assert states[version] == "AVAILABLE"
        assert self.world.loads.open() >= set(routes.versions)
        default = self.world.answers()
        if self.default is not None and default is None:
            assert not self.wanted.versions
        self.default = default
        self._check_labels(routes)

    def _check_labels(self, routes: Routes) -> None:
        labels = {label: self.world.answers(label=label) for label in routes.labels}
        for label, version in labels.items():
            before = self.labels.get(label)
            wanted = self.wanted.labels.get(label)
            if before is not None and version is None and wanted is not None:
                assert not {wanted, before} & self.wanted.versions.keys()
        self.labels = labels


async def settle(watcher: Watcher) -> None:
    for _ in range(12):
        watcher.check()
        await asyncio.sleep(0)


async def do(world: Any, watcher: Watcher, others: Others, step: tuple[str, Any]) -> None:
    what, argument = step
    waiting = sorted(key for key, future in world.loads.waiting.items() if not future.done())
    if what == "aspire":
        watcher.wanted = argument
        world.manager.aspire("m", argument)
    elif what == "rest":
        await asyncio.sleep(0.001)
    elif what == "again":
        world.manager.try_again("m", argument)
    elif what == "agree":
        others.agree()
    elif what == "idle":
        for servable in world.loads.made:
            servable.in_flight = 0
    elif what == "busy" and world.loads.made:
        world.loads.made[argument % len(world.loads.made)].in_flight = 1
    elif what in ("succeed", "fail") and waiting:
        _, version = waiting[argument % len(waiting)]
        getattr(world.loads, what)(version)


async def finish(world: Any, watcher: Watcher, others: Others) -> None:
    """Lets everything that is wanted be loaded, and everything else go."""
    wanted = watcher.wanted
    for servable in world.loads.made:
        servable.in_flight = 0
    world.loads.at_once = True
    end = asyncio.get_running_loop().time() + 20
    while world.loads.open() != set(wanted.versions) or not is_as_wanted(world, wanted):
        assert asyncio.get_running_loop().time() < end, "it never came to what is wanted"
        for key, future in list(world.loads.waiting.items()):
            if not future.done():
                world.loads.succeed(key[1])
        for version in wanted.versions:
            world.manager.try_again("m", version)
        others.agree()
        watcher.check()
        await asyncio.sleep(0.0005)


def is_as_wanted(world: Any, wanted: Aspirations) -> bool:
    default = wanted.default
    if default not in wanted.versions:
        default = max(wanted.versions, default=None)
    labels = {name: v if v in wanted.versions else None for name, v in wanted.labels.items()}
    return world.answers() == default and labels == {
        name: world.answers(label=name) for name in wanted.labels
    }


@pytest.mark.parametrize("is_alone", [True, False], ids=["alone", "among others"])
@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=STEPS, threads=st.sampled_from([0, 1, 3]))
def test_what_answers_is_loaded_and_does_not_cease_while_anything_is_wanted(
    run: Run, is_alone: bool, steps: list[tuple[str, Any]], threads: int
) -> None:
    others = Others()

    async def scenario(world: Any) -> None:
        asyncio.get_running_loop().set_default_executor(Inline())
        watcher = Watcher(world)
        world.manager.aspire("m", watcher.wanted)
        for step in steps:
            await do(world, watcher, others, step)
            await settle(watcher)
            event("answers" if watcher.default else "silent")
        await finish(world, watcher, others)

    run(
        scenario,
        None if is_alone else others,
        num_load_threads=threads,
        max_num_load_retries=2,
        load_retry_interval_micros=-1,
        drain_poll_seconds=0.0001,
    )
