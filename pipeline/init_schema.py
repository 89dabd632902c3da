"""Infers a data schema from a CSV with TensorFlow Data Validation. Loads TensorFlow when called."""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from tfx_encore.pipeline.csv_columns import Column
from tfx_encore.pipeline.csv_file import read_csv
from tfx_encore.pipeline.csv_profile import ColumnProfile
from tfx_encore.pipeline.init_columns import CATEGORY_VALUES, is_category
from tfx_encore.pipeline.quiet import hush

ROWS_LIMIT = 200_000  # rows that TFDV looks at; what it must not miss is set from all rows after


def infer_schema(
    file: pathlib.Path, profiles: Mapping[str, ColumnProfile], columns: Mapping[str, Column]
) -> str:
    """The schema of a CSV file in text format.

    TFDV infers it; then presence, shape and domains are set from all rows of the file, so that
    what is required is what was there in every row.

    Args:
        file: the CSV.
        profiles: what it holds.
        columns: the columns that the schema is to name, with their types.
    """
    schema = _inferred(file, columns)
    del schema.string_domain[:]
    for feature in schema.feature:
        _set_presence(feature, required=columns[feature.name].required)
        profile = profiles[feature.name]
        feature.ClearField("domain")
        if feature.type == schema_pb2.BYTES and profile.distinct <= CATEGORY_VALUES:
            feature.domain = feature.name
            schema.string_domain.add(name=feature.name, value=sorted(profile.values))
        elif is_category(profile):
            feature.int_domain.is_categorical = True
    rows = next(iter(profiles.values())).rows
    text = text_format.MessageToString(schema, as_utf8=True)
    return f"{_HEADER.format(name=file.name, rows=f'{rows:,}')}{text}"


_HEADER = """\
# proto-file: tensorflow_metadata/proto/v0/schema.proto
# proto-message: tensorflow.metadata.v0.Schema
#
# Inferred by `encore init` from the {rows} rows of {name}. Curate it: this file, not the data,
# says what is right.
#   presence.min_fraction: 1   every row must have a value; remove it, put value_count
#                              {{min: 0 max: 1}} in place of shape, and the column may be empty.
#   type                       INT, FLOAT or BYTES. A FLOAT column is written with a point (5.0).
#   string_domain              the values that a text column may have; others are reported.
#   is_categorical             whole numbers that are names, not amounts.

"""


def _inferred(file: pathlib.Path, columns: Mapping[str, Column]) -> schema_pb2.Schema:
    hush()
    import tensorflow_data_validation as tfdv
    from tensorflow_data_validation.statistics import stats_impl

    statistics = stats_impl.generate_statistics_in_memory(_as_arrow(file, columns))
    return tfdv.infer_schema(statistics, max_string_domain_size=CATEGORY_VALUES)


def _as_arrow(file: pathlib.Path, columns: Mapping[str, Column]) -> Any:
    """The first rows as TFDV wants them: each cell a list of no or one value of its type."""
    import pyarrow as pa  # type: ignore[import-untyped]

    types: dict[str, tuple[Any, Callable[[str], Any]]] = {
        "INT": (pa.int64(), int),
        "FLOAT": (pa.float32(), float),
        "BYTES": (pa.large_binary(), str.encode),
    }
    lines = read_csv(file, any_header=True)
    _, header = next(lines)
    rows = [cells for _, cells in itertools.islice(lines, ROWS_LIMIT)]
    arrays = []
    for name, column in columns.items():
        kind, parse = types[column.type]
        index = header.index(name)
        values = [[parse(row[index])] if row[index] else None for row in rows]
        arrays.append(pa.array(values, type=pa.large_list(kind)))
    return pa.RecordBatch.from_arrays(arrays, list(columns))


def _set_presence(feature: schema_pb2.Feature, *, required: bool) -> None:
    feature.ClearField("presence")
    feature.ClearField("shape")
    feature.ClearField("value_count")
    if required:
        feature.presence.min_fraction = 1.0
        feature.presence.min_count = 1
        feature.shape.dim.add(size=1)
    else:
        feature.presence.min_count = 0
        feature.value_count.min = 0
        feature.value_count.max = 1
