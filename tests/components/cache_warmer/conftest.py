"""Small SavedModels: a sound one, one that looks at its batch, a random one, one that gives NaN."""

from __future__ import annotations

import itertools
import math
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest
import tensorflow as tf

SPEC = {
    "fare": tf.io.FixedLenFeature([], tf.float32),
    "hour": tf.io.FixedLenFeature([], tf.int64, default_value=0),
    "company": tf.io.VarLenFeature(tf.string),
    "unread": tf.io.FixedLenFeature([], tf.float32),
}


class Taxi(tf.Module):
    """fare, hour and company are read through buckets; `kind` picks what is wrong with it."""

    def __init__(self, kind: str = "sound") -> None:
        super().__init__()
        rng = np.random.default_rng(7)
        self.kind = kind
        self.table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(["Flash", "Blue"], [1, 2], value_dtype=tf.int64), 0
        )
        sizes = [4, 100, 70, 48, 34, 1]
        self.layers = [
            (
                tf.Variable(rng.normal(size=(a, b)).astype("f") / math.sqrt(a)),
                tf.Variable(rng.normal(size=b).astype("f") / 10),
            )
            for a, b in itertools.pairwise(sizes)
        ]

    @tf.function(autograph=False)
    def transform(self, raw):
        company = tf.sparse.to_dense(tf.sparse.reset_shape(raw["company"]), "")[:, :1]
        company = tf.concat([company, tf.fill([tf.shape(company)[0], 1], "")], axis=1)[:, 0]
        return {
            "fare_bucket": tf.floor(raw["fare"] / 5.0),
            "hour_bucket": tf.cast(raw["hour"] // 6, tf.float32),
            "company_id": tf.cast(self.table.lookup(company), tf.float32),
        }

    def score(self, features):
        x = tf.stack([features[name] for name in sorted(features)], axis=1)
        x = tf.concat([x, tf.ones_like(x[:, :1])], axis=1)
        if self.kind == "batch":
            x -= tf.reduce_mean(x, axis=0, keepdims=True)
        if self.kind == "random":
            x += tf.random.normal(tf.shape(x))
        for index, (weights, bias) in enumerate(self.layers):
            x = tf.matmul(x, weights) + bias
            x = tf.nn.relu(x) if index + 1 < len(self.layers) else tf.sigmoid(x)
        if self.kind == "nan":
            x = tf.where(features["hour_bucket"][:, None] >= 2, np.nan, x)
        if self.kind == "all_nan":
            x *= np.nan
        return {"score": x[:, 0]}

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string)])
    def serving_default(self, examples):
        raw = tf.io.parse_example(examples, SPEC)
        features = self.transform(raw)
        if self.kind == "raw":
            features = {**features, "hour_bucket": tf.cast(raw["hour"], tf.float32)}
        return self.score(features)

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string)])
    def transform_features(self, examples):
        return self.transform(tf.io.parse_example(examples, SPEC))

    @tf.function(
        autograph=False,
        input_signature=[
            tf.TensorSpec([None], tf.float32, name="fare"),
            tf.TensorSpec([None], tf.int64, name="hour"),
            tf.TensorSpec([None], tf.string, name="company"),
            tf.TensorSpec([None], tf.float32, name="unread"),
        ],
    )
    def predict_raw(self, fare, hour, company, unread):
        raw = {"fare": fare, "hour": hour, "unread": unread}
        raw["company"] = tf.sparse.from_dense(company[:, None])
        return self.score(self.transform(raw))


def save_model(kind: str, path: str) -> str:
    module = Taxi(kind)
    names = ("serving_default", "transform_features", "predict_raw")
    tf.saved_model.save(
        module,
        path,
        signatures={name: getattr(module, name).get_concrete_function() for name in names},
    )
    return path


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Returns a function: kind -> path of its SavedModel, saved once."""
    made = {}

    def get(kind: str = "sound") -> str:
        if kind not in made:
            made[kind] = save_model(kind, str(tmp_path_factory.mktemp(f"model-{kind}")))
        return made[kind]

    return get


@pytest.fixture(scope="session")
def make_example():
    """Returns a function that serialises an Example; an argument of None leaves a feature out."""

    def feature(value):
        if isinstance(value, float):
            return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
        if isinstance(value, int):
            return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    def make(fare=7.5, hour=9, company=b"Flash", unread=0.0, label=1, **more) -> bytes:
        values = {"fare": fare, "hour": hour, "company": company, "unread": unread, "label": label}
        values.update(more)
        example = tf.train.Example()
        for name, value in values.items():
            if value is not None:
                example.features.feature[name].CopyFrom(feature(value))
        return example.SerializeToString()

    return make
