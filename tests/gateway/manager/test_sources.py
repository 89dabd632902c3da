"""Base paths that are followed while versions appear, change and go."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tfx_encore.gateway.errors import Code, ServingError
from tfx_encore.gateway.models.config_source import ConfigSource, SourcePolicy
from tfx_encore.gateway.models.model_config import single_model
from tfx_encore.gateway.models.sources import BasePath, Watch
from tfx_encore.gateway.models.version_policy import VersionPolicy

Run = Callable[..., Any]
MakeModel = Callable[[str], Path]


def follow(world: Any, base: Path, **policy: Any) -> Any:
    """Follows one base path, looking a hundred times a second."""
    settings = SourcePolicy(**{"file_system_poll_wait_seconds": 0.01, **policy})
    return world.manager.follow(ConfigSource(settings, config=single_model("m", str(base))))


def test_versions_are_followed_as_they_come_and_go(
    run: Run, tmp_path: Path, make_model: MakeModel
) -> None:
    base = tmp_path / "m"

    async def scenario(world: Any) -> None:
        world.loads.at_once = True
        shutil.copytree(make_model("a"), base / "1")
        await follow(world, base)
        await world.until_answers(1)
        shutil.copytree(make_model("b"), base / "2")
        await world.until_answers(2)
        await world.until_state(1, "END")
        shutil.rmtree(base / "2")
        await world.until_answers(1)
        await world.until_state(2, "END")
        assert world.loads.begun[0].path == f"{base}/1"
        assert not world.loads.begun[0].release

    run(scenario)


def test_a_base_path_that_is_emptied_is_unloaded(
    run: Run, tmp_path: Path, make_model: MakeModel
) -> None:
    base = tmp_path / "m"

    async def scenario(world: Any) -> None:
        world.loads.at_once = True
        shutil.copytree(make_model("a"), base / "1")
        await follow(world, base)
        await world.until_answers(1)
        (base / "1").rename(base / "old")
        await world.until_state(1, "END")
        assert world.answers() is None
        assert world.manager.ready() == (False, "m: no version is there to be served")

    run(scenario)


def test_a_base_path_that_vanishes_takes_nothing_with_it(
    run: Run, tmp_path: Path, make_model: MakeModel, caplog: pytest.LogCaptureFixture
) -> None:
    base = tmp_path / "m"

    async def scenario(world: Any) -> None:
        world.loads.at_once = True
        shutil.copytree(make_model("a"), base / "1")
        await follow(world, base)
        await world.until_answers(1)
        base.rename(tmp_path / "elsewhere")
        await world.until(lambda: world.manager.ready()[1] != "")
        says = f"Could not find base path {base} for servable m with error NOT_FOUND: {base} not"
        assert says in world.manager.ready()[1]
        assert world.manager.ready()[0]
        await world.quiet()
        assert world.answers() == 1
        (tmp_path / "elsewhere").rename(base)
        await world.until(lambda: world.manager.ready() == (True, ""))

    run(scenario)
    assert sum("source problem model=m" in line for line in caplog.messages) == 1


def test_a_base_path_that_is_not_there_yet_is_waited_for(
    run: Run, tmp_path: Path, make_model: MakeModel
) -> None:
    base = tmp_path / "m"

    async def scenario(world: Any) -> None:
        world.loads.at_once = True
        await follow(world, base)
        is_ready, says = world.manager.ready()
        assert not is_ready
        assert f"Could not find base path {base}" in says
        shutil.copytree(make_model("a"), base / "1")
        await world.until_answers(1)

    run(scenario)


def test_a_base_path_without_versions_can_be_refused(run: Run, tmp_path: Path) -> None:
    async def scenario(world: Any) -> None:
        with pytest.raises(ServingError) as caught:
            await follow(world, tmp_path / "m", fail_if_no_model_versions_found=True)
        assert caught.value.code == Code.INVALID_ARGUMENT
        assert caught.value.message.startswith(f"Could not find base path {tmp_path}/m for")
        (tmp_path / "m").mkdir()
        with pytest.raises(ServingError) as caught:
            await follow(world, tmp_path / "m", fail_if_no_model_versions_found=True)
        assert caught.value.code == Code.NOT_FOUND
        assert caught.value.message == (
            f"Unable to find a numerical version path for servable m at: {tmp_path}/m"
        )

    run(scenario)


def test_a_half_copied_version_is_loaded_when_the_copy_is_done(
    run: Run, tmp_path: Path, make_model: MakeModel
) -> None:
    base, whole = tmp_path / "m", make_model("b")

    async def scenario(world: Any) -> None:
        shutil.copytree(make_model("a"), base / "1")
        await follow(world, base)
        await world.loads.make(1)
        await world.until_answers(1)
        (base / "2" / "variables").mkdir(parents=True)
        await world.loads.until(2)
        world.loads.fail(2)  # there is no graph in it yet
        await world.until_state(2, "END")
        assert world.status(2).code == Code.NOT_FOUND
        await asyncio.sleep(0.05)
        assert world.loads.versions() == [1, 2]  # nothing has changed, nothing is tried
        assert world.answers() == 1
        world.loads.at_once = True
        shutil.copytree(whole, base / "2", dirs_exist_ok=True)
        await world.until_answers(2)
        await world.until_state(1, "END")

    run(scenario)


def test_a_copy_that_goes_on_is_not_loaded_again_and_again(
    run: Run, tmp_path: Path, make_model: MakeModel
) -> None:
    base = tmp_path / "m"

    async def scenario(world: Any) -> None:
        (base / "1").mkdir(parents=True)
        source = ConfigSource(
            SourcePolicy(file_system_poll_wait_seconds=0), config=single_model("m", str(base))
        )
        await world.manager.follow(source)
        await world.loads.until(1)
        world.loads.fail(1)
        await world.until_state(1, "END")

        async def look() -> None:
            await source._sources["m"].look()

        for size in range(1, 6):
            (base / "1" / "saved_model.pb").write_text("x" * size)
            await look()
        await world.quiet()
        assert world.loads.versions() == [1]
        await look()
        await world.loads.make(1)
        await world.until_answers(1)

    run(scenario)


def test_looking_once_means_once_and_a_poke_looks_again(
    run: Run, tmp_path: Path, make_model: MakeModel
) -> None:
    base = tmp_path / "m"

    async def scenario(world: Any) -> None:
        world.loads.at_once = True
        shutil.copytree(make_model("a"), base / "1")
        await follow(world, base, file_system_poll_wait_seconds=0)
        await world.until_answers(1)
        shutil.copytree(make_model("b"), base / "2")
        await world.quiet()
        assert world.answers() == 1
        world.manager.poke()
        await world.until_answers(2)

    run(scenario)


def test_a_negative_pause_means_never(run: Run, tmp_path: Path, make_model: MakeModel) -> None:
    async def scenario(world: Any) -> None:
        shutil.copytree(make_model("a"), tmp_path / "m" / "1")
        await follow(world, tmp_path / "m", file_system_poll_wait_seconds=-1)
        await world.quiet()
        assert world.loads.begun == []
        assert world.manager.ready() == (False, "m: no version is there to be served")

    run(scenario)


def test_what_is_odd_about_a_base_path_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("1", "001", "7.evidence"):
        (tmp_path / name).mkdir()
    base = BasePath("m", str(tmp_path), VersionPolicy(kind="specific", versions=(1, 5)))
    for _ in range(3):
        assert base.wanted() == {1: f"{tmp_path}/1"}
    assert [line.partition(": ")[2] for line in caplog.messages] == [
        "directory 001 is ignored: another one means the same",
        "version 5 is to be served, but is not there",
    ]
    shutil.rmtree(tmp_path / "1")
    shutil.rmtree(tmp_path / "001")
    assert base.wanted() == {}
    assert caplog.messages[-1].endswith("no directory is named by a number, as 1")


def test_a_look_that_fails_is_not_the_last_one(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        looks = 0

        async def look() -> None:
            nonlocal looks
            looks += 1
            raise ZeroDivisionError

        watch = Watch(look, 0.001, "here")
        await watch.start()
        while looks < 3:
            await asyncio.sleep(0.001)
        await watch.close()
        seen = looks
        await asyncio.sleep(0.01)
        assert looks == seen

    asyncio.run(asyncio.wait_for(scenario(), 30))
    assert "look failed at=here" in caplog.text
