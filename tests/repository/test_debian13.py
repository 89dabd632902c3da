"""tools/debian13 where it cannot work: it says why, and what can be done. Where it can, see
tests/versions/."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


@pytest.fixture
def checkout(root: Path, tmp_path: Path) -> Path:
    """The tools beside a machine that could do it all, as far as they can see."""
    shutil.copytree(root / "tools", tmp_path / "tools")
    for name, body in {
        "id": "case $1 in -u) echo 0;; *) echo root;; esac",
        "uname": "echo Linux x86_64",
        "unshare": "exit 0",
        "debootstrap": "exit 0",
        "apt-get": "exit 100",
    }.items():
        _program(tmp_path, name, body)
    return tmp_path


def _program(checkout: Path, name: str, body: str) -> None:
    path = checkout / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/bash\n{body}\n")
    path.chmod(0o755)


def _run(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [checkout / "tools/debian13", *arguments],
        env={"PATH": f"{checkout}/bin:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_machine_that_can_is_told_nothing_and_nothing_is_made(checkout: Path) -> None:
    run = _run(checkout, "--check")
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert not (checkout / ".cache").exists()


@pytest.mark.parametrize(
    ("program", "body", "message"),
    [
        ("id", "case $1 in -u) echo 1000;; *) echo jo;; esac", "needs root, to mount"),
        ("unshare", "exit 1", "CAP_SYS_ADMIN"),
        ("uname", "echo Linux aarch64", "this machine is Linux aarch64"),
    ],
)
def test_what_the_machine_lacks_is_said(
    checkout: Path, program: str, body: str, message: str
) -> None:
    _program(checkout, program, body)
    run = _run(checkout, "make", "run")
    assert run.returncode == 1
    assert run.stderr.startswith("tools/debian13: ")
    assert message in run.stderr


def test_a_failing_debootstrap_shows_what_it_said(checkout: Path) -> None:
    _program(checkout, "unshare", 'shift; [ "$1" = --pid ] || exec "$@"')
    _program(checkout, "debootstrap", "echo E: no such suite; exit 1")
    run = _run(checkout, "make", "run")
    assert run.returncode == 1
    assert "E: no such suite" in run.stderr
    assert "debootstrap failed" in run.stderr
    assert not (checkout / ".cache/debian13/root").exists()


def test_without_a_command_its_use_is_said(checkout: Path) -> None:
    run = _run(checkout)
    assert run.returncode == 1
    assert "tools/debian13 [--fresh] COMMAND..." in run.stderr
