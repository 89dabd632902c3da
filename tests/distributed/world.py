"""A small world for every Beam job: examples, a model, a release, a night's log with its labels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2
from tfx.types import artifact_utils, standard_artifacts

from tfx_encore.schemas.nights import SPLIT

DATE = "2016-01-12"
MODEL = "taxi"
FINGERPRINT = "sha256:" + "ab" * 32
SCHEMA = """
feature { name: "fare" type: FLOAT }
feature { name: "hour" type: INT }
feature { name: "payment_type" type: BYTES }
feature { name: "seconds" type: INT }
feature { name: "tipped" type: INT }
"""
SPEC = {
    "fare": tf.io.FixedLenFeature([], tf.float32, 0.0),
    "hour": tf.io.FixedLenFeature([], tf.int64, -1),
    "payment_type": tf.io.FixedLenFeature([], tf.string, ""),
}
_NOON = 1_452_600_000
_PAYMENTS = (b"Cash", b"Credit Card", b"No Charge")
_FILES = 6  # of each kind, so that there is something to deal out


class Tipper(tf.Module):
    """Reads fare and hour through buckets only, and the payment by name."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = tf.Variable(np.array([-0.05, 0.02, 2.0, -1.0], np.float32))

    def features(self, raw: dict[str, Any]) -> dict[str, Any]:
        return {
            "fare_bucket": tf.floor(raw["fare"] / 5.0),
            "hour_bucket": tf.cast(raw["hour"] // 6, tf.float32),
            "by_card": tf.cast(raw["payment_type"] == "Credit Card", tf.float32),
        }

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string)])
    def transform(self, examples: Any) -> Any:
        return self.features(tf.io.parse_example(examples, SPEC))

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string)])
    def serve(self, examples: Any) -> Any:
        found = self.features(tf.io.parse_example(examples, SPEC))
        columns = [found["fare_bucket"], found["hour_bucket"], found["by_card"]]
        rows = tf.stack([*columns, tf.ones_like(columns[0])], axis=1)
        return {"outputs": tf.sigmoid(tf.linalg.matvec(rows, self.weights))[:, None]}


@dataclass(frozen=True)
class World:
    """Paths of what the jobs read."""

    root: Path

    @property
    def model(self) -> Path:
        return self.root / "model" / "Format-Serving"

    @property
    def log(self) -> list[str]:
        return sorted(map(str, (self.root / "log" / MODEL / DATE).glob("*.tfrecord")))

    @property
    def labels(self) -> list[str]:
        return [str(self.root / "labels.csv")]

    def model_artifact(self) -> Any:
        artifact = standard_artifacts.Model()
        artifact.uri = str(self.root / "model")
        artifact.id = 1
        artifact.set_string_custom_property("fingerprint", FINGERPRINT)
        artifact.set_int_custom_property("version", 3)
        return artifact

    def schema_artifact(self) -> Any:
        artifact = standard_artifacts.Schema()
        artifact.uri = str(self.root / "schema")
        return artifact

    def examples_artifact(self) -> Any:
        artifact = standard_artifacts.Examples()
        artifact.uri = str(self.root / "examples")
        artifact.split_names = artifact_utils.encode_split_names(["train", "eval"])
        return artifact


def make_world(root: Path, rows: int = 1800) -> World:
    """Writes everything."""
    world = World(root)
    module = Tipper()
    signatures = {"serving_default": module.serve, "transform_features": module.transform}
    tf.saved_model.save(module, str(world.model), signatures)
    (root / "schema").mkdir()
    (root / "schema/schema.pbtxt").write_text(SCHEMA)
    rng = np.random.default_rng(11)
    examples = [_example(rng, number) for number in range(rows)]
    for split, part in (("train", examples[: 2 * rows // 3]), ("eval", examples[2 * rows // 3 :])):
        _write_examples(root / "examples" / f"Split-{split}", part)
    _write_log(world, rng, rows)
    return world


def night_split(folder: str) -> str:
    """Where the Examples of a night lie."""
    return f"{folder}/Split-{SPLIT}"


def _example(rng: Any, number: int) -> bytes:
    fare = float(np.float32(round(float(rng.gamma(2.0, 6.0)), 1)))
    payment = _PAYMENTS[int(rng.integers(3))]
    tipped = int(rng.random() < (0.7 if payment == b"Credit Card" else 0.1))
    example = tf.train.Example()
    feature = example.features.feature
    feature["fare"].float_list.value.append(fare)
    feature["hour"].int64_list.value.append(int(rng.integers(24)))
    feature["payment_type"].bytes_list.value.append(payment)
    feature["seconds"].int64_list.value.append(_NOON + 7 * number)
    feature["tipped"].int64_list.value.append(tipped)
    return example.SerializeToString(deterministic=True)


def _write_examples(folder: Path, records: Sequence[bytes]) -> None:
    folder.mkdir(parents=True)
    for number in range(_FILES):
        name = folder / f"data_tfrecord-{number:05d}-of-{_FILES:05d}.gz"
        with tf.io.TFRecordWriter(str(name), "GZIP") as writer:
            for record in records[number::_FILES]:
                writer.write(record)


def _write_log(world: World, rng: Any, rows: int) -> None:
    """Requests of one row, drawn from a third as many rows, some of them far more often."""
    asked = [_example(rng, 0) for _ in range(rows // 3)]
    weights = 1.0 / np.arange(1, len(asked) + 1)
    picks = rng.choice(len(asked), rows, p=weights / weights.sum())
    answers = tf.saved_model.load(str(world.model)).signatures["serving_default"]
    scores = answers(examples=tf.constant(asked))["outputs"].numpy()[:, 0]
    folder = world.root / "log" / MODEL / DATE
    folder.mkdir(parents=True)
    lines, seen = ["request_id,label"], set()
    for number in range(_FILES):
        with tf.io.TFRecordWriter(str(folder / f"{number:03d}-host-1-0.tfrecord")) as writer:
            for at in range(number * rows // _FILES, (number + 1) * rows // _FILES):
                pick = int(picks[at])
                way = "hit" if pick in seen else "miss"
                seen.add(pick)
                writer.write(_record(at, asked[pick], float(scores[pick]), way))
                lines.append(f"r{at},{int(rng.random() < scores[pick])}")
    (world.root / "labels.csv").write_text("\n".join(lines) + "\n")


def _record(number: int, example: bytes, score: float, way: str) -> bytes:
    log = prediction_log_pb2.PredictionLog()
    spec = log.log_metadata.model_spec
    spec.name, spec.version.value, spec.signature_name = MODEL, 3, "serving_default"
    log.log_metadata.timestamp_secs = _NOON + number
    log.log_metadata.saved_model_tags.extend(
        [
            *["serve", "encore.log=1", f"encore.cache={way}", f"encore.request_id=r{number}"],
            *[f"encore.time_us={(_NOON + number) * 1_000_000}", f"encore.us={number % 97 + 5}"],
            f"encore.fingerprint={FINGERPRINT}",
        ]
    )
    request = log.predict_log.request
    request.model_spec.name, request.model_spec.signature_name = MODEL, "serving_default"
    request.inputs["examples"].CopyFrom(tf.make_tensor_proto([example], tf.string))
    output = log.predict_log.response.outputs["outputs"]
    output.CopyFrom(tf.make_tensor_proto([[score]], tf.float32))
    return log.SerializeToString(deterministic=True)
