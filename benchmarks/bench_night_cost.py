"""What a night costs: logged rows to Examples, statistics and counts by slice, each on its own."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

SCHEMA = Path(__file__).resolve().parent.parent / "schemas" / "taxi.pbtxt"
SIGNATURES = ("serving_default", "predict_raw")
SLICES = ((), ("payment_type",), ("company",))  # overall, 4 and 45: 50 slices
NIGHTS = 30
MEBIBYTE = 1024  # ru_maxrss is in kibibytes


def run(quick: bool) -> dict[str, Any]:
    """Measures nights of growing size, and the merge of 30 of them."""
    sizes = [1_000, 4_000] if quick else [10_000, 100_000, 1_000_000]
    rows = []
    with tempfile.TemporaryDirectory(prefix="night-cost-") as root:
        for size in sizes:
            folder = Path(root) / str(size)
            measure("log", folder, size)
            stages = {stage: measure(stage, folder, size) for stage in STAGES}
            rows += [{"rows": size, "stage": name} | cost for name, cost in stages.items()]
            rows.append({"rows": size, "stage": "together"} | together(stages))
        rows += [measure_merge(folder)]
    return {
        "title": "Cost of a night",
        "rows": rows,
        "notes": [
            "One row a request, half of them sent as Examples and half as 17 tensors, popularity "
            "by Zipf's law (exponent 0.8) over a third as many distinct rows, a label for each in "
            "one CSV file; 50 slices. Writing the log is not counted.",
            "Each stage is a process of its own, starting and importing included. Beam's "
            "FnApiRunner, in process. Bounds: 600 s and 2,048 MiB for 1,000,000 rows, all stages.",
            "The merge adds the counts by slice of 30 nights, as a month's metrics need them.",
        ],
    }


def measure(stage: str, folder: Path, size: int, script: str = __file__) -> dict[str, float]:
    """Runs a stage of a benchmark in a process of its own."""
    begun = time.perf_counter()
    command = [sys.executable, script, stage, str(folder), str(size)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    error = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{stage} of {size} rows failed: {error.decode()[-2000:]}")
    return {
        "cpu s": round(used.ru_utime + used.ru_stime, 1),
        "wall s": round(time.perf_counter() - begun, 1),
        "peak MiB": round(used.ru_maxrss / MEBIBYTE),
    }


def together(stages: dict[str, dict[str, float]]) -> dict[str, float]:
    costs = list(stages.values())
    return {
        "cpu s": round(sum(cost["cpu s"] for cost in costs), 1),
        "wall s": round(sum(cost["wall s"] for cost in costs), 1),
        "peak MiB": max(cost["peak MiB"] for cost in costs),
    }


def measure_merge(folder: Path) -> dict[str, Any]:
    """Adds up the counts of the last night, thirty times."""
    from tfx_encore.monitoring.night_slices import NightSlices
    from tfx_encore.schemas.serial import from_json

    text = (folder / "LoggedEvaluator" / "slices.json").read_bytes()
    wall, cpu = time.perf_counter(), time.process_time()
    nights = [from_json(NightSlices, text) for _ in range(NIGHTS)]
    total = reduce(add, nights)
    return {
        "rows": sum(n.of(n.fingerprints()[0])[()].counts(n.threshold).n for n in nights),
        "stage": f"merge of {NIGHTS} nights, {len(total.slices)} slices",
        "cpu s": round(time.process_time() - cpu, 2),
        "wall s": round(time.perf_counter() - wall, 2),
        "peak MiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MEBIBYTE),
    }


def write_log(folder: Path, size: int) -> None:
    from night_log import write_night

    write_night(folder / "log", size, max(size // 3, 10))


def make_examples(folder: Path, _size: int) -> None:
    from night_log import DATE, MODEL

    from tfx_encore.components.request_log_example_gen.component import RequestLogExampleGen
    from tfx_encore.components.request_log_example_gen.executor import Executor
    from tfx_encore.schemas.nightly_policy import NightlyPolicy

    component = RequestLogExampleGen(
        sorted((folder / "log" / MODEL / DATE).glob("*.tfrecord")),
        date=DATE,
        model_name=MODEL,
        policy=NightlyPolicy(labels={"files": "*.csv"}),
        signatures=SIGNATURES,
        labels=[folder / "log" / f"{DATE}.csv"],
    )
    outputs = {"examples": [examples_in(folder)], "log_report": [report_in(folder)]}
    execute(Executor, component, {"schema": [schema_in(folder)]}, outputs, folder)


def make_statistics(folder: Path, _size: int) -> None:
    import tensorflow_data_validation as tfdv
    from tfx.components.statistics_gen.component import StatisticsGen
    from tfx.components.statistics_gen.executor import Executor
    from tfx.types import channel_utils, standard_artifacts
    from tfx.utils import io_utils

    from tfx_encore.schemas.nights import SCORE

    examples, schema = examples_in(folder), schema_in(folder)
    names = [f.name for f in io_utils.SchemaReader().read(str(SCHEMA)).feature]
    component = StatisticsGen(
        examples=channel_utils.as_channel([examples]),
        schema=channel_utils.as_channel([schema]),
        stats_options=tfdv.StatsOptions(feature_allowlist=[*names, SCORE]),
    )
    statistics = placed(standard_artifacts.ExampleStatistics(), folder / "StatisticsGen")
    inputs = {"examples": [examples], "schema": [schema]}
    execute(Executor, component, inputs, {"statistics": [statistics]}, folder)


def count_slices(folder: Path, _size: int) -> None:
    from night_log import DATE, MODEL
    from tfx.types import channel_utils

    from tfx_encore.components.logged_evaluator.component import LoggedEvaluator
    from tfx_encore.components.logged_evaluator.executor import Executor
    from tfx_encore.schemas.artifacts import NightStatistics
    from tfx_encore.schemas.evaluation_policy import EvaluationPolicy

    examples = examples_in(folder)
    component = LoggedEvaluator(
        examples=channel_utils.as_channel([examples]),
        policy=EvaluationPolicy(label_key="label", slices=SLICES),
        model_name=MODEL,
        date=DATE,
    )
    statistics = placed(NightStatistics(), folder / "LoggedEvaluator")
    inputs = {"examples": [examples], "log_report": [report_in(folder)]}
    execute(Executor, component, inputs, {"statistics": [statistics]}, folder)


def execute(executor: Any, component: Any, inputs: Any, outputs: Any, folder: Path) -> None:
    """Runs an executor as TFX does, without a metadata store."""
    from tfx_encore.pipeline.beam_options import beam_args

    context = executor.Context(
        beam_pipeline_args=list(beam_args("FnApiRunner")),
        tmp_dir=str(folder / "tmp"),
        unique_id="1",
    )
    executor(context).Do(inputs, outputs, dict(component.exec_properties))


def placed(artifact: Any, folder: Path) -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    artifact.uri = str(folder)
    return artifact


def examples_in(folder: Path) -> Any:
    from night_log import DATE
    from tfx.types import standard_artifacts

    from tfx_encore.components.request_log_example_gen.executor import describe_examples

    examples = placed(standard_artifacts.Examples(), folder / "examples")
    describe_examples(examples, DATE)
    return examples


def report_in(folder: Path) -> Any:
    from tfx_encore.schemas.artifacts import RequestLogReport

    return placed(RequestLogReport(), folder / "log_report")


def schema_in(folder: Path) -> Any:
    from tfx.types import standard_artifacts

    schema = placed(standard_artifacts.Schema(), folder / "schema")
    (folder / "schema" / "schema.pbtxt").write_bytes(SCHEMA.read_bytes())
    return schema


STAGES: dict[str, Callable[[Path, int], None]] = {
    "RequestLogExampleGen": make_examples,
    "StatisticsGen": make_statistics,
    "LoggedEvaluator": count_slices,
}


if __name__ == "__main__":
    if len(sys.argv) == 4:
        {"log": write_log, **STAGES}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
    else:
        from pprint import pprint

        pprint(run(quick="--quick" in sys.argv), width=120)
