"""CacheWarmer: answers computed before traffic asks for them."""

from __future__ import annotations

import uuid

from tfx import types
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ExecutionParameter

from tfx_encore.components.cache_warmer.executor import Executor
from tfx_encore.schemas.artifacts import CacheSnapshot, CoverageReport
from tfx_encore.schemas.serial import to_json
from tfx_encore.schemas.warmup_policy import WarmupPolicy


class CacheWarmerSpec(types.ComponentSpec):
    """Inputs, outputs and parameters of CacheWarmer."""

    PARAMETERS = {  # noqa: RUF012 - TFX's form
        "policy": ExecutionParameter(type=str),
        "request_log": ExecutionParameter(type=str, optional=True),
        "releases": ExecutionParameter(type=str, optional=True),
        "nonce": ExecutionParameter(type=str, optional=True),
    }
    INPUTS = {  # noqa: RUF012
        "model": ChannelParameter(type=standard_artifacts.Model),
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "schema": ChannelParameter(type=standard_artifacts.Schema, optional=True),
    }
    OUTPUTS = {  # noqa: RUF012
        "snapshot": ChannelParameter(type=CacheSnapshot),
        "coverage": ChannelParameter(type=CoverageReport),
    }


class CacheWarmer(base_beam_component.BaseBeamComponent):
    """Computes the answers that traffic will ask for first.

    Outputs: `snapshot` (a `CacheSnapshot`: the answers, `certificate.json` and the TF Serving
    warm-up file) and `coverage` (a `CoverageReport`: `coverage.json`).

    Args:
        model: the candidate.
        examples: examples that stand for traffic where there is no request log.
        request_log: path pattern of TF Serving `PredictionLog` TFRecord files, read in order of
            name; then the examples are not counted. A log grows under its path, so that TFX's
            cache never answers a warmer that reads one.
        schema: if given, feature names in the policy are checked against it.
        policy: what to choose, spend and certify.
        releases: the directory that VersionedPusher pushes into. The snapshot then says which
            invalidation record of `policy.model_name` was the newest before anything was computed,
            so that older ones do not keep its answers out. An answer of TFX's cache says what was
            so when it was made.
    """

    SPEC_CLASS = CacheWarmerSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(
        self,
        model: types.BaseChannel,
        examples: types.BaseChannel,
        request_log: str | None = None,
        schema: types.BaseChannel | None = None,
        policy: WarmupPolicy | None = None,
        *,
        releases: str | None = None,
    ) -> None:
        self.READS_WORLD = request_log is not None
        spec = CacheWarmerSpec(
            policy=to_json(policy or WarmupPolicy()),
            request_log=request_log,
            releases=releases,
            nonce=uuid.uuid4().hex if request_log else None,
            model=model,
            examples=examples,
            schema=schema,
            snapshot=types.Channel(type=CacheSnapshot),
            coverage=types.Channel(type=CoverageReport),
        )
        super().__init__(spec=spec)
