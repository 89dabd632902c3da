"""CacheWarmer against a plain batched predict loop over the same rows, side by side."""

from __future__ import annotations

import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import apache_beam as beam
import numpy as np
import tensorflow as tf

from tfx_encore.cache.keys import KeyMaker
from tfx_encore.cache.rows import cell, encode_row
from tfx_encore.components.cache_warmer.answer_pipeline import answer
from tfx_encore.components.cache_warmer.count_pipeline import count
from tfx_encore.components.cache_warmer.inference import Session, load_model
from tfx_encore.components.cache_warmer.plan import Plan, make_plan
from tfx_encore.components.cache_warmer.reading import RecordFile, SourceFile
from tfx_encore.components.cache_warmer.window import decide_window
from tfx_encore.components.cache_warmer.writing import write_snapshot
from tfx_encore.schemas.warmup_policy import WarmupPolicy

NUMBERS = [f"number_{index}" for index in range(9)]
INTEGERS = [f"integer_{index}" for index in range(4)]
TEXTS = [f"text_{index}" for index in range(4)]
SIZES = [100, 70, 48, 34, 1]
WORDS = 100
BATCH = 256


class Model(tf.Module):
    """The shape of the taxi model: 17 optional features -> 100-70-48-34 -> 1.

    Numbers are scaled, two of them bucketed too; integers and texts are looked up and one-hot
    encoded.
    """

    def __init__(self) -> None:
        super().__init__()
        rng = np.random.default_rng(0)
        words = [f"word {index}" for index in range(WORDS)]
        self.table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(words, list(range(WORDS)), value_dtype=tf.int64),
            WORDS,
        )
        width = len(NUMBERS) + 2 * 10 + len(INTEGERS) * 24 + len(TEXTS) * (WORDS + 1)
        self.layers = [
            (
                tf.Variable(rng.normal(size=(a, b)).astype("f") / np.sqrt(a)),
                tf.Variable(rng.normal(size=b).astype("f") / 10),
            )
            for a, b in itertools.pairwise([width, *SIZES])
        ]

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string)])
    def serve(self, examples: Any) -> Any:
        """Answers a batch of Examples."""
        spec = {name: tf.io.VarLenFeature(tf.float32) for name in NUMBERS}
        spec |= {name: tf.io.VarLenFeature(tf.int64) for name in INTEGERS}
        spec |= {name: tf.io.VarLenFeature(tf.string) for name in TEXTS}
        raw = {
            name: tf.squeeze(
                tf.sparse.to_dense(
                    tf.SparseTensor(value.indices, value.values, [value.dense_shape[0], 1])
                ),
                axis=1,
            )
            for name, value in tf.io.parse_example(examples, spec).items()
        }
        columns = [raw[name][:, None] * 0.7 - 0.1 for name in NUMBERS]
        edges = np.linspace(-2, 2, 9).tolist()
        columns += [
            tf.one_hot(tf.raw_ops.Bucketize(input=raw[name], boundaries=edges), 10)
            for name in NUMBERS[:2]
        ]
        columns += [tf.one_hot(raw[name], 24) for name in INTEGERS]
        columns += [tf.one_hot(self.table.lookup(raw[name]), WORDS + 1) for name in TEXTS]
        x = tf.concat(columns, axis=1)
        for index, (weights, bias) in enumerate(self.layers):
            x = tf.matmul(x, weights) + bias
            x = tf.nn.relu(x) if index + 1 < len(self.layers) else tf.sigmoid(x)
        return {"score": x[:, 0]}


def make_examples(count_: int) -> list[bytes]:
    rng = np.random.default_rng(1)
    floats = rng.normal(size=(count_, len(NUMBERS))).astype("f")
    integers = rng.integers(24, size=(count_, len(INTEGERS)))
    texts = rng.integers(WORDS, size=(count_, len(TEXTS)))
    made = []
    for at in range(count_):
        example = tf.train.Example()
        feature = example.features.feature
        for index, name in enumerate(NUMBERS):
            feature[name].float_list.value.append(floats[at, index])
        for index, name in enumerate(INTEGERS):
            feature[name].int64_list.value.append(int(integers[at, index]))
        for index, name in enumerate(TEXTS):
            feature[name].bytes_list.value.append(b"word %d" % texts[at, index])
        made.append(example.SerializeToString())
    return made


def make_pipeline() -> Any:
    return beam.Pipeline(argv=["--runner=FnApiRunner"])


def plain_loop(path: str, model: str) -> float:
    """Reads the rows, predicts them in batches of 256, takes the numbers out."""
    call = load_model(model).signatures["serving_default"]
    begun = time.perf_counter()
    records = iter(RecordFile(path))
    scores = []
    while batch := list(itertools.islice(records, BATCH)):
        scores.append(call(examples=tf.constant(batch))["score"].numpy())
    assert sum(map(len, scores)) > 0
    return time.perf_counter() - begun


def tf_data_loop(path: str, model: str) -> float:
    """The same, reading in TensorFlow's own threads."""
    call = load_model(model).signatures["serving_default"]
    begun = time.perf_counter()
    batches = tf.data.TFRecordDataset(path).batch(BATCH)
    scores = [call(examples=batch)["score"].numpy() for batch in batches]
    assert sum(map(len, scores)) > 0
    return time.perf_counter() - begun


def warmer(plan: Plan, chunks: list[str], rows: int, policy: WarmupPolicy, folder: Path) -> float:
    """From the head of rows to a finished snapshot."""
    folder.mkdir()
    begun = time.perf_counter()
    answers = answer(make_pipeline, plan, chunks, rows, policy)
    meta, _, _ = write_snapshot(
        str(folder),
        answers,
        max_bytes=policy.max_bytes,
        fingerprint=plan.fingerprint,
        specs=plan.specs,
        output_filter=(),
    )
    assert meta.entries == rows
    return time.perf_counter() - begun


def microseconds(work: Callable[[], object], times: int) -> float:
    """Median of 5 runs, for one call."""

    def once() -> float:
        begun = time.perf_counter()
        for _ in range(times):
            work()
        return (time.perf_counter() - begun) / times * 1e6

    return statistics.median(once() for _ in range(5))


def key_figures() -> list[dict[str, Any]]:
    row = {f"feature_{i:02d}": cell(np.float32(i)) if i % 3 else cell(f"{i}") for i in range(20)}
    maker = KeyMaker("sha256:" + "0" * 64, "serving_default")
    encoded = encode_row(row)
    return [
        {
            "what": "row key of a 20-feature row, from its cells",
            "value": round(microseconds(lambda: maker.key(encode_row(row)), 5000), 2),
            "unit": "us",
            "target": "at most 10",
        },
        {
            "what": "the same from its canonical bytes",
            "value": round(microseconds(lambda: maker.key(encoded), 5000), 2),
            "unit": "us",
            "target": "",
        },
    ]


def run(quick: bool = False) -> dict[str, Any]:
    rows_, repeats = (40_000, 3) if quick else (200_000, 5)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        model, data = str(root / "model"), str(root / "rows")
        module = Model()
        tf.saved_model.save(
            module, model, signatures={"serving_default": module.serve.get_concrete_function()}
        )
        examples = make_examples(rows_)
        with tf.io.TFRecordWriter(data) as writer:
            for example in examples:
                writer.write(example)
        policy = WarmupPolicy(max_entries=rows_, max_bytes=2**32, batch_size=BATCH)
        plan = make_plan(model, policy)
        sources = [SourceFile(data, False), SourceFile(data, False, held_out=True)]
        begun = time.perf_counter()
        window = decide_window(make_pipeline, sources, plan.specs, policy, name)
        chunks, _ = count(make_pipeline, plan, window, policy, name)
        counting = time.perf_counter() - begun
        Session(model, plan.specs[0]).answer([examples[0]] * BATCH)
        rounds = [
            (
                plain_loop(data, model),
                tf_data_loop(data, model),
                warmer(plan, chunks, rows_, policy, root / f"run-{index}"),
            )
            for index in range(repeats)
        ]
    load_model.cache_clear()
    plain, threaded, ours = map(statistics.median, zip(*rounds, strict=True))
    return {
        "title": "CacheWarmer",
        "rows": [
            {
                "what": "plain batched predict loop",
                "value": round(rows_ / plain),
                "unit": "rows/s",
                "target": "",
            },
            {
                "what": "the same loop fed by tf.data's threads",
                "value": round(rows_ / threaded),
                "unit": "rows/s",
                "target": "",
            },
            {
                "what": "CacheWarmer, head to snapshot",
                "value": round(rows_ / ours),
                "unit": "rows/s",
                "target": "",
            },
            {
                "what": "CacheWarmer / plain loop",
                "value": round(statistics.median(p / o for p, _, o in rounds), 3),
                "unit": "",
                "target": "at least 0.8",
            },
            {
                "what": "CacheWarmer / the loop fed by tf.data's threads",
                "value": round(statistics.median(t / o for _, t, o in rounds), 3),
                "unit": "",
                "target": "",
            },
            {
                "what": "counting, all rows distinct (the worst case)",
                "value": round(2 * rows_ / counting),
                "unit": "rows/s",
                "target": "",
            },
            *key_figures(),
        ],
        "notes": [
            f"{rows_:,} distinct rows of 17 features as tf.Examples, batches of {BATCH}, "
            f"{repeats} rounds run in turn, medians; the model loaded and called once before.",
            "The loop reads the TFRecord file, calls the signature and takes the numbers out. "
            "CacheWarmer builds and runs its Beam pipeline (FnApiRunner), reads its chunks of the "
            "head, calls the same signature, encodes the answers and writes the finished snapshot "
            "with checksums and digests.",
            "Counting comes before and is given by itself: parsing, canonical rows, keys, the "
            "merge and the head, each row read twice (as earlier and as later traffic).",
        ],
    }


if __name__ == "__main__":
    print(json.dumps(run(quick="--quick" in sys.argv), indent=2))
