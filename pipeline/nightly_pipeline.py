"""The nightly pipeline: a day's request log, evaluated and judged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import tensorflow_data_validation as tfdv
from tfx.components.schema_gen.import_schema_gen.component import ImportSchemaGen
from tfx.components.statistics_gen.component import StatisticsGen
from tfx.dsl.components.base.base_node import BaseNode
from tfx.orchestration.pipeline import Pipeline
from tfx.types import BaseChannel

from tfx_encore.components import (
    DriftValidator,
    LiveRelease,
    LoggedEvaluator,
    NightRecorder,
    RequestLogExampleGen,
    TrendMonitor,
)
from tfx_encore.components.drift_validator.nights import EarlierNights
from tfx_encore.components.rewarming.component import SnapshotCoverage
from tfx_encore.pipeline.config import ProjectConfig
from tfx_encore.pipeline.data_schema import read_columns
from tfx_encore.pipeline.night_plan import NightTask
from tfx_encore.schemas.nights import SCORE


@dataclass(frozen=True)
class NightParts:
    """What the nightly pipeline reads besides the configuration.

    Attributes:
        task: the day and its files.
        run_id: unique name of the run.
        releases: root of the release directory.
        schema_path: the curated schema.
        policy_digest: digest of the configuration by which nights are judged.
        schema: puts out the `schema`; ImportSchemaGen does, if not given.
        night: channel of `NightFiles`, if the files are known only when the pipeline runs.
    """

    task: NightTask
    run_id: str
    releases: str
    schema_path: str
    policy_digest: str
    schema: Optional[BaseNode] = None
    night: Optional[BaseChannel] = None


def nightly_components(config: ProjectConfig, parts: NightParts) -> list[BaseNode]:
    """The components of the nightly pipeline, in the order in which they run."""
    nightly, date = config.nightly, parts.task.date
    features = tuple(read_columns(Path(parts.schema_path)))
    schema = parts.schema or ImportSchemaGen(schema_file=parts.schema_path)
    log = RequestLogExampleGen(
        files=[file.path for file in parts.task.files.log],
        labels=[file.path for file in parts.task.files.labels],
        date=date,
        model_name=config.model,
        policy=nightly,
        signatures=_signatures(config),
        prediction_key=config.evaluation.prediction_key,
        schema=schema.outputs["schema"],
        inputs_digest=parts.task.inputs_digest,
        night=parts.night,
    )
    statistics = StatisticsGen(
        examples=log.outputs["examples"],
        schema=schema.outputs["schema"],
        # Of what the log adds, only the served score is compared with other nights.
        stats_options=tfdv.StatsOptions(feature_allowlist=[*features, SCORE]),
    )
    live = LiveRelease(
        releases=parts.releases,
        model_name=config.model,
        label=config.release.label,
        log_report=log.outputs["log_report"],
    )
    skew = DriftValidator(
        statistics=statistics.outputs["statistics"],
        schema=schema.outputs["schema"],
        baseline_statistics=live.outputs["statistics"],
        policy=nightly.skew,
        log_report=log.outputs["log_report"],
        slice_report=live.outputs["slice_report"],
        model=live.outputs["model"],
        signatures=_signatures(config),
    ).with_id("SkewValidator")
    drift = DriftValidator(
        statistics=statistics.outputs["statistics"],
        schema=schema.outputs["schema"],
        policy=nightly.drift,
        log_report=log.outputs["log_report"],
        nights=EarlierNights(
            releases=parts.releases, model=config.model, date=date, season=nightly.season
        ),
    ).with_id("SeasonalDriftValidator")
    evaluator = LoggedEvaluator(
        examples=log.outputs["examples"],
        model=live.outputs["model"],
        log_report=log.outputs["log_report"],
        policy=config.evaluation,
        nightly=nightly,
        model_name=config.model,
        date=date,
        training_statistics=live.outputs["statistics"],
    )
    trend = TrendMonitor(
        statistics=evaluator.outputs["statistics"],
        slice_report=live.outputs["slice_report"],
        date=date,
        releases=parts.releases,
        model_name=config.model,
        evaluation=config.evaluation,
        policy=nightly.trend,
    )
    coverage = SnapshotCoverage(
        releases=parts.releases,
        model_name=config.model,
        log_files=[file.path for file in parts.task.files.log],
        log_report=log.outputs["log_report"],
        label=config.release.label,
        night=parts.night,
    )
    recorder = NightRecorder(
        log_report=log.outputs["log_report"],
        statistics=statistics.outputs["statistics"],
        night_statistics=evaluator.outputs["statistics"],
        skew_report=skew.outputs["report"],
        drift_report=drift.outputs["report"],
        trend_report=trend.outputs["report"],
        coverage_report=coverage.outputs["coverage"],
        releases=parts.releases,
        model_name=config.model,
        date=date,
        nightly=nightly,
        evaluation=config.evaluation,
        features=features,
        run_id=parts.run_id,
        inputs_digest=parts.task.inputs_digest,
        policy_digest=parts.policy_digest,
        input_files=parts.task.files,
        night=parts.night,
    )
    return [
        schema, log, statistics, live, skew, drift, evaluator, trend, coverage, recorder,
    ]  # fmt: skip


def nightly_pipeline(
    config: ProjectConfig,
    parts: NightParts,
    *,
    root: str,
    metadata_connection: Any,
    beam_args: tuple[str, ...] = (),
) -> Pipeline:
    """The nightly pipeline as TFX runs it.

    TFX's cache is off: a day that is evaluated again has changed, and its artifacts go by age.

    Args:
        config: the project.
        parts: what the pipeline reads besides.
        root: TFX's pipeline root for the day.
        metadata_connection: ml-metadata connection config.
        beam_args: Beam options.
    """
    return Pipeline(
        pipeline_name=f"{config.model}-nightly",
        pipeline_root=root,
        metadata_connection_config=metadata_connection,
        components=nightly_components(config, parts),
        beam_pipeline_args=list(beam_args),
        enable_cache=False,
    )


def _signatures(config: ProjectConfig) -> tuple[str, ...]:
    """Whose rows are evaluated: those configured, else those that the project knows."""
    raw = config.warmup.raw_signature
    known = (config.evaluation.signature_name, *([raw] if raw else []))
    return config.nightly.log.signatures or known
