"""What a fingerprint depends on, and what it does not."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tfx_encore.metadata.fingerprint import content_files, fingerprint_saved_model
from tfx_encore.schemas.errors import ModelError


@pytest.fixture
def saved_model(tmp_path: Path) -> Path:
    model = tmp_path / "model"
    for name, content in {
        "saved_model.pb": b"graph",
        "variables/variables.index": b"index",
        "variables/variables.data-00000-of-00001": b"weights",
        "assets/vocabulary.txt": b"Cash\nCard\n",
        "fingerprint.pb": b"uuid 1",
        "keras_metadata.pb": b"keras",
        "assets.extra/tf_serving_warmup_requests": b"requests",
    }.items():
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        (model / name).write_bytes(content)
    return model


def test_a_fingerprint_is_sha256_and_64_hexadecimal_digits(saved_model: Path) -> None:
    kind, digits = fingerprint_saved_model(saved_model).split(":")
    assert kind == "sha256"
    assert len(digits) == 64
    assert int(digits, 16) > 0


def test_the_fingerprint_of_known_content_never_changes(saved_model: Path) -> None:
    # A changed value orphans every cached answer and makes every release look edited.
    assert fingerprint_saved_model(str(saved_model)) == (
        "sha256:2ebb1602d52315f1b9573e0ecd1a8e09cf615b7290abafcbc789d721f2ded2c5"
    )


def test_a_copy_elsewhere_has_the_same_fingerprint(saved_model: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(saved_model, tmp_path / "elsewhere" / "7")
    os.utime(copy / "saved_model.pb", (1, 1))
    assert fingerprint_saved_model(copy) == fingerprint_saved_model(saved_model)


@pytest.mark.parametrize(
    "name",
    [
        "saved_model.pb",
        "variables/variables.index",
        "variables/variables.data-00000-of-00001",
        "assets/vocabulary.txt",
    ],
)
def test_each_content_file_counts(saved_model: Path, name: str) -> None:
    before = fingerprint_saved_model(saved_model)
    (saved_model / name).write_bytes((saved_model / name).read_bytes() + b"\0")
    assert fingerprint_saved_model(saved_model) != before


@pytest.mark.parametrize(
    "name",
    [
        "fingerprint.pb",
        "keras_metadata.pb",
        "assets.extra/tf_serving_warmup_requests",
        "debug/saved_model_debug_info.pb",
        "notes.txt",
    ],
)
def test_what_changes_no_answer_does_not_count(saved_model: Path, name: str) -> None:
    before = fingerprint_saved_model(saved_model)
    (saved_model / name).parent.mkdir(exist_ok=True)
    (saved_model / name).write_bytes(b"something else")
    assert fingerprint_saved_model(saved_model) == before


def test_bytes_moved_from_one_file_to_the_next_change_it(saved_model: Path) -> None:
    before = fingerprint_saved_model(saved_model)
    (saved_model / "variables/variables.index").write_bytes(b"indexw")
    (saved_model / "variables/variables.data-00000-of-00001").write_bytes(b"eights")
    assert fingerprint_saved_model(saved_model) != before


def test_a_renamed_asset_changes_it(saved_model: Path) -> None:
    before = fingerprint_saved_model(saved_model)
    (saved_model / "assets/vocabulary.txt").rename(saved_model / "assets/words.txt")
    assert fingerprint_saved_model(saved_model) != before


def test_assets_in_folders_count_and_come_in_order_of_path(saved_model: Path) -> None:
    (saved_model / "assets/b").mkdir()
    (saved_model / "assets/b/x.txt").write_bytes(b"x")
    (saved_model / "assets/a.txt").write_bytes(b"a")
    assert content_files(saved_model) == (
        "assets/a.txt",
        "assets/b/x.txt",
        "assets/vocabulary.txt",
        "saved_model.pb",
        "variables/variables.data-00000-of-00001",
        "variables/variables.index",
    )


def test_a_directory_without_a_graph_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nothing-here.*holds no saved_model\.pb"):
        fingerprint_saved_model(tmp_path / "nothing-here")


def test_a_content_file_that_cannot_be_read_is_a_model_error(saved_model: Path) -> None:
    (saved_model / "variables/variables.index").unlink()
    (saved_model / "variables/variables.index").symlink_to(saved_model / "gone")
    with pytest.raises(ModelError, match=r"variables\.index"):
        fingerprint_saved_model(saved_model)
