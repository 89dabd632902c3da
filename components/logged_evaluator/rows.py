"""A batch of logged rows as arrays. No IO here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from tfx_encore.schemas import nights

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Keys = npt.NDArray[np.uint64]
Model = tuple[str, int]
"""Fingerprint ("" if unknown) and version (0 if unknown)."""


@dataclass(frozen=True)
class Values:
    """The values of a feature in a batch, missing ones left out.

    Attributes:
        rows: [V] number of the row of each value, rising.
        values: [V] the values.
        single: no row has two.
    """

    rows: Ints
    values: pa.Array
    single: bool


@dataclass(frozen=True)
class Rows:
    """N logged rows.

    Attributes:
        batch: all features, as tfx_bsl decodes Examples: lists of values.
        scores: [N] the probabilities served; NaN where there is none.
        labels: [N] 0, 1, or NaN.
        paths: [N] index into `nights.PATHS`.
        models: [N] index into `names`.
        names: the models that answered.
        keys: [N] equal for rows that one model was asked with equal features.
    """

    batch: pa.RecordBatch
    scores: Floats
    labels: Floats
    paths: Ints
    models: Ints
    names: tuple[Model, ...]
    keys: Keys

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.scores)

    def right(self, threshold: float) -> npt.NDArray[np.bool_]:
        """[N] whether the decision was right; False where it or the label is unknown."""
        decided = (self.scores > threshold) == (self.labels == 1)
        return np.asarray(self.known & decided, bool)

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """[N] whether there are a label and a probability."""
        return np.isfinite(self.labels) & (self.scores >= 0) & (self.scores <= 1)

    def order(self) -> Keys:
        """[N] a number drawn for each row from its request's id and place, for sampling."""
        ids = _texts(self.batch, nights.REQUEST_ID, self.n)
        places = np.nan_to_num(_numbers(self.batch, nights.ROW, self.n)).astype(np.int64)
        drawn = [
            blake2b(b"%d/%s" % (place, name), digest_size=8).digest()
            for name, place in zip(ids, places.tolist(), strict=True)
        ]
        return np.frombuffer(b"".join(drawn), ">u8").astype(np.uint64)


def rows_of(batch: pa.RecordBatch, fingerprints: Mapping[int, str]) -> Rows:
    """Reads the features that RequestLogExampleGen adds.

    Args:
        batch: decoded Examples.
        fingerprints: version -> fingerprint, for logs that only say the version.
    """
    n = batch.num_rows
    labels = _numbers(batch, nights.LABEL, n)
    models, names = _models(batch, n, fingerprints)
    return Rows(
        batch=batch,
        scores=_numbers(batch, nights.SCORE, n),
        labels=np.where((labels == 0) | (labels == 1), labels, np.nan),
        paths=_paths(batch, n),
        models=models,
        names=names,
        keys=_keys(batch, n) + _salts(names)[models],
    )


def values_of(batch: pa.RecordBatch, feature: str) -> Values:
    """The values of a feature; none if the batch lacks it."""
    place = batch.schema.get_field_index(feature)
    if place < 0 or pa.types.is_null(batch.column(place).type):
        return Values(np.zeros(0, np.int64), pa.array([], pa.int64()), single=True)
    lists = batch.column(place)
    rows = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False).astype(np.int64)
    return Values(rows, lists.flatten(), single=bool((np.diff(rows) > 0).all()))


def first_values(batch: pa.RecordBatch, feature: str) -> Values:
    """The first value of each row that has one."""
    found = values_of(batch, feature)
    if found.single:
        return found
    first = np.flatnonzero(np.diff(found.rows, prepend=-1) > 0)
    return Values(found.rows[first], found.values.take(pa.array(first)), single=True)


def text_of(value: Any) -> str:
    """A feature's value as the slices of a release have it (`monitoring.tfma_results`)."""
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    return f"{value:g}" if isinstance(value, float) else str(value)


def _numbers(batch: pa.RecordBatch, feature: str, n: int) -> Floats:
    found = first_values(batch, feature)
    numbers = np.full(n, np.nan)
    if len(found.rows):
        numbers[found.rows] = found.values.to_numpy(zero_copy_only=False)
    return numbers


def _texts(batch: pa.RecordBatch, feature: str, n: int) -> list[bytes]:
    found = first_values(batch, feature)
    texts = [b""] * n
    for row, value in zip(found.rows.tolist(), found.values.to_pylist(), strict=True):
        texts[row] = value
    return texts


def _coded(batch: pa.RecordBatch, feature: str, n: int) -> tuple[Ints, list[Any]]:
    """Each row's place in the list of distinct values; the last, None, is for missing."""
    found = first_values(batch, feature)
    encoded = found.values.dictionary_encode()
    distinct = encoded.dictionary.to_pylist()
    codes = np.full(n, len(distinct), np.int64)
    codes[found.rows] = encoded.indices.to_numpy(zero_copy_only=False)
    return codes, [*distinct, None]


def _paths(batch: pa.RecordBatch, n: int) -> Ints:
    codes, distinct = _coded(batch, nights.PATH, n)
    known = {name.encode(): place for place, name in enumerate(nights.PATHS)}
    unknown = nights.PATHS.index(nights.UNKNOWN)
    return np.array([known.get(value, unknown) for value in distinct], np.int64)[codes]


def _models(
    batch: pa.RecordBatch, n: int, fingerprints: Mapping[int, str]
) -> tuple[Ints, tuple[Model, ...]]:
    prints, by_print = _coded(batch, nights.FINGERPRINT, n)
    versions, by_version = _coded(batch, nights.VERSION, n)
    pairs, models = np.unique(prints * len(by_version) + versions, return_inverse=True)
    names = []
    for pair in pairs.tolist():
        fingerprint = (by_print[pair // len(by_version)] or b"").decode("utf-8", "replace")
        version = by_version[pair % len(by_version)] or 0
        names.append((fingerprint or fingerprints.get(version, ""), version))
    return models.astype(np.int64), tuple(names)


def _keys(batch: pa.RecordBatch, n: int) -> Keys:
    """The first 8 bytes of each row's digest; a row without a digest is like no other.

    The chance that any two distinct rows of a million are taken for equal is 3e-8.
    """
    digests = _texts(batch, nights.ROW_DIGEST, n)
    known = b"".join([digest[:8].ljust(8, b"\0") for digest in digests])
    keys = np.frombuffer(known, np.dtype("<u8")).astype(np.uint64)
    missing = np.array([not digest for digest in digests], bool)
    if missing.any():
        ids = _texts(batch, nights.REQUEST_ID, n)
        places = _numbers(batch, nights.ROW, n)
        for row in np.flatnonzero(missing).tolist():
            drawn = blake2b(b"%s/%a" % (ids[row], places[row]), digest_size=8).digest()
            keys[row] = int.from_bytes(drawn, "little")
    return keys


def _salts(names: Sequence[Model]) -> Keys:
    """Keeps the rows of different models apart."""
    salts = [blake2b(name.encode(), digest_size=8).digest() for name, _ in names]
    return np.frombuffer(b"".join(salts), np.dtype("<u8")).astype(np.uint64)
