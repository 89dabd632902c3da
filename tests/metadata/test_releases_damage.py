"""A release directory that someone edited, and a disk that refuses."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tfx_encore.metadata.files import Disk
from tfx_encore.metadata.release_push import PushRequest
from tfx_encore.metadata.releases import ReleaseDirectory
from tfx_encore.schemas.errors import ReleaseCorruptError, ReleaseError

MakeModel = Callable[[str], Path]


@pytest.fixture
def releases(tmp_path: Path, make_model: MakeModel, evidence: dict[str, Path]) -> ReleaseDirectory:
    releases = ReleaseDirectory(tmp_path / "releases", "taxi")
    for content in "ab":
        releases.push(PushRequest(make_model(content), evidence=evidence))
    return releases


def overwrite(path: Path, content: str) -> None:
    path.chmod(0o644)
    path.write_text(content)


def snapshot(releases: ReleaseDirectory) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(releases.path.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "labels.json"),
        ("{", "labels.json"),
        ("[]", "labels.json"),
        ('{"labels": {"stable": "two"}}', "labels.stable"),
        ('{"labels": {"stable": 9}, "versions": [1, 2], "highest_version": 2}', "versions 1, 2"),
        ('{"labels": {"stable": 1}}', "there are no versions"),
        ('{"versions": [2, 1], "highest_version": 2}', "not ascending"),
        ('{"versions": [1, 2], "highest_version": 1}', "not within 1 to 1"),
        ('{"sequence": -1}', "negative"),
        ('{"format": 2}', "another version of tfx_encore"),
    ],
)
def test_edited_labels_are_refused_by_readers_and_writers_and_left_as_they_are(
    releases: ReleaseDirectory, make_model: MakeModel, content: str, says: str
) -> None:
    (releases.path / "labels.json").write_text(content)
    before = snapshot(releases)
    for action in (
        releases.labels,
        lambda: releases.push(PushRequest(make_model("c"))),
        lambda: releases.set_label("stable", 1, by="ada", reason="?"),
    ):
        with pytest.raises(ReleaseCorruptError, match=says) as caught:
            action()
        assert "restore the file from a copy" in str(caught.value)
    assert any(says in problem for problem in releases.verify())
    assert snapshot(releases) == before


def test_lost_labels_come_with_what_to_write_into_them(
    releases: ReleaseDirectory, make_model: MakeModel
) -> None:
    releases.set_label("stable", 1, by="ada", reason="complaints")
    before = releases.state()
    (releases.path / "labels.json").unlink()
    with pytest.raises(ReleaseCorruptError, match="is gone") as caught:
        releases.push(PushRequest(make_model("c")))
    suggestion = str(caught.value).partition("write this into it: ")[2]
    (releases.path / "labels.json").write_text(suggestion)
    after = releases.state()
    assert (after.labels, after.versions) == (before.labels, before.versions)
    assert (after.highest_version, after.sequence) == (2, 2)
    assert releases.push(PushRequest(make_model("c"))).version == 3


@pytest.mark.parametrize("name", ["saved_model.pb", "variables/variables.index"])
def test_an_edited_live_version_stops_the_push_and_says_how_to_go_on(
    releases: ReleaseDirectory, make_model: MakeModel, name: str
) -> None:
    overwrite(releases.path / "2" / name, "edited")
    before = snapshot(releases)
    with pytest.raises(ReleaseCorruptError, match=r"was changed after it was pushed.*label set"):
        releases.push(PushRequest(make_model("c")))
    assert snapshot(releases) == before
    assert "was changed after it was pushed" in releases.verify()[0]
    releases.set_label("stable", 1, by="ada", reason="2 is damaged")
    assert releases.push(PushRequest(make_model("c"))).version == 3


def test_a_live_version_that_is_gone_stops_the_push(
    releases: ReleaseDirectory, make_model: MakeModel
) -> None:
    shutil.rmtree(releases.path / "2")
    with pytest.raises(ReleaseCorruptError, match=r"'stable' points at version 2, but .* is gone"):
        releases.push(PushRequest(make_model("c")))
    assert releases.live() == 2
    assert len(releases.verify()) == 1


def test_a_label_does_not_move_to_a_damaged_version(releases: ReleaseDirectory) -> None:
    (releases.path / "1" / "saved_model.pb").unlink()
    with pytest.raises(ReleaseCorruptError, match=r"version 1 is damaged.*saved_model"):
        releases.set_label("stable", 1, by="ada", reason="complaints")
    assert releases.live() == 2


def test_a_rollback_away_from_a_version_without_a_manifest_withdraws_everything(
    releases: ReleaseDirectory,
) -> None:
    (releases.path / "2.evidence" / "manifest.json").unlink()
    record = releases.set_label("stable", 1, by="ada", reason="2 is damaged")
    assert record is not None
    assert record.selector.kind == "all"


def test_a_version_that_no_push_has_made_is_neither_removed_nor_overwritten(
    releases: ReleaseDirectory, make_model: MakeModel
) -> None:
    shutil.copytree(releases.path / "1", releases.path / "3")
    with pytest.raises(ReleaseCorruptError, match=r"3 was not made by a push.*move it out"):
        releases.push(PushRequest(make_model("c")))
    assert (releases.path / "3" / "saved_model.pb").exists()
    assert len(releases.verify()) == 1
    assert releases.live() == 2


def test_every_kind_of_damage_to_the_evidence_is_found(releases: ReleaseDirectory) -> None:
    overwrite(releases.path / "1.evidence" / "schema.pbtxt", "edited")
    (releases.path / "2.evidence" / "statistics" / "Split-train" / "FeatureStats.pb").unlink()
    (releases.path / "journal" / "000001.json").unlink()
    first, second, third = releases.verify()
    assert "1.evidence/schema.pbtxt was changed" in first
    assert "FeatureStats.pb is missing" in second
    assert "000001.json is missing" in third


def test_a_manifest_of_another_version_is_found(releases: ReleaseDirectory) -> None:
    shutil.copy(
        releases.path / "1.evidence" / "manifest.json",
        releases.path / "2.evidence" / "manifest.json.new",
    )
    (releases.path / "2.evidence" / "manifest.json.new").rename(
        releases.path / "2.evidence" / "manifest.json"
    )
    with pytest.raises(ReleaseCorruptError, match="is the manifest of taxi 1"):
        releases.manifest(2)


def test_an_edited_models_config_is_put_right_by_the_next_writer(
    releases: ReleaseDirectory,
) -> None:
    good = releases.models_config_path.read_text()
    releases.models_config_path.write_text("model_config_list {}")
    assert "models.config is behind labels.json" in releases.leftovers()[0]
    releases.repair()
    assert releases.models_config_path.read_text() == good


def test_the_labels_file_says_what_a_person_can_read(releases: ReleaseDirectory) -> None:
    assert json.loads((releases.path / "labels.json").read_text()) == {
        "format": 1,
        "labels": {"stable": 2},
        "versions": [1, 2],
        "highest_version": 2,
        "sequence": 1,
        "previous": {"stable": 1},
    }


def fails_at(k: int, code: int) -> Callable[[str, Path], None]:
    left = iter(range(k))

    def hook(_step: str, path: Path) -> None:
        if next(left, None) is None:
            raise OSError(code, os.strerror(code), str(path))

    return hook


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_at_any_step_leaves_the_old_state_or_the_new_one(
    releases: ReleaseDirectory, make_model: MakeModel, tmp_path: Path, code: int
) -> None:
    old, k, result = releases.state(), 0, None
    while result is None or "clearing up failed" in result.reason:
        shutil.copytree(releases.path.parent, tmp_path / "work")
        broken = Disk(before=fails_at(k, code))
        failing = ReleaseDirectory(tmp_path / "work", "taxi", disk=broken)
        said = ""
        try:
            result = failing.push(PushRequest(make_model("c"), keep=1))
        except ReleaseError as error:
            said = str(error)
        assert result or "labels are {'stable': " in said
        assert result or ("no space left" in said) == (code == errno.ENOSPC)
        sound = ReleaseDirectory(tmp_path / "work", "taxi")
        assert sound.state() == old if said else sound.live() == 3
        assert sound.verify() == []
        assert sound.push(PushRequest(make_model("d"))).pushed
        assert sound.leftovers() == []
        shutil.rmtree(tmp_path / "work")
        k += 1
    assert result.version == 3
    assert k > 40


def test_nothing_after_the_commit_needs_space(
    releases: ReleaseDirectory, make_model: MakeModel
) -> None:
    steps: list[tuple[str, str]] = []
    watched = Disk(before=lambda step, path: steps.append((step, path.name)))
    watching = ReleaseDirectory(releases.path.parent, "taxi", disk=watched)
    watching.push(PushRequest(make_model("c"), keep=1))
    commit = steps.index(("rename", "labels.json"))
    assert {step for step, _ in steps[:commit]} >= {"create", "write", "sync", "make_dir"}
    assert {step for step, _ in steps[commit + 1 :]} == {
        "rename",
        "sync",
        "remove_file",
        "remove_dir",
    }


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB if this user may mount one, else a limit of 64 KiB on any file."""
    mount = tmp_path / "small"
    mount.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", os.fsencode(mount), b"tmpfs", 0, b"size=256k") == 0:
        yield mount
        assert libc.umount2(os.fsencode(mount), 2) == 0
    else:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, hard))
        yield mount
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_named_nothing_is_half_written_and_the_next_push_works(
    small_disk: Path, make_model: MakeModel
) -> None:
    releases = ReleaseDirectory(small_disk, "taxi")
    releases.push(PushRequest(make_model("a")))
    before = snapshot(releases)
    big = make_model("big")
    (big / "variables" / "variables.data-00000-of-00001").write_bytes(os.urandom(1_000_000))
    with pytest.raises(ReleaseError, match=r"no space left for .*free.*labels are \{'stable': 1\}"):
        releases.push(PushRequest(big))
    assert snapshot(releases) == before
    assert releases.verify() == []
    assert releases.leftovers() == []
    assert releases.push(PushRequest(make_model("b"))).version == 2


def test_a_root_that_cannot_be_written_is_named(tmp_path: Path, make_model: MakeModel) -> None:
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(ReleaseError, match="file"):
        ReleaseDirectory(tmp_path / "file", "taxi").push(PushRequest(make_model("a")))
