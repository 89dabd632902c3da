"""Executor of RequestLogExampleGen: artifacts in, artifacts out; `night_examples` does the work."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from absl import logging
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx import types
from tfx.components.example_gen import utils
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_executor
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils
from tfx.utils import io_utils

from tfx_encore.components.night_json import read_night_json
from tfx_encore.components.night_recorder.night_files import read_night_files
from tfx_encore.components.request_log_example_gen.labels import LabelKeys
from tfx_encore.components.request_log_example_gen.messages import Wanted
from tfx_encore.components.request_log_example_gen.night_examples import Night, make_examples
from tfx_encore.components.shared_files import scratch_folder
from tfx_encore.schemas.errors import DataError
from tfx_encore.schemas.nights import SPLIT, LogReport
from tfx_encore.schemas.serial import to_json

FILES, LABEL_FILES, DATE, MODEL_NAME = "files", "label_files", "date", "model_name"
SIGNATURES, PREDICTION_KEY, JOIN, COLUMN = "signatures", "prediction_key", "join", "label_column"
BY_OWN_TIME, INPUTS_DIGEST = "by_own_time", "inputs_digest"
SCHEMA, EXAMPLES, LOG_REPORT, NIGHT = "schema", "examples", "log_report", "night"
LOG_FILE = "log.json"
_GZIP_FORMAT = "tfrecords_gzip"

Artifacts = dict[str, list[types.Artifact]]
_KINDS = {
    schema_pb2.FLOAT: "float32",
    schema_pb2.INT: "int64",
    schema_pb2.BYTES: "string",
}


class Executor(base_beam_executor.BaseBeamExecutor):
    """Makes the Examples of a night."""

    def Do(  # noqa: N802 - TFX's name
        self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]
    ) -> None:
        """Runs RequestLogExampleGen; inputs, outputs and parameters as in `component`.

        Raises:
            DataError: a file that cannot be opened, labels without their columns, no such day.
            ConfigError: labels are to be joined by a feature that the schema lacks.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        given = with_files(exec_properties, input_dict.get(NIGHT) or [])
        night = night_of(given, schema_kinds(input_dict.get(SCHEMA) or []))
        examples = artifact_utils.get_single_instance(output_dict[EXAMPLES])
        report = artifact_utils.get_single_instance(output_dict[LOG_REPORT])
        describe_examples(examples, night.date)
        with scratch_folder(self._get_tmp_dir() if self._context else None, "request-log") as tmp:
            split = artifact_utils.get_split_uri([examples], SPLIT)
            found = make_examples(self._make_beam_pipeline, night, split, report.uri, tmp)
        write_report(found, report, night)


def with_files(properties: dict[str, Any], nights: Sequence[types.Artifact]) -> dict[str, Any]:
    """The parameters with the files of a `NightFiles` artifact, if there is one.

    Raises:
        DataError: it cannot be read.
    """
    if not nights:
        return properties
    inputs = read_night_files(artifact_utils.get_single_uri(list(nights)))
    return {
        **properties,
        FILES: json.dumps([file.path for file in inputs.log]),
        LABEL_FILES: json.dumps([file.path for file in inputs.labels]),
    }


def night_of(properties: dict[str, Any], kinds: dict[str, str] | None) -> Night:
    """What to read, from the parameters.

    Raises:
        ConfigError: labels are to be joined by a feature that the schema lacks.
    """
    join = tuple(json.loads(properties[JOIN]))
    keys = LabelKeys.of(properties[COLUMN], join, kinds or {})
    wanted = Wanted(
        model=properties[MODEL_NAME],
        signatures=tuple(json.loads(properties[SIGNATURES])),
        prediction_key=properties[PREDICTION_KEY],
        kinds=kinds,
        join=keys.features,
    )
    return Night(
        date=properties[DATE],
        files=tuple(json.loads(properties[FILES])),
        label_files=tuple(json.loads(properties[LABEL_FILES])),
        wanted=wanted,
        keys=keys,
        by_own_time=bool(properties[BY_OWN_TIME]),
    )


def schema_kinds(schemas: Sequence[types.Artifact]) -> dict[str, str] | None:
    """Feature -> dtype of an Example, from the schema; None without one.

    Raises:
        DataError: the schema cannot be read.
    """
    if not schemas:
        return None
    uri = io_utils.get_only_uri_in_dir(artifact_utils.get_single_uri(list(schemas)))
    try:
        schema = io_utils.parse_pbtxt_file(uri, schema_pb2.Schema())
    except text_format.ParseError as error:
        raise DataError(f"{uri} is not a schema: {error}") from error
    return {f.name: _KINDS[f.type] for f in schema.feature if f.type in _KINDS}


def describe_examples(examples: types.Artifact, date: str) -> None:
    """Says what the files are, as every ExampleGen does."""
    span = int(date.replace("-", ""))
    examples.split_names = artifact_utils.encode_split_names([SPLIT])
    examples.span = span
    examples.set_int_custom_property(utils.SPAN_PROPERTY_NAME, span)
    examples_utils.set_payload_format(examples, example_gen_pb2.FORMAT_TF_EXAMPLE)
    examples.set_string_custom_property(utils.FILE_FORMAT_PROPERTY_NAME, _GZIP_FORMAT)


def write_report(found: LogReport, report: types.Artifact, night: Night) -> None:
    """Writes `log.json`, and the main figures into the artifact's custom properties."""
    io_utils.write_string_file(f"{report.uri}/{LOG_FILE}", to_json(found, indent=2) + "\n")
    report.set_string_custom_property("model", night.wanted.model)
    report.set_string_custom_property("date", night.date)
    report.set_int_custom_property("rows", found.rows)
    report.set_int_custom_property("unreadable", found.unreadable)
    if found.unreadable or found.labels_bad:
        logging.warning(
            "RequestLogExampleGen: %d of %d records unreadable, %d bad labels (%s)",
            found.unreadable,
            found.records,
            found.labels_bad,
            "; ".join(found.bad_labels[:3]) or "none",
        )


def read_log_report(uri: str) -> LogReport:
    """Reads the report of a `RequestLogReport` artifact.

    Raises:
        DataError: it is missing or not one.
    """
    return read_night_json(LogReport, f"{uri}/{LOG_FILE}")
