"""Several processes at one release directory."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tfx_encore.metadata.files import Disk
from tfx_encore.metadata.release_push import PushRequest
from tfx_encore.metadata.releases import ReleaseDirectory
from tfx_encore.schemas.errors import ReleaseBusyError

MakeModel = Callable[[str], Path]

_PUSH = """
import sys
from tfx_encore.metadata.release_push import PushRequest
from tfx_encore.metadata.releases import ReleaseDirectory
releases = ReleaseDirectory(sys.argv[1], "taxi")
sys.stdin.readline()
for model in sys.argv[2:]:
    print(releases.push(PushRequest(model, keep=100)).version)
"""


def test_pushers_in_several_processes_share_out_the_versions(
    tmp_path: Path, make_model: MakeModel
) -> None:
    root = tmp_path / "releases"
    pushers = [
        subprocess.Popen(
            [sys.executable, "-c", _PUSH, root, *(make_model(f"{p}-{i}") for i in range(5))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for p in range(4)
    ]
    for pusher in pushers:
        assert pusher.stdin is not None
        pusher.stdin.write("go\n")
        pusher.stdin.flush()
    versions = [int(v) for pusher in pushers for v in pusher.communicate(timeout=60)[0].split()]
    assert sorted(versions) == list(range(1, 21))
    releases = ReleaseDirectory(root, "taxi")
    assert releases.verify() == []
    assert releases.live() == 20
    moves = [(record.version_before, record.version_after) for record in releases.records()]
    assert moves == [(v, v + 1) for v in range(1, 20)]


def test_a_reader_meets_no_half_made_state_while_versions_come_and_go(
    tmp_path: Path, make_model: MakeModel
) -> None:
    releases = ReleaseDirectory(tmp_path / "releases", "taxi")
    models = [make_model(f"m{i}") for i in range(20)]
    releases.push(PushRequest(models[0]))
    done = threading.Event()
    seen: list[int] = []

    def read() -> None:
        reader = ReleaseDirectory(tmp_path / "releases", "taxi")
        while not done.is_set():
            state = reader.state()
            live = state.labels["stable"]
            assert reader.manifest(live).version == live
            assert len(reader.records()) >= state.sequence == live - 1
            seen.append(live)

    reading = ThreadPoolExecutor().submit(read)
    try:
        for model in models[1:]:
            releases.push(PushRequest(model, keep=3))
    finally:
        done.set()
    reading.result()
    assert seen == sorted(seen)
    assert len(set(seen)) > 3


def test_a_writer_that_waits_too_long_says_that_another_is_at_it(
    tmp_path: Path, make_model: MakeModel
) -> None:
    entered, leave = threading.Event(), threading.Event()

    def pause(step: str, path: Path) -> None:
        if path.name == ".staging":
            entered.set()
            leave.wait(30)

    slow = ReleaseDirectory(tmp_path, "taxi", disk=Disk(before=pause))
    thread = threading.Thread(target=slow.push, args=(PushRequest(make_model("a")),))
    thread.start()
    assert entered.wait(30)
    hasty = ReleaseDirectory(tmp_path, "taxi", lock_timeout_seconds=0.1)
    with pytest.raises(ReleaseBusyError, match=r"another process is changing .*waited 0\.1 s"):
        hasty.push(PushRequest(make_model("b")))
    leave.set()
    thread.join()
    assert hasty.push(PushRequest(make_model("b"))).version == 2


def repair_for_seconds(releases: ReleaseDirectory, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        releases.repair()


def test_the_lock_of_a_killed_writer_is_free_at_once(tmp_path: Path, make_model: MakeModel) -> None:
    releases = ReleaseDirectory(tmp_path, "taxi", lock_timeout_seconds=0.0)
    releases.push(PushRequest(make_model("a")))
    child = os.fork()
    if child == 0:
        gc.disable()  # what it would collect may join threads that only the parent has
        sleepy = Disk(before=lambda _step, _path: time.sleep(60))
        ReleaseDirectory(tmp_path, "taxi", disk=sleepy).push(PushRequest(make_model("b")))
        os._exit(1)
    with pytest.raises(ReleaseBusyError):
        repair_for_seconds(releases, 30)
    os.kill(child, 9)
    os.waitpid(child, 0)
    assert releases.push(PushRequest(make_model("b"))).version == 2
