"""Adapter: which features a SavedModel's signature reads only through buckets. Needs TensorFlow.

Proved from the graph, like `cache.saved_model_graph`. Followed are operations that keep one number
for each row, in the order of the rows (Reshape, Squeeze, a sparse column of one made dense, Cast),
up to Bucketize, or UpperBound, against constants: what TensorFlow Transform makes of
`tft.bucketize` and `tft.apply_buckets`. Everything else reads the feature as it came, so that what
is not understood costs hits, never rightness. Words of a vocabulary stay words: only those outside
of it become equal in the model.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from tensorflow.python.framework import dtypes

from tfx_encore.cache.bucket_rows import BucketRows, Buckets, can_bucket
from tfx_encore.cache.row_spec import FeatureSpec, SignatureSpec
from tfx_encore.cache.saved_model_graph import SymbolicGraph, load_meta_graph, read_signature

_SAME_NUMBERS = frozenset({"Reshape", "Squeeze", "ExpandDims"})
_FLOATS = ("float32", "float64")


class _Column:
    """A value with one number for each row, all of one feature.

    Attributes:
        feature: name of the feature, or of the input.
        dtype: of the numbers now.
        default: of a sparse feature without a value.
    """

    def __init__(self, feature: str, dtype: str, default: float = 0.0) -> None:
        self.feature = feature
        self.dtype = dtype
        self.default = default


def bucket_rows(path: str, signature: str, output_filter: Iterable[str] = ()) -> BucketRows | None:
    """Returns what makes the bucket rows of a signature; None if no feature is read so.

    Args:
        path: of the SavedModel.
        signature: its name.
        output_filter: outputs asked for; empty for all.

    Raises:
        ModelError: the graph cannot be read, or has no such signature or output.
    """
    meta = load_meta_graph(path)
    reading = read_signature(meta, signature, output_filter=output_filter)
    if reading.stateful_ops or reading.spec.form == "opaque":
        return None
    finder = _Finder(SymbolicGraph(meta), reading.spec)
    outputs = finder.graph.signature_outputs(signature)
    wanted = tuple(output_filter) or tuple(outputs)
    found = finder.find([outputs[name] for name in wanted])
    return BucketRows(reading.spec, found) if any(found.values()) else None


class _Finder:
    """Walks from the outputs towards the features, stopping at buckets."""

    def __init__(self, graph: SymbolicGraph, spec: SignatureSpec) -> None:
        self.graph = graph
        self._features = {item.name: item for item in spec.key_features if can_bucket(item)}
        self._columns: dict[int, _Column | None] = {}

    def find(self, outputs: list[int]) -> dict[str, list[Buckets]]:
        """Returns feature -> its ways, for the features that are read in no other way."""
        ways: dict[str, list[Buckets]] = {}
        as_it_came: set[str] = set()
        stack, seen = list(outputs), set()
        while stack:
            value = stack.pop()
            if value in seen:
                continue
            seen.add(value)
            key = self.graph.key(value)
            bucketed = self._bucketed(value)
            if bucketed is not None:
                feature, way = bucketed
                if way not in ways.setdefault(feature, []):
                    ways[feature].append(way)
            elif key[0] == "feature":
                as_it_came.add(key[1].name)
            elif key[0] == "input":
                as_it_came.add(key[1])
            elif key[0] == "out":
                stack.append(key[1])
            elif key[0] == "op" and not self._is_row_count(key):
                stack.extend(key[3])
        return {name: found for name, found in ways.items() if name not in as_it_came}

    def _is_row_count(self, key: tuple[Any, ...]) -> bool:
        """True for the shape of a column, or of its buckets: it tells the number of rows only."""
        if key[1] != "Shape":
            return False
        return self._column(key[3][0]) is not None or self._bucketed(key[3][0]) is not None

    def _bucketed(self, value: int) -> tuple[str, Buckets] | None:
        """The feature and the way, if a value is a feature's buckets."""
        key = self.graph.key(value)
        if key[0] != "op":
            return None
        if key[1] == "UpperBound":
            column, boundaries = self._column(key[3][1]), self.graph.constant(key[3][0])
        elif key[1] == "Bucketize":
            column = self._column(key[3][0])
            boundaries = np.array(self.graph.node_of[value].attr["boundaries"].list.f, np.float32)
        else:
            return None
        if column is None or boundaries is None or column.dtype not in _FLOATS:
            return None
        return _way(column, np.asarray(boundaries).ravel())

    def _column(self, value: int) -> _Column | None:
        if value not in self._columns:
            self._columns[value] = self._read_column(value)
        return self._columns[value]

    def _read_column(self, value: int) -> _Column | None:
        key = self.graph.key(value)
        if key[0] == "feature" and key[2] == "dense":
            return self._plain(key[1].name)
        if key[0] == "input":
            return self._plain(key[1])
        return self._computed(key, value) if key[0] == "op" else None

    def _computed(self, key: tuple[Any, ...], value: int) -> _Column | None:
        if key[1] in _SAME_NUMBERS:
            return self._column(key[3][0])
        if key[1] == "Cast":
            return self._cast(self._column(key[3][0]), value)
        return self._sparse(key[3]) if key[1] == "SparseToDense" else None

    def _plain(self, name: str) -> _Column | None:
        feature = self._features.get(name)
        return None if feature is None else _Column(name, feature.dtype)

    def _cast(self, column: _Column | None, value: int) -> _Column | None:
        to = str(dtypes.as_dtype(self.graph.node_of[value].attr["DstT"].type).name)
        # From double to float and back again would be two roundings; one is what we repeat.
        if column is None or to not in _FLOATS or (column.dtype, to) == ("float32", "float64"):
            return None
        return _Column(column.feature, to, column.default)

    def _sparse(self, inputs: tuple[int, ...]) -> _Column | None:
        """A sparse feature as a column of one, filled with a default."""
        indices, shape, values = (self.graph.key(item) for item in inputs[:3])
        filling = self.graph.constant(inputs[3])
        parts = (indices[0], indices[2:], values[0], values[2:])
        if parts != ("feature", ("indices",), "feature", ("sparse",)) or indices[1] != values[1]:
            return None
        feature: FeatureSpec = values[1]
        if feature.name not in self._features or filling is None or filling.size != 1:
            return None
        if not self._is_one_column(shape):
            return None
        return _Column(feature.name, feature.dtype, float(filling.ravel()[0]))

    def _is_one_column(self, shape: tuple[Any, ...]) -> bool:
        """True for a shape [rows, 1]: a row with two values does not fit, and is refused."""
        if shape[:2] != ("op", "Pack") or len(shape[3]) != 2:
            return False
        width = self.graph.constant(shape[3][1])
        return width is not None and width.size == 1 and int(width.ravel()[0]) == 1


def _way(column: _Column, boundaries: np.ndarray[Any, Any]) -> tuple[str, Buckets] | None:
    """The feature and its way; None for boundaries out of order, or too small to compare."""
    numbers = [float(number) for number in boundaries]
    tiny = (boundaries != 0) & (np.abs(boundaries) < np.finfo(column.dtype).tiny)
    if np.isnan(boundaries).any() or tiny.any() or numbers != sorted(numbers):
        return None
    return column.feature, Buckets(tuple(numbers), column.dtype, column.default)
