"""The DriftValidator component."""

from __future__ import annotations

import json
import uuid
from typing import Optional

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from tfx_encore.components.drift_validator import executor
from tfx_encore.components.drift_validator.nights import EarlierNights
from tfx_encore.schemas.artifacts import DriftReport, RequestLogReport, SliceReport
from tfx_encore.schemas.drift_policy import DriftPolicy
from tfx_encore.schemas.serial import to_json


class DriftValidatorSpec(ComponentSpec):
    """Inputs, outputs and parameters of DriftValidator."""

    PARAMETERS = {  # noqa: RUF012 - the base class declares it so
        executor.POLICY: ExecutionParameter(type=str),
        executor.BASELINE_NAME: ExecutionParameter(type=str, optional=True),
        executor.NIGHTS: ExecutionParameter(type=str, optional=True),
        executor.SIGNATURES: ExecutionParameter(type=str, optional=True),
        executor.NONCE: ExecutionParameter(type=str, optional=True),
    }
    INPUTS = {  # noqa: RUF012
        executor.STATISTICS: ChannelParameter(type=standard_artifacts.ExampleStatistics),
        executor.SCHEMA: ChannelParameter(type=standard_artifacts.Schema),
        executor.BASELINE: ChannelParameter(
            type=standard_artifacts.ExampleStatistics, optional=True
        ),
        executor.LOG_REPORT: ChannelParameter(type=RequestLogReport, optional=True),
        executor.SLICE_REPORT: ChannelParameter(type=SliceReport, optional=True),
        executor.MODEL: ChannelParameter(type=standard_artifacts.Model, optional=True),
    }
    OUTPUTS = {  # noqa: RUF012
        executor.REPORT: ChannelParameter(type=DriftReport),
    }


class DriftValidator(base_component.BaseComponent):
    """Judges how far the statistics of new data have drifted from a baseline's.

    It works from TFDV statistics alone, without another pass over the data, and never fails a run
    because of drift: its output `report` carries the decision, and VersionedPusher refuses to push
    where that is BLOCK.

    In a nightly pipeline it stands twice. Given a `log_report`, it judges the night's traffic
    against the training data of the release that served it (gate `skew`), features that the model
    does not read left out, served scores against those of the release's evaluation. Given `nights`
    too, it judges against earlier nights (gate `drift`). Both judge split `night` and count rows
    that repeat as the independent ones that they are.

    Args:
        statistics: `ExampleStatistics` of the data to be judged, from StatisticsGen.
        schema: `Schema` of the data; its features are the ones judged.
        baseline_statistics: `ExampleStatistics` to compare with, usually
            `LiveRelease.outputs["statistics"]`. May be absent or empty, as on a first release; the
            decision then says that nothing was compared.
        policy: thresholds, labels, exceptions; see `tfx_encore.schemas.drift_policy`.
        baseline_name: what the report calls the baseline; by default the name that it gives itself,
            such as `release 3`.
        log_report: `RequestLogReport` of the night.
        slice_report: `SliceReport` of the release, for its scores.
        model: `Model` that served, to see which features it reads; without it, features that no
            request of the night carries are not judged.
        signatures: its signatures that traffic asks for; all of them by default.
        nights: the earlier nights to compare with. TFX's cache then never answers for it, as they
            may have changed since.
    """

    SPEC_CLASS = DriftValidatorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        statistics: types.BaseChannel,
        schema: types.BaseChannel,
        baseline_statistics: Optional[types.BaseChannel] = None,
        policy: Optional[DriftPolicy] = None,
        baseline_name: str = "",
        *,
        log_report: Optional[types.BaseChannel] = None,
        slice_report: Optional[types.BaseChannel] = None,
        model: Optional[types.BaseChannel] = None,
        signatures: tuple[str, ...] = (),
        nights: Optional[EarlierNights] = None,
    ) -> None:
        self.READS_WORLD = nights is not None
        spec = DriftValidatorSpec(
            **{
                executor.STATISTICS: statistics,
                executor.SCHEMA: schema,
                executor.BASELINE: baseline_statistics,
                executor.POLICY: to_json(policy or DriftPolicy()),
                executor.BASELINE_NAME: baseline_name,
                executor.LOG_REPORT: log_report,
                executor.SLICE_REPORT: slice_report,
                executor.MODEL: model,
                executor.SIGNATURES: json.dumps(list(signatures)) if signatures else None,
                executor.NIGHTS: to_json(nights) if nights else None,
                executor.NONCE: uuid.uuid4().hex if nights else None,
                executor.REPORT: types.Channel(type=DriftReport),
            }
        )
        super().__init__(spec=spec)
