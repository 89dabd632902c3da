"""tools/image and tools/podman: what they ask of the engine, and what they say without one."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

INDEX = "https://packages.planted.example/simple"
PROXY = "http://proxy.planted.example:3128"
# Writes down its arguments, and copies the secrets that it is given: they are gone afterwards.
FAKE = """#!/bin/sh
printf '%s\\n' "$@" > "$0.arguments"
for word; do case $word in id=pip,src=*) cat "${word#id=pip,src=}" > "$0.secret" ;; esac; done
"""


@pytest.fixture
def engine(tmp_path):
    """Makes an engine of a name that builds nothing."""

    def make(name: str) -> Path:
        file = tmp_path / name
        file.write_text(FAKE)
        file.chmod(0o755)
        return file

    return make


def _build(root: Path, engine: Path, *options: str, **environment: str) -> list[str]:
    settings = {"PIP_INDEX_URL": INDEX, "UV_CACHE_DIR": str(engine.parent / "uv"), **environment}
    done = subprocess.run(
        [root / "tools/image", "--engine", engine, *options],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Path(f"{engine}.arguments").read_text().splitlines()


@pytest.mark.parametrize("name", ["podman", "buildah", "docker"])
def test_an_index_is_told_as_a_secret_and_as_nothing_else(root, engine, name) -> None:
    program = engine(name)
    arguments = _build(root, program)
    assert f"PIP_INDEX_URL={INDEX}" in Path(f"{program}.secret").read_text().splitlines()
    assert not any("planted" in argument for argument in arguments)
    (secret,) = (word for word in arguments if word.startswith("id=pip,"))
    assert not Path(secret.partition("src=")[2]).exists(), "the secret outlives the build"


def test_a_folder_of_packages_is_mounted_read_only_where_that_can_be(
    root, engine, tmp_path
) -> None:
    folder = tmp_path / "wheels"
    folder.mkdir()
    mount = f"{folder}:{folder}:ro"
    assert mount in _build(root, engine("podman"), PIP_FIND_LINKS=str(folder))
    assert mount not in _build(root, engine("docker"), PIP_FIND_LINKS=str(folder))


def test_docker_is_told_of_a_proxy_by_name_only(root, engine) -> None:
    arguments = _build(root, engine("docker"), HTTPS_PROXY=PROXY)
    assert "HTTPS_PROXY" in arguments
    assert not any("planted" in argument for argument in arguments)


def test_further_options_go_to_the_engine(root, engine) -> None:
    base = "BASE=docker.io/library/python@sha256:0"
    arguments = _build(root, engine("podman"), "--tag", "a/b:1", "--build-arg", base)
    assert arguments[0] == "build"
    assert arguments[arguments.index("--tag") + 1] == "a/b:1"
    assert base in arguments


def test_without_podman_it_is_said_in_one_line(root, tmp_path) -> None:
    for name in ("bash", "dirname", "env", "printf", "sha256sum", "cut"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    done = subprocess.run(
        [root / "tools/podman", "--why-not"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 125
    assert done.stderr == "podman is not installed; tools/services slow installs it\n"
