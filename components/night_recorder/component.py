"""The NightRecorder component."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Optional

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from tfx_encore.components.night_recorder import executor
from tfx_encore.components.night_recorder.inputs import NightInputs
from tfx_encore.metadata.release_layout import check_model_name
from tfx_encore.schemas.artifacts import (
    CoverageReport,
    DriftReport,
    NightDecision,
    NightFiles,
    NightStatistics,
    RequestLogReport,
    TrendReport,
)
from tfx_encore.schemas.evaluation_policy import EvaluationPolicy
from tfx_encore.schemas.nightly_policy import NightlyPolicy
from tfx_encore.schemas.serial import to_json


class NightRecorderSpec(ComponentSpec):
    """Inputs, outputs and parameters of NightRecorder."""

    PARAMETERS = {  # noqa: RUF012 - the base class declares it so
        name: ExecutionParameter(type=str)
        for name in (
            executor.RELEASES,
            executor.MODEL_NAME,
            executor.DATE,
            executor.RUN_ID,
            executor.NIGHTLY,
            executor.EVALUATION,
            executor.POLICY_DIGEST,
            executor.FEATURES,
            executor.INPUTS_DIGEST,
            executor.INPUT_FILES,
        )
    }
    INPUTS = {  # noqa: RUF012
        executor.LOG_REPORT: ChannelParameter(type=RequestLogReport),
        executor.STATISTICS: ChannelParameter(
            type=standard_artifacts.ExampleStatistics, optional=True
        ),
        executor.NIGHT_STATISTICS: ChannelParameter(type=NightStatistics, optional=True),
        executor.SKEW_REPORT: ChannelParameter(type=DriftReport, optional=True),
        executor.DRIFT_REPORT: ChannelParameter(type=DriftReport, optional=True),
        executor.TREND_REPORT: ChannelParameter(type=TrendReport, optional=True),
        executor.COVERAGE_REPORT: ChannelParameter(type=CoverageReport, optional=True),
        executor.NIGHT: ChannelParameter(type=NightFiles, optional=True),
    }
    OUTPUTS = {  # noqa: RUF012
        executor.DECISION: ChannelParameter(type=NightDecision),
    }


class NightRecorder(base_component.BaseComponent):
    """Judges a night by the release that served it and by the nights before; keeps the record.

    It commits everything that the night found into `<releases>/<model>/nights/<date>` in one step.
    A night whose content is there already is left as it is. The decisions on drift and on trends
    are made here, by the same functions that judge a night again when an earlier one has changed;
    the reports of the components that show them are inputs for the sake of lineage.

    Args:
        log_report: from RequestLogExampleGen.
        releases: the directory that VersionedPusher pushes into.
        model_name: the model's name in that directory.
        date: the day (UTC), as `2016-01-12`.
        statistics: from StatisticsGen over the night's examples.
        night_statistics: from LoggedEvaluator.
        skew_report: from a DriftValidator against the release's training data.
        drift_report: from a DriftValidator against earlier nights.
        trend_report: from TrendMonitor.
        coverage_report: from SnapshotCoverage.
        nightly: the `nightly` section.
        evaluation: the `evaluation` section.
        features: names of the features that the schema has.
        run_id: written into the record.
        inputs_digest: digest of the files and the configuration that the night was evaluated by.
        policy_digest: digest of the configuration that it is judged by.
        input_files: the files, for OpenLineage.
        night: `NightFiles` that names the files instead of `input_files`.

    Raises:
        ConfigError: the model's name cannot be.
    """

    SPEC_CLASS = NightRecorderSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)
    READS_WORLD = True

    def __init__(
        self,
        log_report: types.BaseChannel,
        releases: str,
        model_name: str,
        date: str,
        *,
        evaluation: EvaluationPolicy,
        nightly: Optional[NightlyPolicy] = None,
        statistics: Optional[types.BaseChannel] = None,
        night_statistics: Optional[types.BaseChannel] = None,
        skew_report: Optional[types.BaseChannel] = None,
        drift_report: Optional[types.BaseChannel] = None,
        trend_report: Optional[types.BaseChannel] = None,
        coverage_report: Optional[types.BaseChannel] = None,
        features: Sequence[str] = (),
        run_id: str = "",
        inputs_digest: str = "",
        policy_digest: str = "",
        input_files: Optional[NightInputs] = None,
        night: Optional[types.BaseChannel] = None,
    ) -> None:
        check_model_name(model_name)
        spec = NightRecorderSpec(
            **{
                executor.LOG_REPORT: log_report,
                executor.STATISTICS: statistics,
                executor.NIGHT_STATISTICS: night_statistics,
                executor.SKEW_REPORT: skew_report,
                executor.DRIFT_REPORT: drift_report,
                executor.TREND_REPORT: trend_report,
                executor.COVERAGE_REPORT: coverage_report,
                executor.NIGHT: night,
                executor.RELEASES: releases,
                executor.MODEL_NAME: model_name,
                executor.DATE: date,
                executor.RUN_ID: run_id,
                executor.NIGHTLY: to_json(nightly or NightlyPolicy()),
                executor.EVALUATION: to_json(evaluation),
                executor.FEATURES: json.dumps(list(features)),
                executor.INPUTS_DIGEST: inputs_digest,
                executor.POLICY_DIGEST: policy_digest,
                executor.INPUT_FILES: to_json(input_files or NightInputs()),
                executor.DECISION: types.Channel(type=NightDecision),
            }
        )
        super().__init__(spec=spec)
