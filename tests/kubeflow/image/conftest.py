"""The component image, built once for all the tests that need it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(Path(__file__).parent))

from image_pods import PLANTED, Engine  # noqa: E402 - found by the line above

TAG = "localhost/tfx-encore:tests"
# What tools/bootstrap chose for this machine: the spec is compiled with it, so tasks run with it.
_STAMP = (ROOT / ".venv/.encore-bootstrap").read_text(encoding="utf-8")
_SET = "tfx116-py310" if " TFX 1.16 " in _STAMP else "tfx121-py311-py313"
_REQUIREMENTS = f"requirements/{_SET}.txt"
_INPUTS = "org.tfx-encore.inputs"


@dataclass(frozen=True)
class Image:
    """The built image, and the file of requirements that it was built from."""

    tag: str
    engine: Engine
    requirements: Path


@pytest.fixture(scope="session")
def root() -> Path:
    """The top folder of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def engine(cannot: Callable[[str], NoReturn]) -> Engine:
    """podman, where this machine can run containers; else the test says why not."""
    engine = Engine(ROOT / "tools/podman")
    why_not = engine("--why-not")
    reason = (why_not.stdout + why_not.stderr).strip()
    if reason:
        message = f"this machine cannot run containers: {reason}"
        if "not installed" in reason:
            cannot(message)
        pytest.skip(message)
    return engine


@pytest.fixture(scope="session")
def image(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The image, built by tools/image on stand-ins of the public bases, unless it is there."""
    with (ROOT / ".cache/image-tests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        inputs = _digest()
        found = engine("image", "inspect", "--format", f'{{{{index .Labels "{_INPUTS}"}}}}', TAG)
        if found.stdout.strip() != inputs:
            _build(tmp_path_factory.mktemp("packages") / PLANTED, inputs)
    return Image(TAG, engine, ROOT / _REQUIREMENTS)


def _build(planted: Path, inputs: str) -> None:
    planted.mkdir()
    environment = dict(os.environ)
    environment["PIP_FIND_LINKS"] = f"{environment.get('PIP_FIND_LINKS', '')} {planted}".strip()
    arguments = _run(["tools/container-base"], environment).split()
    arguments.append(f"REQUIREMENTS={_REQUIREMENTS}")
    options = [f"--build-arg={argument}" for argument in arguments]
    options += ["--layers=false", f"--label={_INPUTS}={inputs}"]
    _run(["tools/image", "--engine", "tools/podman", "--tag", TAG, *options], environment)
    # The one that had the name before takes as much room.
    _run(["tools/podman", "image", "prune", "--force"], environment)


def _run(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def _digest() -> str:
    """Of everything that the image is made from."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *_sources()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    whole = hashlib.sha256()
    for name in sorted({*listed} - {""}):
        if (ROOT / name).is_file():
            whole.update(name.encode() + hashlib.sha256((ROOT / name).read_bytes()).digest())
    return whole.hexdigest()[:32]


def _sources() -> list[str]:
    """What the Containerfile copies from the checkout, and what builds and feeds it."""
    text = (ROOT / "kubeflow/image/Containerfile").read_text(encoding="utf-8")
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
    names = {name for line in copied for name in line.split() if "$" not in name}
    return sorted({*names, _REQUIREMENTS, "tools/container-base", "tools/image", "kubeflow"})
