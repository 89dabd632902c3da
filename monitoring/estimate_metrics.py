"""Metrics expected from score counts and rates of positives, with their derivatives. No IO here.

h rows by score bin and m, the rate of positives of a bin, give m h expected positives and (1 - m) h
expected negatives of each bin; every metric follows. Its derivative by m h (one row of a bin turned
positive) gives both parts of its variance: what the night's labels add, and what m's own does.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tfx_encore.monitoring.auc import auc
from tfx_encore.schemas.evaluation_policy import Metric

Array = npt.NDArray[np.float64]


class Expected(NamedTuple):
    """A metric expected of a night.

    Attributes:
        value: in [0, 1].
        by_row: [B] what it gains when one row of the bin turns from negative to positive.
        cases: its expected denominator; for AUC the size of the smaller class.
    """

    value: float
    by_row: Array
    cases: float


def expected(metric: Metric, rows: Array, rates: Array, cut: int) -> Expected | None:
    """A metric expected of a night; None where it has no value.

    Args:
        metric: which.
        rows: [B] rows of the night by score bin; not only whole numbers.
        rates: [B] rate of positives by bin, in [0, 1].
        cut: the last bin of negative decisions.
    """
    total = float(rows.sum())
    if total <= 0:
        return None
    above = (np.arange(len(rows)) > cut).astype(np.float64)
    if metric == "auc":
        return _auc(rows * rates, rows * (1 - rates))
    hits = float((rows * rates * above).sum())
    if metric == "accuracy":
        right = hits + float((rows * (1 - rates) * (1 - above)).sum())
        return Expected(right / total, (2 * above - 1) / total, total)
    if metric == "precision":
        predicted = float((rows * above).sum())
        return Expected(hits / predicted, above / predicted, predicted) if predicted else None
    positives = float((rows * rates).sum())
    if not positives:
        return None
    value = hits / positives
    return Expected(value, (above - value) / positives, positives)


def _auc(positives: Array, negatives: Array) -> Expected | None:
    found = auc(positives, negatives)
    p, n, value = float(found.positives), float(found.negatives), float(found.value)
    if min(p, n) <= 0:
        return None
    by_row = (found.of_positives - value) / p - (found.of_negatives - value) / n
    return Expected(value, by_row, min(p, n))
