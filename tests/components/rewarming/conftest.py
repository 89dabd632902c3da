"""A released model, and the request log of a night."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf
from apache_beam.options.pipeline_options import PipelineOptions
from tensorflow_serving.apis import prediction_log_pb2

from tfx_encore.components.cache_warmer.reading import SourceFile
from tfx_encore.components.cache_warmer.warm import warm
from tfx_encore.metadata.release_layout import COVERAGE, SNAPSHOT
from tfx_encore.metadata.release_push import PushRequest
from tfx_encore.metadata.releases import ReleaseDirectory
from tfx_encore.schemas.warmup_policy import WarmupPolicy


class Taxi(tf.Module):
    """Answers a row by its fare alone, or (`kind="random"`) by chance."""

    def __init__(self, kind: str = "sound") -> None:
        super().__init__()
        self.kind = kind

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string)])
    def serving_default(self, examples):
        spec = {"fare": tf.io.FixedLenFeature([], tf.float32)}
        fare = tf.io.parse_example(examples, spec)["fare"]
        noise = tf.random.normal(tf.shape(fare)) if self.kind == "random" else 0.0
        return {"score": tf.sigmoid(fare / 10.0 + noise)}


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Kind -> path of its SavedModel."""
    made = {}
    for kind in ("sound", "random"):
        module = Taxi(kind)
        made[kind] = str(tmp_path_factory.mktemp(f"model-{kind}"))
        signatures = {"serving_default": module.serving_default.get_concrete_function()}
        tf.saved_model.save(module, made[kind], signatures=signatures)
    return made


@pytest.fixture(scope="session")
def make_pipeline():
    """Gives Beam pipelines that run in this process."""
    return lambda: beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"]))


@pytest.fixture
def write_log():
    """Writes one request of one row for each fare; returns the file's path."""

    def write(path, fares, signature="serving_default"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tf.io.TFRecordWriter(str(path)) as writer:
            for fare in fares:
                feature = tf.train.Feature(float_list=tf.train.FloatList(value=[fare]))
                example = tf.train.Example(features=tf.train.Features(feature={"fare": feature}))
                log = prediction_log_pb2.PredictionLog()
                request = log.predict_log.request
                request.model_spec.name = "taxi"
                request.model_spec.signature_name = signature
                tensor = tf.make_tensor_proto(np.array([example.SerializeToString()], object))
                request.inputs["examples"].CopyFrom(tensor)
                writer.write(log.SerializeToString())
        return str(path)

    return write


@pytest.fixture
def released(tmp_path, models, make_pipeline, write_log):
    """Release 1 of a model, warmed for fares 0 to 9, of which later traffic asked nothing else."""

    def push(kind="sound"):
        releases = ReleaseDirectory(tmp_path / "releases", "taxi")
        evidence = {}
        if kind == "sound":
            folder = tmp_path / "warmed"
            source = SourceFile(write_log(tmp_path / "old.tfrecord", [*range(10)] * 10), True)
            for name in ("tmp", SNAPSHOT, COVERAGE):
                (folder / name).mkdir(parents=True)
            warm(
                make_pipeline,
                models[kind],
                [source],
                WarmupPolicy(certify_rows=8),
                tmp=str(folder / "tmp"),
                snapshot_dir=str(folder / SNAPSHOT),
                coverage_dir=str(folder / COVERAGE),
            )
            evidence = {name: folder / name for name in (SNAPSHOT, COVERAGE)}
        releases.push(PushRequest(models[kind], evidence=evidence))
        return releases

    return push
