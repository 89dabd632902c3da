"""The steps of the release-under-load benchmark that need TensorFlow, each in its own process.

python release_load_steps.py models FOLDER ROWS
python release_load_steps.py warm MODEL LOG_PATTERN RELEASES OUTPUT ENTRIES
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

NAME = "trips"
FEATURES = (
    "fare",
    "trip_miles",
    "trip_seconds",
    "tips_before",
    "pickup_latitude",
    "pickup_longitude",
    "dropoff_latitude",
    "dropoff_longitude",
)
SIZES = (len(FEATURES), 100, 70, 48, 34, 1)
VERSIONS = (1, 2)
STEP = 10.0  # the score of a version lies in (STEP * version, STEP * version + 1)


def make_rows(count: int) -> np.ndarray[Any, Any]:
    """Returns distinct rows, float32 [count, features], the same each time.

    Raises:
        ValueError: two are equal.
    """
    rows = np.random.default_rng(7).normal(size=(count, len(FEATURES))).round(4).astype("f")
    if len(np.unique(rows, axis=0)) != count:
        raise ValueError("two of the rows are equal; choose another seed")
    return rows


def save_models(folder: Path, count: int) -> None:
    """Saves two versions with different weights, and what each answers for every row."""
    import tensorflow as tf

    rows = make_rows(count)
    specs = {name: tf.TensorSpec([None], tf.float32, name=name) for name in FEATURES}
    for version in VERSIONS:
        model = _model(version)
        serve = model.serve.get_concrete_function(**specs)
        tf.saved_model.save(
            model, str(folder / str(version)), signatures={"serving_default": serve}
        )
        inputs = {name: tf.constant(rows[:, at]) for at, name in enumerate(FEATURES)}
        np.save(folder / f"scores-{version}.npy", model.serve(**inputs)["score"].numpy())


def _model(version: int) -> Any:
    import tensorflow as tf

    class Model(tf.Module):
        """The network of the taxi model behind 8 raw numbers: no transformed row is shorter."""

        def __init__(self) -> None:
            super().__init__()
            chance = np.random.default_rng(version)
            self.layers = [
                (
                    tf.Variable(chance.normal(size=(a, b)).astype("f") / np.sqrt(a)),
                    tf.Variable(chance.normal(size=b).astype("f") / 10),
                )
                for a, b in itertools.pairwise(SIZES)
            ]

        @tf.function(autograph=False)
        def serve(self, **features: Any) -> Any:
            """Scores rows."""
            x = tf.stack([features[name] for name in FEATURES], axis=1)
            for index, (weights, bias) in enumerate(self.layers):
                x = tf.matmul(x, weights) + bias
                x = tf.nn.relu(x) if index + 1 < len(self.layers) else tf.sigmoid(x)
            return {"score": x[:, 0] + STEP * version}

    return Model()


def warm(model: str, request_log: str, releases: str, output: Path, entries: int) -> None:
    """Runs CacheWarmer's executor as the pipeline does, on a request log.

    Args:
        model: the candidate's SavedModel.
        request_log: pattern of PredictionLog files.
        releases: the release directory.
        output: gets the folders `snapshot` and `coverage`.
        entries: rows in the snapshot at most.
    """
    from tfx.types import standard_artifacts

    from tfx_encore.components.cache_warmer.executor import Executor
    from tfx_encore.schemas.artifacts import CacheSnapshot, CoverageReport
    from tfx_encore.schemas.serial import to_json
    from tfx_encore.schemas.warmup_policy import WarmupPolicy

    candidate = standard_artifacts.Model()
    candidate.uri = str(output / "model")
    (output / "model").mkdir(parents=True)
    (output / "model" / "Format-Serving").symlink_to(model)
    outputs = {"snapshot": [CacheSnapshot()], "coverage": [CoverageReport()]}
    for name, (artifact,) in outputs.items():
        artifact.uri = str(output / name)
    policy = WarmupPolicy(model_name=NAME, max_entries=entries)
    properties = {"policy": to_json(policy), "request_log": request_log, "releases": releases}
    context = Executor.Context(
        beam_pipeline_args=["--runner=FnApiRunner"], tmp_dir=str(output / "tmp"), unique_id="1"
    )
    inputs: dict[str, list[Any]] = {"model": [candidate], "examples": []}
    Executor(context).Do(inputs, outputs, properties)


def _say(word: str) -> None:
    print(word, flush=True)


def _serve() -> None:
    save_models(Path(sys.argv[1]), int(sys.argv[2]))
    _say("models")
    os.nice(5)  # a pipeline would run elsewhere
    importlib.import_module("tfx_encore.components.cache_warmer.executor")
    _say("ready")
    for line in sys.stdin:
        *paths, output, entries = json.loads(line)
        warm(*paths, output=Path(output), entries=int(entries))
        _say("warmed")


if __name__ == "__main__":
    _serve()
