"""Runs a TFX pipeline in this process, one component after the other, telling of each.

TFX's LocalDagRunner does the same without a word; this one reports every component's start and end,
and whether TFX's cache answered it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Optional

from ml_metadata.proto import metadata_store_pb2
from tfx.dsl.compiler import compiler, constants
from tfx.orchestration import metadata
from tfx.orchestration.local import runner_utils
from tfx.orchestration.pipeline import Pipeline
from tfx.orchestration.portable import launcher, runtime_parameter_utils

from tfx_encore.pipeline.plan import StepResult


@dataclass(frozen=True)
class Output:
    """An artifact that a component wrote.

    Attributes:
        id: its id in ML Metadata.
        uri: where its files are.
        properties: its custom properties.
    """

    id: int
    uri: str
    properties: dict[str, Any]


@dataclass(frozen=True)
class Listener:
    """What wants to know how the run goes."""

    started: Callable[[str, int, int], None]
    ended: Callable[[StepResult], None]


class StepError(Exception):
    """A component failed; the cause is `__cause__`."""

    def __init__(self, step: str) -> None:
        self.step = step
        super().__init__(step)


def run_pipeline(
    pipeline: Pipeline, run_id: str, listener: Listener
) -> dict[str, dict[str, Output]]:
    """Runs every component of a pipeline.

    Returns:
        component id -> output key -> the artifact (the first, where there are several).

    Raises:
        StepError: a component failed; those after it were not run.
    """
    ir = compiler.Compiler().compile(pipeline)
    runtime_parameter_utils.substitute_runtime_parameter(
        ir, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: run_id}
    )
    deployment = runner_utils.extract_local_deployment_config(ir)
    kind = deployment.metadata_connection_config.WhichOneof("connection_config")
    connection = metadata.Metadata(getattr(deployment.metadata_connection_config, kind))
    outputs: dict[str, dict[str, Output]] = {}
    for index, node in enumerate(ir.nodes, start=1):
        step = node.pipeline_node.node_info.id
        listener.started(step, index, len(ir.nodes))
        began = time.monotonic()
        try:
            execution_id = _launch(ir, node.pipeline_node, deployment, connection)
        except Exception as error:
            listener.ended(StepResult(step, "failed", time.monotonic() - began))
            raise StepError(step) from error
        cached, outputs[step] = _look_up(connection, execution_id)
        seconds = time.monotonic() - began
        listener.ended(StepResult(step, "cached" if cached else "ran", seconds))
    return outputs


def _launch(ir: Any, node: Any, deployment: Any, connection: metadata.Metadata) -> Optional[int]:
    """Runs one component; returns its execution's id."""
    execution = launcher.Launcher(
        pipeline_node=node,
        mlmd_connection=connection,
        pipeline_info=ir.pipeline_info,
        pipeline_runtime_spec=ir.runtime_spec,
        executor_spec=runner_utils.extract_executor_spec(deployment, node.node_info.id),
        custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment, node.node_info.id),
    ).launch()
    return None if execution is None else int(execution.execution_id)


def _look_up(
    connection: metadata.Metadata, execution_id: Optional[int]
) -> tuple[bool, dict[str, Output]]:
    """Whether the cache answered, and what the execution put out (cached answers included)."""
    if execution_id is None:
        return False, {}
    with connection as handle:
        (execution,) = handle.store.get_executions_by_id([execution_id])
        events = handle.store.get_events_by_execution_ids([execution_id])
        keys = dict(_output_keys(events))
        artifacts = handle.store.get_artifacts_by_id(list(keys))
    cached = execution.last_known_state == metadata_store_pb2.Execution.CACHED
    found: dict[str, Output] = {}
    for artifact in artifacts:
        found.setdefault(keys[artifact.id], _output(artifact))
    return cached, found


def _output_keys(events: Any) -> Iterator[tuple[int, str]]:
    for event in events:
        if event.type == metadata_store_pb2.Event.OUTPUT:
            yield event.artifact_id, event.path.steps[0].key


def _output(artifact: metadata_store_pb2.Artifact) -> Output:
    properties = {
        name: getattr(value, value.WhichOneof("value"))
        for name, value in artifact.custom_properties.items()
    }
    return Output(artifact.id, artifact.uri, properties)
