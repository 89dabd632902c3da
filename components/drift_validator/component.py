"""The DriftValidator component."""

from __future__ import annotations

from typing import Optional

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from tfx_encore.components.drift_validator import executor
from tfx_encore.schemas.artifacts import DriftReport
from tfx_encore.schemas.drift_policy import DriftPolicy
from tfx_encore.schemas.serial import to_json


class DriftValidatorSpec(ComponentSpec):
    """Inputs, outputs and parameters of DriftValidator."""

    PARAMETERS = {  # noqa: RUF012 - the base class declares it so
        executor.POLICY: ExecutionParameter(type=str),
        executor.BASELINE_NAME: ExecutionParameter(type=str, optional=True),
    }
    INPUTS = {  # noqa: RUF012
        executor.STATISTICS: ChannelParameter(type=standard_artifacts.ExampleStatistics),
        executor.SCHEMA: ChannelParameter(type=standard_artifacts.Schema),
        executor.BASELINE: ChannelParameter(
            type=standard_artifacts.ExampleStatistics, optional=True
        ),
    }
    OUTPUTS = {  # noqa: RUF012
        executor.REPORT: ChannelParameter(type=DriftReport),
    }


class DriftValidator(base_component.BaseComponent):
    """Judges how far the statistics of new data have drifted from a baseline's.

    It works from TFDV statistics alone, without another pass over the data, and never fails a run
    because of drift: its output `report` carries the decision, and VersionedPusher refuses to push
    where that is BLOCK.

    Args:
        statistics: `ExampleStatistics` of the data to be judged, from StatisticsGen.
        schema: `Schema` of the data; its features are the ones judged.
        baseline_statistics: `ExampleStatistics` to compare with, usually
            `LiveRelease.outputs["statistics"]`. May be absent or empty, as on a first release; the
            decision then says that nothing was compared.
        policy: thresholds, labels, exceptions; see `tfx_encore.schemas.drift_policy`.
        baseline_name: what the report calls the baseline; by default the name that it gives itself,
            such as `release 3`.
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
    ) -> None:
        spec = DriftValidatorSpec(
            **{
                executor.STATISTICS: statistics,
                executor.SCHEMA: schema,
                executor.BASELINE: baseline_statistics,
                executor.POLICY: to_json(policy or DriftPolicy()),
                executor.BASELINE_NAME: baseline_name,
                executor.REPORT: types.Channel(type=DriftReport),
            }
        )
        super().__init__(spec=spec)
