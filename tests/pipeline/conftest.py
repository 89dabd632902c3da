"""Projects to run the command in: made once a session, copied by tests that change them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pytest
import yaml

from tfx_encore.pipeline.taxi.data import shipped_csv, write_spans

ROOT = pathlib.Path(__file__).parents[2]
ENCORE = str(pathlib.Path(sys.executable).parent / "encore")


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def run_encore(
    folder: pathlib.Path, *arguments: str, timeout: float = 400, **environment: str
) -> Finished:
    done = subprocess.run(
        [ENCORE, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, "COLUMNS": "120", **environment},
    )
    return Finished(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def encore() -> Callable[..., Finished]:
    """Runs `encore ARGUMENTS` in a folder."""
    return run_encore


def write_taxi_project(folder: pathlib.Path) -> pathlib.Path:
    """The taxi example as a project of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    config = yaml.safe_load((ROOT / "encore.yaml").read_text(encoding="utf-8"))
    config["data"]["schema"] = "taxi.pbtxt"
    shutil.copy(ROOT / "schemas" / "taxi.pbtxt", folder)
    (folder / "encore.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    write_spans(shipped_csv(), folder / ".encore" / "data")
    return folder


@pytest.fixture
def taxi_project(tmp_path: pathlib.Path) -> pathlib.Path:
    """A taxi project in which nothing has run yet."""
    return write_taxi_project(tmp_path / "taxi")


@dataclass(frozen=True)
class Released:
    """The taxi project after the main job, its two releases, and what the command said."""

    folder: pathlib.Path
    run: Finished

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keeps the other workers of the session from copying the folder meanwhile."""
        with self.folder.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def copy_to(self, folder: pathlib.Path) -> pathlib.Path:
        """Copies the project to a folder that is not there yet; returns it."""
        with self.alone():
            return pathlib.Path(shutil.copytree(self.folder, folder))


def _release(folder: pathlib.Path) -> dict[str, Any]:
    """The main job in a new project; what the command said."""
    write_taxi_project(folder)
    return asdict(run_encore(folder, "run", "--all-spans", timeout=900))


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory) -> Released:
    """The main job, once a session. Do not change the folder."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, said = shared / "released-taxi", shared / "released-taxi.json"
    # Workers of one session share it: the first makes it, the others wait.
    with (shared / "released-taxi.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not said.exists():
            try:
                said.write_text(json.dumps(_release(folder)))
            except BaseException as error:
                # Minutes are lost once, not once for each test that asks for it.
                said.write_text(json.dumps({"failed": repr(error)}))
                raise
    told = json.loads(said.read_text())
    if "failed" in told:
        pytest.fail(f"the releases could not be made: {told['failed']}", pytrace=False)
    run = Finished(**told)
    assert run.code == 0, run.out + run.err
    return Released(folder, run)


@pytest.fixture
def released_copy(released: Released, tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of the released project that a test may change."""
    return released.copy_to(tmp_path / "taxi")
