"""Finds in a project what could not run on Kubeflow, before anything is compiled. No IO here."""

from __future__ import annotations

from collections.abc import Iterator

from tfx_encore.kubeflow.parameters import nightly_parameters, release_parameters
from tfx_encore.kubeflow.problems import Problem
from tfx_encore.kubeflow.spec_checks import (
    ROOT_SCHEMES,
    check_image,
    check_mounts,
    check_name,
    check_path,
    check_runner,
    is_below,
)
from tfx_encore.kubeflow.target import Target
from tfx_encore.pipeline.config import ProjectConfig

_PATHS = ("spans", "request_log", "labels")
# What planners list; the release's request log is read by Beam, wherever TFX's fileio reaches.
_LISTED = {"release": ("spans",), "nightly": ("request_log", "labels")}


def check_project(
    kind: str, config: ProjectConfig, target: Target, name: str
) -> tuple[Problem, ...]:
    """Everything about a project and its target that stands in the way.

    Args:
        kind: `release` or `nightly`.
        config: the project.
        target: where it would run.
        name: what the pipeline would be called.
    """
    return (
        *check_name(name),
        *_check_image(target),
        *check_mounts([(volume.claim, volume.path) for volume in target.volumes]),
        *_check_places(kind, config, target),
        *_check_module(kind, config),
        *_check_settings(config, target),
    )


def _check_image(target: Target) -> Iterator[Problem]:
    yield from (p for p in check_image(target.image, "--image") if p.severity == "error")


def _check_places(kind: str, config: ProjectConfig, target: Target) -> Iterator[Problem]:
    build = release_parameters if kind == "release" else nightly_parameters
    values = {p.name: str(p.default) for p in build(config, target)}
    mounts = [volume.path for volume in target.volumes]
    releases = values["releases"]
    if "://" in releases or not any(is_below(releases, mount) for mount in mounts):
        yield Problem("releases", "releases", f"{releases} is on no volume")
    for name in _PATHS:
        yield from check_path(values.get(name, ""), mounts, name)
    for name in _LISTED[kind]:
        if "://" in values[name]:
            yield Problem("data", name, f"{values[name]} is no path")
    for folder in dict(target.environment).get("PYTHONPATH", "").split(":"):
        yield from check_path(folder, mounts, "--pythonpath")


def _check_module(kind: str, config: ProjectConfig) -> Iterator[Problem]:
    if kind == "release" and config.training.module.endswith(".py"):
        yield Problem("module", "training.module", config.training.module)


def _check_settings(config: ProjectConfig, target: Target) -> Iterator[Problem]:
    if config.metadata.sqlite:
        yield Problem("sqlite", "metadata.sqlite", config.metadata.sqlite)
    yield from check_runner(config.beam.runner, "beam.runner")
    root = target.pipeline_root
    if root and not root.startswith(ROOT_SCHEMES):
        yield Problem("pipeline_root", "--pipeline-root", root)
