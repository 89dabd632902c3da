"""Compiles pipelines into Kubeflow Pipelines v2 specifications for the open-source backend."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, Optional

from tfx.dsl.components.base.base_node import BaseNode
from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner as dag_runner
from tfx.orchestration.pipeline import Pipeline

from tfx_encore.kubeflow.parameters import Parameter
from tfx_encore.kubeflow.platform_spec import platform_spec
from tfx_encore.kubeflow.resources import set_resources
from tfx_encore.kubeflow.spec_package import Package
from tfx_encore.kubeflow.target import Target

# TFX's own entry point cannot run on the open-source backend (docs/adr/0008).
ENTRY_POINT = ("python", "-m", "tfx_encore.kubeflow.entrypoint")
_SUFFIX = "_task"


def compile_pipeline(pipeline: Pipeline, *, image: str, output: pathlib.Path) -> dict[str, Any]:
    """Writes a pipeline as a PipelineJob, in JSON, and returns it.

    Components that read the world (what is live, what was pushed) are never answered from
    Kubeflow's cache, though the rest of the pipeline is.

    Args:
        pipeline: the pipeline; it must not have been compiled or run before.
        image: the container image that runs the components.
        output: the file to write.
    """
    job = _job(pipeline, image)
    output.write_text(json.dumps(job, indent=2, sort_keys=True), encoding="utf-8")
    return job


def compile_package(pipeline: Pipeline, parameters: Sequence[Parameter], target: Target) -> Package:
    """Compiles a pipeline into what Kubeflow's API server takes.

    Args:
        pipeline: the pipeline; it must not have been compiled or run before.
        parameters: the pipeline parameters that its components name.
        target: where it will run.
    """
    spec: dict[str, Any] = _job(pipeline, target.image)["pipelineSpec"]
    _describe_parameters(spec, parameters)
    if target.pipeline_root:
        spec["defaultPipelineRoot"] = target.pipeline_root
    for executor in spec["deploymentSpec"]["executors"].values():
        container = executor.get("container")
        if container is not None and target.environment:
            container["env"] = [{"name": k, "value": v} for k, v in target.environment]
    set_resources(spec, target)
    return Package(spec, platform_spec(spec, target))


def _job(pipeline: Pipeline, image: str) -> dict[str, Any]:
    uncached = {node.id for node in pipeline.components if _reads_world(node)}
    runner = dag_runner.KubeflowV2DagRunner(
        config=dag_runner.KubeflowV2DagRunnerConfig(
            default_image=image,
            default_commands=list(ENTRY_POINT),
            use_pipeline_spec_2_1=True,
        )
    )
    job: dict[str, Any] = runner.run(pipeline, write_out=False)
    spec = job["pipelineSpec"]
    _mend_producers(spec["root"]["dag"]["tasks"])
    _drop_hooks(spec["deploymentSpec"]["executors"])
    for name, task in spec["root"]["dag"]["tasks"].items():
        if name in uncached:
            task["cachingOptions"] = {}
    return job


def _reads_world(node: BaseNode) -> bool:
    return bool(getattr(node, "READS_WORLD", False))


def _mend_producers(tasks: dict[str, Any]) -> None:
    """TFX names the producer of an output parameter by a task that does not exist."""
    for task in tasks.values():
        for given in task.get("inputs", {}).get("parameters", {}).values():
            source: Optional[dict[str, str]] = given.get("taskOutputParameter")
            if source and source["producerTask"] not in tasks:
                source["producerTask"] = source["producerTask"].removesuffix(_SUFFIX)


def _drop_hooks(executors: dict[str, Any]) -> None:
    """The hook by which TFX finds {SPAN} is Vertex's; the open-source backend passes over it."""
    for executor in executors.values():
        executor.get("container", {}).pop("lifecycle", None)


def _describe_parameters(spec: dict[str, Any], parameters: Iterable[Parameter]) -> None:
    """TFX leaves out what a parameter is by default and what it is for."""
    declared = spec["root"].setdefault("inputDefinitions", {}).setdefault("parameters", {})
    for parameter in parameters:
        declared[parameter.name].update(
            defaultValue=parameter.default, description=parameter.description
        )
