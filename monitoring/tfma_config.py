"""The TFMA configuration that an EvaluationPolicy stands for."""

from __future__ import annotations

import json
from typing import Any

from tensorflow_model_analysis.proto import config_pb2

from tfx_encore.monitoring.tfma_slice_counts import SliceCountsMetric
from tfx_encore.schemas.evaluation_policy import EvaluationPolicy

CANDIDATE = "candidate"
BASELINE = "baseline"
_AUC_THRESHOLDS = 200  # TFMA's default of 10,000 doubles the time of the whole evaluation


def eval_config(
    policy: EvaluationPolicy, *, paired: bool, counts: bool = True, standard: bool = True
) -> Any:
    """Returns a `tfma.EvalConfig` with the policy's models, slices and metrics.

    No thresholds are set in it: TFMA's gate knows neither intervals nor missing slices.

    Args:
        policy: what to measure, and on which slices.
        paired: True if there is a baseline model.
        counts: include `SliceCountsMetric`; only a benchmark leaves it out.
        standard: include TFMA's own metrics; they fail on NaN, counting does not.
    """
    metrics = _standard_metrics(policy.decision_threshold) if standard else []
    if counts:
        metrics.append(_counts_metric(policy.decision_threshold))
    return config_pb2.EvalConfig(
        model_specs=_model_specs(policy, paired=paired),
        slicing_specs=[
            config_pb2.SlicingSpec(feature_keys=list(names)) for names in policy.all_slices
        ],
        metrics_specs=[config_pb2.MetricsSpec(metrics=metrics)],
    )


def _model_specs(policy: EvaluationPolicy, *, paired: bool) -> list[Any]:
    common = {
        "signature_name": policy.signature_name,
        "label_key": policy.label_key,
        "prediction_key": policy.prediction_key,
        "preprocessing_function_names": list(policy.preprocessing_functions),
    }
    if not paired:
        return [config_pb2.ModelSpec(**common)]
    return [
        config_pb2.ModelSpec(name=CANDIDATE, **common),
        config_pb2.ModelSpec(name=BASELINE, is_baseline=True, **common),
    ]


def _standard_metrics(threshold: float) -> list[Any]:
    return [
        _metric("ExampleCount"),
        _metric("BinaryAccuracy", threshold=threshold),
        _metric("Precision", thresholds=threshold),
        _metric("Recall", thresholds=threshold),
        _metric("AUC", num_thresholds=_AUC_THRESHOLDS),
    ]


def _counts_metric(threshold: float) -> Any:
    return config_pb2.MetricConfig(
        class_name=SliceCountsMetric.__name__,
        module=SliceCountsMetric.__module__,
        config=json.dumps({"threshold": threshold}),
    )


def _metric(name: str, **config: Any) -> Any:
    return config_pb2.MetricConfig(class_name=name, config=json.dumps(config) if config else "")
