"""Pipelines compiled once, a fake API server, and the command run in this process."""

from __future__ import annotations

import copy
import pathlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

from tfx_encore.kubeflow.spec_package import Package, read_package, write_package

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
IMAGE = "registry.example/encore:1.4"


@pytest.fixture(scope="session")
def fake(load_module: Callable[[pathlib.Path], ModuleType]) -> ModuleType:
    """fake_server.py."""
    return load_module(HERE / "fake_server.py")


@pytest.fixture(scope="session")
def backend(load_module: Callable[[pathlib.Path], ModuleType]) -> ModuleType:
    """backend.py."""
    return load_module(HERE / "backend.py")


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Package]:
    """The taxi example's pipelines, compiled. Do not change them."""
    from tfx_encore.kubeflow.compiling import KINDS, compile_project
    from tfx_encore.kubeflow.target import Amounts, SecretVariable, Target, Volume
    from tfx_encore.pipeline.config import load_config

    target = Target(
        image=IMAGE,
        volumes=(Volume("encore-releases", "/encore"), Volume("request-log", "/logs")),
        secrets=(SecretVariable("encore-keys", "request-log", "ENCORE_KEY"),),
        pull_secrets=("registry",),
        cpu=Amounts(0.5),
        memory=Amounts(None, {"Trainer": 4 * 2**30}),
    )
    output = tmp_path_factory.mktemp("compiled")
    config = load_config(ROOT / "encore.yaml")
    schema = ROOT / "schemas" / "taxi.pbtxt"
    done = compile_project(KINDS, config, schema, target, output)
    return {each.kind: each.package for each in done}


@pytest.fixture
def package(compiled: dict[str, Package]) -> Callable[[str], Package]:
    """A copy of a compiled pipeline that a test may spoil."""
    return lambda kind="release": copy.deepcopy(compiled[kind])


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def run_command() -> Callable[..., Ended]:
    """Runs `encore kubeflow ARGUMENTS` in this process, with its errors as `encore` shows them."""
    from tfx_encore.kubeflow.commands import kubeflow
    from tfx_encore.schemas.errors import EncoreError

    def run(*arguments: str) -> Ended:
        done = CliRunner().invoke(kubeflow, list(arguments))
        if isinstance(done.exception, EncoreError):
            return Ended(done.exception.exit_code, done.stdout, f"encore: {done.exception}")
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Ended(done.exit_code, done.stdout, done.stderr)

    return run


@pytest.fixture
def server(fake: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, str]]:
    """A fake API server: what it holds, and its URL."""
    for name in ("KF_PIPELINES_ENDPOINT", "ENCORE_KUBEFLOW_TOKEN", "KF_PIPELINES_SA_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    content = fake.Content()
    with fake.serving(content) as url:
        yield content, url


@pytest.fixture(scope="session")
def files(compiled: dict[str, Package], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Kind -> file of the compiled pipeline."""
    folder = tmp_path_factory.mktemp("files")
    paths = {kind: folder / f"{kind}.yaml" for kind in compiled}
    for kind, path in paths.items():
        write_package(compiled[kind], path)
        assert read_package(path) == compiled[kind]
    return {kind: str(path) for kind, path in paths.items()}
