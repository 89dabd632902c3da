"""The release pipeline and the component tests on TFX 1.21, in a Debian 13 root (tools/debian13).

A machine may lack what the tool needs, root and the right to mount; then these are skipped with the
reason. Where only debootstrap is missing, they fail with it in continuous integration.
The whole suite: `make test-tfx-1.21`.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools/debian13"
# What runs pipelines, Beam, TensorFlow and the compiler for Kubeflow.
SUITES = ["tests/components", "tests/kubeflow", "tests/cache/test_tf_example.py"]
# The manifests name no TFX, and the image is built of the host's.
ELSEWHERE = ["--ignore=tests/kubeflow/manifests", "--ignore=tests/kubeflow/image"]


def _has_new_glibc() -> bool:
    name = os.confstr("CS_GNU_LIBC_VERSION") or "glibc 0.0"
    return tuple(map(int, re.findall(r"\d+", name)[:2])) >= (2, 39)


pytestmark = [
    pytest.mark.slow,
    pytest.mark.service("debootstrap"),
    pytest.mark.timeout(2400),  # alone on two cores it takes a fifth of that
    pytest.mark.skipif(_has_new_glibc(), reason="here the whole suite runs on TFX 1.21"),
]


@pytest.fixture(autouse=True, scope="module")
def _the_machine_can(cannot: Callable[[str], NoReturn]) -> None:
    check = subprocess.run([TOOL, "--check"], capture_output=True, text=True, check=False)
    if check.returncode == 0:
        return
    if "debootstrap is missing" in check.stderr:
        cannot(check.stderr)
    pytest.skip(check.stderr)


def _in_root(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([TOOL, *command], capture_output=True, text=True, check=False)


def test_a_fresh_clone_makes_its_two_releases_on_debian_13() -> None:
    run = _in_root("--fresh", "make", "run")
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    assert re.search(r"==> TFX 1\.21 on Python 3\.1[123], the newest; glibc 2\.\d+", run.stderr)
    assert "version 2 pushed" in run.stdout


def test_the_component_tests_pass_on_tfx_1_21() -> None:
    assert _in_root("tools/bootstrap", "dev").returncode == 0
    chosen = ["-m", "not slow", "-n", "2", "--dist", "loadfile", "-q", *ELSEWHERE, *SUITES]
    run = _in_root(".venv/bin/pytest", *chosen)
    end = run.stdout.strip().splitlines()[-1]
    assert run.returncode == 0, run.stdout[-6000:]
    assert int(re.findall(r"(\d+) passed", end)[0]) > 100
    assert not re.search(r"skipped|failed|error", end)


def test_the_root_has_the_files_that_git_would_commit() -> None:
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    here = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    there = _in_root("git", "ls-files")
    assert {n for n in here.splitlines() if (ROOT / n).exists()} == set(there.stdout.splitlines())
    assert _in_root("git", "status", "--porcelain").stdout == ""


def test_the_end_of_a_command_is_its_own() -> None:
    assert _in_root("sh", "-c", "exit 7").returncode == 7


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_command_leaves_no_process_and_no_mount(number: signal.Signals) -> None:
    mark = f"sleep {10_000 + os.getpid()}.{int(number)}"
    tool = subprocess.Popen([TOOL, *mark.split()])
    _wait_until(lambda: mark in _processes())
    tool.send_signal(number)
    tool.wait(timeout=30)
    _wait_until(lambda: mark not in _processes())
    assert "debian13" not in Path("/proc/mounts").read_text()


def _processes() -> str:
    lines = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes().rstrip(b"\0").split(b"\0")
        except OSError:
            continue  # it has just ended
        if words[0] == b"sleep":
            lines.append(b" ".join(words).decode())
    return "\n".join(lines)


def _wait_until(condition) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
