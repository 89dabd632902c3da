"""From a project to compiled packages that Kubeflow will accept."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from tfx_encore.kubeflow.problems import Problem
from tfx_encore.kubeflow.project_checks import check_project
from tfx_encore.kubeflow.resources import check_tasks_named
from tfx_encore.kubeflow.spec_checks import check_package
from tfx_encore.kubeflow.spec_package import Package, write_package
from tfx_encore.kubeflow.target import Target
from tfx_encore.pipeline.config import ProjectConfig, check_features, features_used
from tfx_encore.pipeline.data_schema import read_columns
from tfx_encore.schemas.errors import ConfigError

KINDS = ("release", "nightly")


@dataclass(frozen=True)
class Compiled:
    """A package that was written.

    Attributes:
        kind: `release` or `nightly`.
        package: the specification.
        file: where it is.
        warnings: what will run, but is not wise.
    """

    kind: str
    package: Package
    file: pathlib.Path
    warnings: tuple[Problem, ...]


def compile_project(
    kinds: Sequence[str],
    config: ProjectConfig,
    schema_file: pathlib.Path,
    target: Target,
    output: pathlib.Path,
    *,
    name: Optional[str] = None,
) -> tuple[Compiled, ...]:
    """Compiles pipelines of a project; nothing is written if the backend would reject one.

    Args:
        kinds: `release`, `nightly` or both.
        config: the project.
        schema_file: its curated schema; it becomes part of the specifications.
        target: where the pipelines will run.
        output: folder to write `<kind>.yaml` into.
        name: the pipeline's name on Kubeflow; the model's and the kind if not given.

    Raises:
        ConfigError: the backend would reject a pipeline, or it could not run there; gives the
            reason and the way out of each problem.
        DataError: the schema cannot be read.
    """
    check_features(features_used(config), read_columns(schema_file), "encore.yaml")
    names = {kind: name or f"{config.model}-{kind}".lower().replace("_", "-") for kind in kinds}
    for kind in kinds:
        refuse(kind, check_project(kind, config, target, names[kind]))
    found = []
    for kind in kinds:
        package = _compile(kind, config, schema_file, target, names[kind])
        problems = check_package(package.pipeline, package.platform)
        refuse(kind, problems)
        warnings = tuple(p for p in problems if p.severity == "warning")
        found.append(Compiled(kind, package, output / f"{kind}.yaml", warnings))
    check_tasks_named(target, [each.package.pipeline for each in found])
    for each in found:
        write_package(each.package, each.file)
    return tuple(found)


def refuse(kind: str, problems: tuple[Problem, ...]) -> None:
    """Raises ConfigError, with every problem, if there is one that is no mere warning."""
    errors = [problem for problem in problems if problem.severity == "error"]
    if errors:
        lines = "".join(f"\n  - {problem}" for problem in errors)
        raise ConfigError(f"the {kind} pipeline cannot run on Kubeflow:{lines}")


def _compile(
    kind: str, config: ProjectConfig, schema_file: pathlib.Path, target: Target, name: str
) -> Package:
    from tfx_encore.kubeflow import graphs
    from tfx_encore.kubeflow.compiler import compile_package

    build = {"release": graphs.release_pipeline, "nightly": graphs.nightly_pipeline}[kind]
    pipeline, parameters = build(config, schema_file, target, name)
    return compile_package(pipeline, parameters, target)
