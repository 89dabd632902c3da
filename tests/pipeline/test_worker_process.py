"""The process that runs the pipeline: its death is a message, and it never outlives the command."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import time

ENCORE = str(pathlib.Path(sys.executable).parent / "encore")


def _start(folder: pathlib.Path) -> subprocess.Popen:
    return subprocess.Popen(
        [ENCORE, "run", "--span", "1"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "120"},
    )


def _worker_of(command: subprocess.Popen) -> int:
    """The worker's process id, as soon as there is one."""
    children = pathlib.Path(f"/proc/{command.pid}/task/{command.pid}/children")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for child in children.read_text().split():
            if b"tfx_encore.pipeline.worker" in pathlib.Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
        time.sleep(0.05)
    raise AssertionError("no worker was started")


def _is_running(process: int) -> bool:
    try:
        state = pathlib.Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_worker_that_is_killed_is_said_to_be_with_the_log(taxi_project):
    command = _start(taxi_project)
    os.kill(_worker_of(command), signal.SIGKILL)
    _, said = command.communicate(timeout=60)
    assert command.returncode == 1
    assert "was killed (out of memory?)" in said
    log = pathlib.Path(said.rsplit("full log: ", 1)[1].strip().rstrip(")"))
    assert log.is_file()
    assert len(said.strip().splitlines()) == 1


def _assert_interrupted_by(number: signal.Signals, folder: pathlib.Path) -> None:
    command = _start(folder)
    worker = _worker_of(command)
    command.send_signal(number)
    _, said = command.communicate(timeout=60)
    assert command.returncode == 130
    assert said.strip() == "encore: interrupted; nothing half-written is left"
    assert not _is_running(worker)


def test_an_interrupt_ends_the_worker_too_and_frees_the_workspace(taxi_project):
    _assert_interrupted_by(signal.SIGINT, taxi_project)
    again = _start(taxi_project)
    os.kill(_worker_of(again), signal.SIGKILL)
    again.communicate(timeout=60)
    assert again.returncode == 1


def test_sigterm_is_an_interrupt_as_whoever_stops_a_container_sends_it(taxi_project):
    _assert_interrupted_by(signal.SIGTERM, taxi_project)
