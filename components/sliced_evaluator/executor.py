"""Runs TFX's evaluator on candidate and live model, and judges what it counted."""

from __future__ import annotations

from typing import Any, Optional

from google.protobuf import json_format
from tfx import types
from tfx.components.evaluator import constants
from tfx.components.evaluator import executor as tfx_evaluator
from tfx.dsl.components.base import base_beam_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils, standard_artifacts

from tfx_encore.components.shared_files import scratch_folder
from tfx_encore.components.sliced_evaluator.inputs import (
    check_features,
    check_model,
    live_model,
)
from tfx_encore.monitoring.slice_counts import SliceCounts, SliceKey
from tfx_encore.monitoring.slice_gate import judge_slices, require_usable
from tfx_encore.monitoring.slice_report import SliceTable, slice_table
from tfx_encore.monitoring.tfma_config import eval_config
from tfx_encore.monitoring.tfma_results import read_slice_counts
from tfx_encore.schemas.decisions import Decision, Outcome
from tfx_encore.schemas.evaluation_policy import EvaluationPolicy
from tfx_encore.schemas.serial import from_json, to_json

EXAMPLES = "examples"
MODEL = "model"
BASELINE_MODEL = "baseline_model"
BASELINE_REPORT = "baseline_report"
SCHEMA = "schema"
EVALUATION = "evaluation"
BLESSING = "blessing"
SLICE_REPORT = "slice_report"
POLICY = "policy"
EXAMPLE_SPLITS = "example_splits"
DECISION_FILE = "decision.json"
SLICES_FILE = "slices.json"

Artifacts = dict[str, list[types.Artifact]]


class Executor(base_beam_executor.BaseBeamExecutor):
    """Executor of SlicedEvaluator; see the component for inputs and outputs."""

    def Do(  # noqa: N802 - TFX's name
        self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]
    ) -> None:
        """Evaluates, judges, blesses or not.

        Raises:
            ConfigError: a slice feature, the label or a split is not there.
            ModelError: a model lacks the signature, or does not answer with probabilities.
            DataError: there is nothing to evaluate, or no label.
        """
        policy = from_json(EvaluationPolicy, exec_properties[POLICY], source="evaluation policy")
        splits = exec_properties[EXAMPLE_SPLITS]
        live = live_model(input_dict.get(BASELINE_MODEL))
        check_features(input_dict, policy, splits)
        check_model(input_dict[MODEL][0], "the candidate model", policy)
        if live:
            check_model(live.artifact, f"the live model ({live.name})", policy)
        name = live.name if live else None
        inputs = {key: input_dict[key] for key in (EXAMPLES, MODEL, SCHEMA) if key in input_dict}
        if live:
            inputs[BASELINE_MODEL] = [live.artifact]

        counts = self._evaluate(inputs, output_dict[EVALUATION], splits, policy, name)
        decision = judge_slices(
            counts, policy, baseline=name, expected=_expected(input_dict.get(BASELINE_REPORT))
        )
        table = slice_table(
            counts,
            threshold=policy.decision_threshold,
            confidence=policy.confidence_level,
            baseline=name,
        )
        _write_report(output_dict[SLICE_REPORT], decision, table)
        _bless(output_dict[BLESSING], decision, inputs, exec_properties)

    def _evaluate(
        self,
        inputs: Artifacts,
        evaluation: list[types.Artifact],
        splits: str,
        policy: EvaluationPolicy,
        baseline: Optional[str],
    ) -> dict[SliceKey, SliceCounts]:
        """Runs TFX's own evaluator; if it fails over a model's answers, says so."""
        config = eval_config(policy, paired=BASELINE_MODEL in inputs)
        try:
            self._run_tfx(inputs, evaluation, splits, config)
        except Exception:
            # TFMA dies of NaN somewhere inside AUC. Counting alone does not, and tells the rows.
            self._diagnose(inputs, splits, policy, baseline)
            raise
        return read_slice_counts(evaluation[0].uri, policy.decision_threshold)

    def _run_tfx(
        self, inputs: Artifacts, evaluation: list[types.Artifact], splits: str, config: Any
    ) -> None:
        properties = {
            "eval_config": json_format.MessageToJson(config, preserving_proto_field_name=True),
            EXAMPLE_SPLITS: splits,
        }
        tfx_evaluator.Executor(self._context).Do(inputs, {EVALUATION: evaluation}, properties)

    def _diagnose(
        self, inputs: Artifacts, splits: str, policy: EvaluationPolicy, baseline: Optional[str]
    ) -> None:
        """Raises ModelError or DataError if the models' answers or the labels are the cause."""
        counting = policy.model_copy(update={"slices": ((),)})
        config = eval_config(counting, paired=BASELINE_MODEL in inputs, standard=False)
        tmp_root = self._get_tmp_dir() if self._context else None
        with scratch_folder(tmp_root, "sliced-evaluator") as folder:
            scratch = standard_artifacts.ModelEvaluation()
            scratch.uri = folder
            try:
                self._run_tfx(inputs, [scratch], splits, config)
            except Exception:  # noqa: BLE001 - the caller raises the first error, which says more
                return
            counts = read_slice_counts(folder, policy.decision_threshold)
        require_usable(counts[()], policy, baseline)


def _expected(reports: Optional[list[types.Artifact]]) -> tuple[SliceKey, ...]:
    """The slices of the baseline's own evaluation, if its report is there."""
    if not reports:
        return ()
    path = f"{reports[0].uri}/{SLICES_FILE}"
    if not fileio.exists(path):
        return ()
    with fileio.open(path, "rb") as file:
        table = from_json(SliceTable, file.read(), source=path)
    return tuple(item.key for item in table.slices)


def _write_report(outputs: list[types.Artifact], decision: Decision, table: SliceTable) -> None:
    report = artifact_utils.get_single_instance(outputs)
    fileio.makedirs(report.uri)
    for name, text in (
        (DECISION_FILE, to_json(decision, indent=2)),
        (SLICES_FILE, to_json(table)),
    ):
        with fileio.open(f"{report.uri}/{name}", "wb") as file:
            file.write(text.encode())
    report.set_string_custom_property("outcome", decision.outcome.value)
    report.set_string_custom_property("reason", decision.reason)


def _bless(
    outputs: list[types.Artifact],
    decision: Decision,
    inputs: Artifacts,
    exec_properties: dict[str, Any],
) -> None:
    """Writes the blessing as TFX's Evaluator does, so that Pusher understands it."""
    blessing = artifact_utils.get_single_instance(outputs)
    candidate = inputs[MODEL][0]
    blessing.set_string_custom_property(
        constants.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY, candidate.uri
    )
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, candidate.id)
    for baseline in inputs.get(BASELINE_MODEL, ()):
        blessing.set_string_custom_property(
            constants.ARTIFACT_PROPERTY_BASELINE_MODEL_URI_KEY, baseline.uri
        )
        blessing.set_int_custom_property(
            constants.ARTIFACT_PROPERTY_BASELINE_MODEL_ID_KEY, baseline.id
        )
    if "current_component_id" in exec_properties:
        blessing.set_string_custom_property("component_id", exec_properties["current_component_id"])
    blessed = decision.outcome is not Outcome.BLOCK
    name = constants.BLESSED_FILE_NAME if blessed else constants.NOT_BLESSED_FILE_NAME
    fileio.makedirs(blessing.uri)
    with fileio.open(f"{blessing.uri}/{name}", "w") as file:
        file.write("")
    blessing.set_int_custom_property(
        constants.ARTIFACT_PROPERTY_BLESSED_KEY,
        constants.BLESSED_VALUE if blessed else constants.NOT_BLESSED_VALUE,
    )
    blessing.set_string_custom_property("outcome", decision.outcome.value)
    blessing.set_string_custom_property(
        constants.ARTIFACT_PROPERTY_BLESSING_MESSAGE_KEY, decision.reason
    )
