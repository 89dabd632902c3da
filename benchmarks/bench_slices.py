"""SlicedEvaluator: what intervals cost, and whether they cover what they promise.

The cost is measured side by side: TFX's own evaluator on the same rows, models and slices, with our
counting metric and without it, in turn; then reading, judging and the report on top of it.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from scipy import stats

from tfx_encore.monitoring import intervals
from tfx_encore.monitoring.auc import auc, auc_difference_interval, auc_interval
from tfx_encore.monitoring.slice_counts import BINS, SliceCounts, bin_edges
from tfx_encore.monitoring.slice_gate import judge_slices
from tfx_encore.monitoring.slice_report import slice_table
from tfx_encore.schemas.decisions import Outcome
from tfx_encore.schemas.evaluation_policy import EvaluationPolicy
from tfx_encore.schemas.serial import to_json

SLICES = [["payment_type"], ["company"], ["trip_start_hour"], ["payment_type", "trip_start_hour"]]
RULES = [
    {"metric": metric, "max_drop": 0.02} for metric in ("accuracy", "precision", "recall", "auc")
]


def run(quick: bool) -> dict[str, Any]:
    """Returns the rows for docs/benchmarks.md."""
    rows = [*cost(quick), *coverage(quick), *false_blocks(quick)]
    return {
        "title": "Sliced evaluation: cost and calibration of intervals",
        "rows": rows,
        "notes": [
            "Cost: CPU seconds of the whole process (user + system), medians of runs in turn; the "
            "taxi CSV's rows, two SavedModels, overall, payment_type, company, trip_start_hour and "
            "payment_type x trip_start_hour. With intervals includes reading the counts, the gate "
            "and both report files.",
            "Coverage: share of simulated samples whose nominal 95% interval holds the truth; the "
            "lowest and the highest over the grid named.",
            "The grids hold at least 100 rows, and 50 cases of a metric: the policy's defaults. "
            "Outside (fewer cases, rates beyond 0.1 and 0.9 with fewer than 300 rows, an AUC above "
            "0.95) coverage was as low as 90% and as high as 99%.",
        ],
    }


# --- cost -----------------------------------------------------------------------------------------


def cost(quick: bool) -> list[dict[str, Any]]:
    """Median CPU seconds of an evaluation without and with intervals."""
    policy = EvaluationPolicy(label_key="big_tipper", slices=SLICES, rules=RULES, min_cases=50)
    repeats, limit = (2, 3000) if quick else (7, 15_000)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        inputs = _inputs(folder, limit)
        _evaluate(folder / "warm-up", inputs, policy, counts=True)
        for number in range(repeats):
            # The order alternates, so that a machine that gets busier favours neither.
            for counts in (False, True) if number % 2 else (True, False):
                target = folder / f"{number}-{counts}"
                seconds[counts].append(
                    _cpu_seconds(lambda t=target, c=counts: _evaluate(t, inputs, policy, counts=c))
                )
    without, with_ = (statistics.median(seconds[key]) for key in (False, True))
    ratios = [b / a for a, b in zip(seconds[False], seconds[True], strict=True)]
    return [
        {"what": f"TFMA alone, {limit:,} rows", "value": round(without, 2), "unit": "CPU s"},
        {"what": f"TFMA with intervals, {limit:,} rows", "value": round(with_, 2), "unit": "CPU s"},
        {
            "what": "ratio of medians (at most 1.10)",
            "value": round(with_ / without, 3),
            "unit": "",
        },
        {
            "what": "ratio, lowest to highest of the pairs",
            "value": f"{min(ratios):.3f} to {max(ratios):.3f}",
            "unit": "",
        },
    ]


def _cpu_seconds(work: Callable[[], None]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _evaluate(
    folder: pathlib.Path, inputs: dict[str, Any], policy: EvaluationPolicy, *, counts: bool
) -> None:
    from google.protobuf import json_format
    from tfx.components.evaluator.executor import Executor
    from tfx.types import standard_artifacts

    from tfx_encore.monitoring.tfma_config import eval_config
    from tfx_encore.monitoring.tfma_results import read_slice_counts

    evaluation = standard_artifacts.ModelEvaluation()
    evaluation.uri = str(folder)
    config = eval_config(policy, paired=True, counts=counts)
    context = Executor.Context(beam_pipeline_args=["--runner=FnApiRunner"])
    properties = {"eval_config": json_format.MessageToJson(config), "example_splits": '["eval"]'}
    Executor(context).Do(inputs, {"evaluation": [evaluation]}, properties)
    if counts:
        found = read_slice_counts(evaluation.uri, policy.decision_threshold)
        decision = judge_slices(found, policy, baseline="release 1")
        table = slice_table(found, threshold=0.5, confidence=0.95, baseline="release 1")
        (folder / "decision.json").write_text(to_json(decision))
        (folder / "slices.json").write_text(to_json(table))


def _inputs(folder: pathlib.Path, limit: int) -> dict[str, Any]:
    from tfx.types import artifact_utils, standard_artifacts

    examples = standard_artifacts.Examples()
    examples.uri = str(folder / "examples")
    examples.split_names = artifact_utils.encode_split_names(["eval"])
    _write_rows(folder / "examples" / "Split-eval", limit)
    models = []
    for bias in (0.35, 0.30):
        artifact = standard_artifacts.Model()
        artifact.uri = str(folder / f"model-{bias}")
        _write_model(folder / f"model-{bias}" / "Format-Serving", bias)
        models.append(artifact)
    return {"examples": [examples], "model": [models[0]], "baseline_model": [models[1]]}


def _write_rows(folder: pathlib.Path, limit: int) -> None:
    import tensorflow as tf

    spec = importlib.util.find_spec("tfx")
    assert spec is not None
    assert spec.submodule_search_locations
    root = pathlib.Path(spec.submodule_search_locations[0])
    folder.mkdir(parents=True)
    path = root / "examples/chicago_taxi_pipeline/data/simple/data.csv"
    with (
        path.open(encoding="utf-8") as file,
        tf.io.TFRecordWriter(str(folder / "data_tfrecord-00000-of-00001.gz"), "GZIP") as writer,
    ):
        for row, _ in zip(csv.DictReader(file), range(limit), strict=False):
            writer.write(_example(row))


def _example(row: dict[str, str]) -> bytes:
    import tensorflow as tf

    example = tf.train.Example()
    feature = example.features.feature
    for name in ("payment_type", "company"):
        if row[name]:
            feature[name].bytes_list.value.append(row[name].encode())
    feature["trip_start_hour"].int64_list.value.append(int(row["trip_start_hour"]))
    for name in ("fare", "trip_miles"):
        if row[name]:
            feature[name].float_list.value.append(float(row[name]))
    big = float(row["tips"]) > 0.2 * float(row["fare"])
    feature["big_tipper"].int64_list.value.append(int(big))
    return bytes(example.SerializeToString())


def _write_model(folder: pathlib.Path, bias: float) -> None:
    import tensorflow as tf

    spec = {
        "payment_type": tf.io.FixedLenFeature([], tf.string, ""),
        "fare": tf.io.FixedLenFeature([], tf.float32, 0.0),
        "trip_miles": tf.io.FixedLenFeature([], tf.float32, 0.0),
    }

    class Scorer(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def serve(self, examples: Any) -> dict[str, Any]:
            f = tf.io.parse_example(examples, spec)
            card = tf.cast(f["payment_type"] == "Credit Card", tf.float32)
            logit = card * (3.0 + bias - 0.1 * bias * f["fare"]) - 2.5 + 0.02 * f["trip_miles"]
            return {"outputs": tf.sigmoid(logit)[:, None]}

    scorer = Scorer()
    tf.saved_model.save(scorer, str(folder), {"serving_default": scorer.serve})


# --- calibration ----------------------------------------------------------------------------------


def coverage(quick: bool) -> list[dict[str, Any]]:
    """Lowest and highest coverage over the grids."""
    rng = np.random.default_rng(20_261_120)
    repeats = 2_000 if quick else 20_000
    found = {
        "accuracy, recall: n 100 to 5,000, rate 0.1 to 0.9 (exact)": _rates(),
        "precision: n 100 to 5,000, prevalence 0.2, 0.5": _precision(rng, repeats),
        "AUC: 50 to 1,000 a class, AUC 0.55 to 0.95": _auc(rng, repeats // 20),
        "paired accuracy, recall: n 100 to 5,000, at least 5 discordant": _paired(rng, repeats),
        "paired precision: n 300 to 5,000, correlation 0 to 0.97": _precisions(rng, repeats),
        "paired AUC: 100 to 1,000 a class, correlation 0 to 0.95": _aucs(rng, repeats // 20),
    }
    return [
        {
            "what": f"coverage, {what}",
            "value": f"{min(shares):.3f} to {max(shares):.3f}",
            "unit": "share",
        }
        for what, shares in found.items()
    ]


def _covers(interval: intervals.Interval, truth: float) -> Any:
    return (interval.low <= truth) & (truth <= interval.high)


def _rates() -> list[float]:
    shares = []
    for n in (100, 200, 300, 1_000, 5_000):
        k = np.arange(n + 1)
        interval = intervals.wilson(k, n)
        for rate in np.linspace(0.1, 0.9, 81):
            weight = stats.binom.pmf(k, n, rate)
            shares.append(float((weight * _covers(interval, rate)).sum()))
    return shares


def _paired(rng: np.random.Generator, repeats: int) -> list[float]:
    shares = []
    for n in (100, 300, 1_000, 5_000):
        for accuracy in (0.6, 0.8, 0.9):
            for discordant in (0.02, 0.05, 0.1, 0.2):
                for loss in (0.0, 0.02, 0.05):
                    first, second = (discordant - loss) / 2, (discordant + loss) / 2
                    both = accuracy - second
                    if discordant * n < 5 or loss > discordant or 1 - both < discordant:
                        continue
                    cells = [both, first, second, 1 - both - discordant]
                    drawn = intervals.Paired(*rng.multinomial(n, cells, size=repeats).T)
                    interval = intervals.rate_difference_paired(drawn)
                    shares.append(float(_covers(interval, first - second).mean()))
    return shares


def _precision_cells(prevalence: float, separation: float, correlation: float) -> Any:
    """Probabilities of label x first decision x second decision, index 4y + 2a + b."""
    cells = np.zeros(8)
    spread = [[1, correlation], [correlation, 1]]
    for label in (0, 1):
        mean = np.array([1.0, 0.9]) * separation * (label - 0.5)
        neither = stats.multivariate_normal.cdf([0, 0], mean, spread)
        first, second = stats.norm.cdf(mean)
        both = 1 - (1 - first) - (1 - second) + neither
        share = prevalence if label else 1 - prevalence
        cells[4 * label : 4 * label + 4] = share * np.array(
            [neither, second - both, first - both, both]
        )
    return np.clip(cells, 0, None) / np.clip(cells, 0, None).sum()


def _precision_draws(rng: np.random.Generator, repeats: int, sizes: tuple[int, ...]) -> Any:
    for n in sizes:
        for prevalence in (0.2, 0.5):
            for separation in (1.0, 2.0):
                for correlation in (0.0, 0.5, 0.9, 0.97):
                    cells = _precision_cells(prevalence, separation, correlation)
                    x = rng.multinomial(n, cells, size=repeats).T
                    one, other = x[7] + x[6], x[7] + x[5]
                    enough = (one + x[3] + x[2] >= 50) & (other + x[3] + x[1] >= 50)
                    if enough.mean() > 0.5:
                        yield cells, x[:, enough]


def _precision(rng: np.random.Generator, repeats: int) -> list[float]:
    shares = []
    for p, x in _precision_draws(rng, repeats, (100, 300, 1_000, 5_000)):
        truth = (p[7] + p[6]) / (p[7] + p[6] + p[3] + p[2])
        interval = intervals.wilson(x[7] + x[6], x[7] + x[6] + x[3] + x[2])
        shares.append(float(_covers(interval, truth).mean()))
    return shares


def _precisions(rng: np.random.Generator, repeats: int) -> list[float]:
    shares = []
    for p, x in _precision_draws(rng, repeats, (300, 1_000, 5_000)):
        table = intervals.PairedPrecision(x[7], x[3], x[6], x[2], x[5], x[1])
        truth = (p[7] + p[6]) / (p[7] + p[6] + p[3] + p[2])
        truth -= (p[7] + p[5]) / (p[7] + p[5] + p[3] + p[1])
        interval = intervals.precision_difference_paired(table)
        shares.append(float(_covers(interval, truth).mean()))
    return shares


def _scores(
    rng: np.random.Generator, shape: tuple[int, int], separations: tuple[float, float], rho: float
) -> tuple[Any, Any]:
    """Binned scores of two models, positives and negatives apart: [repeats, rows] each."""
    edges = np.array(bin_edges(0.5))
    positives, negatives = shape[1], shape[1] * 2
    noise = rng.standard_normal((2, shape[0], positives + negatives))
    noise[1] = rho * noise[0] + np.sqrt(1 - rho**2) * noise[1]
    for model, separation in enumerate(separations):
        noise[model, :, :positives] += separation
    bins = np.searchsorted(edges, stats.logistic.cdf(1.5 * noise - 1.0))
    return bins[:, :, :positives], bins[:, :, positives:]


def _histogram(bins: Any) -> Any:
    return np.stack([np.bincount(row, minlength=BINS) for row in bins])


def _separation(area: float) -> float:
    return float(stats.norm.ppf(area) * np.sqrt(2))


def _auc(rng: np.random.Generator, repeats: int) -> list[float]:
    shares = []
    for n in (50, 100, 300, 1_000):
        for area in (0.55, 0.7, 0.85, 0.95):
            d = _separation(area)
            positives, negatives = _scores(rng, (_enough(repeats), n), (d, d), 0.0)
            found = auc(_histogram(positives[0]), _histogram(negatives[0]))
            shares.append(float(_covers(auc_interval(found), area).mean()))
    return shares


def _aucs(rng: np.random.Generator, repeats: int) -> list[float]:
    shares = []
    for n in (100, 300, 1_000):
        for area in (0.55, 0.7, 0.85, 0.95):
            for rho in (0.0, 0.7, 0.95):
                d = _separation(area), 0.9 * _separation(area)
                truth = area - float(stats.norm.cdf(d[1] / np.sqrt(2)))
                p, n_ = _scores(rng, (_enough(repeats), n), d, rho)
                first, second = (auc(_histogram(p[i]), _histogram(n_[i])) for i in (0, 1))
                shared = _covariances(first.of_positives, second.of_positives, p)
                shared = shared + _covariances(first.of_negatives, second.of_negatives, n_)
                interval = auc_difference_interval(first, second, shared)
                shares.append(float(_covers(interval, truth).mean()))
    return shares


def _enough(repeats: int) -> int:
    """Repetitions of an AUC simulation: 2,000 in full, so that noise is 0.5 points."""
    return max(2 * repeats, 400)


def _covariances(first: Any, second: Any, bins: Any) -> Any:
    """`auc_covariance` of many repetitions at once, from the rows' bins."""
    a, b = (np.take_along_axis(of, row, 1) for of, row in zip((first, second), bins, strict=True))
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    n = a.shape[1]
    return (a * b).sum(1) / (n * (n - 1))


def false_blocks(quick: bool) -> list[dict[str, Any]]:
    """How often the gate blocks a retrained model that is exactly as good, over 40 slices."""
    rng = np.random.default_rng(20_261_120)
    policy = EvaluationPolicy(label_key="y", slices=[["s"]], rules=RULES)
    runs = 20 if quick else 200
    blocked = warned = 0
    for _ in range(runs):
        counts = {(): _same_quality(rng, 6_000)}
        for number in range(40):
            counts[(("s", str(number)),)] = _same_quality(rng, int(rng.integers(50, 600)))
        outcome = judge_slices(counts, policy, baseline="release 1").outcome
        blocked += outcome is Outcome.BLOCK
        warned += outcome is Outcome.WARN
    return [
        {
            "what": f"runs of {runs} blocked though both models are equally good, 41 slices x 4 "
            "metrics (at most 1% nominal)",
            "value": blocked,
            "unit": "runs",
        },
        {"what": "the same, WARN", "value": warned, "unit": "runs"},
    ]


def _same_quality(rng: np.random.Generator, rows: int) -> SliceCounts:
    labels = rng.random(rows) < 0.4
    noise = rng.standard_normal((2, rows))
    noise[1] = 0.9 * noise[0] + np.sqrt(1 - 0.9**2) * noise[1]
    scores = stats.logistic.cdf(noise + 1.4 * labels - 0.7)
    return SliceCounts.of(0.5, labels.tolist(), scores[0].tolist(), scores[1].tolist())


if __name__ == "__main__":
    print(json.dumps(run(quick="--quick" in sys.argv), indent=2))
