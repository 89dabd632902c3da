"""ReleasePlanner: what `encore run` does before TFX starts, as the first task on Kubeflow."""

from __future__ import annotations

import pathlib
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from tfx_encore.kubeflow.bindings import RELEASE_PLANNED, values_of
from tfx_encore.kubeflow.effective import effective_config
from tfx_encore.kubeflow.planning.given import config_text, run_id_of, schema_file
from tfx_encore.kubeflow.planning.values import value_channels, value_outputs, write_values
from tfx_encore.metadata.files import digest_of
from tfx_encore.pipeline import data_schema
from tfx_encore.pipeline.config import ProjectConfig, check_features, features_used
from tfx_encore.pipeline.inputs import module_digest, provenance, resolve_module
from tfx_encore.pipeline.plan import ReleaseInputs
from tfx_encore.pipeline.release import release_components
from tfx_encore.pipeline.spans import Span, read_span

CONFIG, SPANS, SPAN, RUN_ID = "config", "spans", "span", "run_id"
DRIFT, EVALUATION, SCHEMA = "drift", "evaluation", "schema"
DIGEST = "data_digest"
OUTPUTS = (*RELEASE_PLANNED, DIGEST)

Artifacts = dict[str, list[types.Artifact]]


class Executor(base_executor.BaseExecutor):
    """Executor of ReleasePlanner."""

    def Do(  # noqa: N802 - TFX names it
        self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]
    ) -> None:
        """Finds and checks the span's files; hands out what the components need to know of them.

        Raises:
            ConfigError: a threshold is not valid, or the module cannot be imported.
            DataError: there is no such span, or its data cannot be used; names file and line.
        """
        config = effective_config("release", exec_properties[CONFIG], exec_properties)
        schema = schema_file(input_dict[SCHEMA])
        columns = data_schema.read_columns(schema)
        check_features(features_used(config), columns, "pipeline parameters")
        span = read_span(exec_properties[SPANS], pathlib.Path("/"), exec_properties[SPAN], columns)
        inputs = _inputs(config, span, schema, run_id_of(exec_properties[RUN_ID]))
        values = values_of(release_components(config, inputs), RELEASE_PLANNED)
        write_values(output_dict, {**values, DIGEST: span.digest})


def _inputs(config: ProjectConfig, span: Span, schema: pathlib.Path, run_id: str) -> ReleaseInputs:
    module, _, source = resolve_module(config.training.module, pathlib.Path("/"))
    code = module_digest(source)
    return ReleaseInputs(
        data_folder=str(span.folder),
        data_pattern=pathlib.PurePath(span.source).name.replace("{SPAN}", str(span.number)),
        schema_path=str(schema),
        module=module,
        module_digest=code,
        releases="-",
        provenance=provenance(config, span, digest_of(schema), code, run_id),
    )


class ReleasePlannerSpec(ComponentSpec):
    """Inputs, outputs and parameters of ReleasePlanner."""

    PARAMETERS = {  # noqa: RUF012 - TFX's form
        CONFIG: ExecutionParameter(type=str),
        SPANS: ExecutionParameter(type=str),
        SPAN: ExecutionParameter(type=int),
        RUN_ID: ExecutionParameter(type=str),
        DRIFT: ExecutionParameter(type=str),
        EVALUATION: ExecutionParameter(type=str),
    }
    INPUTS = {SCHEMA: ChannelParameter(type=standard_artifacts.Schema)}  # noqa: RUF012
    OUTPUTS = value_outputs(OUTPUTS)


class ReleasePlanner(base_component.BaseComponent):
    """Finds the span's files and checks every cell; says what the release will be made from.

    Its outputs are the parameters in `bindings.RELEASE_PLANNED`, and `data_digest`. It is never
    answered from a cache: files change in place.

    Args:
        schema: `Schema` of the data.
        config: the project, as JSON.
        spans: absolute pattern of the CSV files; {SPAN} stands for the number.
        span: the number.
        drift: the `drift` section of this run, as JSON.
        evaluation: the `evaluation` section of this run, as JSON.
        run_id: unique name of the run.
    """

    SPEC_CLASS = ReleasePlannerSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
    READS_WORLD = True

    def __init__(
        self,
        schema: types.BaseChannel,
        config: ProjectConfig,
        *,
        spans: Any,
        span: Any,
        drift: Any,
        evaluation: Any,
        run_id: str,
    ) -> None:
        spec = ReleasePlannerSpec(
            **{
                SCHEMA: schema,
                CONFIG: config_text(config),
                SPANS: spans,
                SPAN: span,
                DRIFT: drift,
                EVALUATION: evaluation,
                RUN_ID: run_id,
                **value_channels(OUTPUTS),
            }
        )
        super().__init__(spec=spec)
