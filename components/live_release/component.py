"""The LiveRelease component."""

from __future__ import annotations

import uuid
from typing import Optional

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from tfx_encore.components.live_release import executor
from tfx_encore.metadata.release_layout import check_label, check_model_name
from tfx_encore.schemas.artifacts import RequestLogReport, SliceReport


class LiveReleaseSpec(ComponentSpec):
    """Inputs, outputs and parameters of LiveRelease."""

    PARAMETERS = {  # noqa: RUF012 - the base class declares it so
        executor.RELEASES: ExecutionParameter(type=str),
        executor.MODEL_NAME: ExecutionParameter(type=str),
        executor.LABEL: ExecutionParameter(type=str),
        executor.VERSION: ExecutionParameter(type=int, optional=True),
        executor.NONCE: ExecutionParameter(type=str),
    }
    INPUTS = {  # noqa: RUF012
        executor.LOG_REPORT: ChannelParameter(type=RequestLogReport, optional=True),
    }
    OUTPUTS = {  # noqa: RUF012
        executor.MODEL: ChannelParameter(type=standard_artifacts.Model),
        executor.STATISTICS: ChannelParameter(type=standard_artifacts.ExampleStatistics),
        executor.SCHEMA: ChannelParameter(type=standard_artifacts.Schema),
        executor.SLICE_REPORT: ChannelParameter(type=SliceReport),
    }


class LiveRelease(base_component.BaseComponent):
    """Gives the live model, its training statistics, schema and slice report as artifacts.

    Each output carries the custom properties `present` (0 or 1) and, where something is live,
    `release` (as `release 3`), `version` and `fingerprint`. Before the first release all are
    there, empty, with `present` 0. It takes the place of a TFX Resolver, which open-source Kubeflow
    does not run. TFX's cache never answers for it: what is live may have changed since.

    Args:
        releases: the directory that VersionedPusher pushes into.
        model_name: the model's name in that directory.
        label: the label that says what is live.
        version: give this version instead of the label's, as the one that served a night. Of one
            that retention has removed, or that was never pushed here, what is left is given and
            the rest is absent.
        log_report: `RequestLogReport` of a night: the version that answered most of its rows is
            given, if it says which that was.
        nonce: anything that differs from run to run; a new one by default.

    Raises:
        ConfigError: the model's name or the label cannot be.
    """

    SPEC_CLASS = LiveReleaseSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)
    READS_WORLD = True

    def __init__(
        self,
        releases: str,
        model_name: str,
        label: str = "stable",
        nonce: Optional[str] = None,
        *,
        version: Optional[int] = None,
        log_report: Optional[types.BaseChannel] = None,
    ) -> None:
        check_model_name(model_name)
        check_label(label)
        spec = LiveReleaseSpec(
            **{
                executor.RELEASES: releases,
                executor.MODEL_NAME: model_name,
                executor.LABEL: label,
                executor.VERSION: version,
                executor.LOG_REPORT: log_report,
                executor.NONCE: nonce or uuid.uuid4().hex,
                executor.MODEL: types.Channel(type=standard_artifacts.Model),
                executor.STATISTICS: types.Channel(type=standard_artifacts.ExampleStatistics),
                executor.SCHEMA: types.Channel(type=standard_artifacts.Schema),
                executor.SLICE_REPORT: types.Channel(type=SliceReport),
            }
        )
        super().__init__(spec=spec)
