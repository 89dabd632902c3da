"""Compiles the release pipeline into a Kubeflow Pipelines v2 specification."""

from __future__ import annotations

import json
import pathlib
from typing import Any

from tfx.dsl.components.base.base_node import BaseNode
from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner as dag_runner
from tfx.orchestration.pipeline import Pipeline


def compile_pipeline(pipeline: Pipeline, *, image: str, output: pathlib.Path) -> dict[str, Any]:
    """Writes the specification of a pipeline, as JSON, and returns it.

    Components that read the world (what is live, what was pushed) are never answered from
    Kubeflow's cache, though the rest of the pipeline is.

    Args:
        pipeline: the pipeline; it must not have been compiled or run before.
        image: the container image that runs the components.
        output: the file to write.
    """
    uncached = {node.id for node in pipeline.components if _reads_world(node)}
    runner = dag_runner.KubeflowV2DagRunner(
        config=dag_runner.KubeflowV2DagRunnerConfig(
            default_image=image, use_pipeline_spec_2_1=True
        ),
        output_dir=str(output.parent),
        output_filename=output.name,
    )
    runner.run(pipeline, write_out=True)
    specification: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    for name, task in specification["pipelineSpec"]["root"]["dag"]["tasks"].items():
        if name in uncached:
            task["cachingOptions"] = {}
    output.write_text(json.dumps(specification, indent=2, sort_keys=True), encoding="utf-8")
    return specification


def _reads_world(node: BaseNode) -> bool:
    return bool(getattr(node, "READS_WORLD", False))
