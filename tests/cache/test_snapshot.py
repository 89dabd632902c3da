"""A snapshot is read as it was written, or not at all."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tfx_encore.cache.answers import encode_answer
from tfx_encore.cache.keys import KeyMaker
from tfx_encore.cache.row_spec import FeatureSpec, SignatureSpec
from tfx_encore.cache.rows import cell, encode_row
from tfx_encore.cache.snapshot import (
    SnapshotWriter,
    read_blocks,
    read_entries,
    read_meta,
    verify_snapshot,
)
from tfx_encore.cache.snapshot_block import Entry, block_of
from tfx_encore.schemas.errors import SnapshotError

SPEC = SignatureSpec("serving_default", "tensors", "", (FeatureSpec("x", "tensor", "int64"),))


def make_entries(count):
    maker = KeyMaker("sha256:1", "serving_default")
    entries = []
    for at in range(count):
        row = encode_row({"x": cell(at), "text": cell("t" * at)})
        answer = encode_answer({"y": cell(np.float32(at)), "label": cell(f"class {at}")})
        entries.append(Entry(maker.key(row), 0, 1000 - at, row, float(at), answer))
    return entries


def write(folder, entries, block=4, generation=0, **options):
    folder.mkdir(exist_ok=True)
    writer = SnapshotWriter(str(folder), **options)
    for start in range(0, len(entries), block):
        writer.write(block_of(entries[start : start + block]))
    return writer.close("sha256:1", [SPEC], generation=generation)


def test_entries_come_back_in_order(tmp_path):
    entries = make_entries(30)
    meta = write(tmp_path / "s", entries)
    assert list(read_entries(str(tmp_path / "s"))) == entries
    assert verify_snapshot(str(tmp_path / "s")) == meta == read_meta(str(tmp_path / "s"))
    assert meta.entries == 30


def test_large_snapshots_have_several_files(tmp_path):
    entries = make_entries(30)
    meta = write(tmp_path / "s", entries, shard_bytes=700)
    assert len(meta.files) > 2
    assert sum(file.bytes for file in meta.files) == meta.bytes
    assert list(read_entries(str(tmp_path / "s"))) == entries


def test_a_reader_may_stop_early_and_holds_one_block(tmp_path):
    write(tmp_path / "s", make_entries(30))
    assert next(read_entries(str(tmp_path / "s"))).seen == 1000
    assert max(len(block) for block in read_blocks(str(tmp_path / "s"))) == 4


def test_an_empty_snapshot_is_one(tmp_path):
    assert write(tmp_path / "s", []).files == ()
    assert list(read_entries(str(tmp_path / "s"))) == []


def test_every_wrong_byte_is_found(tmp_path):
    write(tmp_path / "s", make_entries(3))
    path = tmp_path / "s" / "entries-00000.bin"
    good = path.read_bytes()
    for at in range(len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :])
        with pytest.raises(SnapshotError, match=r"entries-00000\.bin"):
            list(read_entries(str(tmp_path / "s")))


def test_every_truncation_is_found(tmp_path):
    write(tmp_path / "s", make_entries(3))
    path = tmp_path / "s" / "entries-00000.bin"
    good = path.read_bytes()
    for size in range(len(good)):
        path.write_bytes(good[:size])
        with pytest.raises(SnapshotError):
            list(read_entries(str(tmp_path / "s")))


def test_a_missing_file_is_named(tmp_path):
    write(tmp_path / "s", make_entries(3))
    (tmp_path / "s" / "entries-00000.bin").unlink()
    with pytest.raises(SnapshotError, match=r"entries-00000\.bin"):
        list(read_entries(str(tmp_path / "s")))
    with pytest.raises(SnapshotError, match=r"snapshot\.json"):
        read_meta(str(tmp_path / "nowhere"))


def test_a_format_of_the_future_is_refused(tmp_path):
    write(tmp_path / "s", make_entries(3))
    path = tmp_path / "s" / "snapshot.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))
    with pytest.raises(SnapshotError, match="format 2"):
        read_meta(str(tmp_path / "s"))


def test_a_snapshot_says_which_record_was_the_newest_and_one_that_does_not_knows_none(tmp_path):
    write(tmp_path / "s", make_entries(3), generation=7)
    assert read_meta(str(tmp_path / "s")).generation == 7
    path = tmp_path / "s" / "snapshot.json"
    told = json.loads(path.read_text())
    del told["generation"]
    path.write_text(json.dumps(told))
    assert verify_snapshot(str(tmp_path / "s")).generation == 0


@pytest.mark.parametrize("generation", [-1, 2**63, 1.5, "new"])
def test_a_generation_that_cannot_be_is_refused(tmp_path, generation):
    write(tmp_path / "s", make_entries(3))
    path = tmp_path / "s" / "snapshot.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "generation": generation}))
    with pytest.raises(SnapshotError, match="generation"):
        read_meta(str(tmp_path / "s"))


def test_a_key_that_is_not_its_rows_fails_verification(tmp_path):
    first, second = make_entries(2)
    write(tmp_path / "s", [first._replace(key=second.key)])
    with pytest.raises(SnapshotError, match="key"):
        verify_snapshot(str(tmp_path / "s"))


def test_entries_out_of_order_fail_verification(tmp_path):
    first, second = make_entries(2)
    write(tmp_path / "s", [second, first])
    with pytest.raises(SnapshotError, match="more often"):
        verify_snapshot(str(tmp_path / "s"))


def test_an_unknown_signature_is_found(tmp_path):
    (entry,) = make_entries(1)
    write(tmp_path / "s", [entry._replace(signature=1)])
    with pytest.raises(SnapshotError, match="signature"):
        list(read_entries(str(tmp_path / "s")))
