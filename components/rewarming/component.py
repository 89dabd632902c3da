"""The SnapshotCoverage component."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Optional

from tfx import types
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from tfx_encore.components.rewarming import executor
from tfx_encore.metadata.release_layout import check_model_name
from tfx_encore.schemas.artifacts import CoverageReport, NightFiles, RequestLogReport


class SnapshotCoverageSpec(ComponentSpec):
    """Inputs, outputs and parameters of SnapshotCoverage."""

    PARAMETERS = {  # noqa: RUF012 - the base class declares it so
        executor.RELEASES: ExecutionParameter(type=str),
        executor.MODEL_NAME: ExecutionParameter(type=str),
        executor.LABEL: ExecutionParameter(type=str),
        executor.DATE: ExecutionParameter(type=str, optional=True),
        executor.LOG_FILES: ExecutionParameter(type=str),
        executor.NONCE: ExecutionParameter(type=str),
    }
    INPUTS = {  # noqa: RUF012
        executor.LOG_REPORT: ChannelParameter(type=RequestLogReport, optional=True),
        executor.NIGHT: ChannelParameter(type=NightFiles, optional=True),
    }
    OUTPUTS = {  # noqa: RUF012
        executor.COVERAGE: ChannelParameter(type=CoverageReport),
    }


class SnapshotCoverage(base_beam_component.BaseBeamComponent):
    """Measures what the newest cache snapshot was worth for a night's traffic.

    Its output `coverage` holds `coverage.json`, a `schemas.nights.NightCoverage`; without a
    snapshot, or a row that it could have answered, it is there, empty, with the custom property
    `present` 0. TFX's cache never answers for it: the newest snapshot may have changed since.

    Args:
        releases: the directory that VersionedPusher pushes into.
        model_name: the model's name in that directory.
        log_files: the night's PredictionLog TFRecords.
        log_report: `RequestLogReport` of the night, for the version that served.
        date: the night, as 2016-01-12: snapshots made of it or of later nights are then left out,
            so that a night evaluated again after it was warmed from has the same coverage.
        label: whose version served, where the log does not say.
        night: `NightFiles` whose log is read instead of `log_files`.
        nonce: anything that differs from run to run; a new one by default.

    Raises:
        ConfigError: the model's name cannot be.
    """

    SPEC_CLASS = SnapshotCoverageSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)
    READS_WORLD = True

    def __init__(
        self,
        releases: str,
        model_name: str,
        log_files: Sequence[str],
        log_report: Optional[types.BaseChannel] = None,
        *,
        date: Optional[str] = None,
        label: str = "stable",
        nonce: Optional[str] = None,
        night: Optional[types.BaseChannel] = None,
    ) -> None:
        check_model_name(model_name)
        spec = SnapshotCoverageSpec(
            **{
                executor.RELEASES: releases,
                executor.MODEL_NAME: model_name,
                executor.LABEL: label,
                executor.DATE: date,
                executor.LOG_FILES: json.dumps([str(path) for path in log_files]),
                executor.NONCE: nonce or uuid.uuid4().hex,
                executor.LOG_REPORT: log_report,
                executor.NIGHT: night,
                executor.COVERAGE: types.Channel(type=CoverageReport),
            }
        )
        super().__init__(spec=spec)
