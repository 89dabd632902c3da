"""What a configuration serves, when it is reloaded and when its file changes."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from tfx_encore.gateway.errors import Code, ServingError
from tfx_encore.gateway.models.config_source import ConfigSource, SourcePolicy
from tfx_encore.gateway.models.sources import BasePath
from tfx_encore.metadata.release_push import PushRequest
from tfx_encore.metadata.releases import ReleaseDirectory
from tfx_encore.schemas.errors import ConfigError

Run = Callable[..., Any]
MakeModel = Callable[[str], Path]


class Bases:
    """Base paths with versions, and configurations that name them."""

    def __init__(self, root: Path, make_model: MakeModel) -> None:
        self.root = root
        self._make = make_model

    def add(self, model: str, *versions: int) -> None:
        for version in versions:
            shutil.copytree(self._make(f"{model}{version}"), self.root / model / str(version))

    def text(self, *entries: str) -> str:
        """Each entry is a model's name, and perhaps more fields after a blank."""
        body = ""
        for entry in entries:
            name, _, more = entry.partition(" ")
            body += (
                f'  config {{ name: "{name}" base_path: "{self.root / name}" '
                f'model_platform: "tensorflow" {more} }}\n'
            )
        return f"model_config_list {{\n{body}}}\n"

    def config(self, *entries: str) -> Any:
        return text_format.Parse(self.text(*entries), model_server_config_pb2.ModelServerConfig())

    def source(self, *entries: str, **policy: Any) -> ConfigSource:
        return ConfigSource(quick(**policy), config=self.config(*entries))


def quick(**policy: Any) -> SourcePolicy:
    return SourcePolicy(**{"file_system_poll_wait_seconds": 0.01, **policy})


@pytest.fixture
def bases(tmp_path: Path, make_model: MakeModel) -> Bases:
    return Bases(tmp_path / "models", make_model)


def both(*versions: int) -> str:
    listed = " ".join(f"versions: {version}" for version in versions)
    return f"model_version_policy {{ specific {{ {listed} }} }}"


def label(name: str, version: int) -> str:
    return f'version_labels {{ key: "{name}" value: {version} }}'


def test_several_models_are_served_and_the_policy_decides_which_versions(
    run: Run, bases: Bases
) -> None:
    bases.add("a", 1, 2, 3)
    bases.add("b", 7)

    async def scenario(world: Any) -> None:
        world.loads.at_once = True
        await world.manager.follow(bases.source(f"a {both(1, 2)}", "b"))
        await world.manager.settled(["a", "b"])
        await world.until(lambda: world.states("a") == {2: "AVAILABLE", 1: "AVAILABLE"})
        assert (world.answers("a"), world.answers("b")) == (2, 7)
        assert world.manager.names() == ("a", "b")

    run(scenario)


def test_a_reload_adds_removes_and_changes_models_and_waits_for_the_new_ones(
    run: Run, bases: Bases
) -> None:
    bases.add("a", 1)
    bases.add("b", 1, 2)
    bases.add("c", 5)

    async def scenario(world: Any) -> None:
        await world.manager.follow(bases.source("a", "b"))
        await world.loads.make(1, "a")
        await world.loads.make(2, "b")
        await world.manager.settled(["a", "b"])
        new = bases.config(f"b {both(1, 2)} {label('stable', 2)}", "c")
        reloading = asyncio.create_task(world.manager.reload(new))
        await world.loads.make(1, "b")
        await world.until_state(1, "END", "a")
        await world.loads.until(5, "c")
        await world.quiet()
        assert not reloading.done()
        assert world.answers("a") is None
        assert world.answers("b", label="stable") == 2
        world.loads.succeed(5, "c")
        await reloading
        assert world.answers("c") == 5
        await world.manager.reload(new)  # the same again changes nothing
        assert len(world.loads.begun) == 4

    run(scenario)


def test_a_new_model_that_cannot_be_loaded_fails_the_reload_but_stays_configured(
    run: Run, bases: Bases
) -> None:
    bases.add("a", 1)
    bases.add("b", 2)

    async def scenario(world: Any) -> None:
        await world.manager.follow(bases.source("a"))
        await world.loads.make(1, "a")
        await world.until_answers(1, "a")
        reloading = asyncio.create_task(world.manager.reload(bases.config("a", "b")))
        await world.loads.until(2, "b")
        world.loads.fail(2, model="b")
        with pytest.raises(ServingError) as caught:
            await reloading
        assert caught.value.code == Code.UNKNOWN
        assert "1 model(s) did not become available: {{{name: b version: 2} due to error: " in str(
            caught.value
        )
        assert world.manager.names() == ("a", "b")
        assert world.answers("a") == 1

    run(scenario)


def test_a_reload_that_is_refused_changes_nothing(run: Run, bases: Bases) -> None:
    bases.add("a", 1)

    async def scenario(world: Any) -> None:
        await world.manager.follow(bases.source("a"))
        await world.loads.make(1, "a")
        await world.until_answers(1, "a")
        for new, code, message in [
            (bases.config("b", "b"), Code.INVALID_ARGUMENT, "Illegal to list model b"),
            (bases.config("b", f"a {label('x', 2)}"), Code.FAILED_PRECONDITION, "version 2 of"),
            (
                model_server_config_pb2.ModelServerConfig(),
                Code.INVALID_ARGUMENT,
                "ServerModelConfig type not supported by HandleReloadConfigRequest. Only "
                "ModelConfigList is currently supported",
            ),
        ]:
            with pytest.raises(ServingError, match=message) as caught:
                await world.manager.reload(new)
            assert caught.value.code == code
        assert world.manager.names() == ("a",)
        assert world.answers("a") == 1
        await world.manager.reload(bases.config(f"a {label('x', 1)}"))
        assert world.answers("a", label="x") == 1

    run(scenario)


def test_a_label_may_name_what_is_not_loaded_yet_if_it_is_allowed_and_new(
    run: Run, bases: Bases
) -> None:
    bases.add("a", 1)

    async def scenario(world: Any) -> None:
        world.loads.at_once = True
        source = bases.source(
            f"a {label('stable', 1)}", allow_version_labels_for_unavailable_models=True
        )
        await world.manager.follow(source)
        await world.until(lambda: world.answers("a", label="stable") == 1)
        with pytest.raises(ServingError, match="not currently available for inference"):
            await world.manager.reload(bases.config(f"a {label('stable', 2)}"))
        bases.add("a", 2)
        await world.until_answers(2, "a")
        await world.manager.reload(bases.config(f"a {label('stable', 2)}"))
        assert world.answers("a", label="stable") == 2

    run(scenario)


def test_a_client_that_goes_away_leaves_no_half_done_reload(run: Run, bases: Bases) -> None:
    bases.add("a", 1)
    bases.add("b", 1)

    async def scenario(world: Any) -> None:
        world.loads.at_once = True
        await world.manager.follow(bases.source("a"))
        reloading = asyncio.create_task(world.manager.reload(bases.config("b")))
        await asyncio.sleep(0)
        reloading.cancel()
        await world.until_answers(1, "b")
        await world.until_state(1, "END", "a")

    run(scenario)


def test_a_base_path_that_hangs_holds_up_no_other_model(
    run: Run, bases: Bases, monkeypatch: pytest.MonkeyPatch
) -> None:
    bases.add("a", 1)
    bases.add("b", 1)
    let_go, wanted = threading.Event(), BasePath.wanted

    def hangs(base: BasePath) -> dict[int, str]:
        if base.model == "a":
            let_go.wait(30)
        return wanted(base)

    async def scenario(world: Any) -> None:
        world.loads.at_once = True
        await world.manager.follow(bases.source("b"))
        await world.until_answers(1, "b")
        monkeypatch.setattr(BasePath, "wanted", hangs)
        reloading = asyncio.create_task(world.manager.reload(bases.config("a", "b")))
        bases.add("b", 2)
        await world.until_answers(2, "b")
        let_go.set()
        await reloading
        assert world.answers("a") == 1

    run(scenario)


def test_the_file_is_read_at_the_start_and_followed_if_asked_for(
    run: Run, bases: Bases, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bases.add("a", 1)
    bases.add("b", 1)
    file = tmp_path / "models.config"
    file.write_text(bases.text("a"))

    async def scenario(world: Any) -> None:
        world.loads.at_once = True
        source = ConfigSource(quick(model_config_file_poll_wait_seconds=0.01), file=str(file))
        await world.manager.follow(source)
        await world.until_answers(1, "a")
        file.write_text(bases.text("a", "b"))
        await world.until_answers(1, "b")
        file.write_text("model_config_list { oh }")
        await world.until(lambda: "models.config:1" in caplog.text)
        file.write_text("")
        await world.quiet()
        assert (world.answers("a"), world.answers("b")) == (1, 1)
        file.write_text(bases.text("b"))
        await world.until(lambda: world.answers("a") is None)

    run(scenario)
    assert sum("models.config:1" in line for line in caplog.messages) == 1


def test_the_file_is_not_followed_unless_asked_for(run: Run, bases: Bases, tmp_path: Path) -> None:
    bases.add("a", 1)
    file = tmp_path / "models.config"
    file.write_text(bases.text("a"))

    async def scenario(world: Any) -> None:
        world.loads.at_once = True
        await world.manager.follow(ConfigSource(quick(), file=str(file)))
        await world.until_answers(1, "a")
        file.write_text(bases.text("b"))
        world.manager.poke()
        await world.quiet()
        assert world.manager.names() == ("a",)

    run(scenario)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "cannot be read"),
        ("model_config_list { config { name: 1 } }", "models.config:1: not a ModelServerConfig"),
        (
            'model_config_list {\n config { name: "a" base_path: "a" } }',
            "models.config:2: Expected model a to have an absolute path",
        ),
    ],
)
def test_a_file_that_cannot_be_served_stops_the_start_with_one_line(
    run: Run, tmp_path: Path, text: str | None, says: str
) -> None:
    file = tmp_path / "models.config"
    if text is not None:
        file.write_text(text)

    async def scenario(world: Any) -> None:
        with pytest.raises(ConfigError, match=says):
            await world.manager.follow(ConfigSource(quick(), file=str(file)))

    run(scenario)


def test_an_empty_file_serves_nothing_and_can_be_filled_later(
    run: Run, bases: Bases, tmp_path: Path
) -> None:
    bases.add("a", 1)
    file = tmp_path / "models.config"
    file.write_text("# soon\n")

    async def scenario(world: Any) -> None:
        world.loads.at_once = True
        source = ConfigSource(quick(model_config_file_poll_wait_seconds=0.01), file=str(file))
        await world.manager.follow(source)
        assert world.manager.ready() == (False, "no model is known yet")
        file.write_text(bases.text("a"))
        await world.until_answers(1, "a")

    run(scenario)


def test_a_base_path_that_is_a_release_directory_is_served_as_its_labels_say(
    run: Run, bases: Bases, make_model: MakeModel
) -> None:
    releases = ReleaseDirectory(bases.root, "taxi")
    for content in "ab":
        releases.push(PushRequest(make_model(content)))

    async def scenario(world: Any) -> None:
        world.loads.at_once = True
        await world.manager.follow(bases.source("taxi"))
        await world.until(lambda: world.answers("taxi", label="stable") == 2)
        releases.set_label("stable", 1, by="ada", reason="complaints")
        await world.until_answers(1, "taxi")
        assert world.answers("taxi", label="stable") == 1
        assert world.loads.begun[0].release

    run(scenario)


def test_a_base_path_that_was_a_release_directory_stays_one_when_its_labels_are_lost(
    run: Run, bases: Bases, make_model: MakeModel
) -> None:
    releases = ReleaseDirectory(bases.root, "taxi")
    for content in "ab":
        releases.push(PushRequest(make_model(content)))
    releases.set_label("stable", 1, by="ada", reason="complaints")

    async def scenario(world: Any) -> None:
        world.loads.at_once = True
        await world.manager.follow(bases.source("taxi"))
        await world.until_answers(1, "taxi")
        (releases.path / "labels.json").unlink()
        await world.until(lambda: "labels.json is gone" in world.manager.ready()[1])
        await world.quiet()
        assert world.answers("taxi") == world.answers("taxi", label="stable") == 1

    run(scenario)


def test_what_a_configuration_says_of_a_release_directory_counts_more(
    run: Run, bases: Bases, make_model: MakeModel
) -> None:
    releases = ReleaseDirectory(bases.root, "taxi")
    for content in "ab":
        releases.push(PushRequest(make_model(content)))

    async def scenario(world: Any) -> None:
        world.loads.at_once = True
        await world.manager.follow(bases.source(f"taxi {both(1)}"))
        await world.until_answers(1, "taxi")
        assert world.states("taxi") == {1: "AVAILABLE"}

    run(scenario)
