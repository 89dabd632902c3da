"""The SlicedEvaluator component."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Optional

from tfx import types
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from tfx_encore.components.sliced_evaluator import executor
from tfx_encore.schemas.artifacts import SliceReport
from tfx_encore.schemas.evaluation_policy import EvaluationPolicy
from tfx_encore.schemas.serial import to_json


class SlicedEvaluatorSpec(ComponentSpec):
    """Inputs, outputs and parameters of SlicedEvaluator."""

    PARAMETERS = {  # noqa: RUF012 - the base class declares it so
        executor.POLICY: ExecutionParameter(type=str),
        executor.EXAMPLE_SPLITS: ExecutionParameter(type=str),
    }
    INPUTS = {  # noqa: RUF012
        executor.EXAMPLES: ChannelParameter(type=standard_artifacts.Examples),
        executor.MODEL: ChannelParameter(type=standard_artifacts.Model),
        executor.BASELINE_MODEL: ChannelParameter(type=standard_artifacts.Model, optional=True),
        executor.BASELINE_REPORT: ChannelParameter(type=SliceReport, optional=True),
        executor.SCHEMA: ChannelParameter(type=standard_artifacts.Schema, optional=True),
    }
    OUTPUTS = {  # noqa: RUF012
        executor.EVALUATION: ChannelParameter(type=standard_artifacts.ModelEvaluation),
        executor.BLESSING: ChannelParameter(type=standard_artifacts.ModelBlessing),
        executor.SLICE_REPORT: ChannelParameter(type=SliceReport),
    }


class SlicedEvaluator(base_beam_component.BaseBeamComponent):
    """Evaluates a candidate and the live model with TFMA and gates on intervals, slice by slice.

    Outputs `evaluation` and `blessing` as TFX's Evaluator has them, and `slice_report`, with the
    decision and its evidence.

    Args:
        examples: `Examples` to evaluate on, from ExampleGen.
        model: the candidate `Model`, from Trainer.
        baseline_model: the live `Model`, usually `LiveRelease.outputs["model"]`. May be absent or
            empty, as on a first release; the decision then says that nothing was compared.
        schema: `Schema` of the data; slice features are checked against it.
        policy: slices, rules and tolerances; see `tfx_encore.schemas.evaluation_policy`.
        example_splits: splits to evaluate on.
        baseline_report: `SliceReport` of the live model's own evaluation; slices in it that today's
            data lacks are reported.
    """

    SPEC_CLASS = SlicedEvaluatorSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    def __init__(
        self,
        examples: types.BaseChannel,
        model: types.BaseChannel,
        *,
        policy: EvaluationPolicy,
        baseline_model: Optional[types.BaseChannel] = None,
        schema: Optional[types.BaseChannel] = None,
        example_splits: Sequence[str] = ("eval",),
        baseline_report: Optional[types.BaseChannel] = None,
    ) -> None:
        spec = SlicedEvaluatorSpec(
            **{
                executor.EXAMPLES: examples,
                executor.MODEL: model,
                executor.BASELINE_MODEL: baseline_model,
                executor.BASELINE_REPORT: baseline_report,
                executor.SCHEMA: schema,
                executor.POLICY: to_json(policy),
                executor.EXAMPLE_SPLITS: json.dumps(list(example_splits)),
                executor.EVALUATION: types.Channel(type=standard_artifacts.ModelEvaluation),
                executor.BLESSING: types.Channel(type=standard_artifacts.ModelBlessing),
                executor.SLICE_REPORT: types.Channel(type=SliceReport),
            }
        )
        super().__init__(spec=spec)
