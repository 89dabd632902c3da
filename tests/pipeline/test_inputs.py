"""What goes into a release: the user's module, the schema, and the digests of both."""

from __future__ import annotations

import pathlib

import pytest

from tfx_encore.pipeline.config import ProjectConfig, parse_config
from tfx_encore.pipeline.csv_columns import Column
from tfx_encore.pipeline.data_schema import content_addressed, read_columns
from tfx_encore.pipeline.inputs import inputs_digest, module_digest, resolve_module
from tfx_encore.schemas.errors import ConfigError, DataError


def test_a_file_of_the_project_is_imported_by_its_stem_from_its_folder(tmp_path):
    (tmp_path / "code").mkdir()
    file = tmp_path / "code" / "model.py"
    file.write_text("")
    assert resolve_module("code/model.py", tmp_path) == ("model", str(tmp_path / "code"), file)


def test_an_installed_module_is_imported_by_its_name(tmp_path):
    name, folder, source = resolve_module("tfx_encore.pipeline.taxi.model", tmp_path)
    assert (name, folder, source.name) == ("tfx_encore.pipeline.taxi.model", "", "model.py")


@pytest.mark.parametrize("module", ["absent.py", "absent", "absent.module", "tfx_encore.absent"])
def test_a_module_that_is_not_there_is_named_with_its_key(tmp_path, module):
    with pytest.raises(ConfigError, match=r"training\.module") as caught:
        resolve_module(module, tmp_path)
    assert module in str(caught.value)


def _config(**changes) -> ProjectConfig:
    document = {
        "model": "churn",
        "data": {"spans": "data/{SPAN}/*.csv", "schema": "s.pbtxt"},
        "training": {"module": "model.py"},
        "evaluation": {"label_key": "churned"},
    }
    return parse_config({**document, **changes}, source="encore.yaml")


@pytest.mark.parametrize(
    "changes",
    [
        {"training": {"module": "model.py", "train_steps": 7}},
        {"drift": {"severity": "WARN"}},
        {"warmup": {"max_entries": 7}},
        {"evaluation": {"label_key": "churned", "slices": [["a"]]}},
        {"data": {"spans": "data/{SPAN}/*.csv", "schema": "s.pbtxt", "eval_share": 0.2}},
    ],
)
def test_what_decides_over_a_release_changes_its_digest(changes):
    assert inputs_digest(_config(**changes), "d", "s", "c") != inputs_digest(
        _config(), "d", "s", "c"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"workspace": "elsewhere"},
        {"beam": {"options": ["--parallelism=2"]}},
        {"metadata": {"grpc": "host:8080"}},
        {"release": {"keep_versions": 9}},
        {"data": {"spans": "moved/{SPAN}/*.csv", "schema": "s.pbtxt"}},
    ],
)
def test_where_and_how_it_runs_does_not(changes):
    assert inputs_digest(_config(**changes), "d", "s", "c") == inputs_digest(
        _config(), "d", "s", "c"
    )


def test_data_schema_and_code_each_change_the_digest():
    digests = {
        inputs_digest(_config(), *parts)
        for parts in [("d", "s", "c"), ("D", "s", "c"), ("d", "S", "c"), ("d", "s", "C")]
    }
    assert len(digests) == 4


def test_a_module_digest_is_of_the_source(tmp_path):
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "b.py").write_text("x = 1\n")
    (tmp_path / "c.py").write_text("x = 2\n")
    a, b, c = (module_digest(tmp_path / f"{name}.py") for name in "abc")
    assert a == b != c
    assert a.startswith("sha256:")


def _schema(folder: pathlib.Path, text: str) -> pathlib.Path:
    file = folder / "schema.pbtxt"
    file.write_text(text)
    return file


def test_a_schema_gives_the_columns_their_types_and_whether_they_are_required(tmp_path):
    text = """
        feature { name: "a" type: INT presence { min_fraction: 1.0 } }
        feature { name: "b c" type: FLOAT presence { min_count: 1 } }
        feature { name: "d" type: BYTES }
    """
    assert read_columns(_schema(tmp_path, text)) == {
        "a": Column("a", "INT", required=True),
        "b c": Column("b c", "FLOAT", required=False),
        "d": Column("d", "BYTES", required=False),
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no feature"),
        ("feature { nam: 'a' }", "not a schema in text format"),
        ("feature {", "not a schema in text format"),
    ],
)
def test_what_is_no_schema_is_refused(tmp_path, text, said):
    file = _schema(tmp_path, text)
    with pytest.raises(DataError, match=said) as caught:
        read_columns(file)
    assert str(file) in str(caught.value)


def test_a_schema_that_is_not_there_says_how_to_get_one(tmp_path):
    with pytest.raises(DataError, match="`encore init` infers one"):
        read_columns(tmp_path / "absent.pbtxt")


def test_an_edited_schema_is_copied_under_another_path(tmp_path):
    file = _schema(tmp_path, 'feature { name: "a" }')
    first = content_addressed(file, tmp_path / "copies")
    assert content_addressed(file, tmp_path / "copies") == first
    file.write_text('feature { name: "b" }')
    second = content_addressed(file, tmp_path / "copies")
    assert second != first
    assert 'name: "a"' in first.read_text()
    assert 'name: "b"' in second.read_text()
