"""Each fault that the backend would reject is found where it was planted, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfx_encore.kubeflow.problems import TABLE, Problem
from tfx_encore.kubeflow.spec_checks import (
    check_image,
    check_mounts,
    check_name,
    check_package,
    is_below,
)
from tfx_encore.kubeflow.spec_package import Package

Spoil = Callable[[Any, Any], Any]


def _executor(spec: Any, task: str) -> Any:
    label = spec["components"][task]["executorLabel"]
    return spec["deploymentSpec"]["executors"][label]


def _output(spec: Any, task: str, key: str) -> Any:
    return spec["components"][task]["outputDefinitions"]["artifacts"][key]


def _task(spec: Any, name: str) -> Any:
    return spec["root"]["dag"]["tasks"][name]


def _parameter(spec: Any, task: str, key: str) -> Any:
    return _task(spec, task)["inputs"]["parameters"][key]


def _root(spec: Any, name: str) -> Any:
    return spec["root"]["inputDefinitions"]["parameters"][name]


def _mounts(platform: Any, label: str = "Trainer_executor") -> Any:
    return platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"][label]["pvcMount"]


def _replace(target: Any, **values: Any) -> None:
    target.clear()
    target.update(values)


def _constant(value: Any) -> dict[str, Any]:
    return {"runtimeValue": {"constant": value}}


def _args(spec: Any, task: str, value: str) -> None:
    _executor(spec, task)["container"]["args"].append(value)


def _rename(spec: Any, old: str, new: str) -> None:
    tasks = spec["root"]["dag"]["tasks"]
    tasks[new] = tasks.pop(old)


# code -> (how to plant it, what the message names)
FAULTS: dict[str, list[tuple[Spoil, str]]] = {
    "schema_version": [(lambda s, p: s.update(schemaVersion="2.0.0"), "'2.0.0'")],
    "name": [
        (lambda s, p: s["pipelineInfo"].update(name="Taxi_Release"), "'Taxi_Release'"),
        (lambda s, p: s["pipelineInfo"].update(name=""), "''"),
        (lambda s, p: s["pipelineInfo"].update(name="a" * 64), "aaa"),
        (lambda s, p: s["pipelineInfo"].update(name="taxi-"), "'taxi-'"),
    ],
    "root": [(lambda s, p: s["root"]["dag"]["tasks"].clear(), "no task")],
    "task_name": [(lambda s, p: _rename(s, "VersionedPusher", "my_pusher"), "my_pusher")],
    "component": [
        (lambda s, p: s["components"].pop("VersionedPusher"), "VersionedPusher"),
        (lambda s, p: s["deploymentSpec"]["executors"].pop("Trainer_executor"), "Trainer"),
    ],
    "resolver": [
        (lambda s, p: _replace(_executor(s, "LiveRelease"), resolver={}), "LiveRelease"),
    ],
    "custom_job": [(lambda s, p: _replace(_executor(s, "Trainer"), customJob={}), "Trainer")],
    "infra_validator": [
        (
            lambda s, p: _args(s, "Trainer", "tfx.components.infra_validator.executor.Executor"),
            "Trainer",
        )
    ],
    "iterator": [
        (lambda s, p: _task(s, "Trainer").update(artifactIterator={"itemInput": "x"}), "Trainer")
    ],
    "condition": [
        (
            lambda s, p: (
                _replace(_executor(s, "SchemaText"), importer={}),
                _task(s, "SchemaText").update(triggerPolicy={"condition": "true"}),
            ),
            "SchemaText",
        )
    ],
    "producer": [
        (lambda s, p: _task(s, "Trainer")["dependentTasks"].append("Tuner"), "Tuner"),
        (
            lambda s, p: _task(s, "Trainer")["inputs"]["artifacts"]["examples"][
                "taskOutputArtifact"
            ].update(producerTask="Tuner"),
            "Tuner",
        ),
        (
            lambda s, p: _parameter(s, "VersionedPusher", "provenance")[
                "taskOutputParameter"
            ].update(producerTask="ReleasePlanner_task"),
            "ReleasePlanner_task",
        ),
        (
            lambda s, p: _parameter(s, "VersionedPusher", "provenance")[
                "taskOutputParameter"
            ].update(outputParameterKey="origin"),
            "ReleasePlanner.origin",
        ),
    ],
    "circle": [
        (lambda s, p: _task(s, "SchemaText").update(dependentTasks=["Trainer"]), "SchemaText")
    ],
    "parameter": [
        (
            lambda s, p: _replace(
                _parameter(s, "LiveRelease", "releases"), componentInputParameter="folder"
            ),
            "'folder'",
        ),
        (
            lambda s, p: _replace(
                _parameter(s, "LiveRelease", "label"), runtimeValue={"runtimeParameter": "label"}
            ),
            "label of LiveRelease",
        ),
        (lambda s, p: _task(s, "LiveRelease")["inputs"]["parameters"].pop("label"), "no value"),
        (
            lambda s, p: _task(s, "LiveRelease")["inputs"]["parameters"].update(
                colour=_constant("red")
            ),
            "colour of LiveRelease",
        ),
        (
            lambda s, p: _replace(
                _parameter(s, "LiveRelease", "label"), componentInputParameter="span"
            ),
            "NUMBER_INTEGER for a STRING",
        ),
        (
            lambda s, p: _replace(_root(s, "span"), type="INT"),
            "parameter span: type not given",
        ),
    ],
    "default": [
        (lambda s, p: _root(s, "span").update(defaultValue="one"), "'one' is no NUMBER_INTEGER"),
        (lambda s, p: _root(s, "span").update(defaultValue=True), "True"),
        (lambda s, p: _root(s, "drift").update(defaultValue={}), "parameter drift"),
    ],
    "artifact_type": [
        (
            lambda s, p: _output(s, "Trainer", "model").update(artifactType={"schemaUri": "x"}),
            "output model of Trainer",
        ),
        (
            lambda s, p: _output(s, "Trainer", "model").update(
                artifactType={"instanceSchema": "type: object"}
            ),
            "without a title",
        ),
    ],
    "typed_artifact": [
        (
            lambda s, p: _output(s, "CacheWarmer", "snapshot").update(
                artifactType={
                    "instanceSchema": "title: tfx_encore.CacheSnapshot\nproperties:\n"
                    "  entries:\n    type: integer\n"
                }
            ),
            "entries",
        )
    ],
    "artifact_list": [
        (lambda s, p: _output(s, "Trainer", "model").update(isArtifactList=True), "model")
    ],
    "input_types": [
        (
            lambda s, p: _executor(s, "Trainer")["container"].update(
                command=[
                    "python",
                    "-m",
                    "tfx.orchestration.kubeflow.v2.container.kubeflow_v2_run_executor",
                ]
            ),
            "Trainer",
        )
    ],
    "span_pattern": [
        (
            lambda s, p: _replace(
                _parameter(s, "CsvExampleGen", "input_config"),
                **_constant('{"splits": [{"pattern": "span-{SPAN}/*"}]}'),
            ),
            "holds {SPAN}",
        )
    ],
    "image": [(lambda s, p: _executor(s, "Trainer")["container"].update(image=""), "Trainer")],
    "image_tag": [
        (lambda s, p: _executor(s, "Trainer")["container"].update(image="r:5000/e"), "no tag"),
        (
            lambda s, p: _executor(s, "Trainer")["container"].update(image="r/e:latest"),
            "the tag latest",
        ),
    ],
    "path": [
        (lambda s, p: _root(s, "releases").update(defaultValue="/data/releases"), "/data"),
        (
            lambda s, p: _replace(_parameter(s, "LiveRelease", "releases"), **_constant("/r")),
            "releases of LiveRelease",
        ),
        (lambda s, p: _root(s, "spans").update(defaultValue="/encore-data/*.csv"), "/encore-data"),
    ],
    "mount": [
        (lambda s, p: _mounts(p)[0].update(mountPath="encore"), "'encore'"),
        (lambda s, p: _mounts(p)[0].update(mountPath="/"), "'/'"),
        (lambda s, p: _mounts(p)[0].update(mountPath="/minio/x"), "'/minio/x'"),
        (lambda s, p: _mounts(p)[0].update(mountPath="/tmp/"), "'/tmp/'"),
        (lambda s, p: _mounts(p)[1].update(mountPath="/encore"), "request-log"),
    ],
    "claim": [
        (lambda s, p: _mounts(p)[0].update(constant="Encore_Releases"), "'Encore_Releases'"),
        (lambda s, p: _mounts(p)[0].pop("constant"), "''"),
    ],
    "pipeline_root": [
        (lambda s, p: s.update(defaultPipelineRoot="/encore/root"), "'/encore/root'"),
        (lambda s, p: s.update(defaultPipelineRoot="file:///x"), "file:///x"),
    ],
    "size": [(lambda s, p: _root(s, "drift").update(defaultValue="x" * 10**6), "bytes")],
    "runner": [(lambda s, p: _args(s, "Transform", "--runner=DaskRunner"), "DaskRunner")],
    "direct_runner": [
        (lambda s, p: _args(s, "Transform", "--runner=DirectRunner"), "DirectRunner")
    ],
}
# Found in the project, before there is a specification: test_project_checks.py.
OF_PROJECTS = {"data", "module", "releases", "sqlite"}


@pytest.mark.parametrize(
    ("code", "spoil", "named"),
    [(code, spoil, named) for code, faults in FAULTS.items() for spoil, named in faults],
)
def test_a_planted_fault_is_found_and_named(
    package: Callable[..., Package], code: str, spoil: Spoil, named: str
) -> None:
    spoiled = package("release")
    spoil(spoiled.pipeline, spoiled.platform)
    found = check_package(spoiled.pipeline, spoiled.platform)
    mine = [problem for problem in found if problem.code == code]
    assert any(named in str(problem) for problem in mine), found
    for problem in mine:
        assert TABLE[code].why in str(problem)
        assert TABLE[code].way_out in str(problem)


@pytest.mark.parametrize("kind", ["release", "nightly"])
def test_what_we_compile_has_no_problem(package: Callable[..., Package], kind: str) -> None:
    compiled = package(kind)
    assert check_package(compiled.pipeline, compiled.platform) == ()


def test_every_kind_of_problem_has_a_fault_that_shows_it() -> None:
    assert set(FAULTS) | OF_PROJECTS == set(TABLE)


def test_a_problem_is_told_once(package: Callable[..., Package]) -> None:
    spoiled = package("release")
    for executor in spoiled.pipeline["deploymentSpec"]["executors"].values():
        executor["container"]["image"] = "e"
    found = check_package(spoiled.pipeline, spoiled.platform)
    assert len(found) == len(set(found)) == 12


def test_without_volumes_every_path_is_a_problem(package: Callable[..., Package]) -> None:
    found = {problem.where for problem in check_package(package("nightly").pipeline, {})}
    assert found == {"parameter releases", "parameter request_log"}


@given(st.text(max_size=80))
def test_a_name_passes_only_if_kubernetes_takes_it(name: str) -> None:
    lower = set("abcdefghijklmnopqrstuvwxyz")
    taken = (
        0 < len(name) <= 63
        and name[0] in lower
        and name[-1] != "-"
        and set(name) <= lower | set("0123456789-")
    )
    assert (not list(check_name(name))) == taken


@given(st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=4))
def test_a_path_is_below_a_mount_by_whole_folders(parts: list[str]) -> None:
    path = "/" + "/".join(parts)
    for count in range(1, len(parts) + 1):
        assert is_below(path, "/" + "/".join(parts[:count]))
    assert not is_below(path + "x", path)
    assert not is_below(path, path + "/deeper")


@pytest.mark.parametrize(
    ("image", "code"),
    [
        ("registry.example:5000/encore:1.4", None),
        ("registry.example/encore@sha256:" + "0" * 64, None),
        ("registry.example:5000/encore", "image_tag"),
        ("encore:latest", "image_tag"),
        ("", "image"),
    ],
)
def test_an_image_is_named_by_version_or_digest(image: str, code: str | None) -> None:
    assert [problem.code for problem in check_image(image, "x")] == ([code] if code else [])


def test_a_volume_may_be_mounted_below_tmp() -> None:
    assert list(check_mounts([("encore", "/tmp/encore")])) == []


def test_warnings_do_not_stand_in_the_way() -> None:
    warnings = {code for code, entry in TABLE.items() if entry.severity == "warning"}
    assert warnings == {"image_tag", "direct_runner"}
    assert Problem("image_tag", "x", "y").severity == "warning"
