"""Release directories that are pushed to, relabelled and damaged while they are followed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tensorflow_serving.config import model_server_config_pb2

from tfx_encore.gateway.errors import Code, ServingError
from tfx_encore.gateway.models.releases_source import ReleaseReader, ReleasesSource, wanted_of
from tfx_encore.metadata.release_push import PushRequest
from tfx_encore.metadata.release_state import ReleaseState
from tfx_encore.metadata.releases import ReleaseDirectory

Run = Callable[..., Any]
MakeModel = Callable[[str], Path]


class Pushed:
    """Release directories below a root."""

    def __init__(self, root: Path, make_model: MakeModel) -> None:
        self.root = root
        self._make = make_model

    def of(self, model: str = "taxi") -> ReleaseDirectory:
        return ReleaseDirectory(self.root, model)

    def push(self, content: str, model: str = "taxi", **request: Any) -> None:
        self.of(model).push(PushRequest(self._make(content), **request))

    def source(self, **options: Any) -> ReleasesSource:
        return ReleasesSource(self.root, **{"seconds": 0.01, **options})


@pytest.fixture
def pushed(tmp_path: Path, make_model: MakeModel) -> Pushed:
    return Pushed(tmp_path / "releases", make_model)


def test_the_default_is_the_stable_version_or_else_the_highest() -> None:
    home = Path("/r/m")
    state = ReleaseState({"stable": 2, "canary": 3}, (1, 2, 3), 3, previous={"stable": 1})
    wanted = wanted_of(state, home)
    assert wanted.versions == {1: "/r/m/1", 2: "/r/m/2", 3: "/r/m/3"}
    assert (wanted.labels, wanted.default, wanted.release) == (state.labels, 2, True)
    assert wanted_of(ReleaseState({"canary": 3, "old": 1}, (1, 3), 3), home).default == 3
    assert wanted_of(ReleaseState(), home).default is None


def test_a_push_is_served_when_it_is_loaded_and_a_rollback_at_once(
    run: Run, pushed: Pushed
) -> None:
    async def scenario(world: Any) -> None:
        await world.manager.follow(pushed.source())
        assert world.manager.ready() == (False, "no model is known yet")
        pushed.push("a")
        await world.loads.make(1, "taxi")
        await world.until_answers(1, "taxi")
        pushed.push("b")
        await world.loads.until(2, "taxi")
        assert world.answers("taxi", label="stable") == 1
        assert world.manager.ready() == (True, "")
        world.loads.succeed(2, "taxi")
        await world.until_answers(2, "taxi")
        assert world.answers("taxi", label="stable") == 2
        # What a label pointed at before stays loaded.
        assert world.states("taxi") == {2: "AVAILABLE", 1: "AVAILABLE"}
        pushed.of().set_label("stable", 1, by="ada", reason="complaints")
        await world.until_answers(1, "taxi")
        assert world.loads.versions() == [1, 2]

    run(scenario)


def test_models_that_appear_are_picked_up_unless_one_was_named(run: Run, pushed: Pushed) -> None:
    pushed.push("a", "taxi")

    async def all_of_them(world: Any) -> None:
        world.loads.at_once = True
        await world.manager.follow(pushed.source())
        await world.until_answers(1, "taxi")
        pushed.push("a", "bikes")
        await world.until_answers(1, "bikes")

    async def one(world: Any) -> None:
        world.loads.at_once = True
        await world.manager.follow(pushed.source(only="taxi"))
        await world.until_answers(1, "taxi")
        await world.quiet()
        assert world.manager.names() == ("taxi",)

    run(all_of_them)
    run(one)


def test_a_push_that_cannot_be_loaded_takes_no_label(run: Run, pushed: Pushed) -> None:
    pushed.push("a")

    async def scenario(world: Any) -> None:
        await world.manager.follow(pushed.source())
        await world.loads.make(1, "taxi")
        await world.until_answers(1, "taxi")
        pushed.push("b")
        await world.loads.until(2, "taxi")
        world.loads.fail(2, model="taxi")
        await world.until_state(2, "END", "taxi")
        await world.quiet()
        assert world.answers("taxi") == world.answers("taxi", label="stable") == 1
        pushed.push("c")
        await world.loads.make(3, "taxi")
        await world.until_answers(3, "taxi")

    run(scenario)


def test_a_poke_looks_at_once(run: Run, pushed: Pushed) -> None:
    async def scenario(world: Any) -> None:
        world.loads.at_once = True
        await world.manager.follow(pushed.source(seconds=3600.0))
        pushed.push("a")
        world.manager.poke()
        await world.until_answers(1, "taxi")

    run(scenario)


@pytest.mark.parametrize(
    "damage",
    [
        lambda labels: labels.write_text("{"),
        lambda labels: labels.unlink(),
        lambda labels: shutil.rmtree(labels.parent),
        lambda labels: labels.parent.parent.rename(labels.parent.parent.with_name("gone")),
    ],
    ids=["unreadable", "lost", "model removed", "root unmounted"],
)
def test_damage_keeps_what_is_served_and_is_said_once(
    run: Run,
    pushed: Pushed,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    damage: Callable[[Path], None],
) -> None:
    pushed.push("a")
    pushed.push("b")
    labels = pushed.of().path / "labels.json"
    shutil.copytree(pushed.root, tmp_path / "copy")

    async def scenario(world: Any) -> None:
        world.loads.at_once = True
        await world.manager.follow(pushed.source())
        await world.until_answers(2, "taxi")
        damage(labels)
        await world.until(lambda: "labels.json" in world.manager.ready()[1])
        assert world.manager.ready()[0]
        await world.quiet()
        assert world.answers("taxi") == world.answers("taxi", label="stable") == 2
        shutil.copytree(tmp_path / "copy", pushed.root, dirs_exist_ok=True)
        pushed.of().set_label("stable", 1, by="ada", reason="complaints")
        await world.until_answers(1, "taxi")
        await world.until(lambda: world.manager.ready() == (True, ""))

    run(scenario)
    assert sum("source problem model=taxi" in line for line in caplog.messages) == 1


def test_a_label_whose_version_has_not_arrived_yet_waits_for_it(
    run: Run, pushed: Pushed, tmp_path: Path
) -> None:
    pushed.push("a")
    pushed.push("b")
    home = pushed.of().path
    (home / "2").rename(tmp_path / "late")
    first = json.loads((home / "labels.json").read_text())
    (home / "labels.json").write_text(
        json.dumps({**first, "labels": {"stable": 1}, "previous": {}})
    )

    async def scenario(world: Any) -> None:
        await world.manager.follow(pushed.source())
        await world.loads.make(1, "taxi")
        await world.until_answers(1, "taxi")
        (home / "labels.json").write_text(json.dumps(first))  # copied here before the version is
        await world.loads.until(2, "taxi")
        world.loads.fail(2, model="taxi")
        await world.until_state(2, "END", "taxi")
        assert world.answers("taxi", label="stable") == 1
        (tmp_path / "late").rename(home / "2")
        await world.loads.make(2, "taxi")
        await world.until_answers(2, "taxi")

    run(scenario)


def test_a_model_whose_labels_were_all_removed_is_unloaded_and_missed_by_nobody(
    run: Run, pushed: Pushed
) -> None:
    pushed.push("a")

    async def scenario(world: Any) -> None:
        world.loads.at_once = True
        await world.manager.follow(pushed.source())
        await world.until_answers(1, "taxi")
        pushed.of().remove_label("stable", by="ada", reason="the end")
        await world.until_state(1, "END", "taxi")
        assert world.answers("taxi") is None
        assert world.manager.ready() == (True, "")
        await world.manager.settled(["taxi"])

    run(scenario)


def test_a_reload_is_refused(run: Run, pushed: Pushed) -> None:
    async def scenario(world: Any) -> None:
        with pytest.raises(ServingError, match="not started"):
            await world.manager.reload(model_server_config_pb2.ModelServerConfig())
        await world.manager.follow(pushed.source())
        with pytest.raises(ServingError, match="encore label set") as caught:
            await world.manager.reload(model_server_config_pb2.ModelServerConfig())
        assert caught.value.code == Code.FAILED_PRECONDITION

    run(scenario)


def test_what_has_not_changed_is_not_read(pushed: Pushed, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed.push("a")
    reads: list[str] = []
    state = ReleaseDirectory.state

    def counted(releases: ReleaseDirectory) -> ReleaseState:
        reads.append(releases.model)
        return state(releases)

    monkeypatch.setattr(ReleaseDirectory, "state", counted)
    reader = ReleaseReader(pushed.of().path)
    assert reader.read() is not None
    assert [reader.read() for _ in range(5)] == [None] * 5
    assert reads == ["taxi"]
    monkeypatch.undo()
    pushed.push("b")
    found = reader.read()
    assert found is not None
    assert found.labels == {"stable": 2}
