"""Which files a night is made from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tfx_encore.components.request_log_example_gen.sources import (
    by_own_time,
    files_digest,
    find_label_files,
    find_log_files,
)
from tfx_encore.schemas.errors import DataError
from tfx_encore.schemas.nightly_policy import LabelsPolicy, LogPolicy


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(path.name.encode())


def test_the_whole_files_of_a_model_and_day_are_found(tmp_path):
    day = tmp_path / "a%2Fb" / "2016-01-12"
    touch(day / "b.tfrecord", day / "a.tfrecord", day / ".c.tfrecord.part", day / ".d.tfrecord")
    touch(tmp_path / "a%2Fb" / "2016-01-13" / "e.tfrecord", tmp_path / "x/2016-01-12/f.tfrecord")
    found = find_log_files(tmp_path, LogPolicy(), "a/b", "2016-01-12")
    assert found == (day / "a.tfrecord", day / "b.tfrecord")
    assert find_log_files(tmp_path, LogPolicy(), "a/b", "2016-01-14") == ()


def test_a_pattern_without_a_date_finds_all_days(tmp_path):
    touch(tmp_path / "serving" / "x-1", tmp_path / "serving" / "deep" / "x-2")
    policy = LogPolicy(files="serving/**/x-*")
    assert by_own_time(policy)
    assert len(find_log_files(tmp_path, policy, "taxi", "2016-01-12")) == 2
    assert not by_own_time(LogPolicy())


def test_a_folder_that_does_not_exist_is_named_with_the_way_out(tmp_path):
    with pytest.raises(DataError, match=r"gone: no such folder; set `nightly.request_log`"):
        find_log_files(tmp_path / "gone", LogPolicy(), "taxi", "2016-01-12")
    labels = LabelsPolicy(files="truth/{DATE}/*.csv")
    with pytest.raises(DataError, match=r"truth: no such folder; `nightly.labels.files`"):
        find_label_files(labels, tmp_path, "2016-01-12")
    with pytest.raises(DataError, match="write it as 2016-01-12"):
        find_log_files(tmp_path, LogPolicy(), "taxi", "12.1.2016")


def test_labels_of_a_day_are_found_once_they_come(tmp_path):
    labels = LabelsPolicy(files="truth/{DATE}*.csv")
    touch(tmp_path / "truth" / "2016-01-11.csv")
    assert find_label_files(labels, tmp_path, "2016-01-12") == ()
    touch(tmp_path / "truth" / "2016-01-12-late.csv", tmp_path / "truth" / "2016-01-12.csv")
    found = find_label_files(labels, tmp_path, "2016-01-12")
    assert [path.name for path in found] == ["2016-01-12-late.csv", "2016-01-12.csv"]


def test_the_digest_follows_content_and_names_but_not_place(tmp_path):
    touch(tmp_path / "one/day/a", tmp_path / "two/day/a", tmp_path / "two/day/b")
    one, two = [tmp_path / "one/day/a"], [tmp_path / "two/day/a"]
    assert files_digest(one) == files_digest(two)
    assert files_digest(one, two) != files_digest([*one, *two])
    assert files_digest(one) != files_digest([tmp_path / "two/day/b"])
    before = files_digest(one)
    one[0].write_bytes(b"more")
    assert files_digest(one) != before


def test_looking_for_files_needs_neither_tfx_nor_tensorflow():
    module = "tfx_encore.components.request_log_example_gen.sources"
    code = f"import sys, {module}; print([m for m in ('tfx', 'tensorflow') if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
