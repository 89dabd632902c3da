"""A process killed before any step on the disk leaves the old state or the new one."""

from __future__ import annotations

import gc
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tfx_encore.metadata.files import Disk
from tfx_encore.metadata.release_push import PushRequest
from tfx_encore.metadata.releases import ReleaseDirectory
from tfx_encore.schemas.records import Cause, RecordDraft, SelectAll
from tfx_encore.schemas.release import Provenance

MakeModel = Callable[[str], Path]
Change = Callable[[ReleaseDirectory], object]
Seen = tuple[object, ...]


class Killer:
    """A Disk's hook that kills its own process before the k-th step, half-way through a write."""

    def __init__(self, k: int) -> None:
        self.left = k

    def __call__(self, step: str, path: Path) -> None:
        if self.left == 0:
            if step == "sync" and path.is_file():
                # What was written but not synced may be lost in part.
                os.truncate(path, path.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1


def in_a_process_killed_before_step(k: int, root: Path, change: Change) -> bool:
    """Runs a change in a forked process; returns True if it got through alive."""
    child = os.fork()
    if child == 0:
        gc.disable()  # what it would collect may join threads that only the parent has
        code = 1
        try:
            change(ReleaseDirectory(root, "taxi", disk=Disk(before=Killer(k))))
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return not os.WIFSIGNALED(status)


def what_a_reader_sees(releases: ReleaseDirectory) -> Seen:
    """Everything that the public methods say, contents of the versions included."""
    state = releases.state()
    return (
        state,
        tuple((r.sequence, r.cause, r.version_before, r.version_after) for r in releases.records()),
        tuple(releases.manifest(version).fingerprint for version in releases.history()),
        tuple((releases.version_path(v) / "saved_model.pb").read_text() for v in state.versions),
    )


def kill_at_every_step(before: Path, work: Path, change: Change, next_push: PushRequest) -> int:
    """Checks the state after each kill; returns how many steps there were."""
    old = what_a_reader_sees(ReleaseDirectory(before, "taxi"))
    shutil.copytree(before, work / "done") if before.exists() else None
    change(ReleaseDirectory(work / "done", "taxi"))
    new = what_a_reader_sees(ReleaseDirectory(work / "done", "taxi"))
    assert new != old

    k, alive, was_new = 0, False, False
    while not alive:
        root = work / f"step{k}"
        shutil.copytree(before, root) if before.exists() else None
        alive = in_a_process_killed_before_step(k, root, change)
        releases = ReleaseDirectory(root, "taxi")
        seen = what_a_reader_sees(releases)
        assert seen in (old, new), f"killed before step {k}: a third state"
        assert seen == new or not was_new, f"killed before step {k}: back to the old state"
        was_new = seen == new
        assert releases.verify() == [], f"killed before step {k}"

        highest = releases.state().highest_version
        result = releases.push(next_push)
        assert (result.pushed, result.version) == (True, highest + 1), f"killed before step {k}"
        assert releases.verify() == []
        assert releases.leftovers() == []
        assert not [p for p in releases.path.rglob(".*") if p.name != ".lock"]
        shutil.rmtree(root)
        k += 1
    assert was_new
    return k


@pytest.fixture
def request_of(make_model: MakeModel, evidence: dict[str, Path], tmp_path: Path) -> Callable:
    warmup = tmp_path / "warmup"
    warmup.write_bytes(b"requests")

    def request(content: str, **more: object) -> PushRequest:
        return PushRequest(make_model(content), evidence=evidence, warmup=warmup, **more)

    return request


def test_killed_at_any_step_of_a_first_push(tmp_path: Path, request_of: Callable) -> None:
    first, following = request_of("a"), request_of("z")
    steps = kill_at_every_step(
        tmp_path / "none", tmp_path, lambda releases: releases.push(first), following
    )
    assert steps > 60


def test_killed_at_any_step_of_a_push_that_also_removes_an_old_version(
    tmp_path: Path, request_of: Callable
) -> None:
    before = ReleaseDirectory(tmp_path / "before", "taxi")
    before.push(request_of("a"))
    before.push(request_of("b"))
    request, following = request_of("c", keep=2), request_of("z", keep=2)
    steps = kill_at_every_step(
        tmp_path / "before", tmp_path, lambda releases: releases.push(request), following
    )
    assert steps > 80


def test_killed_at_any_step_of_a_rollback(tmp_path: Path, request_of: Callable) -> None:
    before = ReleaseDirectory(tmp_path / "before", "taxi")
    before.push(request_of("a"))
    before.push(request_of("b"))
    kill_at_every_step(
        tmp_path / "before",
        tmp_path,
        lambda releases: releases.set_label("stable", 1, by="ada", reason="complaints"),
        request_of("z"),
    )


def test_killed_at_any_step_of_a_manual_invalidation(tmp_path: Path, request_of: Callable) -> None:
    draft = RecordDraft("taxi", Cause.MANUAL, SelectAll(), "by hand", "ada")
    ReleaseDirectory(tmp_path / "before", "taxi").push(request_of("a"))
    kill_at_every_step(
        tmp_path / "before",
        tmp_path,
        lambda releases: releases.append_record(draft),
        request_of("z"),
    )


@pytest.mark.slow
def test_killed_at_any_step_of_clearing_up_after_a_killed_push(
    tmp_path: Path, request_of: Callable
) -> None:
    root = tmp_path / "before"
    ReleaseDirectory(root, "taxi").push(request_of("a"))
    # The last step before the commit: version 2, its evidence and its record are all there.
    k = 0
    while ReleaseDirectory(root, "taxi").path.joinpath(".labels.json.next").exists() is False:
        shutil.copytree(root, tmp_path / "try")
        assert not in_a_process_killed_before_step(
            k, tmp_path / "try", lambda releases: releases.push(request_of("b"))
        )
        if (tmp_path / "try" / "taxi" / ".labels.json.next").exists():
            shutil.rmtree(root)
            (tmp_path / "try").rename(root)
        else:
            shutil.rmtree(tmp_path / "try")
        k += 1
    assert (root / "taxi" / "2").is_dir()
    assert (root / "taxi" / "journal" / "000001.json").is_file()
    assert ReleaseDirectory(root, "taxi").live() == 1
    assert len(ReleaseDirectory(root, "taxi").leftovers()) >= 4
    kill_at_every_step(
        root, tmp_path, lambda releases: releases.push(request_of("c")), request_of("z")
    )


def test_a_run_started_again_after_the_commit_finds_its_version_and_its_record(
    tmp_path: Path, request_of: Callable
) -> None:
    root = tmp_path / "releases"
    ReleaseDirectory(root, "taxi").push(request_of("a"))
    request = request_of("b", provenance=Provenance(run_id="run-2"))

    def push_and_die(releases: ReleaseDirectory) -> None:
        releases.push(request)
        os.kill(os.getpid(), signal.SIGKILL)

    assert not in_a_process_killed_before_step(10**6, root, push_and_die)
    again = ReleaseDirectory(root, "taxi").push(request)
    assert (again.pushed, again.version, again.repeated) == (False, 2, True)
    assert [record.sequence for record in again.records] == [1]


def test_what_an_unfinished_write_left_is_removed_and_the_rest_stays(
    tmp_path: Path, request_of: Callable
) -> None:
    releases = ReleaseDirectory(tmp_path / "releases", "taxi")
    for content in "ab":
        releases.push(request_of(content))
    kept = sorted(releases.path.rglob("*"))
    shutil.copy(releases.path / "journal/000001.json", releases.path / "journal/000002.json")
    shutil.copytree(releases.path / "2", releases.path / "3")
    shutil.copytree(releases.path / "2.evidence", releases.path / "3.evidence")
    shutil.copytree(releases.path / "2", releases.path / ".staging" / "model")
    shutil.copytree(releases.path / "2", releases.path / ".trash-1")
    (releases.path / ".labels.json.next").write_text("half")
    assert releases.versions() == (1, 2)
    assert len(releases.records()) == 1
    assert len(releases.leftovers()) == 6
    releases.repair()
    assert sorted(releases.path.rglob("*")) == kept


def test_repair_does_what_the_next_writer_would(tmp_path: Path, request_of: Callable) -> None:
    root = tmp_path / "releases"
    ReleaseDirectory(root, "taxi").push(request_of("a"))
    assert not in_a_process_killed_before_step(20, root, lambda r: r.push(request_of("b")))
    releases = ReleaseDirectory(root, "taxi")
    assert releases.leftovers()
    releases.repair()
    assert releases.leftovers() == []
    assert releases.live() == 1
