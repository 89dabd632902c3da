"""Logs as TensorFlow Serving writes them, and one night of the component on them."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import standard_artifacts

from tfx_encore.components.request_log_example_gen.component import RequestLogExampleGen
from tfx_encore.components.request_log_example_gen.executor import Executor, read_log_report
from tfx_encore.components.request_log_example_gen.log_file import frame
from tfx_encore.pipeline.beam_options import beam_args
from tfx_encore.schemas.artifacts import RequestLogReport
from tfx_encore.schemas.nightly_policy import NightlyPolicy
from tfx_encore.schemas.nights import LogReport

DATE = "2016-01-12"
NOON = 1_452_600_000  # seconds since 1970
SCHEMA = """
feature { name: "fare" type: FLOAT }
feature { name: "hour" type: INT }
feature { name: "company" type: BYTES }
"""
LOG = prediction_log_pb2.PredictionLog


def example_of(**values: Any) -> tf.train.Example:
    example = tf.train.Example()
    for name, value in values.items():
        feature = example.features.feature[name]
        kind = {float: "float_list", int: "int64_list", bytes: "bytes_list"}[type(value)]
        getattr(feature, kind).value.append(value)
    return example


def _begin(version: int, signature: str, seconds: int) -> Any:
    log = LOG()
    log.log_metadata.model_spec.name = "taxi"
    log.log_metadata.model_spec.version.value = version
    log.log_metadata.model_spec.signature_name = signature
    log.log_metadata.timestamp_secs = seconds
    log.log_metadata.saved_model_tags.append("serve")
    return log


def predict_examples(
    examples: Sequence[tf.train.Example],
    scores: Any,
    *,
    signature: str = "serving_default",
    seconds: int = NOON,
    version: int = 3,
    name: str = "examples",
) -> Any:
    """A Predict with a vector of Examples."""
    log = _begin(version, signature, seconds)
    request = log.predict_log.request
    request.model_spec.name = "taxi"
    data = [example.SerializeToString() for example in examples]
    request.inputs[name].CopyFrom(tf.make_tensor_proto(data, tf.string, [len(data)]))
    proto = tf.make_tensor_proto(scores, tf.float32)
    log.predict_log.response.outputs["probability"].CopyFrom(proto)
    return log


def predict_tensors(inputs: dict[str, Any], scores: Any, **more: Any) -> Any:
    """A Predict with a tensor for each feature."""
    log = predict_examples([], scores, signature="predict_raw", **more)
    del log.predict_log.request.inputs["examples"]
    for name, value in inputs.items():
        log.predict_log.request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return log


def classify(
    examples: Sequence[tf.train.Example],
    scores: Sequence[float],
    context: tf.train.Example | None = None,
) -> Any:
    """A Classify, with the classes 0 and 1; with a context if one is given."""
    log = _begin(3, "serving_default", NOON)
    given = log.classify_log.request.input
    if context is None:
        given.example_list.examples.extend(examples)
    else:
        given.example_list_with_context.examples.extend(examples)
        given.example_list_with_context.context.CopyFrom(context)
    for score in scores:
        found = log.classify_log.response.result.classifications.add()
        found.classes.add(label="1", score=score)
        found.classes.add(label="0", score=1 - score)
    return log


def regress(examples: Sequence[tf.train.Example], scores: Sequence[float]) -> Any:
    """A Regress."""
    log = _begin(3, "serving_default", NOON)
    log.regress_log.request.input.example_list.examples.extend(examples)
    for score in scores:
        log.regress_log.response.result.regressions.add(value=score)
    return log


def write_log(path: Path, records: Iterable[Any]) -> Path:
    """Writes records (messages or bytes) as a TFRecord file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = b"".join(
        frame(record if isinstance(record, bytes) else record.SerializeToString())
        for record in records
    )
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@dataclass
class Made:
    """What a run left behind."""

    folder: Path
    report: LogReport
    examples: Any = None
    files: list[Path] = field(default_factory=list)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The Examples as name -> value (a list if there are several), in order of the files."""
        data = tf.data.TFRecordDataset([str(path) for path in self.files], "GZIP")
        return [_plain(tf.train.Example.FromString(record.numpy())) for record in data]

    @property
    def set_aside(self) -> Path:
        return self.folder / "log_report" / "set_aside"


def _plain(example: tf.train.Example) -> dict[str, Any]:
    row = {}
    for name, feature in sorted(example.features.feature.items()):
        values = list(getattr(feature, feature.WhichOneof("kind")).value)
        row[name] = values[0] if len(values) == 1 else values
    return row


@pytest.fixture(scope="session")
def logs() -> SimpleNamespace:
    """The functions above, for the tests."""
    makers = (example_of, predict_examples, predict_tensors, classify, regress, write_log)
    return SimpleNamespace(NOON=NOON, DATE=DATE, **{maker.__name__: maker for maker in makers})


@pytest.fixture
def night(tmp_path: Path) -> Callable[..., Made]:
    """Returns a function that runs the component's executor on files, in real Beam."""
    runs = 0

    def run(files: Sequence[Path], schema: str | None = SCHEMA, **more: Any) -> Made:
        nonlocal runs
        runs += 1
        folder = tmp_path / f"run-{runs}"
        more = {"date": DATE, "model_name": "taxi", "policy": NightlyPolicy()} | more
        more.setdefault("signatures", ("serving_default", "predict_raw"))
        component = RequestLogExampleGen(files, **more)
        examples, report = standard_artifacts.Examples(), RequestLogReport()
        inputs = {}
        for name, artifact in (("examples", examples), ("log_report", report)):
            (folder / name).mkdir(parents=True)
            artifact.uri = str(folder / name)
        if schema is not None:
            given = standard_artifacts.Schema()
            given.uri = str(folder / "schema")
            (folder / "schema").mkdir()
            (folder / "schema" / "schema.pbtxt").write_text(schema)
            inputs["schema"] = [given]
        context = BaseBeamExecutor.Context(
            beam_pipeline_args=[*beam_args("FnApiRunner")],
            tmp_dir=str(folder / "tmp"),
            unique_id="1",
        )
        outputs = {"examples": [examples], "log_report": [report]}
        Executor(context).Do(inputs, outputs, dict(component.exec_properties))
        made = sorted((folder / "examples" / "Split-night").iterdir())
        return Made(folder, read_log_report(report.uri), examples, made)

    return run
