"""Reads `SliceCounts` back from the files that a TFMA evaluation wrote."""

from __future__ import annotations

from typing import Any, Optional

from tensorflow_model_analysis.writers import metrics_plots_and_validations_writer

from tfx_encore.monitoring.slice_counts import SliceCounts, SliceKey, slice_key
from tfx_encore.monitoring.tfma_slice_counts import METRIC_NAME
from tfx_encore.schemas.errors import DataError


def read_slice_counts(folder: str, threshold: float) -> dict[SliceKey, SliceCounts]:
    """Returns the counts of every slice of an evaluation that had `SliceCountsMetric` in it.

    Args:
        folder: where TFMA wrote; the uri of a ModelEvaluation artifact.
        threshold: the decision threshold of the evaluation.

    Raises:
        DataError: there is no result, or it was written without the metric.
    """
    found = {}
    for result in metrics_plots_and_validations_writer.load_and_deserialize_metrics(folder):
        counts = _counts(result, threshold)
        if counts is not None:
            found[_key(result.slice_key)] = counts
    if () not in found:
        raise DataError(
            f"{folder}: holds no {METRIC_NAME} of the overall slice; either no row was evaluated "
            "or the evaluation was not made by SlicedEvaluator"
        )
    return found


def _counts(result: Any, threshold: float) -> Optional[SliceCounts]:
    for item in result.metric_keys_and_values:
        if item.key.name == METRIC_NAME:
            values = list(item.value.array_value.int64_values)
            return SliceCounts(threshold, dict(zip(values[::2], values[1::2], strict=True)))
    return None


def _key(proto: Any) -> SliceKey:
    return slice_key({item.column: _text(item) for item in proto.single_slice_keys})


def _text(item: Any) -> str:
    kind = item.WhichOneof("kind")
    value = getattr(item, kind)
    if kind == "bytes_value":
        return str(value.decode("utf-8", errors="replace"))
    return f"{value:g}" if kind == "float_value" else str(value)
