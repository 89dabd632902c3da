"""The LoggedEvaluator component."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Optional

from tfx import types
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from tfx_encore.components.logged_evaluator import executor
from tfx_encore.schemas.artifacts import NightStatistics, RequestLogReport
from tfx_encore.schemas.evaluation_policy import EvaluationPolicy
from tfx_encore.schemas.nightly_policy import NightlyPolicy
from tfx_encore.schemas.serial import to_json


class LoggedEvaluatorSpec(ComponentSpec):
    """Inputs, outputs and parameters of LoggedEvaluator."""

    PARAMETERS = {  # noqa: RUF012 - the base class declares it so
        executor.POLICY: ExecutionParameter(type=str),
        executor.NIGHTLY: ExecutionParameter(type=str),
        executor.MODEL_NAME: ExecutionParameter(type=str),
        executor.DATE: ExecutionParameter(type=str),
        executor.EXTRA_SLICES: ExecutionParameter(type=str),
        executor.TRAINING_SPLIT: ExecutionParameter(type=str),
    }
    INPUTS = {  # noqa: RUF012
        executor.EXAMPLES: ChannelParameter(type=standard_artifacts.Examples),
        executor.MODEL: ChannelParameter(type=standard_artifacts.Model, optional=True),
        executor.LOG_REPORT: ChannelParameter(type=RequestLogReport, optional=True),
        executor.TRAINING_STATISTICS: ChannelParameter(
            type=standard_artifacts.ExampleStatistics, optional=True
        ),
    }
    OUTPUTS = {  # noqa: RUF012
        executor.STATISTICS: ChannelParameter(type=NightStatistics),
    }


class LoggedEvaluator(base_beam_component.BaseBeamComponent):
    """Counts what was served in a night by model, slice and way, without answering it again.

    Output `statistics` (a `NightStatistics`): `slices.json`, from which every metric, interval and
    test of the night follows (`monitoring.night_slices`), and `pairs.json`, from which slice
    discovery starts. A sample of the rows is answered again by `model`, so that the answers of the
    cache are compared with the model's own.

    Args:
        examples: the night's `Examples`, from RequestLogExampleGen.
        model: the `Model` that served, usually `LiveRelease.outputs["model"]`; without it nothing
            is answered again.
        log_report: from RequestLogExampleGen; says which fingerprint a version had.
        policy: slices, threshold, signature; the release's own evaluation policy.
        nightly: how many rows are answered again, and whether slices are searched for.
        model_name: the model's name.
        date: the day (UTC) of the traffic, as `2016-01-12`.
        training_statistics: of the release's training data, usually
            `LiveRelease.outputs["statistics"]`; they say how slice discovery cuts features. Without
            them `pairs.json` counts nothing.
        training_split: which split of them.
        extra_slices: single slices to count besides, as slice discovery names them; promoted
            findings.
    """

    SPEC_CLASS = LoggedEvaluatorSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    def __init__(
        self,
        examples: types.BaseChannel,
        model: Optional[types.BaseChannel] = None,
        log_report: Optional[types.BaseChannel] = None,
        *,
        policy: EvaluationPolicy,
        nightly: Optional[NightlyPolicy] = None,
        model_name: str,
        date: str,
        training_statistics: Optional[types.BaseChannel] = None,
        training_split: str = "train",
        extra_slices: Sequence[Mapping[str, str]] = (),
    ) -> None:
        spec = LoggedEvaluatorSpec(
            **{
                executor.EXAMPLES: examples,
                executor.MODEL: model,
                executor.LOG_REPORT: log_report,
                executor.TRAINING_STATISTICS: training_statistics,
                executor.POLICY: to_json(policy),
                executor.NIGHTLY: to_json(nightly or NightlyPolicy()),
                executor.MODEL_NAME: model_name,
                executor.DATE: date,
                executor.EXTRA_SLICES: json.dumps(
                    [dict(sorted(one.items())) for one in extra_slices], ensure_ascii=False
                ),
                executor.TRAINING_SPLIT: training_split,
                executor.STATISTICS: types.Channel(type=NightStatistics),
            }
        )
        super().__init__(spec=spec)
