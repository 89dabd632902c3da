"""A night of taxi-like traffic as RequestLogExampleGen writes it, and a small SavedModel."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import artifact_utils, standard_artifacts

from tfx_encore.components.logged_evaluator.decoding import decode
from tfx_encore.components.logged_evaluator.distinct import distinct_rows, merged, squares_of
from tfx_encore.components.logged_evaluator.executor import Executor
from tfx_encore.components.logged_evaluator.slicing import Slicer, cells_of
from tfx_encore.components.logged_evaluator.tally import (
    Counting,
    Repeated,
    add_squares,
    night_slices,
)
from tfx_encore.monitoring.night_slices import NightSlices
from tfx_encore.monitoring.slice_discovery import PairCounts
from tfx_encore.pipeline.beam_options import beam_args
from tfx_encore.schemas.artifacts import NightStatistics, RequestLogReport
from tfx_encore.schemas.evaluation_policy import EvaluationPolicy
from tfx_encore.schemas.nightly_policy import LogPolicy, NightlyPolicy
from tfx_encore.schemas.nights import LogReport
from tfx_encore.schemas.serial import from_json, to_json

POLICY = EvaluationPolicy(
    label_key="encore_label",
    slices=[["payment_type"], ["hour"], ["fare"], ["tags"], ["payment_type", "hour"]],
)
SPEC = {
    "payment_type": tf.io.FixedLenFeature([], tf.string, ""),
    "hour": tf.io.FixedLenFeature([], tf.int64, -1),
    "fare": tf.io.FixedLenFeature([], tf.float32, 0.0),
}


class Tipper(tf.Module):
    """Card rides tip, more so the dearer they are; `answers` shape and kind can be spoilt."""

    def __init__(self, spoil: str = "") -> None:
        super().__init__()
        self.spoil = spoil
        # So that no row lies on the edge of a bin, where the last bit of a logit decides.
        self.bias = tf.Variable(-1.003)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def serve(self, examples):
        f = tf.io.parse_example(examples, SPEC)
        card = tf.cast(f["payment_type"] == "Card", tf.float32)
        logit = self.bias + 2.0 * card + 0.1 * f["fare"] + 0.01 * tf.cast(f["hour"], tf.float32)
        answer = {"outputs": tf.sigmoid(logit)[:, None]}
        if self.spoil == "refuses":
            with tf.control_dependencies([tf.debugging.assert_greater(f["fare"], 1.0)]):
                answer = {"outputs": tf.identity(answer["outputs"])}
        if self.spoil == "two":
            answer["more"] = answer["outputs"] * 0.0
        return answer


@dataclass(frozen=True)
class Row:
    """A logged row; a feature of None is missing."""

    payment_type: Optional[bytes] = b"Cash"
    hour: Optional[int] = 8
    fare: Optional[float] = 7.5
    tags: tuple[bytes, ...] = ()
    score: float = 0.5
    label: Optional[float] = 1.0
    path: bytes = b"miss"
    request: bytes = b"r"
    version: int = 3
    fingerprint: bytes = b"sha256:aa"


def _feature(values: Sequence[Any]) -> tf.train.Feature:
    if isinstance(values[0], bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    if isinstance(values[0], int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def features_of(row: Row) -> dict[str, Sequence[Any]]:
    asked = {
        "payment_type": [row.payment_type],
        "hour": [row.hour],
        "fare": [row.fare],
        "tags": row.tags,
    }
    return {name: values for name, values in asked.items() if values and values[0] is not None}


def example(row: Row) -> bytes:
    asked = features_of(row)
    digest = hashlib.blake2b(repr(asked).encode(), digest_size=16).digest()
    ours = {
        "encore_score": [row.score],
        "encore_path": [row.path],
        "encore_version": [row.version],
        "encore_fingerprint": [row.fingerprint],
        "encore_request_id": [row.request],
        "encore_row": [0],
        "encore_time_us": [1_452_556_800_000_000],
        "encore_signature": [b"serving_default"],
        "encore_row_digest": [digest],
    } | ({} if row.label is None else {"encore_label": [float(row.label)]})
    made = {name: _feature(values) for name, values in {**asked, **ours}.items()}
    return tf.train.Example(features=tf.train.Features(feature=made)).SerializeToString()


def write_examples(
    folder: Path, rows: Sequence[Row], files: int = 2
) -> standard_artifacts.Examples:
    artifact = standard_artifacts.Examples()
    artifact.uri = str(folder)
    artifact.split_names = artifact_utils.encode_split_names(["night"])
    (folder / "Split-night").mkdir(parents=True)
    for number in range(files):
        name = f"data_tfrecord-{number:05d}-of-{files:05d}.gz"
        with tf.io.TFRecordWriter(str(folder / "Split-night" / name), "GZIP") as writer:
            for row in rows[number::files]:
                writer.write(example(row))
    return artifact


@dataclass(frozen=True)
class Counted:
    artifact: NightStatistics

    def read(self, name: str) -> bytes:
        return Path(self.artifact.uri, name).read_bytes()

    @property
    def night(self) -> NightSlices:
        return from_json(NightSlices, self.read("slices.json"))

    @property
    def pairs(self) -> PairCounts:
        return from_json(PairCounts, self.read("pairs.json"))


@pytest.fixture(scope="session")
def model_of(tmp_path_factory) -> Callable[..., standard_artifacts.Model]:
    """A Model artifact: `model_of(spoil)`; "" is sound."""
    made: dict[str, str] = {}

    def make(spoil: str = "", *, version: int = 3, fingerprint: str = "sha256:aa") -> Any:
        if spoil not in made:
            made[spoil] = str(tmp_path_factory.mktemp(f"model-{spoil or 'sound'}"))
            module = Tipper(spoil)
            path = f"{made[spoil]}/Format-Serving"
            tf.saved_model.save(module, path, {"serving_default": module.serve})
        artifact = standard_artifacts.Model()
        artifact.uri = made[spoil]
        if fingerprint:
            artifact.set_string_custom_property("fingerprint", fingerprint)
        if version:
            artifact.set_int_custom_property("version", version)
        return artifact

    return make


@pytest.fixture(scope="session")
def answered(model_of) -> Callable[[Sequence[Row]], list[Row]]:
    """The rows with the scores that the model gives them."""
    call = tf.saved_model.load(f"{model_of().uri}/Format-Serving").signatures["serving_default"]

    def give(rows: Sequence[Row]) -> list[Row]:
        scores = call(tf.constant([example(row) for row in rows]))["outputs"].numpy()[:, 0]
        return [replace(row, score=float(s)) for row, s in zip(rows, scores, strict=True)]

    return give


@pytest.fixture(scope="session")
def traffic(answered) -> list[Row]:
    """2,000 answered rows, among them repeats, missing values and several values of a feature."""
    rng = np.random.default_rng(7)
    pool = [
        Row(
            payment_type=[b"Cash", b"Card", "Prepaíd".encode(), None][k],
            hour=None if h == 0 else int(h),
            fare=float(f) / 4 if f < 12 else None,
            tags=tuple([b"airport", b"night", b"night"][: rng.integers(0, 4)]),
            label=float(rng.integers(0, 2)),
        )
        for k, h, f in zip(
            rng.choice(4, 400, p=[0.5, 0.4, 0.05, 0.05]),
            rng.integers(0, 24, 400),
            rng.integers(1, 13, 400),
            strict=True,
        )
    ]
    chosen = np.minimum(rng.zipf(1.3, 2000) - 1, 399)
    seen: set[int] = set()
    rows = []
    for number, place in enumerate(chosen.tolist()):
        path = b"hit" if place in seen else b"miss"
        seen.add(place)
        rows.append(replace(pool[place], path=path, request=b"r%05d" % number))
    return answered(rows)


@pytest.fixture(scope="session")
def evaluate(tmp_path_factory) -> Callable[..., Counted]:
    """Runs the executor on rows: `evaluate(rows, model=..., policy=..., **parameters)`."""

    def run(
        rows: Sequence[Row],
        *,
        model: Any = None,
        policy: EvaluationPolicy = POLICY,
        nightly: Optional[NightlyPolicy] = None,
        report: Optional[LogReport] = None,
        files: int = 2,
        **more: Any,
    ) -> Counted:
        folder = tmp_path_factory.mktemp("night")
        inputs = {"examples": [write_examples(folder / "examples", rows, files)]}
        inputs |= {"model": [model]} if model else {}
        if report:
            artifact = RequestLogReport()
            artifact.uri = str(folder / "log")
            (folder / "log").mkdir()
            (folder / "log" / "log.json").write_text(to_json(report))
            inputs["log_report"] = [artifact]
        inputs |= {name: [one] for name, one in more.items() if not isinstance(one, str)}
        output = NightStatistics()
        output.uri = str(folder / "statistics")
        properties = {
            "policy": to_json(policy),
            "nightly": to_json(nightly or NightlyPolicy()),
            "model_name": "taxi",
            "date": "2016-01-12",
            "extra_slices": "[]",
            "training_split": "train",
        } | {name: one for name, one in more.items() if isinstance(one, str)}
        context = BaseBeamExecutor.Context(
            beam_pipeline_args=[*beam_args("FnApiRunner")],
            tmp_dir=str(folder / "tmp"),
            unique_id="1",
        )
        Executor(context).Do(inputs, {"statistics": [output]}, properties)
        return Counted(output)

    return run


@pytest.fixture(scope="session")
def training_statistics(traffic, tmp_path_factory) -> standard_artifacts.ExampleStatistics:
    """What StatisticsGen gives of training rows."""
    folder = tmp_path_factory.mktemp("training")
    records = folder / "records"
    with tf.io.TFRecordWriter(str(records)) as writer:
        for row in traffic:
            writer.write(example(row))
    found = tfdv.generate_statistics_from_tfrecord(str(records))
    (folder / "Split-train").mkdir()
    (folder / "Split-train" / "FeatureStats.pb").write_bytes(found.SerializeToString())
    artifact = standard_artifacts.ExampleStatistics()
    artifact.uri = str(folder)
    return artifact


@pytest.fixture(scope="session")
def counted(traffic, evaluate, model_of, training_statistics) -> Counted:
    """The traffic evaluated, 300 rows of it answered again."""
    nightly = NightlyPolicy(log=LogPolicy(recompute_rows=300))
    return evaluate(
        traffic, model=model_of(), nightly=nightly, training_statistics=training_statistics
    )


@pytest.fixture(scope="session")
def tallied() -> Callable[..., NightSlices]:
    """Counts rows without Beam, one batch for each argument: `tallied(rows, more_rows)`."""

    def run(*batches: Sequence[Row], fingerprints: Mapping[int, str] | None = None) -> NightSlices:
        slicer, counting, parts = Slicer(POLICY.all_slices), Counting(0.5), []
        for batch in batches:
            rows = decode([example(row) for row in batch], fingerprints or {})
            members = slicer.members(rows.batch)
            counting.add(rows, members)
            cells = cells_of(rows.batch, {})
            parts.append(distinct_rows(rows, members, slicer.keys, cells, 0.5))
        squares = add_squares(squares_of(one) for _, one in merged(parts).split(16))
        return night_slices(0.5, counting.tally(slicer.keys), squares, Repeated())

    return run


@pytest.fixture(scope="session")
def row_type() -> type[Row]:
    return Row


@pytest.fixture(scope="session")
def policy() -> EvaluationPolicy:
    return POLICY


@pytest.fixture(scope="session")
def write() -> Callable[..., standard_artifacts.Examples]:
    return write_examples


@pytest.fixture(scope="session")
def as_example() -> Callable[[Row], bytes]:
    return example
