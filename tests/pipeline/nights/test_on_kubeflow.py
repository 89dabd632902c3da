"""The nightly pipeline compiled for Kubeflow gives the records that `encore nightly` gives."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tfx_encore.components.night_recorder.recording import content_of
from tfx_encore.kubeflow import entrypoint
from tfx_encore.metadata.night_store import NightStore
from tfx_encore.pipeline.config import load_config
from tfx_encore.schemas.nights import NightRecord

ROOT = Path(__file__).parents[3]
FIRST, SECOND, THIRD, EMPTY = "2016-01-11", "2016-01-12", "2016-01-13", "2016-01-14"

pytestmark = pytest.mark.slow


Run = Callable[..., Any]


def without_run(record: NightRecord) -> NightRecord:
    """A record without what differs from run to run."""
    return replace(content_of(record), run_id="")


def store_of(folder: Path) -> NightStore:
    return NightStore(folder / ".encore" / "releases", "taxi")


@pytest.fixture(scope="module")
def cluster(evaluated: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's folder as a volume of a cluster: released, logged, no night recorded."""
    folder = tmp_path_factory.mktemp("cluster") / "encore"
    shutil.copytree(evaluated.folder, folder)
    shutil.rmtree(folder / ".encore" / "releases" / "taxi" / "nights")
    return folder


@pytest.fixture(scope="module")
def run(cluster: Path, load_module: Any, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs the compiled nightly pipeline, every task from its specification."""
    from tfx_encore.kubeflow.compiling import compile_project
    from tfx_encore.kubeflow.target import Target, Volume

    backends = load_module(ROOT / "tests/kubeflow/backend.py")
    place = tmp_path_factory.mktemp("backend")
    target = Target("registry.example/encore:1", (Volume("encore", str(cluster)),))
    config = load_config(cluster / "encore.yaml")
    (compiled,) = compile_project(["nightly"], config, cluster / "taxi.pbtxt", target, place)
    local = place / "container"

    def container(image: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        assert (image, environment) == ("registry.example/encore:1", {})
        assert entrypoint.main(command[3:]) == 0

    def once(scheduled_at: str | None = None, **parameters: Any) -> Any:
        backend = backends.Backend(
            compiled.package.pipeline, place / "bucket", local, container,
            scheduled_at=scheduled_at,
        )  # fmt: skip
        with pytest.MonkeyPatch.context() as patch:
            for scheme, folder in list(entrypoint._LOCAL.items()):
                patch.setitem(entrypoint._LOCAL, scheme, f"{local}{folder}")
            return backend.run(parameters)

    return once


@pytest.fixture(scope="module")
def nights(run: Run) -> dict[str, Any]:
    """The three nights, evaluated out of order: the first one last."""
    return {date: run(date=date) for date in (SECOND, THIRD, FIRST)}


def test_each_night_has_the_record_that_the_local_command_gives(
    evaluated: Any, cluster: Path, nights: Any
) -> None:
    here, there = store_of(evaluated.folder), store_of(cluster)
    assert there.dates() == (FIRST, SECOND, THIRD)
    for date in there.dates():
        assert without_run(there.record(date)) == without_run(here.record(date))


def test_nights_after_one_that_came_late_were_judged_again(cluster: Path, nights: Any) -> None:
    store = store_of(cluster)
    assert [store.record(date).revision for date in (FIRST, SECOND, THIRD)] == [1, 2, 2]


def test_a_record_carries_the_id_of_the_run_on_kubeflow(cluster: Path, nights: Any) -> None:
    assert store_of(cluster).record(FIRST).run_id == "0f8fad5b-d9cb-469f-a165-70867728950e"


def test_a_run_without_a_date_takes_the_newest_day_without_a_record(
    encore: Any, evaluated: Any, run: Run, cluster: Path, nights: Any, tmp_path: Path
) -> None:
    done = run(scheduled_at="2016-01-15T03:00:00Z", date="open")
    assert done["NightPlanner"].parameters["planned_date"] == EMPTY
    local = tmp_path / "local"
    shutil.copytree(evaluated.folder, local)
    from tfx_encore.pipeline.commands.options import open_project
    from tfx_encore.pipeline.nightly import run_nights

    class Quiet:
        def __getattr__(self, name: str) -> Any:
            return lambda *given, **more: None

    run_nights(open_project(str(local / "encore.yaml")), None, Quiet(), today="2016-01-15")
    there, here = store_of(cluster).record(EMPTY), store_of(local).record(EMPTY)
    assert without_run(there) == without_run(here)
