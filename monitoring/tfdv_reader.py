"""Reads TFDV's statistics and schema into plain values: the only file that knows these protos."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from tfx_encore.monitoring.drift_statistics import (
    Bucket,
    CategoricalValues,
    DatasetStatistics,
    FeatureStatistics,
    NumericValues,
)
from tfx_encore.schemas.errors import DataError

_WHOLE = "All Examples"  # TFDV's name of the data set that no slicing has cut
_RETIRED = (schema_pb2.PLANNED, schema_pb2.DEPRECATED, schema_pb2.DISABLED)


def parse_statistics(content: bytes, *, source: str = "statistics") -> DatasetStatistics:
    """Reads a serialized `DatasetFeatureStatisticsList`, as `FeatureStats.pb` holds it.

    Raises:
        DataError: it is none, or holds no data set; names `source`.
    """
    try:
        statistics = statistics_pb2.DatasetFeatureStatisticsList.FromString(content)
    except DecodeError as error:
        raise DataError(f"{source}: not TFDV statistics ({error}); compute them again") from error
    return read_statistics(statistics, source=source)


def read_statistics(statistics: Any, *, source: str = "statistics") -> DatasetStatistics:
    """Reads a `DatasetFeatureStatisticsList`; of sliced statistics, the whole data set.

    Raises:
        DataError: the list holds no data set; names `source`.
    """
    if not statistics.datasets:
        raise DataError(f"{source}: holds no data set; run StatisticsGen over the examples again")
    named = [dataset for dataset in statistics.datasets if dataset.name == _WHOLE]
    dataset = (named or statistics.datasets)[0]
    examples = int(dataset.num_examples)
    features = (_feature(feature, examples) for feature in dataset.features)
    return DatasetStatistics(examples, {feature.name: feature for feature in features})


def schema_features(schema: Any) -> tuple[str, ...]:
    """Names of the features that data should have, in the schema's order."""
    return tuple(_walk(schema.feature, ""))


def _walk(features: Any, prefix: str) -> list[str]:
    names: list[str] = []
    for feature in features:
        if feature.lifecycle_stage in _RETIRED:
            continue
        name = f"{prefix}{feature.name}"
        inner = feature.struct_domain.feature
        names.extend(_walk(inner, f"{name}.") if inner else [name])
    return names


def _name(feature: Any) -> str:
    return feature.name or ".".join(feature.path.step)


def _feature(feature: Any, examples: int) -> FeatureStatistics:
    which = feature.WhichOneof("stats")
    type_name = statistics_pb2.FeatureNameStatistics.Type.Name(feature.type)
    if which is None:
        return FeatureStatistics(_name(feature), "other", type_name, 0.0, float(examples))
    values = getattr(feature, which)
    present = _present(values.common_stats)
    if which == "num_stats":
        present -= min(present, float(_quantiles(values).num_nan))
        numeric = _numeric(values, present)
        return FeatureStatistics(
            _name(feature), "numeric", type_name, present, examples - present, numeric=numeric
        )
    if which == "string_stats":
        return FeatureStatistics(
            _name(feature),
            "categorical",
            type_name,
            present,
            examples - present,
            categorical=_categorical(values),
        )
    return FeatureStatistics(_name(feature), "other", type_name, present, examples - present)


def _present(common: Any) -> float:
    """Number of examples with a value.

    TFDV counts a feature that is there with an empty list as not missing, and CsvExampleGen writes
    an empty cell so: where there are fewer values than such examples, the rest had none.
    """
    return float(min(common.num_non_missing, common.tot_num_values))


def _quantiles(values: Any) -> Any:
    kind = statistics_pb2.Histogram.QUANTILES
    found = [histogram for histogram in values.histograms if histogram.type == kind]
    return found[0] if found else statistics_pb2.Histogram()


def _numeric(values: Any, present: float) -> NumericValues:
    """Buckets, scaled down to one value an example where the feature is a list."""
    buckets = _quantiles(values).buckets
    total = sum(bucket.sample_count for bucket in buckets)
    scale = min(1.0, present / total) if total else 1.0
    return NumericValues(
        tuple(Bucket(b.low_value, b.high_value, b.sample_count * scale) for b in buckets),
        float(values.num_zeros) * scale,
    )


def _categorical(values: Any) -> CategoricalValues:
    """Counts, scaled down to one value an example where the feature is a list."""
    counts: dict[str, float] = {}
    for bucket in values.rank_histogram.buckets:
        counts[bucket.label] = counts.get(bucket.label, 0.0) + bucket.sample_count
    listed = sum(counts.values())
    total = max(float(values.common_stats.tot_num_values), listed)
    present = _present(values.common_stats)
    scale = min(1.0, present / total) if total else 1.0
    return CategoricalValues({k: v * scale for k, v in counts.items()}, total * scale)
