"""Files that driver and workers share appear whole, and packs give back what was put in."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tfx_encore.components.packing import Batches, unpack, write_packs
from tfx_encore.components.shared_files import (
    buckets_for,
    read_json,
    scratch_folder,
    sizes_of,
    whole_file,
    write_json,
)
from tfx_encore.schemas.errors import DataError


@pytest.fixture
def folders(tmp_path):
    """Where a file is to stand, and where it is written."""
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    out.mkdir()
    scratch.mkdir()
    return out, scratch


def test_a_file_stands_there_only_once_it_is_whole(folders):
    out, scratch = folders
    with whole_file(f"{out}/a", str(scratch)) as file:
        file.write(b"half, ")
        assert not list(out.iterdir())
        file.write(b"whole")
    assert (out / "a").read_bytes() == b"half, whole"
    assert not list(scratch.iterdir())


def test_a_writer_that_fails_leaves_what_was_there(folders):
    out, scratch = folders
    (out / "a").write_bytes(b"before")

    def fail() -> None:
        with whole_file(f"{out}/a", str(scratch)) as file:
            file.write(b"half")
            raise RuntimeError("lost")

    with pytest.raises(RuntimeError, match="lost"):
        fail()
    assert (out / "a").read_bytes() == b"before"


def test_two_writers_at_once_leave_one_whole_file(folders):
    out, scratch = folders
    content = [bytes([letter]) * 200_000 for letter in b"ab"]
    barrier = threading.Barrier(2)

    def write(data: bytes) -> None:
        with whole_file(f"{out}/a", str(scratch)) as file:
            for at in range(0, len(data), 10_000):
                file.write(data[at : at + 10_000])
                if at == 100_000:
                    barrier.wait()

    threads = [threading.Thread(target=write, args=(data,)) for data in content]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (out / "a").read_bytes() in content


def test_a_scratch_folder_is_gone_afterwards_even_after_an_error(tmp_path):
    def fail() -> None:
        with scratch_folder(str(tmp_path / "root"), "x") as folder:
            write_json({"a": 1}, f"{folder}/a.json")
            assert read_json(f"{folder}/a.json") == {"a": 1}
            raise RuntimeError("lost")

    with pytest.raises(RuntimeError, match="lost"):
        fail()
    assert not list((tmp_path / "root").iterdir())


def test_sizes_count_what_gzip_holds_about_five_times(tmp_path):
    plain, packed = tmp_path / "a", tmp_path / "b.gz"
    plain.write_bytes(b"x" * 1000)
    packed.write_bytes(b"\x1f\x8b" + b"x" * 98)
    assert sizes_of([str(plain), str(packed)]) == [1000, 500]
    with pytest.raises(DataError, match="older than its retention"):
        sizes_of([str(tmp_path / "gone")])


@pytest.mark.parametrize(("size", "buckets"), [(0, 1), (1, 1), (100, 1), (101, 2), (10_000, 7)])
def test_buckets_follow_the_size_up_to_a_limit(size, buckets):
    assert buckets_for(size, 100, 7) == buckets


def test_packs_give_back_what_was_put_in(tmp_path):
    values = {3: ([1, 2], [b"a", b"b"]), 1: ("text", None, 1 << 70)}
    found = write_packs("kind", f"{tmp_path}/a.pack", values)
    assert [bucket for bucket, _ in found] == [1, 3]
    assert {bucket: unpack(packed) for bucket, packed in found} == values


def test_rows_of_one_key_meet_and_equal_input_gives_equal_files(tmp_path):
    def write(folder: Path):
        folder.mkdir()
        batches = Batches("rows", 4, 2, folder=str(folder), name="000001")
        for number in range(100):
            key = b"key %d" % (number % 10)
            assert not batches.add(key, (key, number), 16)
        return list(batches.flush())

    one, two = write(tmp_path / "one"), write(tmp_path / "two")
    where = {key: bucket for bucket, packed in one for key in unpack(packed)[0]}
    assert len(where) == 10
    assert sum(len(unpack(packed)[1]) for _, packed in one) == 100
    contents = [Path(packed.path).read_bytes() for _, packed in (one[0], two[0])]
    assert contents[0] == contents[1]


def test_batches_are_written_when_there_is_enough_and_only_then(tmp_path):
    batches = Batches("rows", 1, 1, folder=str(tmp_path), name="1")
    assert not batches.add(b"a", (b"a",), 16 << 19)
    assert batches.add(b"a", (b"a",), 16 << 19)
    assert len(list(batches.flush())) == 1
    assert not list(batches.flush())
