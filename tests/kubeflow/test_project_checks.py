"""What could not run on Kubeflow is refused before anything is compiled, with the way out."""

from __future__ import annotations

import pathlib
from dataclasses import replace
from typing import Any

import pytest

from tfx_encore.kubeflow.project_checks import check_project
from tfx_encore.kubeflow.target import Target, Volume
from tfx_encore.pipeline.config import ProjectConfig, load_config

ROOT = pathlib.Path(__file__).parents[2]
TARGET = Target("registry.example/encore:1", (Volume("encore", "/encore"),))


@pytest.fixture(scope="module")
def config() -> ProjectConfig:
    return load_config(ROOT / "encore.yaml")


def _with(config: ProjectConfig, section: str, **changes: Any) -> ProjectConfig:
    changed = getattr(config, section).model_copy(update=changes)
    return config.model_copy(update={section: changed})


def _codes(kind: str, config: ProjectConfig, target: Target = TARGET) -> list[str]:
    return [problem.code for problem in check_project(kind, config, target, "taxi")]


@pytest.mark.parametrize("kind", ["release", "nightly"])
def test_the_example_can_run(config: ProjectConfig, kind: str) -> None:
    assert _codes(kind, config) == []


def test_a_module_that_is_a_file_is_in_no_container(config: ProjectConfig) -> None:
    with_file = _with(config, "training", module="model.py")
    (problem,) = check_project("release", with_file, TARGET, "taxi")
    assert problem.code == "module"
    assert "`COPY model.py`" in str(problem)
    assert "--module model" in str(problem)
    assert _codes("nightly", with_file) == [], "nights do not train"


def test_data_beside_no_volume_is_refused(config: ProjectConfig) -> None:
    elsewhere = _with(config, "data", spans="/data/span-{SPAN}/*.csv")
    assert _codes("release", elsewhere) == ["path"]
    mounted = replace(TARGET, volumes=(*TARGET.volumes, Volume("data", "/data")))
    assert _codes("release", elsewhere, mounted) == []


def test_data_that_no_file_system_reaches_is_refused(config: ProjectConfig) -> None:
    assert _codes("release", _with(config, "data", spans="s3://data/{SPAN}/*.csv")) == ["data"]
    assert _codes("nightly", _with(config, "nightly", request_log="gs://logs")) == ["data"]


def test_the_release_directory_is_on_a_volume(config: ProjectConfig) -> None:
    for place in ("s3://bucket/releases", "/releases"):
        other = config.model_copy(update={"releases": place})
        assert "releases" in _codes("nightly", other)


def test_sqlite_and_dask_are_refused(config: ProjectConfig) -> None:
    assert _codes("release", _with(config, "metadata", sqlite="m.sqlite")) == ["sqlite"]
    assert _codes("release", _with(config, "beam", runner="DaskRunner")) == ["runner"]


def test_a_pipeline_root_is_a_bucket(config: ProjectConfig) -> None:
    assert _codes("release", config, replace(TARGET, pipeline_root="/encore/x")) == [
        "pipeline_root"
    ]
    for root in ("s3://b/x", "gs://b/x", "minio://b/x"):
        assert _codes("release", config, replace(TARGET, pipeline_root=root)) == []


def test_a_folder_of_code_is_on_a_volume(config: ProjectConfig) -> None:
    for folder, codes in (("/encore/code", []), ("/code", ["path"])):
        target = replace(TARGET, environment=(("PYTHONPATH", folder),))
        assert _codes("release", config, target) == codes


def test_no_image_and_no_name_are_refused(config: ProjectConfig) -> None:
    found = check_project("release", config, replace(TARGET, image=""), "Taxi")
    assert [problem.code for problem in found] == ["name", "image"]
