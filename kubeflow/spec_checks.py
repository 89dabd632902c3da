"""Finds in a compiled pipeline what the open-source backend would reject. No IO here.

A pure function from a specification to problems, so that it serves pipelines of any origin.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, Optional

import yaml

from tfx_encore.kubeflow.problems import Problem
from tfx_encore.kubeflow.task_checks import check_tasks

Spec = Mapping[str, Any]

SCHEMA_VERSION = "2.1.0"
MAX_BYTES = 900_000  # of the 1 MiB that etcd takes, less what Argo adds
PIPELINE_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?\Z")
OBJECT_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\Z")
ROOT_SCHEMES = ("s3://", "gs://", "minio://")
_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "STRING": (str,),
    "NUMBER_INTEGER": (int,),
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": (bool,),
    "LIST": (list,),
    "STRUCT": (dict,),
}
# Where the backend mounts its own volumes, and where nothing may be mounted.
_TAKEN = (
    *("/kfp-launcher", "/kfp-workspace", "/gcs", "/s3", "/minio"),
    *("/.local", "/.cache", "/.config", "/etc", "/usr", "/proc", "/dev", "/sys"),
)
_WHOLE = ("/", "/tmp")  # noqa: S108 - below them there is room
_PLANNERS = "tfx_encore.kubeflow.planning."
_PLACES = ("{SPAN}", "{VERSION}", "{YYYY}", "{MM}", "{DD}")


def check_package(pipeline: Spec, platform: Optional[Spec] = None) -> tuple[Problem, ...]:
    """Everything in a compiled pipeline that the backend would reject, or that is unwise.

    Args:
        pipeline: the PipelineSpec.
        platform: the PlatformSpec, if there is one.
    """
    found = [problem for check in _CHECKS for problem in check(pipeline)]
    mounts = _mounts(platform or {})
    found += _check_mounts(pipeline, platform or {})
    found += _check_paths(pipeline, mounts)
    return tuple(dict.fromkeys(found))


def _check_heading(pipeline: Spec) -> Iterator[Problem]:
    version = pipeline.get("schemaVersion", "")
    if version != SCHEMA_VERSION:
        yield Problem("schema_version", "schemaVersion", repr(version))
    yield from check_name(str(pipeline.get("pipelineInfo", {}).get("name", "")))
    if not pipeline.get("root", {}).get("dag", {}).get("tasks"):
        yield Problem("root", "root", "no task")
    root = str(pipeline.get("defaultPipelineRoot", ""))
    if root and not root.startswith(ROOT_SCHEMES):
        yield Problem("pipeline_root", "defaultPipelineRoot", repr(root))


def check_name(name: str) -> Iterator[Problem]:
    """Whether a pipeline can have this name."""
    if not PIPELINE_NAME.match(name):
        yield Problem("name", "the pipeline's name", repr(name))


def _check_size(pipeline: Spec) -> Iterator[Problem]:
    size = len(json.dumps(pipeline, separators=(",", ":")).encode())
    if size > MAX_BYTES:
        yield Problem("size", "the specification", f"{size:,} bytes")


def _check_root_parameters(pipeline: Spec) -> Iterator[Problem]:
    for name, declared in root_parameters(pipeline).items():
        kind = declared.get("parameterType", "")
        wanted = _PYTHON_TYPES.get(kind)
        if wanted is None:
            yield Problem("parameter", f"parameter {name}", f"type {kind or 'not given'}")
        elif "defaultValue" in declared and not _is(declared["defaultValue"], wanted):
            value = declared["defaultValue"]
            yield Problem("default", f"parameter {name}", f"{value!r} is no {kind}")


def root_parameters(pipeline: Spec) -> Mapping[str, Any]:
    """Name -> declaration of the pipeline's parameters."""
    found: Mapping[str, Any] = (
        pipeline.get("root", {}).get("inputDefinitions", {}).get("parameters", {})
    )
    return found


def _is(value: Any, wanted: tuple[type, ...]) -> bool:
    if isinstance(value, bool):
        return bool in wanted
    if wanted == (int,):
        return isinstance(value, (int, float)) and float(value).is_integer()
    return isinstance(value, wanted)


def _check_executors(pipeline: Spec) -> Iterator[Problem]:
    for label, executor in pipeline.get("deploymentSpec", {}).get("executors", {}).items():
        if "resolver" in executor:
            yield Problem("resolver", label, "a Resolver")
        elif "customJob" in executor:
            yield Problem("custom_job", label, "a custom job")
        elif "container" in executor:
            yield from _check_container(label, executor["container"])


def _check_container(label: str, container: Spec) -> Iterator[Problem]:
    yield from check_image(str(container.get("image", "")), label)
    command = [*container.get("command", []), *container.get("args", [])]
    if any("infra_validator" in part for part in command):
        yield Problem("infra_validator", label, "InfraValidator")
    if any("kubeflow_v2_run_executor" in part for part in command):
        yield Problem("input_types", label, "TFX's own entry point")
    runners = {part.partition("=")[2] for part in command if part.startswith("--runner=")}
    for runner in sorted(runners):
        yield from check_runner(runner, label)


def check_image(image: str, where: str) -> Iterator[Problem]:
    """Whether tasks can run in this image."""
    if not image:
        yield Problem("image", where, "no image")
        return
    tag = image.rpartition("/")[2].partition(":")[2]
    if "@sha256:" not in image and tag in {"", "latest"}:
        yield Problem("image_tag", where, f"{image} has {'the tag latest' if tag else 'no tag'}")


def check_runner(runner: str, where: str) -> Iterator[Problem]:
    """Whether this Beam runner can be relied on."""
    if "dask" in runner.lower():
        yield Problem("runner", where, f"the Beam runner {runner}")
    elif runner in {"DirectRunner", "BundleBasedDirectRunner"}:
        yield Problem("direct_runner", where, f"the Beam runner {runner}")


def _check_artifacts(pipeline: Spec) -> Iterator[Problem]:
    for name, component in pipeline.get("components", {}).items():
        for key, artifact in component.get("outputDefinitions", {}).get("artifacts", {}).items():
            yield from _check_artifact(f"output {key} of {name}", artifact)


def _check_artifact(where: str, artifact: Spec) -> Iterator[Problem]:
    if artifact.get("isArtifactList"):
        yield Problem("artifact_list", where, "several artifacts")
    kind = artifact.get("artifactType", {})
    if kind.get("schemaTitle"):
        return
    schema = _yaml(str(kind.get("instanceSchema", "")))
    title = str(schema.get("title", ""))
    if not title:
        yield Problem("artifact_type", where, "a type without a title")
    elif schema.get("properties") and not title.startswith("tfx."):
        names = ", ".join(schema["properties"])
        yield Problem("typed_artifact", where, f"{title} has the properties {names}")


def _yaml(text: str) -> dict[str, Any]:
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        return {}
    return found if isinstance(found, dict) else {}


def _check_span_patterns(pipeline: Spec) -> Iterator[Problem]:
    planners = {
        name
        for name, executor in pipeline.get("deploymentSpec", {}).get("executors", {}).items()
        if any(_PLANNERS in part for part in executor.get("container", {}).get("args", []))
    }
    for name, task in _tasks(pipeline).items():
        component = pipeline.get("components", {}).get(task.get("componentRef", {}).get("name"), {})
        if component.get("executorLabel") in planners:
            continue
        for key, value in _constants(task):
            places = [place for place in _PLACES if place in value]
            if places:
                yield Problem("span_pattern", f"{key} of {name}", f"holds {' and '.join(places)}")


def _tasks(pipeline: Spec) -> Mapping[str, Any]:
    found: Mapping[str, Any] = pipeline.get("root", {}).get("dag", {}).get("tasks", {})
    return found


def _constants(task: Spec) -> Iterator[tuple[str, str]]:
    for key, source in task.get("inputs", {}).get("parameters", {}).items():
        value = source.get("runtimeValue", {}).get("constant")
        if isinstance(value, str):
            yield key, value


def _check_paths(pipeline: Spec, mounts: list[str]) -> Iterator[Problem]:
    """Absolute local paths that no task could see."""
    places = [
        (f"parameter {name}", declared.get("defaultValue"))
        for name, declared in root_parameters(pipeline).items()
    ]
    for name, task in _tasks(pipeline).items():
        places += [(f"{key} of {name}", value) for key, value in _constants(task)]
    for where, value in places:
        if isinstance(value, str):
            yield from check_path(value, mounts, where)


def check_path(value: str, mounts: list[str], where: str) -> Iterator[Problem]:
    """Whether tasks see a path; what is no absolute path is none of its business."""
    if not value.startswith("/") or "\n" in value:
        return
    if not any(is_below(value, mount) for mount in mounts):
        below = ", ".join(mounts) or "none"
        yield Problem("path", where, f"{value} is below no volume ({below})")


def is_below(path: str, mount: str) -> bool:
    """Whether a path is a mount's, or below it."""
    folder = PurePosixPath(mount)
    return folder == PurePosixPath(path) or folder in PurePosixPath(path).parents


def _executor_configs(platform: Spec) -> Mapping[str, Any]:
    found: Mapping[str, Any] = (
        platform.get("platforms", {})
        .get("kubernetes", {})
        .get("deploymentSpec", {})
        .get("executors", {})
    )
    return found


def _mounts(platform: Spec) -> list[str]:
    configs = _executor_configs(platform).values()
    paths = [mount.get("mountPath", "") for c in configs for mount in c.get("pvcMount", [])]
    return sorted(set(paths))


def _check_mounts(pipeline: Spec, platform: Spec) -> Iterator[Problem]:
    executors = pipeline.get("deploymentSpec", {}).get("executors", {})
    for label, config in _executor_configs(platform).items():
        if label not in executors:
            yield Problem("component", f"platform of {label}", "no such executor")
        mounts = config.get("pvcMount", [])
        yield from check_mounts(
            [(str(m.get("constant", "")), str(m.get("mountPath", ""))) for m in mounts]
        )


def check_mounts(mounts: list[tuple[str, str]]) -> Iterator[Problem]:
    """Whether claims can be mounted at these paths: (claim, path) of each."""
    for number, (claim, path) in enumerate(mounts):
        if not OBJECT_NAME.match(claim):
            yield Problem("claim", f"volume {path}", repr(claim))
        others = {other for _, other in mounts[:number]}
        wrong = not path.startswith("/") or path in others or path.rstrip("/") in _WHOLE
        if wrong or path == "/" or any(is_below(path, taken) for taken in _TAKEN):
            yield Problem("mount", f"volume {claim}", f"mounted at {path!r}")


_CHECKS: tuple[Callable[[Spec], Iterator[Problem]], ...] = (
    _check_heading,
    _check_size,
    _check_root_parameters,
    _check_executors,
    _check_artifacts,
    _check_span_patterns,
    check_tasks,
)
