"""The pipelines as Kubeflow runs them: the local ones, with a planner before them."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable
from typing import Any

from tfx.dsl.components.base.base_node import BaseNode
from tfx.orchestration.data_types import RuntimeParameter
from tfx.orchestration.pipeline import Pipeline

from tfx_encore.components.night_recorder.inputs import NightInputs
from tfx_encore.kubeflow import bindings
from tfx_encore.kubeflow.parameters import Parameter, nightly_parameters, release_parameters
from tfx_encore.kubeflow.planning.later_nights import LaterNights
from tfx_encore.kubeflow.planning.night_planner import NIGHT, NightPlanner
from tfx_encore.kubeflow.planning.release_planner import DIGEST, ReleasePlanner
from tfx_encore.kubeflow.planning.schema_text import SchemaText
from tfx_encore.kubeflow.planning.values import placeholders
from tfx_encore.kubeflow.target import Target
from tfx_encore.pipeline.beam_options import beam_args
from tfx_encore.pipeline.config import ProjectConfig
from tfx_encore.pipeline.data_schema import read_columns
from tfx_encore.pipeline.night_plan import NightTask
from tfx_encore.pipeline.nightly_pipeline import NightParts, nightly_components
from tfx_encore.pipeline.plan import ReleaseInputs
from tfx_encore.pipeline.release import release_components
from tfx_encore.schemas.release import Provenance

# The backend puts the run's own values here.
RUN_ID = "{{$.pipeline_job_uuid}}"
SCHEDULED_AT = "{{$.pipeline_job_schedule_time_utc}}"
_LATER = "-"  # stands where a value is bound to something known at run time


def release_pipeline(
    config: ProjectConfig, schema_file: pathlib.Path, target: Target, name: str
) -> tuple[Pipeline, tuple[Parameter, ...]]:
    """The release pipeline for Kubeflow, and its parameters."""
    parameters = release_parameters(config, target)
    given = _runtime(parameters)
    schema = SchemaText(schema_file.read_text(encoding="utf-8"))
    inputs = ReleaseInputs(
        data_folder=_LATER,
        data_pattern=_LATER,
        schema_path=_LATER,
        module=config.training.module,
        module_digest=_LATER,
        releases=_LATER,
        provenance=Provenance(),
    )
    nodes = release_components(config, inputs, schema=schema)
    planner = ReleasePlanner(
        schema=schema.outputs["schema"],
        config=config,
        run_id=RUN_ID,
        **{key: given[key] for key in ("spans", "span", "drift", "evaluation")},
    )
    planned = placeholders(planner.outputs, (*bindings.RELEASE_PLANNED, DIGEST))
    bindings.bind(nodes, bindings.RELEASE_PLANNED, planned)
    bindings.bind(nodes, bindings.RELEASE_GIVEN, given)
    by_id = {node.id: node for node in nodes}
    component, parameter = bindings.DATA_DIGEST
    by_id[component].spec.exec_properties[parameter] = planned[DIGEST]
    by_id["CacheWarmer"].READS_WORLD = True  # a run may give it a request log
    return _pipeline(config, name, [*nodes, planner], cache=True), parameters


def nightly_pipeline(
    config: ProjectConfig, schema_file: pathlib.Path, target: Target, name: str
) -> tuple[Pipeline, tuple[Parameter, ...]]:
    """The nightly pipeline for Kubeflow, and its parameters."""
    parameters = nightly_parameters(config, target)
    given = _runtime(parameters)
    schema = SchemaText(schema_file.read_text(encoding="utf-8"))
    planner = NightPlanner(
        schema=schema.outputs["schema"],
        config=config,
        run_id=RUN_ID,
        scheduled_at=SCHEDULED_AT,
        **given,
    )
    parts = NightParts(
        task=NightTask("1970-01-01", NightInputs(), _LATER),
        run_id=_LATER,
        releases=_LATER,
        schema_path=str(schema_file),
        policy_digest=_LATER,
        schema=schema,
        night=planner.outputs[NIGHT],
    )
    nodes = nightly_components(config, parts)
    planned = placeholders(planner.outputs, bindings.NIGHT_PLANNED)
    bindings.bind(nodes, bindings.NIGHT_PLANNED, planned)
    bindings.bind(nodes, bindings.NIGHT_GIVEN, given)
    later = LaterNights(
        decision={node.id: node for node in nodes}["NightRecorder"].outputs["decision"],
        model_name=config.model,
        features=tuple(read_columns(schema_file)),
        releases=given["releases"],
        nightly=given["nightly"],
        evaluation=given["evaluation"],
        policy_digest=planned["policy_digest"],
        run_id=planned["run_id"],
    )
    return _pipeline(config, name, [*nodes, planner, later], cache=False), parameters


def _runtime(parameters: Iterable[Parameter]) -> dict[str, Any]:
    return {p.name: RuntimeParameter(p.name, ptype=p.type, default=p.default) for p in parameters}


def _pipeline(config: ProjectConfig, name: str, nodes: list[BaseNode], *, cache: bool) -> Pipeline:
    return Pipeline(
        pipeline_name=name,
        pipeline_root="",  # the backend's own, unless a run gives one
        components=nodes,
        beam_pipeline_args=list(beam_args(config.beam.runner, config.beam.options)),
        enable_cache=cache,
    )
