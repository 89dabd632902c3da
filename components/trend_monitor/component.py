"""The TrendMonitor component."""

from __future__ import annotations

import uuid
from typing import Optional

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from tfx_encore.components.trend_monitor import executor
from tfx_encore.metadata.release_layout import check_model_name
from tfx_encore.schemas.artifacts import NightStatistics, SliceReport, TrendReport
from tfx_encore.schemas.evaluation_policy import EvaluationPolicy
from tfx_encore.schemas.nightly_policy import TrendPolicy
from tfx_encore.schemas.serial import to_json


class TrendMonitorSpec(ComponentSpec):
    """Inputs, outputs and parameters of TrendMonitor."""

    PARAMETERS = {  # noqa: RUF012 - the base class declares it so
        executor.DATE: ExecutionParameter(type=str),
        executor.RELEASES: ExecutionParameter(type=str),
        executor.MODEL_NAME: ExecutionParameter(type=str),
        executor.POLICY: ExecutionParameter(type=str),
        executor.EVALUATION: ExecutionParameter(type=str),
        executor.NONCE: ExecutionParameter(type=str),
    }
    INPUTS = {  # noqa: RUF012
        executor.STATISTICS: ChannelParameter(type=NightStatistics),
        executor.SLICE_REPORT: ChannelParameter(type=SliceReport, optional=True),
    }
    OUTPUTS = {  # noqa: RUF012
        executor.REPORT: ChannelParameter(type=TrendReport),
    }


class TrendMonitor(base_component.BaseComponent):
    """Follows every slice and metric of a release over its nights, and alarms on slow decay.

    It reads the counts of earlier nights from beside the releases; rows are not needed any more.
    It never fails a run because of decay: its output `report` carries the decision. TFX's cache
    never answers for it: earlier nights may have changed since, as when labels come late.

    Args:
        statistics: `NightStatistics` of tonight, from LoggedEvaluator.
        date: tonight, as `2016-01-12`; later nights are not looked at.
        releases: the directory that VersionedPusher pushes into; the nights are kept beside it.
        model_name: the model's name in that directory.
        evaluation: decision threshold of the metrics, as the release was evaluated with.
        slice_report: `SliceReport` of the release that served, usually
            `LiveRelease.outputs["slice_report"]`; nights of its fingerprint are judged. May be
            absent or empty; then the model that answered most rows is held against its own first
            nights.
        policy: metrics, false alarms a year, reference; see
            `tfx_encore.schemas.nightly_policy.TrendPolicy`.
        nonce: anything that differs from run to run; a new one by default.

    Raises:
        ConfigError: the model's name cannot be.
    """

    SPEC_CLASS = TrendMonitorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)
    READS_WORLD = True

    def __init__(
        self,
        statistics: types.BaseChannel,
        date: str,
        releases: str,
        model_name: str,
        evaluation: EvaluationPolicy,
        *,
        slice_report: Optional[types.BaseChannel] = None,
        policy: Optional[TrendPolicy] = None,
        nonce: Optional[str] = None,
    ) -> None:
        check_model_name(model_name)
        spec = TrendMonitorSpec(
            **{
                executor.STATISTICS: statistics,
                executor.SLICE_REPORT: slice_report,
                executor.DATE: date,
                executor.RELEASES: releases,
                executor.MODEL_NAME: model_name,
                executor.POLICY: to_json(policy or TrendPolicy()),
                executor.EVALUATION: to_json(evaluation),
                executor.NONCE: nonce or uuid.uuid4().hex,
                executor.REPORT: types.Channel(type=TrendReport),
            }
        )
        super().__init__(spec=spec)
