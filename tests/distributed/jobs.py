"""Every Beam job of ours, run as TFX runs it, and what it put out in a form that is compared."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import channel_utils, standard_artifacts
from world import DATE, MODEL, World

from tfx_encore.cache.snapshot import read_blocks, read_meta
from tfx_encore.components.cache_warmer.component import CacheWarmer
from tfx_encore.components.cache_warmer.executor import Executor as WarmerExecutor
from tfx_encore.components.logged_evaluator.component import LoggedEvaluator
from tfx_encore.components.logged_evaluator.executor import Executor as LoggedExecutor
from tfx_encore.components.request_log_example_gen.component import RequestLogExampleGen
from tfx_encore.components.request_log_example_gen.executor import Executor as LogExecutor
from tfx_encore.components.request_log_example_gen.executor import describe_examples
from tfx_encore.components.rewarming.measuring import measure_coverage
from tfx_encore.components.rewarming.rewarm import rewarm
from tfx_encore.components.sliced_evaluator.component import SlicedEvaluator
from tfx_encore.components.sliced_evaluator.executor import Executor as SlicedExecutor
from tfx_encore.metadata.release_push import PushRequest
from tfx_encore.metadata.releases import ReleaseDirectory
from tfx_encore.schemas.artifacts import (
    CacheSnapshot,
    CoverageReport,
    NightStatistics,
    RequestLogReport,
    SliceReport,
)
from tfx_encore.schemas.evaluation_policy import EvaluationPolicy
from tfx_encore.schemas.nightly_policy import NightlyPolicy
from tfx_encore.schemas.warmup_policy import WarmupPolicy

EVALUATION = EvaluationPolicy(
    label_key="tipped",
    preprocessing_functions=(),
    slices=[["payment_type"], ["hour"], ["payment_type", "hour"]],
)
WARMUP = WarmupPolicy(
    model_name=MODEL, max_entries=300, batch_size=8, certify_rows=16, exclude_features=("tipped",)
)


@dataclass(frozen=True)
class Run:
    """Where jobs are run, and where their outputs go.

    Attributes:
        world: what they read.
        folder: of this run.
        beam_args: Beam's arguments.
        earlier: folder of the run whose outputs are what later jobs read; its own by default.
    """

    world: World
    folder: Path
    beam_args: tuple[str, ...]
    earlier: Optional[Path] = None

    @property
    def given(self) -> Path:
        """Where the outputs of earlier jobs are."""
        return self.earlier or self.folder

    def execute(self, executor: Any, component: Any, inputs: Any, outputs: Any) -> None:
        """Runs an executor as TFX does, without a metadata store."""
        tmp = self.folder / "scratch" / type(component).__name__
        context = BaseBeamExecutor.Context(
            beam_pipeline_args=list(self.beam_args), tmp_dir=str(tmp), unique_id="1"
        )
        executor(context).Do(inputs, outputs, dict(component.exec_properties))
        left = [path for path in tmp.rglob("*") if path.is_file()]
        assert not left, f"left behind: {left}"

    def placed(self, artifact: Any, name: str) -> Any:
        """An output artifact."""
        (self.folder / name).mkdir(parents=True, exist_ok=True)
        artifact.uri = str(self.folder / name)
        return artifact

    def make_pipeline(self) -> Any:
        """A pipeline for work outside of a component."""
        import apache_beam as beam

        return beam.Pipeline(argv=list(self.beam_args))


def log_examples(run: Run) -> Any:
    """RequestLogExampleGen: the files, byte by byte, and the report."""
    component = RequestLogExampleGen(
        run.world.log,
        date=DATE,
        model_name=MODEL,
        policy=NightlyPolicy(labels={"files": "*.csv"}),
        labels=run.world.labels,
    )
    examples = run.placed(standard_artifacts.Examples(), "night")
    report = run.placed(RequestLogReport(), "log_report")
    outputs = {"examples": [examples], "log_report": [report]}
    run.execute(LogExecutor, component, {"schema": [run.world.schema_artifact()]}, outputs)
    return files_in(run.folder / "night"), files_in(run.folder / "log_report")


def statistics(run: Run) -> Any:
    """StatisticsGen: the statistics of both splits as protos, features in order of name.

    TFDV lists features as they come, and readers go by name.
    """
    from tensorflow_metadata.proto.v0 import statistics_pb2
    from tfx.components.statistics_gen.component import StatisticsGen
    from tfx.components.statistics_gen.executor import Executor

    examples, schema = run.world.examples_artifact(), run.world.schema_artifact()
    component = StatisticsGen(
        examples=channel_utils.as_channel([examples]), schema=channel_utils.as_channel([schema])
    )
    made = run.placed(standard_artifacts.ExampleStatistics(), "statistics")
    inputs = {"examples": [examples], "schema": [schema]}
    run.execute(Executor, component, inputs, {"statistics": [made]})
    found = {}
    for path in sorted((run.folder / "statistics").rglob("FeatureStats.pb")):
        made_ = statistics_pb2.DatasetFeatureStatisticsList.FromString(path.read_bytes())
        for dataset in made_.datasets:
            dataset.features.sort(key=lambda feature: feature.path.step[0])
        found[path.parent.name] = made_
    return found


def slices(run: Run) -> Any:
    """SlicedEvaluator: our own report, and TFMA's metrics."""
    examples, model = run.world.examples_artifact(), run.world.model_artifact()
    schema = run.world.schema_artifact()
    component = SlicedEvaluator(
        examples=channel_utils.as_channel([examples]),
        model=channel_utils.as_channel([model]),
        schema=channel_utils.as_channel([schema]),
        policy=EVALUATION,
    )
    outputs = {
        "evaluation": [run.placed(standard_artifacts.ModelEvaluation(), "evaluation")],
        "blessing": [run.placed(standard_artifacts.ModelBlessing(), "blessing")],
        "slice_report": [run.placed(SliceReport(), "slice_report")],
    }
    inputs = {"examples": [examples], "model": [model], "schema": [schema]}
    run.execute(SlicedExecutor, component, inputs, outputs)
    return files_in(run.folder / "slice_report"), files_in(run.folder / "blessing")


def warmer(policy: WarmupPolicy, name: str, log: bool) -> Callable[[Run], Any]:
    """CacheWarmer: the snapshot's entries, all but what each took, and the coverage."""

    def job(run: Run) -> Any:
        examples, model = run.world.examples_artifact(), run.world.model_artifact()
        component = CacheWarmer(
            model=channel_utils.as_channel([model]),
            examples=channel_utils.as_channel([examples]),
            request_log=f"{Path(run.world.log[0]).parent}/*.tfrecord" if log else None,
            policy=policy,
        )
        snapshot = run.placed(CacheSnapshot(), f"{name}/snapshot")
        coverage = run.placed(CoverageReport(), f"{name}/coverage")
        outputs = {"snapshot": [snapshot], "coverage": [coverage]}
        run.execute(WarmerExecutor, component, {"model": [model], "examples": [examples]}, outputs)
        folder = run.folder / name
        return (
            entries(folder / "snapshot"),
            (folder / "snapshot/certificate.json").read_bytes(),
            (folder / "snapshot/tf_serving_warmup_requests").read_bytes(),
            files_in(folder / "coverage"),
        )

    return job


def logged(run: Run) -> Any:
    """LoggedEvaluator: both files, byte by byte."""
    examples = standard_artifacts.Examples()
    examples.uri = str(run.given / "night")
    describe_examples(examples, DATE)
    report = RequestLogReport()
    report.uri = str(run.given / "log_report")
    model = run.world.model_artifact()
    statistics_ = standard_artifacts.ExampleStatistics()
    statistics_.uri = str(run.given / "statistics")
    component = LoggedEvaluator(
        examples=channel_utils.as_channel([examples]),
        model=channel_utils.as_channel([model]),
        log_report=channel_utils.as_channel([report]),
        policy=EVALUATION,
        nightly=NightlyPolicy(),
        model_name=MODEL,
        date=DATE,
        training_statistics=channel_utils.as_channel([statistics_]),
    )
    inputs = {
        "examples": [examples],
        "model": [model],
        "log_report": [report],
        "training_statistics": [statistics_],
    }
    made = run.placed(NightStatistics(), "night_statistics")
    run.execute(LoggedExecutor, component, inputs, {"statistics": [made]})
    found = files_in(run.folder / "night_statistics")
    assert json.loads(found["pairs.json"]), "no pairs were counted"
    return found


def coverage_and_rewarm(run: Run) -> Any:
    """SnapshotCoverage of the release's snapshot, then a snapshot of the night."""
    releases = ReleaseDirectory(run.folder / "releases", MODEL)
    warmed = run.given / "by_log"
    evidence = {name: warmed / name for name in ("snapshot", "coverage")}
    releases.push(PushRequest(str(run.world.model), evidence=evidence))
    measured = measure_coverage(
        run.make_pipeline, warmed / "snapshot", run.world.log, str(run.folder / "scratch")
    )
    made = rewarm(run.make_pipeline, releases, 1, DATE, run.world.log, policy=WARMUP)
    assert measured is not None
    numbers = measured.covered, measured.expected, measured.entries
    return numbers, (made.entries, made.hit_rate), entries(made.path)


JOBS: dict[str, Callable[[Run], Any]] = {
    "RequestLogExampleGen": log_examples,
    "StatisticsGen": statistics,
    "SlicedEvaluator": slices,
    "CacheWarmer, by split": warmer(WARMUP, "by_split", log=False),
    "CacheWarmer, by time": warmer(
        WARMUP.model_copy(update={"timestamp_feature": "seconds", "exclude_features": ("tipped",)}),
        "by_time",
        log=False,
    ),
    "CacheWarmer, by log": warmer(WARMUP, "by_log", log=True),
    "LoggedEvaluator": logged,
    "SnapshotCoverage and rewarm": coverage_and_rewarm,
}


def files_in(folder: Path) -> dict[str, bytes]:
    """Every file below a folder; of gzip what is packed."""
    return {
        str(path.relative_to(folder)): (
            gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def entries(folder: Path) -> Any:
    """A snapshot's entries in order; what each took is a time, and left out."""
    meta = read_meta(str(folder))
    blocks = list(read_blocks(str(folder)))
    rows = [
        (entry.key, entry.seen, entry.signature, entry.row, entry.answer)
        for block in blocks
        for entry in block.entries()
    ]
    assert rows, "an empty snapshot proves nothing"
    return meta.fingerprint, meta.entries, meta.bytes, rows
