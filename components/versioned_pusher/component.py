"""The VersionedPusher component."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from typing import Optional

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.types.system_executions import Deploy

from tfx_encore.components.versioned_pusher import executor, gathering
from tfx_encore.components.versioned_pusher.blessings import BLESSING_PREFIX
from tfx_encore.metadata.release_layout import check_model_name
from tfx_encore.schemas.artifacts import (
    CacheInvalidation,
    CacheSnapshot,
    CoverageReport,
    DriftReport,
    SliceReport,
)
from tfx_encore.schemas.errors import ConfigError
from tfx_encore.schemas.release import Provenance
from tfx_encore.schemas.release_policy import ReleasePolicy
from tfx_encore.schemas.serial import to_json


class VersionedPusherSpec(ComponentSpec):
    """Inputs, outputs and parameters of VersionedPusher, but for its blessings."""

    PARAMETERS = {  # noqa: RUF012 - the base class declares it so
        executor.RELEASES: ExecutionParameter(type=str),
        executor.MODEL_NAME: ExecutionParameter(type=str),
        executor.BLESSINGS: ExecutionParameter(type=str),
        executor.POLICY: ExecutionParameter(type=str),
        executor.PROVENANCE: ExecutionParameter(type=str),
        executor.NONCE: ExecutionParameter(type=str),
    }
    INPUTS = {  # noqa: RUF012
        gathering.MODEL: ChannelParameter(type=standard_artifacts.Model),
        gathering.SCHEMA: ChannelParameter(type=standard_artifacts.Schema, optional=True),
        gathering.LIVE_MODEL: ChannelParameter(type=standard_artifacts.Model, optional=True),
        "statistics": ChannelParameter(type=standard_artifacts.ExampleStatistics, optional=True),
        "drift_report": ChannelParameter(type=DriftReport, optional=True),
        "slice_report": ChannelParameter(type=SliceReport, optional=True),
        "snapshot": ChannelParameter(type=CacheSnapshot, optional=True),
        "coverage": ChannelParameter(type=CoverageReport, optional=True),
        "evaluation": ChannelParameter(type=standard_artifacts.ModelEvaluation, optional=True),
    }
    OUTPUTS = {  # noqa: RUF012
        executor.PUSHED_MODEL: ChannelParameter(type=standard_artifacts.PushedModel),
        executor.INVALIDATION: ChannelParameter(type=CacheInvalidation),
    }
    TYPE_ANNOTATION = Deploy


class VersionedPusher(base_component.BaseComponent):
    """Pushes a model that every blessing allows, as the next version of a release directory.

    A refused push does not fail the run: `pushed_model` then carries `pushed` 0 and the reason.
    TFX's cache never answers for this component, because what is live may have changed since.

    Args:
        model: `Model` to push, from Trainer.
        releases: the directory that holds all models' releases; shared by all runs.
        model_name: the model's name in that directory and in requests.
        blessings: name -> artifact that must allow the push: a `ModelBlessing`, an `InfraBlessing`,
            a `DriftReport`, a `SliceReport`, or any other with a custom property `outcome`. WARN
            and INSUFFICIENT_DATA allow it. Names are lower-case letters, digits and `_`.
        live_model: `model` of LiveRelease: what the gates compared with. The push is refused if
            another version has become live since.
        statistics: `ExampleStatistics` of the training data, the next release's baseline.
        schema: `Schema` of the data.
        drift_report: kept as evidence; so are the next four.
        slice_report: see above.
        snapshot: see above; its warm-up file goes beside the model, its certificate into the
            manifest.
        coverage: see above.
        evaluation: see above.
        policy: label, retention, patience with other writers.
        provenance: what the pipeline knows of the run; it goes into the manifest.
        nonce: anything that differs from run to run; a new one by default.

    Raises:
        ConfigError: the model's name or a blessing's cannot be.
    """

    SPEC_CLASS = VersionedPusherSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)
    READS_WORLD = True

    def __init__(
        self,
        model: types.BaseChannel,
        releases: str,
        model_name: str,
        *,
        blessings: Optional[Mapping[str, types.BaseChannel]] = None,
        live_model: Optional[types.BaseChannel] = None,
        statistics: Optional[types.BaseChannel] = None,
        schema: Optional[types.BaseChannel] = None,
        drift_report: Optional[types.BaseChannel] = None,
        slice_report: Optional[types.BaseChannel] = None,
        snapshot: Optional[types.BaseChannel] = None,
        coverage: Optional[types.BaseChannel] = None,
        evaluation: Optional[types.BaseChannel] = None,
        policy: Optional[ReleasePolicy] = None,
        provenance: Optional[Provenance] = None,
        nonce: Optional[str] = None,
    ) -> None:
        check_model_name(model_name)
        needed = dict(blessings or {})
        spec = _spec_class(needed)(
            **{
                executor.RELEASES: releases,
                executor.MODEL_NAME: model_name,
                executor.BLESSINGS: json.dumps(list(needed)),
                executor.POLICY: to_json(policy or ReleasePolicy()),
                executor.PROVENANCE: to_json(provenance or Provenance()),
                executor.NONCE: nonce or uuid.uuid4().hex,
                gathering.MODEL: model,
                gathering.SCHEMA: schema,
                gathering.LIVE_MODEL: live_model,
                "statistics": statistics,
                "drift_report": drift_report,
                "slice_report": slice_report,
                "snapshot": snapshot,
                "coverage": coverage,
                "evaluation": evaluation,
                executor.PUSHED_MODEL: types.Channel(type=standard_artifacts.PushedModel),
                executor.INVALIDATION: types.Channel(type=CacheInvalidation),
                **{BLESSING_PREFIX + name: channel for name, channel in needed.items()},
            }
        )
        super().__init__(spec=spec)


def _spec_class(blessings: Mapping[str, types.BaseChannel]) -> type[VersionedPusherSpec]:
    """The spec with one input more for each blessing, of whatever type its channel has."""
    for name in blessings:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise ConfigError(
                f"{name!r} cannot name a blessing; use lower-case letters, digits and '_', "
                "with a letter first"
            )
    inputs = {
        BLESSING_PREFIX + name: ChannelParameter(type=channel.type)
        for name, channel in blessings.items()
    }
    return type(
        "VersionedPusherSpec",
        (VersionedPusherSpec,),
        {"INPUTS": {**VersionedPusherSpec.INPUTS, **inputs}, "__module__": __name__},
    )
