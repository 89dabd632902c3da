"""The files that are compiled, as Kubeflow's own SDK and its API server read them."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from tfx_encore.kubeflow.spec_package import Package, package_text, read_package, write_package
from tfx_encore.schemas.errors import ConfigError

KINDS = ["release", "nightly"]


def _loaded(files: Any, kind: str) -> Any:
    from kfp.client import client

    return client._extract_pipeline_yaml(files[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_kubeflows_client_reads_both_documents(files: Any, kind: str) -> None:
    document = _loaded(files, kind)
    assert document.pipeline_spec.schema_version == "2.1.0"
    assert document.pipeline_spec.pipeline_info.name == f"taxi-{kind}"
    executors = document.platform_spec.platforms["kubernetes"].deployment_spec.executors
    assert len(executors) == 12


@pytest.mark.parametrize("kind", KINDS)
def test_kubeflows_component_loader_reads_the_inputs(files: Any, kind: str) -> None:
    from kfp import components

    loaded = components.load_component_from_file(files[kind])
    assert (
        set(loaded.component_spec.inputs)
        == {
            "release": {"spans", "span", "releases", "request_log", "drift", "evaluation"},
            "nightly": {"date", "releases", "request_log", "labels", "evaluation", "nightly"},
        }[kind]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_one_that_the_messages_have(compiled: Any, kind: str) -> None:
    from kfp.pipeline_spec import pipeline_spec_pb2 as pb

    package = compiled[kind]
    spec = json_format.ParseDict(package.pipeline, pb.PipelineSpec())
    json_format.ParseDict(package.platform, pb.PlatformSpec())
    deployment = json_format.MessageToDict(spec.deployment_spec)
    json_format.ParseDict(deployment, pb.PipelineDeploymentConfig())


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_has_a_default_and_says_what_it_is_for(compiled: Any, kind: str) -> None:
    for name, declared in compiled[kind].parameters.items():
        assert "defaultValue" in declared, name
        assert declared["description"], name


def test_paths_start_at_the_volume(compiled: Any) -> None:
    defaults = {n: d["defaultValue"] for n, d in compiled["release"].parameters.items()}
    assert defaults["spans"] == "/encore/.encore/data/span-{SPAN}/*.csv"
    assert defaults["releases"] == "/encore/.encore/releases"
    assert (defaults["span"], defaults["request_log"]) == (1, "")
    nightly = {n: d["defaultValue"] for n, d in compiled["nightly"].parameters.items()}
    assert nightly["request_log"] == "/encore/.encore/requests"
    assert (nightly["date"], nightly["labels"]) == ("open", "")


@pytest.mark.parametrize("kind", KINDS)
def test_volumes_and_secrets_are_those_of_the_kubernetes_extension(
    compiled: Any, kind: str
) -> None:
    platform = compiled[kind].platform
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(executors) == set(compiled[kind].pipeline["deploymentSpec"]["executors"])
    for config in executors.values():
        assert config == {
            "pvcMount": [
                {"constant": "encore-releases", "mountPath": "/encore"},
                {"constant": "request-log", "mountPath": "/logs"},
            ],
            "secretAsEnv": [
                {
                    "secretName": "encore-keys",
                    "keyToEnv": [{"secretKey": "request-log", "envVar": "ENCORE_KEY"}],
                }
            ],
            "imagePullSecret": [{"secretName": "registry"}],
        }


@pytest.mark.parametrize("kind", KINDS)
def test_what_reads_the_world_is_never_answered_from_the_cache(compiled: Any, kind: str) -> None:
    tasks = compiled[kind].pipeline["root"]["dag"]["tasks"]
    cached = {name for name, task in tasks.items() if task.get("cachingOptions")}
    assert cached == {
        "release": {
            "SchemaText", "CsvExampleGen", "StatisticsGen", "ExampleValidator", "DriftValidator",
            "Transform", "Trainer", "SlicedEvaluator",
        },
        "nightly": set(),
    }[kind]  # fmt: skip


def test_the_cache_sees_that_files_changed_in_place(compiled: Any) -> None:
    given = compiled["release"].pipeline["root"]["dag"]["tasks"]["CsvExampleGen"]["inputs"]
    source = given["parameters"]["input_fingerprint"]["taskOutputParameter"]
    assert source == {
        "producerTask": "ReleasePlanner",
        "outputParameterKey": "planned_data_digest",
    }


@pytest.mark.parametrize("kind", KINDS)
def test_tasks_run_our_entry_point_and_no_hook(compiled: Any, kind: str) -> None:
    for executor in compiled[kind].pipeline["deploymentSpec"]["executors"].values():
        container = executor["container"]
        assert container["command"] == ["python", "-m", "tfx_encore.kubeflow.entrypoint"]
        assert "lifecycle" not in container


def test_a_package_is_read_as_it_was_written(
    package: Callable[..., Package], tmp_path: pathlib.Path
) -> None:
    written = package("release")
    write_package(written, tmp_path / "p.yaml")
    assert read_package(tmp_path / "p.yaml") == written
    without = Package(written.pipeline)
    write_package(without, tmp_path / "p.yaml")
    assert read_package(tmp_path / "p.yaml") == without
    assert [file.name for file in tmp_path.iterdir()] == ["p.yaml"]


@given(
    st.one_of(
        st.text(max_size=20),
        st.sampled_from(["1e5", "0x1F", "010", "on", "No", "null", "~", "12:30:45", "1_000",
                         "2016-01-12", ".5", "=", "<<", "true", "- x", "{a}", "#c", "NaN", ".inf"]),
    )
)  # fmt: skip
def test_text_stays_text_whichever_yaml_reads_it(text: str) -> None:
    """Go's reader knows other numbers than Python's: what is no plain word is quoted."""
    document = package_text(Package({"pipelineInfo": {"name": "n"}, "value": text}))
    assert yaml.safe_load(document)["value"] == text
    line = next(line for line in document.splitlines() if line.startswith("value: "))
    shown = line.removeprefix("value: ")
    assert shown.startswith('"') or (shown.replace("_", "").isalpha() and shown.isascii())
    if shown.startswith('"'):
        assert shown.endswith('"')


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", "not readable as YAML"),
        ("a: 1", "holds no single pipeline specification"),
        ("pipelineInfo: {}\n---\npipelineInfo: {}", "holds no single pipeline"),
        ("- 1", "holds no single pipeline"),
    ],
)
def test_a_file_that_is_no_pipeline_is_refused(
    tmp_path: pathlib.Path, content: str, message: str
) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_package(file)


def test_sizes_are_far_from_what_kubernetes_takes(compiled: Any) -> None:
    for package in compiled.values():
        assert len(json.dumps(package.pipeline)) < 100_000
