"""Real taxi rows as TFRecords, and small SavedModels that score them; nothing is trained."""

from __future__ import annotations

import csv
import importlib.util
import pathlib
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import tensorflow as tf
from tfx.types import artifact_utils, standard_artifacts

ROWS = 2500
SPEC = {
    "payment_type": tf.io.FixedLenFeature([], tf.string, ""),
    "trip_start_hour": tf.io.FixedLenFeature([], tf.int64, -1),
    "fare": tf.io.FixedLenFeature([], tf.float32, 0.0),
    "tips": tf.io.FixedLenFeature([], tf.float32, 0.0),
    "trip_miles": tf.io.FixedLenFeature([], tf.float32, 0.0),
}


class Scorer(tf.Module):
    """A fixed logistic model: card rides tip, more so the cheaper they are.

    `spoil` changes it: "evening" inverts it for card rides from 18 to 23 o'clock, "nan" answers
    NaN for free rides.
    """

    def __init__(self, spoil: str) -> None:
        super().__init__()
        self.spoil = spoil
        self.bias = tf.Variable(0.35)

    def score(self, f):
        card = tf.cast(f["payment_type"] == "Credit Card", tf.float32)
        logit = card * (3.0 + self.bias - 0.03 * f["fare"]) - 2.5 + 0.02 * f["trip_miles"]
        if self.spoil == "evening":
            logit = tf.where((f["trip_start_hour"] >= 18) & (card > 0), -logit - 0.5, logit)
        answer = tf.sigmoid(logit)
        return tf.where(f["fare"] == 0.0, float("nan"), answer) if self.spoil == "nan" else answer

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def serve(self, examples):
        return {"outputs": self.score(tf.io.parse_example(examples, SPEC))[:, None]}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def transform(self, examples):
        features = tf.io.parse_example(examples, SPEC)
        return {"tips_xf": tf.cast(features["tips"] > 0.2 * features["fare"], tf.int64)[:, None]}


def _taxi_csv() -> pathlib.Path:
    root = importlib.util.find_spec("tfx").submodule_search_locations[0]
    return pathlib.Path(root) / "examples/chicago_taxi_pipeline/data/simple/data.csv"


def _example(row: dict[str, str]) -> bytes:
    features = {
        "payment_type": [row["payment_type"].encode()],
        "company": [row["company"].encode()] if row["company"] else [],
        "trip_start_hour": [int(row["trip_start_hour"])],
        **{name: [float(row[name])] for name in ("fare", "tips", "trip_miles") if row[name]},
    }
    tips, fare = np.float32(row["tips"]), np.float32(row["fare"])
    features["big_tipper"] = [int(tips > np.float32(0.2) * fare)]
    example = tf.train.Example()
    for name, values in features.items():
        kind = type(values[0]) if values else bytes
        field = {bytes: "bytes_list", int: "int64_list", float: "float_list"}[kind]
        getattr(example.features.feature[name], field).value.extend(values)
    return example.SerializeToString()


@pytest.fixture(scope="session")
def taxi_rows() -> list[dict[str, str]]:
    with _taxi_csv().open(encoding="utf-8") as file:
        rows: Iterator[dict[str, str]] = csv.DictReader(file)
        return [row for row, _ in zip(rows, range(ROWS), strict=False)]


@pytest.fixture(scope="session")
def taxi_records(taxi_rows) -> list[bytes]:
    return [_example(row) for row in taxi_rows]


@pytest.fixture(scope="session")
def examples(taxi_records, tmp_path_factory) -> standard_artifacts.Examples:
    return write_examples(tmp_path_factory.mktemp("examples"), taxi_records)


@pytest.fixture(scope="session")
def examples_of() -> Callable[..., standard_artifacts.Examples]:
    """Writes Examples from serialized records: `examples_of(folder, records)`."""
    return write_examples


def write_examples(folder: pathlib.Path, records: list[bytes]) -> standard_artifacts.Examples:
    artifact = standard_artifacts.Examples()
    artifact.uri = str(folder)
    artifact.split_names = artifact_utils.encode_split_names(["train", "eval"])
    for split in ("train", "eval"):
        (folder / f"Split-{split}").mkdir(parents=True)
        name = folder / f"Split-{split}" / "data_tfrecord-00000-of-00001.gz"
        with tf.io.TFRecordWriter(str(name), "GZIP") as writer:
            for record in records:
                writer.write(record)
    return artifact


@pytest.fixture(scope="session")
def model_of(tmp_path_factory) -> Callable[[str], standard_artifacts.Model]:
    """A Model artifact whose scorer is spoilt as named; "" is sound."""
    made: dict[str, standard_artifacts.Model] = {}

    def make(spoil: str = "") -> standard_artifacts.Model:
        if spoil not in made:
            folder = tmp_path_factory.mktemp(f"model-{spoil or 'sound'}")
            scorer = Scorer(spoil)
            signatures = {"serving_default": scorer.serve, "transform_features": scorer.transform}
            tf.saved_model.save(scorer, str(folder / "Format-Serving"), signatures)
            artifact = standard_artifacts.Model()
            artifact.uri = str(folder)
            artifact.id = 100 + len(made)
            made[spoil] = artifact
        return made[spoil]

    return make
