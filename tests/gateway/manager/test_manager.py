"""Versions that come, answer and go, with loads that end when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tfx_encore.gateway.errors import Code, ServingError
from tfx_encore.gateway.models.manager import Aspirations
from tfx_encore.gateway.models.version_life import CANCELLED
from tfx_encore.gateway.routing import Routes, Target
from tfx_encore.gateway.servable import Servable
from tfx_encore.gateway.status import VersionState, VersionStatus
from tfx_encore.schemas.errors import ModelError

Run = Callable[..., Any]


def wants(
    *versions: int, labels: dict[str, int] | None = None, default: int | None = None
) -> Aspirations:
    return Aspirations({v: f"/nowhere/{v}" for v in versions}, labels or {}, default)


def test_a_version_answers_when_it_is_loaded_and_not_before(run: Run) -> None:
    async def scenario(world: Any) -> None:
        world.manager.aspire("m", wants(1))
        assert world.states() == {1: "LOADING"}
        assert world.answers() is None
        await world.loads.make(1)
        await world.until_answers(1)
        assert world.states() == {1: "AVAILABLE"}
        assert world.answers(version=1) == 1

    world = run(scenario)
    assert world.heard.states_of(1) == ["START", "LOADING", "AVAILABLE", "UNLOADING", "END"]
    assert world.heard.switches == [("m", "", 1)]


def test_in_a_swap_there_is_no_moment_without_an_answer(run: Run) -> None:
    async def scenario(world: Any) -> None:
        seen: list[int | None] = []

        async def look() -> None:
            while True:
                seen.append(world.answers())
                await asyncio.sleep(0)

        world.manager.aspire("m", wants(1))
        await world.loads.make(1)
        await world.until_answers(1)
        looking = asyncio.create_task(look())
        for version in range(2, 12):
            world.manager.aspire("m", wants(version))
            await world.loads.make(version)
            await world.until_state(version - 1, "END")
        looking.cancel()
        assert seen[0] == 1
        assert seen[-1] == 11
        assert None not in seen
        assert seen == sorted(seen)

    run(scenario)


def test_a_pointer_that_a_request_holds_follows_the_swap(run: Run) -> None:
    async def scenario(world: Any) -> None:
        world.manager.aspire("m", wants(1))
        await world.loads.make(1)
        await world.until_answers(1)
        pointer = world.router.pointer(Target("m"))
        world.manager.aspire("m", wants(2))
        await world.loads.make(2)
        await world.until(lambda: pointer.target.version == 2)

    run(scenario)


def test_a_load_that_fails_leaves_the_old_version_serving_and_status_says_why(run: Run) -> None:
    async def scenario(world: Any) -> None:
        world.manager.aspire("m", wants(1))
        await world.loads.make(1)
        await world.until_answers(1)
        world.manager.aspire("m", wants(2))
        await world.loads.until(2)
        world.loads.fail(2)
        await world.until_state(2, "END")
        await world.quiet()
        assert world.manager.status("m") == [
            VersionStatus(2, VersionState.END, Code.NOT_FOUND, "no graph in 2"),
            VersionStatus(1, VersionState.AVAILABLE),
        ]
        assert world.answers() == 1
        assert world.loads.versions() == [1, 2]  # the next try is a minute away
        assert world.manager.ready() == (True, "m: serves as before (version 2: no graph in 2)")

    run(scenario)


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (ServingError(Code.DATA_LOSS, "rotten"), Code.DATA_LOSS, "rotten"),
        (ModelError("no signature"), Code.FAILED_PRECONDITION, "no signature"),
        (MemoryError(), Code.RESOURCE_EXHAUSTED, "there is not enough memory to load it"),
        (ZeroDivisionError("by zero"), Code.INTERNAL, "ZeroDivisionError: by zero"),
        (CANCELLED, Code.UNKNOWN, "Loading of servable cancelled"),
        (asyncio.CancelledError(), Code.UNKNOWN, "the load was cancelled by what it called"),
    ],
)
def test_whatever_a_load_raises_becomes_its_status(
    run: Run, raised: BaseException, code: Code, message: str
) -> None:
    async def scenario(world: Any) -> None:
        world.manager.aspire("m", wants(1))
        await world.loads.until(1)
        world.loads.fail(1, raised)
        await world.until_state(1, "END")
        await world.quiet()
        assert world.status(1) == VersionStatus(1, VersionState.END, code, message)
        assert world.loads.versions() == [1]

    run(scenario)


def test_a_load_is_tried_again_so_often_and_no_more(run: Run) -> None:
    async def scenario(world: Any) -> None:
        world.manager.aspire("m", wants(1))
        for attempt in range(4):
            await world.until(lambda n=attempt: len(world.loads.begun) == n + 1)
            await world.loads.until(1)
            world.loads.fail(1)
        await world.until_state(1, "END")
        await world.quiet()
        assert len(world.loads.begun) == 4
        world.manager.try_again("m", 1)
        await world.loads.make(1)
        await world.until_answers(1)

    run(scenario, max_num_load_retries=3, load_retry_interval_micros=-1)


def test_what_nobody_wants_any_more_is_not_tried_again(run: Run) -> None:
    async def scenario(world: Any) -> None:
        world.manager.aspire("m", wants(1))
        await world.loads.until(1)
        world.loads.fail(1)
        await world.until_state(1, "END")
        world.manager.aspire("m", wants(2))
        await world.loads.make(2)
        await world.until_answers(2)
        await world.quiet()
        world.manager.try_again("m", 1)
        assert world.loads.versions() == [1, 2]
        world.manager.aspire("m", wants(1, 2))
        await world.loads.make(1)  # wanted again, it begins anew
        await world.until_state(1, "AVAILABLE")

    run(scenario, load_retry_interval_micros=20_000)


def test_a_load_that_nobody_wants_any_more_is_cancelled(run: Run) -> None:
    async def scenario(world: Any) -> None:
        world.manager.aspire("m", wants(1))
        await world.loads.until(1)
        world.manager.aspire("m", wants(2))
        await world.until_state(1, "END")
        assert world.loads.cancelled == [("m", 1)]
        assert world.status(1).code == Code.CANCELLED
        await world.loads.make(2)
        await world.until_answers(2)

    run(scenario)


def test_a_load_that_is_cancelled_before_its_first_step_ends_too(run: Run) -> None:
    async def scenario(world: Any) -> None:
        world.manager.aspire("m", wants(1))
        world.manager.aspire("m", wants())
        await world.until_state(1, "END")
        world.manager.aspire("m", wants(1))
        await world.loads.make(1)
        await world.until_answers(1)
        assert len(world.loads.begun) == 1

    run(scenario)


def test_a_load_that_does_not_heed_its_cancelling_is_let_go_of_when_it_is_done(run: Run) -> None:
    async def scenario(world: Any) -> None:
        world.loads.stubborn = True
        world.manager.aspire("m", wants(1))
        await world.loads.until(1)
        world.manager.aspire("m", wants(2))
        await world.until_state(1, "END")
        assert world.status(1).code == Code.CANCELLED
        await world.loads.until(2)  # and at the end likewise

    world = run(scenario)
    assert len(world.loads.made) == 2
    assert world.heard.states_of(1) == world.heard.states_of(2) == ["START", "LOADING", "END"]


def test_a_label_moves_when_its_version_answers_and_never_to_one_that_failed(run: Run) -> None:
    async def scenario(world: Any) -> None:
        world.manager.aspire("m", wants(1, labels={"stable": 1}, default=1))
        await world.loads.make(1)
        await world.until(lambda: world.answers(label="stable") == 1)
        world.manager.aspire("m", wants(1, 2, labels={"stable": 2}, default=2))
        await world.loads.until(2)
        assert world.answers(label="stable") == world.answers() == 1
        world.loads.fail(2)
        await world.until_state(2, "END")
        assert world.answers(label="stable") == world.answers() == 1
        world.manager.aspire("m", wants(1, 3, labels={"stable": 3}, default=3))
        await world.loads.make(3)
        await world.until(lambda: world.answers() == 3)
        assert world.answers(label="stable") == 3

    world = run(scenario)
    assert world.heard.switches == [
        ("m", "", 1),
        ("m", "stable", 1),
        ("m", "", 3),
        ("m", "stable", 3),
    ]


def test_a_label_that_is_removed_answers_no_more(run: Run) -> None:
    async def scenario(world: Any) -> None:
        world.manager.aspire("m", wants(1, labels={"canary": 1}))
        await world.loads.make(1)
        await world.until(lambda: world.answers(label="canary") == 1)
        world.manager.aspire("m", wants(1))
        assert world.answers(label="canary") is None
        assert world.answers() == 1
        with pytest.raises(ServingError, match="Unrecognized servable version label: canary"):
            world.router.pointer(Target("m", label="canary"))

    world = run(scenario)
    assert world.heard.switches[-1] == ("m", "canary", 0)


def test_a_version_is_let_go_of_when_its_last_request_is_answered(run: Run) -> None:
    async def scenario(world: Any) -> None:
        world.manager.aspire("m", wants(1))
        await world.loads.make(1)
        await world.until_answers(1)
        servable = world.router.pointer(Target("m")).target
        servable.in_flight = 2
        world.manager.aspire("m", wants(2))
        await world.loads.make(2)
        await world.until_answers(2)
        await world.quiet()
        assert world.states() == {2: "AVAILABLE", 1: "UNLOADING"}
        assert world.loads.open() == {1, 2}
        servable.in_flight = 0
        await world.until_state(1, "END")
        assert world.loads.open() == {2}
        assert world.status(1).code == Code.OK

    run(scenario)


def test_a_request_that_never_ends_does_not_hold_a_version_for_ever(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(world: Any) -> None:
        world.manager.aspire("m", wants(1))
        await world.loads.make(1)
        await world.until_answers(1)
        world.router.pointer(Target("m")).target.in_flight = 1
        world.manager.aspire("m", wants(2))
        await world.loads.make(2)
        await world.until_state(1, "END")

    run(scenario, drain_seconds=0.01)
    assert "version closed under requests model=m version=1 requests=1" in caplog.text


class Sporadic(Servable):
    """Its requests come and go between two looks."""

    def look(self, seen: list[int]) -> None:
        self.seen = seen

    @property
    def in_flight(self) -> int:  # type: ignore[override]
        return self.seen.pop(0) if getattr(self, "seen", None) else 0

    @in_flight.setter
    def in_flight(self, value: int) -> None:
        pass


def test_a_version_is_not_let_go_of_between_two_steps_of_a_request(run: Run) -> None:
    async def scenario(world: Any) -> None:
        world.manager.aspire("m", wants(1))
        await world.loads.make(1)
        await world.until_answers(1)
        servable = world.router.pointer(Target("m")).target
        servable.__class__ = Sporadic
        seen = [0, 1, 0, 1, 1, 0, 0, 1]
        servable.look(seen)
        world.manager.aspire("m", wants(2))
        await world.loads.make(2)
        await world.until_state(1, "END")
        assert seen == [1]  # not looked at any more after two in a row

    run(scenario)


def test_a_runner_that_hangs_is_left_behind(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tfx_encore.gateway.models.manager._RUNNER_SECONDS", 0.01)

    async def hang() -> None:
        await asyncio.sleep(3600)

    async def scenario(world: Any) -> None:
        world.manager.aspire("m", wants(1))
        await world.loads.make(1)
        await world.until_answers(1)
        servable = world.router.pointer(Target("m")).target
        servable.merged.close = hang
        world.manager.aspire("m", wants())
        await world.until_state(1, "END")
        assert servable.model.closed == 1
        servable.merged.closed = 1

    run(scenario)
    assert "runner hangs model=m version=1" in caplog.text


def test_a_version_that_is_wanted_again_while_it_goes_is_loaded_anew(run: Run) -> None:
    async def scenario(world: Any) -> None:
        world.manager.aspire("m", wants(1))
        await world.loads.make(1)
        await world.until_answers(1)
        servable = world.router.pointer(Target("m")).target
        servable.in_flight = 1
        world.manager.aspire("m", wants(2))
        await world.loads.make(2)
        await world.until_state(1, "UNLOADING")
        world.manager.aspire("m", wants(1))
        await world.quiet()
        assert world.states() == {2: "AVAILABLE", 1: "UNLOADING"}
        servable.in_flight = 0
        await world.loads.make(1)
        await world.until_answers(1)
        await world.until_state(2, "END")

    run(scenario)


def test_two_models_do_not_hold_each_other_up(run: Run) -> None:
    async def scenario(world: Any) -> None:
        world.manager.aspire("slow", wants(1))
        world.manager.aspire("quick", wants(1, 2))
        await world.loads.until(1, "slow")
        await world.loads.make(2, "quick")
        await world.loads.make(1, "quick")
        await world.until(lambda: world.states("quick") == {1: "AVAILABLE", 2: "AVAILABLE"})
        assert world.states("slow") == {1: "LOADING"}
        assert world.manager.ready() == (False, "slow: version 1 (default) is not loaded yet")

    run(scenario)


def test_the_versions_of_a_model_are_loaded_one_by_one_the_newest_first(run: Run) -> None:
    async def scenario(world: Any) -> None:
        world.manager.aspire("m", wants(1, 2, 3))
        assert world.states() == {3: "LOADING", 2: "START", 1: "START"}
        for version in (3, 2, 1):
            await world.loads.make(version)
        await world.until_state(1, "AVAILABLE")
        assert world.loads.versions() == [3, 2, 1]

    run(scenario)


def test_so_many_loads_run_at_a_time_of_all_models(run: Run) -> None:
    async def scenario(world: Any) -> None:
        for model in "abc":
            world.manager.aspire(model, wants(1, 2))
        await world.until(lambda: len(world.loads.waiting) == 3)
        await world.quiet()
        assert len(world.loads.waiting) == 3
        while len(world.loads.made) < 6:
            assert len(world.loads.waiting) <= 3
            for model, version in list(world.loads.waiting):
                world.loads.succeed(version, model)
            await world.quiet()

    run(scenario, num_load_threads=3)


def test_a_failed_load_makes_room_for_another_while_it_waits_to_be_tried_again(run: Run) -> None:
    async def scenario(world: Any) -> None:
        world.manager.aspire("m", wants(1, 2))
        await world.loads.until(2)
        world.loads.fail(2)
        await world.loads.make(1)
        await world.until_answers(1)
        assert world.status(2).code == Code.NOT_FOUND

    run(scenario, num_load_threads=1)


def test_a_model_that_is_removed_is_unloaded_and_its_states_stay_known(run: Run) -> None:
    async def scenario(world: Any) -> None:
        world.manager.aspire("m", wants(1, labels={"stable": 1}))
        await world.loads.make(1)
        await world.until_answers(1)
        world.manager.remove("m")
        assert world.answers() is None
        assert world.router.models() == ()
        await world.until_state(1, "END")
        assert world.manager.names() == ()
        world.manager.aspire("m", wants(1))
        await world.loads.make(1)
        await world.until_answers(1)

    run(scenario)


def test_status_says_what_tensorflow_serving_says_of_what_it_does_not_know(run: Run) -> None:
    async def scenario(world: Any) -> None:
        with pytest.raises(ServingError) as caught:
            world.manager.status("m")
        assert caught.value.code == Code.NOT_FOUND
        assert caught.value.message == "Could not find any versions of model m"
        world.manager.aspire("m", wants(1))
        with pytest.raises(ServingError) as caught:
            world.manager.status("m", 2)
        assert caught.value.code == Code.NOT_FOUND
        assert caught.value.message == "Could not find version 2 of model m"
        assert len(world.manager.status("m", label="whatever")) == 1
        await world.loads.make(1)

    run(scenario)


def test_versions_that_are_long_gone_are_forgotten(run: Run) -> None:
    async def scenario(world: Any) -> None:
        world.loads.at_once = True
        for version in range(1, 106):
            world.manager.aspire("m", wants(version))
            await world.until_answers(version)
        await world.until(lambda: len(world.states()) == 101)
        assert min(world.states()) == 5
        assert world.status(105).state == VersionState.AVAILABLE

    run(scenario)


def test_ready_means_that_defaults_and_labels_answer_and_stays_so_while_the_default_does(
    run: Run,
) -> None:
    async def scenario(world: Any) -> None:
        ready = world.manager.ready
        assert ready() == (False, "no model is known yet")
        world.manager.trouble("m", "labels.json is gone")
        assert ready() == (
            False,
            "m: no version is there to be served (labels.json is gone)",
        )
        world.manager.trouble("m", "")
        world.manager.aspire("m", wants(1, 2, labels={"stable": 1, "canary": 2}, default=1))
        await world.loads.make(1)
        await world.until_answers(1)
        assert ready() == (False, "m: version 2 (label canary) is not loaded yet")
        await world.loads.make(2)
        await world.until_state(2, "AVAILABLE")
        assert ready() == (True, "")
        world.manager.aspire("m", wants(1, 3, labels={"stable": 3, "canary": 3}, default=3))
        assert ready() == (True, "")
        await world.loads.until(3)
        world.loads.fail(3)
        await world.until_state(3, "END")
        assert ready() == (True, "m: serves as before (version 3: no graph in 3)")
        world.manager.aspire("m", wants())
        assert ready() == (False, "m: no version is there to be served")

    run(scenario)


def test_closing_cancels_what_is_loading_and_lets_go_of_what_is_loaded(run: Run) -> None:
    async def scenario(world: Any) -> None:
        world.manager.aspire("m", wants(1, 2))
        await world.loads.make(2)
        await world.until_answers(2)
        world.router.pointer(Target("m")).target.in_flight = 1
        await world.loads.until(1)

    world = run(scenario)
    assert world.loads.cancelled == [("m", 1)]
    assert world.states() == {1: "END", 2: "END"}
    assert world.router.models() == ()


def test_a_directory_that_changes_while_it_is_loaded_is_not_served(
    run: Run, tmp_path: Path
) -> None:
    async def scenario(world: Any) -> None:
        (tmp_path / "saved_model.pb").write_text("half")
        world.manager.aspire("m", Aspirations({1: str(tmp_path)}))
        await world.loads.until(1)
        (tmp_path / "saved_model.pb").write_text("a half and a half")
        world.loads.succeed(1)
        await world.until_state(1, "END")
        assert world.status(1).code == Code.UNAVAILABLE
        assert "changed while it was being loaded" in world.status(1).message
        assert world.loads.open() == set()
        assert world.answers() is None
        world.manager.try_again("m", 1)
        await world.loads.make(1)
        await world.until_answers(1)

    run(scenario)


def test_waiting_for_models_ends_when_each_answers_or_failed(run: Run) -> None:
    async def scenario(world: Any) -> None:
        settled = asyncio.create_task(world.manager.settled(["a", "b"]))
        world.manager.aspire("a", wants(1, 2))
        await world.loads.make(2, "a")
        await world.until_answers(2, "a")
        world.manager.aspire("b", wants(3))
        await world.loads.until(3, "b")
        await world.quiet()
        assert not settled.done()
        world.loads.fail(3, model="b")
        with pytest.raises(ServingError) as caught:
            await settled
        assert caught.value.code == Code.UNKNOWN
        assert caught.value.message == (
            "1 model(s) did not become available: "
            "{{{name: b version: 3} due to error: NOT_FOUND: no graph in 3}, }"
        )
        await world.manager.settled(["a"])

    run(scenario)


class Others:
    """Workers that agree when the test says so."""

    def __init__(self) -> None:
        self.offers: list[tuple[str, Routes | None]] = []
        self.waiting: list[asyncio.Future[bool]] = []

    async def __call__(self, model: str, routes: Routes | None) -> bool:
        self.offers.append((model, routes))
        self.waiting.append(asyncio.get_running_loop().create_future())
        return await self.waiting[-1]

    def agree(self, answer: bool = True) -> None:
        self.waiting[-1].set_result(answer)

    async def until_offered(self, world: Any, *versions: int) -> None:
        def is_there() -> bool:
            routes = self.offers[-1][1] if self.offers else None
            return routes is not None and sorted(routes.versions) == list(versions)

        await world.until(is_there)


def test_routes_are_published_when_the_others_agree(run: Run) -> None:
    others = Others()

    async def scenario(world: Any) -> None:
        world.manager.aspire("m", wants(1, labels={"stable": 1}))
        await others.until_offered(world)
        others.agree()
        await world.loads.make(1)
        await others.until_offered(world, 1)
        await world.quiet()
        assert world.answers() is None
        assert world.states() == {1: "LOADING"}  # it does not answer yet
        others.agree()
        await world.until_answers(1)
        assert world.states() == {1: "AVAILABLE"}

    run(scenario, others)


def test_nothing_that_was_offered_is_let_go_of_before_something_later_is_agreed(run: Run) -> None:
    others = Others()

    async def scenario(world: Any) -> None:
        world.manager.aspire("m", wants(1))
        await world.loads.make(1)
        await others.until_offered(world, 1)
        others.agree()
        await world.until_answers(1)
        world.manager.aspire("m", wants(2))
        await world.loads.make(2)
        await others.until_offered(world, 2)
        world.manager.aspire("m", wants(3))  # the others cannot load 2
        await world.loads.make(3)
        await others.until_offered(world, 3)
        await world.quiet()
        assert others.waiting[-2].cancelled()
        assert world.loads.open() == {1, 2, 3}
        assert world.answers() == 1
        others.agree()
        await world.until_answers(3)
        await world.until(lambda: world.loads.open() == {3})

    run(scenario, others)


def test_a_version_that_is_loaded_in_the_moment_of_agreement_is_kept(run: Run) -> None:
    others = Others()

    async def scenario(world: Any) -> None:
        def hear(model: str, version: int, state: str, problem: str) -> None:
            if (version, state) == (2, "AVAILABLE"):
                others.agree()

        world.manager.aspire("m", wants(1, 2))
        await world.loads.until(2)
        world.loads.fail(2)
        await world.loads.make(1)
        await others.until_offered(world, 1)
        world.manager.try_again("m", 2)
        await world.loads.until(2)
        world.heard.version_state = hear
        world.loads.succeed(2)
        await others.until_offered(world, 1, 2)
        others.agree()
        await world.until_answers(2)
        assert world.loads.begun[-1].version == 2
        assert len(world.loads.begun) == 3

    run(scenario, others)


def test_what_the_others_publish_meanwhile_is_taken_as_what_is_served(run: Run) -> None:
    others = Others()

    async def scenario(world: Any) -> None:
        world.manager.aspire("m", wants(1))
        await world.loads.make(1)
        await others.until_offered(world, 1)
        others.agree()
        await world.until_answers(1)
        world.manager.aspire("m", wants(2))
        await world.loads.make(2)
        await others.until_offered(world, 2)
        two = others.offers[-1][1]
        world.manager.aspire("m", wants(3))
        await world.loads.until(3)
        world.router.publish("m", two)  # by the board: all had noted it
        assert world.answers() == 2
        world.loads.succeed(3)
        await others.until_offered(world, 3)
        await world.quiet()
        assert world.answers() == 2
        others.agree()
        await world.until_answers(3)

    run(scenario, others)


def test_a_removed_model_is_offered_as_none(run: Run) -> None:
    others = Others()

    async def scenario(world: Any) -> None:
        world.manager.aspire("m", wants(1))
        await world.loads.make(1)
        await others.until_offered(world, 1)
        others.agree()
        await world.until_answers(1)
        world.manager.remove("m")
        await world.until(lambda: others.offers[-1] == ("m", None))
        assert world.answers() == 1
        others.agree()
        await world.until_state(1, "END")

    run(scenario, others)


def test_others_that_fail_to_agree_are_asked_again(
    run: Run, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tfx_encore.gateway.models.served_model._AGREE_AGAIN_SECONDS", 0.001)
    answers = [OSError("no board"), False, None]

    async def agree(model: str, routes: Routes | None) -> Any:
        if routes is None or not routes.versions or not answers:
            return True
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def scenario(world: Any) -> None:
        world.manager.aspire("m", wants(1))
        await world.loads.make(1)
        await world.until_answers(1)

    run(scenario, agree)
    assert answers == []
    assert "routes not agreed model=m" in caplog.text
