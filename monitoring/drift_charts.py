"""What the report draws of each feature: its distribution now and at the baseline. No IO here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tfx_encore.monitoring import drift_categories, drift_numeric
from tfx_encore.monitoring.drift_statistics import (
    CategoricalValues,
    DatasetStatistics,
    FeatureStatistics,
)
from tfx_encore.schemas.charts import FeatureChart

Array = npt.NDArray[np.float64]

BARS = 20
CATEGORIES = 12


def _counts(now: FeatureStatistics, then: FeatureStatistics | None) -> dict[str, float | int]:
    found: dict[str, float | int] = {
        "n": round(now.present + now.missing),
        "missing": now.missing / max(now.present + now.missing, 1.0),
    }
    if then is not None:
        found["n_baseline"] = round(then.present + then.missing)
        found["missing_baseline"] = then.missing / max(then.present + then.missing, 1.0)
    return found


def _shares(which: drift_numeric.Distribution | None, edges: Array) -> tuple[float, ...]:
    if which is None:
        return ()
    heights = which.cdf(edges)
    heights[0] = which.cdf_below(edges[:1])[0]  # the first bar holds its lower edge
    return tuple(float(share) for share in np.maximum(np.diff(heights), 0.0))


def _edges(sides: Sequence[drift_numeric.Distribution]) -> Array:
    ranges = [drift_numeric.robust_range(side) for side in sides]
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    if low == high:  # a constant gets one bar of width 1
        return np.array([low - 0.5, low + 0.5])
    return np.linspace(low, high, BARS + 1)


def _numeric(now: FeatureStatistics, then: FeatureStatistics | None) -> FeatureChart | None:
    current = drift_numeric.distribution(now.numeric) if now.numeric else None
    baseline = drift_numeric.distribution(then.numeric) if then and then.numeric else None
    sides = [side for side in (current, baseline) if side is not None]
    if not sides:
        return None
    edges = _edges(sides)
    return FeatureChart(
        feature=now.name,
        kind="numeric",
        current=_shares(current, edges),
        baseline=_shares(baseline, edges),
        edges=tuple(float(edge) for edge in edges),
        **_counts(now, then),  # type: ignore[arg-type]
    )


def _bars(counts: Array, total: float, head: int) -> tuple[float, ...]:
    if total <= 0:
        return ()
    shares = [float(count / total) for count in counts[:head]]
    rest = float(counts[head:].sum() / total)
    return (*shares, rest) if len(counts) > head else tuple(shares)


def _categorical(now: FeatureStatistics, then: FeatureStatistics | None) -> FeatureChart | None:
    nothing = CategoricalValues({}, 0.0)
    current = now.categorical or nothing
    baseline = (then.categorical if then else None) or nothing
    if current.total + baseline.total <= 0:
        return None
    table = drift_categories.align(current, baseline)
    more = len(table.labels) > CATEGORIES
    head = CATEGORIES if more else len(table.labels)
    labels = (*table.labels[:head], drift_categories.OTHER) if more else table.labels
    return FeatureChart(
        feature=now.name,
        kind="categorical",
        current=_bars(table.current, table.n, head),
        baseline=_bars(table.baseline, table.m, head),
        labels=labels,
        **_counts(now, then),  # type: ignore[arg-type]
    )


def charts(
    current: DatasetStatistics, baseline: DatasetStatistics | None, features: Sequence[str]
) -> tuple[FeatureChart, ...]:
    """A chart of each of `features` that has values on either side, drifted or not.

    Numeric charts cover the middle of both distributions; what lies far out is not drawn.
    """
    found = []
    for name in features:
        now = current.feature(name)
        then = baseline.feature(name) if baseline is not None else None
        categorical = now.categorical or (then and not now.numeric and then.categorical)
        chart = _categorical(now, then) if categorical else _numeric(now, then)
        if chart is not None:
            found.append(chart)
    return tuple(found)
