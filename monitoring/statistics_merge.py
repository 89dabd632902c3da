"""Statistics of several data sets as those of one; of repeated rows as of fewer. No IO here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from tfx_encore.monitoring.drift_statistics import (
    Bucket,
    CategoricalValues,
    DatasetStatistics,
    FeatureStatistics,
    NumericValues,
)


def merge(datasets: Sequence[DatasetStatistics]) -> DatasetStatistics:
    """The statistics of all examples of `datasets` together.

    Counts add up. Quantile buckets become a mixture: what one data set's buckets make certain stays
    certain, and no more. A feature that a data set lacks is missing in all its examples. Where a
    feature changed its type, the data sets with its commonest type speak for it alone.
    """
    if len(datasets) == 1:
        return datasets[0]
    names = dict.fromkeys(name for dataset in datasets for name in dataset.features)
    examples = sum(dataset.examples for dataset in datasets)
    features = {name: _feature([d.feature(name) for d in datasets]) for name in names}
    return DatasetStatistics(examples, features)


def scaled(statistics: DatasetStatistics, factor: float) -> DatasetStatistics:
    """The same shares from `factor` times as many examples.

    Rows that repeat are no independent evidence: with Kish's effective number of rows over the
    number of rows as `factor`, every null floor and p-value is that of the independent rows.
    Counts become fractions.

    Raises:
        ValueError: `factor` is not in (0, 1].
    """
    if not 0 < factor <= 1:
        raise ValueError(f"the share of independent rows must lie in (0, 1], not {factor}")
    if factor == 1:
        return statistics
    features = {name: _scaled(item, factor) for name, item in statistics.features.items()}
    return DatasetStatistics(round(statistics.examples * factor), features)


def _feature(parts: Sequence[FeatureStatistics]) -> FeatureStatistics:
    some = [part for part in parts if part.present > 0]
    if not some:
        return replace(parts[0], missing=sum(part.missing for part in parts))
    weight: Counter[tuple[str, str]] = Counter()
    for part in some:
        weight[(part.kind, part.type_name)] += part.present  # type: ignore[assignment]
    kind = max(weight, key=lambda key: (weight[key], key))
    alike = [part for part in some if (part.kind, part.type_name) == kind]
    absent = [part for part in parts if part.present <= 0]
    numeric = [part.numeric for part in alike if part.numeric is not None]
    categorical = [part.categorical for part in alike if part.categorical is not None]
    return replace(
        alike[0],
        present=sum(part.present for part in alike),
        missing=sum(part.missing for part in (*alike, *absent)),
        numeric=_numeric(numeric) if numeric else None,
        categorical=_categorical(categorical) if categorical else None,
    )


def _numeric(parts: Sequence[NumericValues]) -> NumericValues:
    flat = tuple(inner for part in parts for inner in (part.parts or (part,)))
    if len(flat) == 1:
        return flat[0]
    buckets = sorted(
        (bucket for part in flat for bucket in part.buckets), key=lambda b: (b.low, b.high)
    )
    return NumericValues(tuple(buckets), sum(part.zeros for part in flat), flat)


def _categorical(parts: Sequence[CategoricalValues]) -> CategoricalValues:
    """Counts by category. One so rare that lists cut short may hide more of it is not listed."""
    counts: dict[str, float] = {}
    for part in parts:
        for label, count in part.counts.items():
            counts[label] = counts.get(label, 0.0) + count
    hidden = sum(part.hidden_at_most for part in parts)
    listed = sorted(
        ((label, count) for label, count in counts.items() if count >= hidden),
        key=lambda item: (-item[1], item[0]),
    )
    return CategoricalValues(dict(listed), sum(part.total for part in parts))


def _scaled(feature: FeatureStatistics, factor: float) -> FeatureStatistics:
    numeric, categorical = feature.numeric, feature.categorical
    return replace(
        feature,
        present=feature.present * factor,
        missing=feature.missing * factor,
        numeric=_scaled_numeric(numeric, factor) if numeric else None,
        categorical=_scaled_categorical(categorical, factor) if categorical else None,
    )


def _scaled_numeric(values: NumericValues, factor: float) -> NumericValues:
    buckets = tuple(Bucket(b.low, b.high, b.count * factor) for b in values.buckets)
    parts = tuple(_scaled_numeric(part, factor) for part in values.parts)
    return NumericValues(buckets, values.zeros * factor, parts)


def _scaled_categorical(values: CategoricalValues, factor: float) -> CategoricalValues:
    counts = {label: count * factor for label, count in values.counts.items()}
    return CategoricalValues(counts, values.total * factor)
