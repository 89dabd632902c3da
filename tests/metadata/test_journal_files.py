"""Journal entries on disk, and the steps in which files change."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfx_encore.metadata.files import Disk, digest_of, digests_below
from tfx_encore.metadata.journal import numbered, read_entries, write_entries
from tfx_encore.metadata.release_layout import Layout
from tfx_encore.schemas.errors import ReleaseCorruptError
from tfx_encore.schemas.records import Cause, RecordDraft, SelectAll, SelectKeys, SelectSlice

DRAFTS = (
    RecordDraft("taxi", Cause.MANUAL, SelectAll(), "everything", "ada"),
    RecordDraft("taxi", Cause.ERASURE, SelectKeys(keys=("00ff", "01aa")), "a subject", "ada"),
    RecordDraft("taxi", Cause.DATA_DRIFT, SelectSlice(features={"company": "Taxi Ü"}), "é", "ada"),
)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path, "taxi")
    layout.journal.mkdir(parents=True)
    return layout


def test_entries_come_back_as_they_were_written_in_files_named_by_sequence(layout: Layout) -> None:
    records = numbered(DRAFTS, 11, "2026-11-20T18:50:46.000000Z")
    write_entries(Disk(), layout, records)
    assert [path.name for path in sorted(layout.journal.iterdir())] == [
        "000012.json",
        "000013.json",
        "000014.json",
    ]
    assert read_entries(layout, 12, 14) == records
    assert [record.record_id for record in records] == ["taxi/000012", "taxi/000013", "taxi/000014"]


def test_a_missing_entry_is_named_with_the_way_out(layout: Layout) -> None:
    with pytest.raises(ReleaseCorruptError, match=r"000001\.json is missing.*restore"):
        read_entries(layout, 1, 1)


@pytest.mark.parametrize("content", ["", "{", '{"model": "taxi"}', "\udcff"])
def test_an_unreadable_entry_is_named(layout: Layout, content: str) -> None:
    layout.entry(1).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ReleaseCorruptError, match=r"000001\.json"):
        read_entries(layout, 1, 1)


def test_an_entry_copied_over_another_is_noticed(layout: Layout) -> None:
    write_entries(Disk(), layout, numbered(DRAFTS[:1], 1, "2026-11-20T18:50:46.000000Z"))
    layout.entry(2).rename(layout.entry(1))
    with pytest.raises(ReleaseCorruptError, match="holds the record taxi/000002"):
        read_entries(layout, 1, 1)


def test_a_replaced_file_is_never_seen_half_written(tmp_path: Path) -> None:
    target = tmp_path / "labels.json"
    target.write_bytes(b"old")
    seen: list[tuple[str, bytes]] = []
    Disk(before=lambda step, _: seen.append((step, target.read_bytes()))).replace(target, b"new")
    assert [step for step, _ in seen] == ["create", "write", "sync", "rename", "sync"]
    assert [content for _, content in seen] == [b"old", b"old", b"old", b"old", b"new"]


def test_a_tree_is_copied_with_links_followed_and_files_made_read_only(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "data").write_bytes(b"x" * 3_000_000)
    (source / "link").symlink_to(source / "deep" / "data")
    (source / "empty").write_bytes(b"")
    Disk().copy_tree(source, tmp_path / "copy")
    assert digests_below(tmp_path / "copy") == {
        "deep/data": digest_of(source / "deep" / "data"),
        "empty": digest_of(source / "empty"),
        "link": digest_of(source / "deep" / "data"),
    }
    assert not (tmp_path / "copy" / "link").is_symlink()
    assert (tmp_path / "copy" / "empty").stat().st_mode & 0o222 == 0


def test_removing_a_tree_does_not_follow_links_out_of_it(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_bytes(b"x")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "kept")
    Disk().remove_tree(tmp_path / "tree")
    Disk().remove_tree(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()
    assert (tmp_path / "kept" / "file").exists()
