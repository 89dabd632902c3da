"""How the Beam jobs of a release and of a night grow: 10^4, 10^5 and 10^6 rows, cost and memory."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import bench_night_cost as night

SIGNATURE = "serving_default"
HEAD = 50_000  # answers at most, whatever the log holds


def run(quick: bool) -> dict[str, Any]:
    """Measures every stage at every size, and what a row costs beyond starting."""
    sizes = [1_000, 4_000] if quick else [10_000, 100_000, 1_000_000]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="scaling-") as root:
        save_model(Path(root) / "model")
        starts = started(Path(root))
        for size in sizes:
            folder = Path(root) / str(size)
            folder.mkdir()
            (folder / "model").symlink_to(Path(root) / "model")
            measure("log", folder, size)
            for stage in STAGES:
                cost = measure(stage, folder, size)
                work = cost["cpu s"] - starts[stage]["cpu s"]
                rows.append(
                    {"stage": stage, "rows": size}
                    | cost
                    | {"us a row": round(work / size * 1e6, 1)}
                )
    return {
        "title": "Growth of the Beam jobs",
        "rows": with_ratios(rows, starts),
        "notes": [
            "The night of `bench_night_cost.py`: one row a request, a third as many distinct rows, "
            "Zipf 0.8, a label for each row; CacheWarmer reads the same log, by its order, and "
            f"answers {HEAD:,} rows at most of a model of the taxi model's shape.",
            "Each stage is a process of its own with Beam's FnApiRunner in it. `us a row`: CPU "
            "time beyond that of the stage with 10 rows, which is start and imports. Held against "
            "the size before, 1 is linear cost and flat memory.",
            "Bounds: 1.5 for both from 100,000 to 1,000,000 rows. At 10,000 rows the work is "
            "within the noise of starting, and may even come out negative; then nothing is held "
            "against it.",
        ],
    }


def started(root: Path) -> dict[str, dict[str, float]]:
    """What each stage takes for ten rows: starting, importing, building the pipeline."""
    folder = root / "start"
    folder.mkdir()
    (folder / "model").symlink_to(root / "model")
    measure("log", folder, 10)
    return {stage: measure(stage, folder, 10) for stage in STAGES}


def with_ratios(rows: list[dict[str, Any]], starts: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows by stage, each held against the size before."""
    found = []
    for stage in STAGES:
        found.append({"stage": stage, "rows": 10} | starts[stage])
        last: dict[str, Any] | None = None
        for row in (row for row in rows if row["stage"] == stage):
            ratios = {}
            if last is not None:
                if last["us a row"] > 0:
                    ratios["cost, of the last"] = round(row["us a row"] / last["us a row"], 2)
                ratios["memory"] = round(row["peak MiB"] / last["peak MiB"], 2)
            found.append(row | ratios)
            last = row
    return found


def measure(stage: str, folder: Path, size: int) -> dict[str, float]:
    """Runs a stage in a process of its own."""
    return night.measure(stage, folder, size, script=__file__)


def save_model(folder: Path) -> None:
    """A model of the taxi model's shape that takes the night's Examples."""
    import itertools

    import numpy as np
    import tensorflow as tf
    from night_log import _COMPANIES, _FLOATS, _INTS, _PAYMENTS

    class Model(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            rng = np.random.default_rng(0)
            words = [*(p.decode() if isinstance(p, bytes) else p for p in _PAYMENTS), *_COMPANIES]
            self.table = tf.lookup.StaticHashTable(
                tf.lookup.KeyValueTensorInitializer(words, list(range(len(words)))), 0
            )
            sizes = [len(_FLOATS) + len(_INTS) + 2, 100, 70, 48, 34, 1]
            self.layers = [
                tf.Variable(rng.normal(size=(a, b)).astype("f") / np.sqrt(a))
                for a, b in itertools.pairwise(sizes)
            ]

        @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string)])
        def serve(self, examples: Any) -> Any:
            spec = {name: tf.io.FixedLenFeature([], tf.float32, 0.0) for name in _FLOATS}
            spec |= {name: tf.io.FixedLenFeature([], tf.int64, 0) for name in _INTS}
            texts = ("payment_type", "company")
            spec |= {name: tf.io.FixedLenFeature([], tf.string, "") for name in texts}
            raw = tf.io.parse_example(examples, spec)
            columns = [raw[name] for name in _FLOATS]
            columns += [tf.cast(raw[name], tf.float32) / 100.0 for name in _INTS]
            columns += [tf.cast(self.table.lookup(raw[name]), tf.float32) for name in texts]
            x = tf.stack(columns, axis=1)
            for weights in self.layers[:-1]:
                x = tf.nn.relu(tf.matmul(x, weights))
            return {"probability": tf.sigmoid(tf.matmul(x, self.layers[-1]))}

    model = Model()
    tf.saved_model.save(model, str(folder / "Format-Serving"), {SIGNATURE: model.serve})


def warm(folder: Path, _size: int) -> None:
    """CacheWarmer over the night's log: scan, count, certify, answer, write."""
    from night_log import DATE, MODEL
    from tfx.types import channel_utils, standard_artifacts

    from tfx_encore.components.cache_warmer.component import CacheWarmer
    from tfx_encore.components.cache_warmer.executor import Executor
    from tfx_encore.schemas.artifacts import CacheSnapshot, CoverageReport
    from tfx_encore.schemas.warmup_policy import WarmupPolicy

    model = standard_artifacts.Model()
    model.uri = str(folder / "model")
    component = CacheWarmer(
        model=channel_utils.as_channel([model]),
        examples=channel_utils.as_channel([night.examples_in(folder)]),
        request_log=str(folder / "log" / MODEL / DATE / "*.tfrecord"),
        policy=WarmupPolicy(model_name=MODEL, max_entries=HEAD, certify_rows=2),
    )
    outputs = {
        "snapshot": [night.placed(CacheSnapshot(), folder / "snapshot")],
        "coverage": [night.placed(CoverageReport(), folder / "coverage")],
    }
    night.execute(Executor, component, {"model": [model], "examples": []}, outputs, folder)


STAGES: dict[str, Callable[[Path, int], None]] = {
    "RequestLogExampleGen": night.make_examples,
    "StatisticsGen": night.make_statistics,
    "LoggedEvaluator": night.count_slices,
    "CacheWarmer": warm,
}


if __name__ == "__main__":
    if len(sys.argv) == 4:
        stages = {"log": night.write_log, **STAGES}
        stages[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
    else:
        from pprint import pprint

        pprint(run(quick="--quick" in sys.argv), width=120)
