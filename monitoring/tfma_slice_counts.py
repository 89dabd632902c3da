"""A TFMA metric that counts each row under both models at once: `SliceCounts` for every slice.

TFMA computes its own metrics one model at a time, so no pairing survives in them. This metric is
one computation for candidate and baseline together. Its preprocessor turns a row into a single
integer before slicing, and the combiner only counts integers: that is why it costs next to nothing
beside the metrics TFMA has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Optional

import apache_beam as beam
import numpy as np
from tensorflow_model_analysis import constants
from tensorflow_model_analysis.metrics import metric_types
from tensorflow_model_analysis.proto import config_pb2

from tfx_encore.monitoring.slice_counts import bin_edges, row_code, score_bin

METRIC_NAME = "slice_counts"
_WRONG_SHAPE = float("inf")  # counted as out of range


class SliceCountsMetric(metric_types.Metric):  # type: ignore[misc]
    """Rows of a slice by label and score bins, as an int64 array of [code, count] rows.

    `slice_counts.row_code` makes the code; `tfma_results` reads the array back.
    """

    def __init__(self, threshold: float = 0.5, name: str = METRIC_NAME) -> None:
        """Takes the decision threshold, in (0, 1)."""
        super().__init__(_computations, threshold=threshold, name=name)


metric_types.register_metric(SliceCountsMetric)


def _computations(  # noqa: PLR0917 - TFMA gives what it finds among the names
    threshold: float = 0.5,
    name: str = METRIC_NAME,
    eval_config: Optional[config_pb2.EvalConfig] = None,
    model_names: Optional[list[str]] = None,
    output_names: Optional[list[str]] = None,
    example_weighted: bool = False,  # noqa: ARG001 - TFMA asks for it; counts are of rows
) -> list[Any]:
    baselines = (
        {spec.name for spec in eval_config.model_specs if spec.is_baseline}
        if eval_config
        else set()
    )
    candidates = [model for model in model_names or [""] if model not in baselines]
    key = metric_types.MetricKey(name=name, model_name=candidates[0])
    baseline = next(iter(baselines), None)
    codes = RowCodes(threshold, candidates[0], baseline, (output_names or [""])[0])
    return [metric_types.MetricComputation([key], [codes], CountCodes(key))]


class RowCodes(metric_types.Preprocessor):  # type: ignore[misc]
    """Turns a row's extracts into its `row_code`.

    Args:
        threshold: the decision threshold.
        candidate: the candidate's name among TFMA's models; "" where it is alone.
        baseline: the baseline's name, None if there is none.
        output: name of the output, "" where the model has one.
    """

    def __init__(
        self, threshold: float, candidate: str, baseline: Optional[str], output: str
    ) -> None:
        super().__init__(name="encore_row_codes")
        self._threshold = threshold
        self._candidate = candidate
        self._baseline = baseline
        self._output = output
        self._edges = bin_edges(threshold)

    def process(self, extracts: dict[str, Any]) -> Iterator[int]:
        """Yields one integer. Both models are held against the candidate's label."""
        labels = extracts.get(constants.LABELS_KEY)
        predictions = extracts[constants.PREDICTIONS_KEY]
        label = _number(self._of(labels, self._candidate))
        candidate = self._bin(predictions, self._candidate)
        if self._baseline is None:
            yield row_code(label, candidate)
        else:
            yield row_code(label, candidate, self._bin(predictions, self._baseline))

    def _bin(self, predictions: Any, model: str) -> int:
        score = _number(self._of(predictions, model))
        return score_bin(_WRONG_SHAPE if score is None else score, self._edges)

    def _of(self, values: Any, model: str) -> Any:
        if model and isinstance(values, dict):
            values = values.get(model)
        if self._output and isinstance(values, dict):
            values = values.get(self._output)
        return values


class CountCodes(beam.CombineFn):  # type: ignore[misc]
    """Counts equal integers. The accumulator is a dict and is mutated in place.

    Args:
        key: the metric's key in TFMA's output.
    """

    def __init__(self, key: Any) -> None:
        self._key = key

    def create_accumulator(self) -> dict[int, int]:
        """Counts of nothing."""
        return {}

    def add_input(self, accumulator: dict[int, int], element: int) -> dict[int, int]:
        """Counts one more row."""
        accumulator[element] = accumulator.get(element, 0) + 1
        return accumulator

    def add_inputs(self, accumulator: dict[int, int], elements: Iterable[int]) -> dict[int, int]:
        """Counts the codes of a row; TFMA calls this one for each row and slice."""
        for element in elements:
            accumulator[element] = accumulator.get(element, 0) + 1
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[dict[int, int]]) -> dict[int, int]:
        """Adds up."""
        total: Counter[int] = Counter()
        for accumulator in accumulators:
            total.update(accumulator)
        return dict(total)

    def extract_output(self, accumulator: dict[int, int]) -> dict[Any, Any]:
        """The counts as an int64 array of shape [C, 2], in order of code."""
        return {self._key: np.array(sorted(accumulator.items()), np.int64).reshape(-1, 2)}


def _number(value: Any) -> Optional[float]:
    """The one number in `value`; None if there is none, or there are several."""
    if value is None or getattr(value, "size", 1) != 1:
        return None
    return float(value.item()) if hasattr(value, "item") else float(value)
