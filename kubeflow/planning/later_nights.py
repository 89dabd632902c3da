"""LaterNights: judges again the nights that looked at the one that was just recorded."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any

from absl import logging
from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from tfx_encore.components.night_recorder.recording import Recorder
from tfx_encore.monitoring.night_judge import Policies
from tfx_encore.pipeline.night_judging import judge_again
from tfx_encore.schemas.artifacts import NightDecision
from tfx_encore.schemas.evaluation_policy import EvaluationPolicy
from tfx_encore.schemas.nightly_policy import NightlyPolicy
from tfx_encore.schemas.serial import from_json

DECISION = "decision"
RELEASES, MODEL_NAME, RUN_ID = "releases", "model_name", "run_id"
NIGHTLY, EVALUATION, POLICY_DIGEST = "nightly_policy", "evaluation_policy", "policy_digest"
FEATURES, NONCE = "features", "nonce"

Artifacts = dict[str, list[types.Artifact]]


class Executor(base_executor.BaseExecutor):
    """Executor of LaterNights."""

    def Do(  # noqa: N802 - TFX names it
        self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]
    ) -> None:
        """Gives new revisions to the nights that a changed one has made stale.

        Raises:
            ReleaseCorruptError: a night's record was edited.
        """
        del input_dict, output_dict
        policies = Policies(
            from_json(NightlyPolicy, exec_properties[NIGHTLY], source="nightly policy"),
            from_json(EvaluationPolicy, exec_properties[EVALUATION], source="evaluation policy"),
            tuple(json.loads(exec_properties[FEATURES])),
            exec_properties[POLICY_DIGEST],
        )
        recorder = Recorder(
            exec_properties[RELEASES],
            exec_properties[MODEL_NAME],
            policies,
            exec_properties[RUN_ID],
        )
        again = judge_again(recorder)
        logging.info("LaterNights: judged again: %s", ", ".join(again) or "none")


class LaterNightsSpec(ComponentSpec):
    """Inputs and parameters of LaterNights."""

    PARAMETERS = {  # noqa: RUF012 - TFX's form
        name: ExecutionParameter(type=str)
        for name in (
            RELEASES,
            MODEL_NAME,
            RUN_ID,
            NIGHTLY,
            EVALUATION,
            POLICY_DIGEST,
            FEATURES,
            NONCE,
        )
    }
    INPUTS = {DECISION: ChannelParameter(type=NightDecision)}  # noqa: RUF012
    OUTPUTS: dict[str, ChannelParameter] = {}  # noqa: RUF012


class LaterNights(base_component.BaseComponent):
    """Judges again the nights after one that was evaluated late, as `encore nightly` does.

    Args:
        decision: of NightRecorder; the nights are looked at once it has committed.
        model_name: the model's name in the release directory.
        features: names of the features that the schema has.
        releases: the directory that VersionedPusher pushes into.
        nightly: the `nightly` section of this run, as JSON.
        evaluation: the `evaluation` section of this run, as JSON.
        policy_digest: digest of the configuration that nights are judged by.
        run_id: written into the records.
    """

    SPEC_CLASS = LaterNightsSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
    READS_WORLD = True

    def __init__(
        self,
        decision: types.BaseChannel,
        model_name: str,
        features: Sequence[str],
        *,
        releases: Any,
        nightly: Any,
        evaluation: Any,
        policy_digest: Any,
        run_id: Any,
    ) -> None:
        spec = LaterNightsSpec(
            **{
                DECISION: decision,
                RELEASES: releases,
                MODEL_NAME: model_name,
                RUN_ID: run_id,
                NIGHTLY: nightly,
                EVALUATION: evaluation,
                POLICY_DIGEST: policy_digest,
                FEATURES: json.dumps(list(features)),
                NONCE: uuid.uuid4().hex,
            }
        )
        super().__init__(spec=spec)
