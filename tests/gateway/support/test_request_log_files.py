"""The files of the request log: framing, rotation, recovery, retention, many writers."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfx_encore.gateway.request_log_files import LogFiles, frame, model_folder, whole_records
from tfx_encore.gateway.request_log_policy import RequestLogPolicy

NOON = datetime(2026, 3, 1, 12, 0, 0, tzinfo=timezone.utc).timestamp()


def make_files(tmp_path, **policy):
    return LogFiles(RequestLogPolicy(directory=tmp_path, **policy))


def named(tmp_path):
    return sorted(
        path.relative_to(tmp_path).as_posix()
        for path in tmp_path.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    )


def hidden(tmp_path):
    return [path for path in tmp_path.rglob(".*") if path.is_file()]


def read(path):
    with path.open("rb") as file:
        records, size = whole_records(file)
        assert size == path.stat().st_size
    return records


def test_a_file_has_its_name_once_it_is_closed(tmp_path):
    files = make_files(tmp_path)
    files.append("taxi", NOON, b"one", NOON)
    assert named(tmp_path) == []
    assert len(hidden(tmp_path)) == 1
    files.close()
    [name] = named(tmp_path)
    assert name.startswith("taxi/2026-03-01/120000-")
    assert name.endswith(f"-{os.getpid()}-0.tfrecord")
    assert hidden(tmp_path) == []
    assert read(tmp_path / name) == 1


def test_a_file_is_closed_when_it_is_large_or_old_or_its_day_is_over(tmp_path):
    files = make_files(tmp_path, rotate_bytes=50, rotate_seconds=600)
    files.append("large", NOON, b"x" * 100, NOON)
    files.append("old", NOON, b"x", NOON)
    assert len(named(tmp_path)) == 1
    files.rotate(NOON + 599)
    assert len(named(tmp_path)) == 1
    files.rotate(NOON + 600)
    assert len(named(tmp_path)) == 2
    midnight = NOON + 12 * 3600
    files.append("over", midnight - 1, b"x", midnight - 1)
    files.rotate(midnight + 59)
    assert len(named(tmp_path)) == 2
    files.rotate(midnight + 61)
    assert len(named(tmp_path)) == 3


def test_a_record_goes_to_the_day_on_which_its_request_came(tmp_path):
    files = make_files(tmp_path)
    midnight = NOON + 12 * 3600
    files.append("m", midnight - 1, b"x", midnight + 1)
    files.append("m", midnight + 1, b"x", midnight + 1)
    files.close()
    assert [name.split("/")[1] for name in named(tmp_path)] == ["2026-03-01", "2026-03-02"]


@pytest.mark.parametrize("model", ["../../etc", "..", ".", ".hidden", "a/b", "", "ü", "%2E"])
def test_no_name_of_a_model_leaves_the_folder_or_hides(tmp_path, model):
    files = make_files(tmp_path / "log")
    files.append(model, NOON, b"x", NOON)
    files.close()
    [name] = named(tmp_path)
    assert name.startswith("log/")
    assert name.count("/") == 3


def test_different_models_have_different_folders():
    names = ["a/b", "a%2Fb", "a", ".a", "%2Ea", "", "%", "..", "."]
    assert len({model_folder(name) for name in names}) == len(names)


def test_a_full_disk_leaves_whole_records_and_the_log_goes_on(tmp_path, monkeypatch):
    files = make_files(tmp_path)
    files.append("m", NOON, b"first", NOON)
    write = os.write

    def half(file, data):
        if len(data) > 5:
            return write(file, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        with pytest.raises(OSError, match="No space"):
            files.append("m", NOON, b"second" * 10, NOON)
    files.append("m", NOON, b"third", NOON)
    files.close()
    [name] = named(tmp_path)
    assert read(tmp_path / name) == 2
    assert (tmp_path / name).read_bytes() == frame(b"first") + frame(b"third")


def test_a_file_left_behind_is_cut_to_whole_records_and_named(tmp_path):
    folder = tmp_path / "m" / "2026-03-01"
    folder.mkdir(parents=True)
    whole = frame(b"one") + frame(b"two")
    (folder / ".115900-host-1-0.tfrecord.part").write_bytes(whole + frame(b"three")[:-1])
    (folder / ".115901-host-1-1.tfrecord.part").write_bytes(b"\0" * 100)
    assert make_files(tmp_path).recover() == 2
    assert named(tmp_path) == ["m/2026-03-01/115900-host-1-0.tfrecord"]
    assert (folder / "115900-host-1-0.tfrecord").read_bytes() == whole
    assert hidden(tmp_path) == []


def test_recovering_never_overwrites_a_file(tmp_path):
    folder = tmp_path / "m" / "2026-03-01"
    folder.mkdir(parents=True)
    (folder / "115900-host-1-0.tfrecord").write_bytes(frame(b"mine"))
    (folder / ".115900-host-1-0.tfrecord.part").write_bytes(frame(b"yours"))
    make_files(tmp_path).recover()
    assert [read(tmp_path / name) for name in named(tmp_path)] == [1, 1]
    assert (folder / "115900-host-1-0.tfrecord").read_bytes() == frame(b"mine")


def test_a_file_that_is_being_written_is_left_alone(tmp_path):
    writer, other = make_files(tmp_path), make_files(tmp_path)
    writer.append("m", NOON, b"one", NOON)
    assert other.recover() == 0
    writer.append("m", NOON, b"two", NOON)
    writer.close()
    [name] = named(tmp_path)
    assert read(tmp_path / name) == 2


def test_a_file_that_was_taken_away_before_it_was_locked_is_begun_anew(tmp_path, monkeypatch):
    from tfx_encore.gateway import request_log_files

    lock = request_log_files._lock
    other = make_files(tmp_path)
    stolen = []

    def steal_first(file):
        if not stolen:
            stolen.append(True)  # before anything else: recovering locks too
            other.recover()
        lock(file)

    monkeypatch.setattr(request_log_files, "_lock", steal_first)
    writer = make_files(tmp_path)
    writer.append("m", NOON, b"one", NOON)
    writer.close()
    assert stolen
    [name] = named(tmp_path)
    assert read(tmp_path / name) == 1


def test_days_that_are_over_for_long_enough_are_removed_and_nothing_else(tmp_path):
    for day in ("2026-02-20", "2026-02-21", "2026-02-22", "notes"):
        folder = tmp_path / "m" / day
        folder.mkdir(parents=True)
        (folder / "120000-h-1-0.tfrecord").write_bytes(b"")
    (tmp_path / "m" / "2026-02-20" / "notes.txt").write_text("mine")
    files = make_files(tmp_path, keep_days=7)
    assert files.remove_old(NOON) == 2  # 21 February ended seven and a half days ago
    assert named(tmp_path) == [
        "m/2026-02-20/notes.txt",
        "m/2026-02-22/120000-h-1-0.tfrecord",
        "m/notes/120000-h-1-0.tfrecord",
    ]
    assert not (tmp_path / "m" / "2026-02-21").exists()
    assert make_files(tmp_path, keep_days=0).remove_old(NOON + 1e9) == 0


@given(st.lists(st.binary(max_size=50), max_size=5), st.integers(0, 400), st.integers(0, 255))
def test_damage_is_found_wherever_it_is(tmp_path_factory, records, place, value):
    path = tmp_path_factory.getbasetemp() / "damaged"
    data = bytearray(b"".join(map(frame, records)))
    ends = [0]
    for record in records:
        ends.append(ends[-1] + 16 + len(record))
    if place < len(data) and data[place] != value:
        data[place] = value
        whole = max(number for number, end in enumerate(ends) if end <= place)
    else:
        data = data[:place]
        whole = max(number for number, end in enumerate(ends) if end <= len(data))
    path.write_bytes(data)
    with path.open("rb") as file:
        assert whole_records(file) == (whole, ends[whole])


WRITER = """
    import sys, time
    from pathlib import Path
    from tfx_encore.gateway.request_log_files import LogFiles
    from tfx_encore.gateway.request_log_policy import RequestLogPolicy
    files = LogFiles(RequestLogPolicy(directory=Path(sys.argv[1]), rotate_bytes=20_000))
    number = 0
    while True:
        files.append("m", time.time(), str(number).encode() * 20, time.time())
        number += 1
        if number == 500:
            print("ready", flush=True)
"""


def test_after_kill_9_every_file_is_whole_and_nothing_but_the_last_record_is_lost(tmp_path):
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), str(tmp_path)], stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]
    try:
        for writer in writers:
            assert writer.stdout.readline() == b"ready\n"
    finally:
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            writer.wait(30)
            writer.stdout.close()
    assert hidden(tmp_path)
    make_files(tmp_path).recover()
    assert hidden(tmp_path) == []
    assert sum(read(tmp_path / name) for name in named(tmp_path)) >= 1000
