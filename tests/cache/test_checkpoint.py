"""The follower's checkpoint in a file."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfx_encore.cache.checkpoint import FileCheckpoint

# Dies, as by `kill -9`, right before the step of that number.
SAVE_AND_DIE = """
import os, signal, sys
from pathlib import Path
from tfx_encore.cache.checkpoint import FileCheckpoint

path, last = sys.argv[1], int(sys.argv[2])
left = [last]

def counted(work):
    def step(*given, **named):
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return work(*given, **named)
    return step

write = os.write
os.write = lambda descriptor, data: write(descriptor, data[:7])  # a disk that takes little at once
for name in ("open", "write", "fsync", "close"):
    setattr(os, name, counted(getattr(os, name)))
Path.replace = counted(Path.replace)
FileCheckpoint(path).save("2 new")
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "checkpoint"


def test_a_line_comes_back_after_a_restart(path):
    FileCheckpoint(path).save("7 abc")
    FileCheckpoint(path).save("8 grün")
    assert FileCheckpoint(path).load() == "8 grün"
    assert [item.name for item in path.parent.iterdir()] == ["checkpoint"]


def test_there_is_no_line_before_the_first(path):
    assert FileCheckpoint(path).load() is None


def test_an_empty_line_is_a_line(path):
    FileCheckpoint(path).save("")
    assert FileCheckpoint(path).load() == ""


@pytest.mark.parametrize("line", ["two\nlines", "x" * 70_000])
def test_what_is_no_line_is_refused_and_the_line_before_stays(path, line):
    FileCheckpoint(path).save("1 a")
    with pytest.raises(ValueError, match="one line"):
        FileCheckpoint(path).save(line)
    assert FileCheckpoint(path).load() == "1 a"


@given(st.data())
def test_damage_reads_as_a_line_that_no_ledger_holds(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damage") / "checkpoint"
    FileCheckpoint(path).save("12 0123456789abcdef")
    whole = path.read_bytes()
    broken = bytearray(whole)
    for _ in range(data.draw(st.integers(0, 3))):
        broken[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    broken = broken[: data.draw(st.integers(0, len(whole)))]
    broken += data.draw(st.binary(max_size=3))
    path.write_bytes(broken)
    expected = "12 0123456789abcdef" if bytes(broken) == whole else ""
    assert FileCheckpoint(path).load() == expected


@given(st.binary(max_size=200))
def test_any_bytes_read_as_a_line_that_no_ledger_holds(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("foreign") / "checkpoint"
    path.write_bytes(data)
    assert FileCheckpoint(path).load() == ""


def test_what_cannot_be_read_is_not_trusted_and_what_cannot_be_written_is_an_error(path):
    path.mkdir(parents=True)
    assert FileCheckpoint(path).load() == ""
    with pytest.raises(OSError, match="checkpoint"):
        FileCheckpoint(path).save("1 a")


def test_killed_at_any_point_it_holds_the_line_before_or_the_new_one(path):
    found = []
    while True:
        FileCheckpoint(path).save("1 old")
        command = [sys.executable, "-c", SAVE_AND_DIE, str(path), str(len(found))]
        ended = subprocess.run(command, check=False, timeout=60, env=os.environ)
        found.append(FileCheckpoint(path).load())
        if ended.returncode == 0:
            break
    # open, eight short writes, fsync, close, replace; open, fsync, close of the folder; the end.
    news = found.index("2 new")
    assert found == ["1 old"] * news + ["2 new"] * (len(found) - news)
    assert len(found) > 10
    FileCheckpoint(path).save("3 next")
    assert FileCheckpoint(path).load() == "3 next"
