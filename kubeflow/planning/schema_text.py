"""SchemaText: puts out the curated schema that was embedded when the pipeline was compiled."""

from __future__ import annotations

from typing import Any

from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.utils import io_utils

TEXT, SCHEMA = "text", "schema"
SCHEMA_FILE = "schema.pbtxt"

Artifacts = dict[str, list[types.Artifact]]


class Executor(base_executor.BaseExecutor):
    """Executor of SchemaText."""

    def Do(  # noqa: N802 - TFX names it
        self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]
    ) -> None:
        """Writes `schema.pbtxt`."""
        del input_dict
        schema = artifact_utils.get_single_instance(output_dict[SCHEMA])
        io_utils.write_string_file(f"{schema.uri}/{SCHEMA_FILE}", exec_properties[TEXT])


class SchemaTextSpec(ComponentSpec):
    """Outputs and parameters of SchemaText."""

    PARAMETERS = {TEXT: ExecutionParameter(type=str)}  # noqa: RUF012 - TFX's form
    INPUTS: dict[str, ChannelParameter] = {}  # noqa: RUF012
    OUTPUTS = {SCHEMA: ChannelParameter(type=standard_artifacts.Schema)}  # noqa: RUF012


class SchemaText(base_component.BaseComponent):
    """Stands for ImportSchemaGen where the schema's file is not within reach of the tasks.

    Args:
        text: the schema in text format. It is the component's only input, so that Kubeflow's cache
            answers for it until the schema changes.
    """

    SPEC_CLASS = SchemaTextSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(self, text: str) -> None:
        spec = SchemaTextSpec(**{TEXT: text, SCHEMA: types.Channel(type=standard_artifacts.Schema)})
        super().__init__(spec=spec)
