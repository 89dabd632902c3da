"""Rows as a model that reads buckets sees them, without TensorFlow. No IO here.

Where a feature reaches a model's answers only through buckets of fixed boundaries, two values in
the same bucket are the same to the model. So a row with each such value replaced by its buckets,
and every other feature as it came, decides the answer: rows that become equal have one answer.
`cache.saved_model_buckets` proves from the graph which features those are.

Equal is meant exactly. What could round otherwise than the model does has no bucket row: numbers
so small that TensorFlow flushes them to zero, and rows whose layout is not the signature's.
"""

from __future__ import annotations

import hashlib
import struct
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence

from pydantic.dataclasses import dataclass

from tfx_encore.cache.row_spec import FeatureSpec, SignatureSpec
from tfx_encore.cache.rows import STRING, cell_tag, item_size

_FLOAT32 = struct.Struct("<f")
_READ = {
    "float32": _FLOAT32,
    "float64": struct.Struct("<d"),
    "int32": struct.Struct("<i"),
    "int64": struct.Struct("<q"),
}
_U32 = struct.Struct("<I")
_HEAD_BYTES = 3  # format and number of cells
_EXACT = 2**53  # integers up to here are doubles
_SMALLEST_NORMAL = {"float32": 2.0**-126, "float64": 2.0**-1022}

Reader = Callable[[bytes, int], "tuple[bytes, int] | None"]
"""Reads a cell at a place: what stands for it in the bucket row, and where it ends."""


@dataclass(frozen=True)
class Buckets:
    """One way in which a model puts a feature's value into buckets.

    Attributes:
        boundaries: ascending; bucket b holds the values v with boundaries[b-1] <= v < boundaries[b]
            (std::upper_bound), NaN the last.
        dtype: of the boundaries: `float32` or `float64`; the value is converted to it before.
        default: taken for a sparse feature without a value.
    """

    boundaries: tuple[float, ...]
    dtype: str
    default: float = 0.0

    def bucket(self, value: float) -> int | None:
        """Returns the bucket of a value, from 0; None if the model may round it otherwise."""
        if isinstance(value, int) and abs(value) > _EXACT:
            return None
        if self.dtype == "float32":
            try:
                (value,) = _FLOAT32.unpack(_FLOAT32.pack(value))
            except OverflowError:
                return None
        if value and abs(value) < _SMALLEST_NORMAL[self.dtype]:
            return None
        return bisect_right(self.boundaries, value)


class BucketRows:
    """Makes bucket rows from the canonical rows of one signature.

    Args:
        spec: of the signature, of form `examples` or `tensors`.
        buckets: feature -> every way in which the model buckets it; the others stay as they are.
    """

    def __init__(self, spec: SignatureSpec, buckets: Mapping[str, Sequence[Buckets]]) -> None:
        features = sorted(spec.key_features, key=lambda feature: feature.name)
        self.features = tuple(name for name in sorted(buckets) if buckets[name])
        self._readers = [_reader(item, tuple(buckets.get(item.name, ()))) for item in features]
        self._begin = bytes((1,)) + struct.pack("<H", len(features))
        written = repr([(feature, tuple(buckets.get(feature.name, ()))) for feature in features])
        # A store may outlive this program: rows that another one made are not taken for ours.
        self._digest = hashlib.blake2b(written.encode(), digest_size=8).digest()

    def row(self, canonical: bytes) -> bytes | None:
        """Returns the bucket row of a canonical row; None if it has none."""
        if canonical[:_HEAD_BYTES] != self._begin:
            return None
        parts = [self._digest]
        at = _HEAD_BYTES
        try:
            for read in self._readers:
                found = read(canonical, at)
                if found is None:
                    return None
                parts.append(found[0])
                at = found[1]
        except (struct.error, IndexError):
            return None
        return b"".join(parts) if at == len(canonical) else None


def can_bucket(feature: FeatureSpec) -> bool:
    """True if a feature has one number for each row, or at most one."""
    single = feature.kind == "sparse" or all(dim == 1 for dim in feature.shape)
    return single and feature.dtype in _READ


def _reader(feature: FeatureSpec, ways: tuple[Buckets, ...]) -> Reader:
    if feature.kind == "sparse":
        return _sparse_buckets(feature, ways) if ways else _as_it_came(feature)
    return _dense_buckets(feature, ways) if ways else _as_it_came(feature)


def _dense_buckets(feature: FeatureSpec, ways: tuple[Buckets, ...]) -> Reader:
    tag = cell_tag(feature.name, feature.dtype, feature.shape)
    size, number = len(tag), _READ[feature.dtype]
    width = number.size

    def read(row: bytes, at: int) -> tuple[bytes, int] | None:
        if not row.startswith(tag, at):
            return None
        at += size
        found = _found(ways, number.unpack_from(row, at)[0])
        return None if found is None else (found, at + width)

    return read


def _sparse_buckets(feature: FeatureSpec, ways: tuple[Buckets, ...]) -> Reader:
    empty = cell_tag(feature.name, feature.dtype, (0,))
    one = cell_tag(feature.name, feature.dtype, (1,))
    size, number = len(one), _READ[feature.dtype]
    width = number.size
    missing = [way.bucket(way.default) for way in ways]

    def read(row: bytes, at: int) -> tuple[bytes, int] | None:
        if row.startswith(one, at):
            at += size
            found = _found(ways, number.unpack_from(row, at)[0])
            return None if found is None else (found, at + width)
        if row.startswith(empty, at) and None not in missing:
            return _packed([bucket for bucket in missing if bucket is not None]), at + size
        return None

    return read


def _found(ways: tuple[Buckets, ...], value: float) -> bytes | None:
    if len(ways) == 1:
        bucket = ways[0].bucket(value)
        return None if bucket is None else _U32.pack(bucket)
    buckets = [way.bucket(value) for way in ways]
    return None if None in buckets else _packed([b for b in buckets if b is not None])


def _packed(buckets: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(buckets)}I", *buckets)


def _as_it_came(feature: FeatureSpec) -> Reader:
    """Reads a whole cell: tag, dimensions, data."""
    label = cell_tag(feature.name, feature.dtype, ())[:-1]  # all but the number of dimensions
    size = len(label)
    item = 0 if feature.dtype == STRING else item_size(feature.dtype)

    def read(row: bytes, begin: int) -> tuple[bytes, int] | None:
        if not row.startswith(label, begin):
            return None
        dims = row[begin + size]
        at = begin + size + 1
        count = 1
        for dim in struct.unpack_from(f"<{dims}I", row, at):
            count *= dim
        at += 4 * dims
        if item:
            at += item * count
        else:
            for _ in range(count):
                at += 4 + int(_U32.unpack_from(row, at)[0])
        return (row[begin:at], at) if at <= len(row) else None

    return read
