"""Which rows of a batch belong to which slices. No IO here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]

from tfx_encore.components.logged_evaluator.rows import Ints, first_values, text_of, values_of
from tfx_encore.monitoring.slice_counts import SliceKey, slice_key
from tfx_encore.monitoring.slice_discovery_cuts import (
    MISSING,
    OTHER,
    Cuts,
    FeatureCut,
    cell_numbers,
    range_of,
)


@dataclass(frozen=True)
class Members:
    """Which row lies in which slice.

    Attributes:
        rows: [M] number of the row.
        slices: [M] number of the slice, see `Slicer.keys`.
    """

    rows: Ints
    slices: Ints


@dataclass(frozen=True)
class _Entries:
    """Values of one feature, or combinations of several, by row."""

    rows: Ints
    codes: Ints
    names: tuple[SliceKey, ...]


class Slicer:
    """Cuts batches into slices, and numbers the slices as they are met.

    A row with several values of a feature is in the slice of each, a row without one in none, as
    in TFMA.

    Args:
        cuts: features to slice by, `()` for everything.
        extra: single slices besides: feature -> value or range, as slice discovery writes them.
        feature_cuts: how slice discovery cuts features; gives `(other)` its meaning.
    """

    def __init__(
        self,
        cuts: Sequence[tuple[str, ...]],
        extra: Sequence[dict[str, str]] = (),
        feature_cuts: Cuts | None = None,
    ) -> None:
        self.keys: list[SliceKey] = []
        self._numbers: dict[SliceKey, int] = {}
        self._cuts = tuple(cuts)
        self._extra = tuple(extra)
        self._feature_cuts = feature_cuts or {}

    def members(self, batch: pa.RecordBatch) -> Members:
        """The slices of each row; no pair twice."""
        found = [self._members(_crossed(batch, cut)) for cut in self._cuts]
        for wanted in self._extra:
            rows = self._matching(batch, wanted)
            found.append(self._members(_Entries(rows, np.zeros_like(rows), (slice_key(wanted),))))
        rows = np.concatenate([part.rows for part in found])
        slices = np.concatenate([part.slices for part in found])
        if self._extra:  # one of them may also be a slice of a cut
            pairs = np.unique(rows * (len(self.keys) + 1) + slices)
            rows, slices = np.divmod(pairs, len(self.keys) + 1)
        return Members(rows, slices)

    def _members(self, entries: _Entries) -> Members:
        numbers = np.array([self._number(key) for key in entries.names], np.int64)
        return Members(entries.rows, numbers[entries.codes] if len(numbers) else entries.codes)

    def _number(self, key: SliceKey) -> int:
        if key not in self._numbers:
            self._numbers[key] = len(self.keys)
            self.keys.append(key)
        return self._numbers[key]

    def _matching(self, batch: pa.RecordBatch, wanted: dict[str, str]) -> Ints:
        matches = np.ones(batch.num_rows, bool)
        for feature, text in wanted.items():
            matches &= _matches(batch, feature, text, self._feature_cuts.get(feature))
        return np.flatnonzero(matches).astype(np.int64)


def cells_of(batch: pa.RecordBatch, cuts: Cuts) -> npt.NDArray[np.integer[Any]]:
    """The cell of each row by feature of `cuts`, in order of name; [N, F]. See `cell_numbers`."""
    small = max((cut.cells for cut in cuts.values()), default=0) < 128
    cells: npt.NDArray[np.integer[Any]] = np.zeros(
        (batch.num_rows, len(cuts)), np.int8 if small else np.int32
    )
    for place, (feature, cut) in enumerate(sorted(cuts.items())):
        found = first_values(batch, feature)
        if cut.numeric and _is_text(found.values):
            continue
        encoded = found.values.dictionary_encode()
        distinct = np.array(encoded.dictionary.to_pylist(), object)
        if len(distinct):
            numbers = cell_numbers(distinct, cut)
            cells[found.rows, place] = numbers[encoded.indices.to_numpy(zero_copy_only=False)]
    return cells


def _entries(batch: pa.RecordBatch, feature: str) -> _Entries:
    found = values_of(batch, feature)
    encoded = found.values.dictionary_encode()
    names = tuple(((feature, text_of(value)),) for value in encoded.dictionary.to_pylist())
    rows, codes = found.rows, encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    if not found.single:
        rows, codes = np.divmod(np.unique(rows * len(names) + codes), len(names))
    return _Entries(rows, codes, names)


def _crossed(batch: pa.RecordBatch, features: Sequence[str]) -> _Entries:
    """All combinations of the features' values that rows have."""
    everything = np.arange(batch.num_rows, dtype=np.int64)
    crossed = _Entries(everything, np.zeros_like(everything), ((),))
    for feature in features:
        crossed = _joined(crossed, _entries(batch, feature))
    return crossed


def _joined(first: _Entries, second: _Entries) -> _Entries:
    """Each combination of a row's entry in the first with one in the second."""
    starts = np.searchsorted(second.rows, first.rows, side="left")
    times = np.searchsorted(second.rows, first.rows, side="right") - starts
    rows, codes = np.repeat(first.rows, times), np.repeat(first.codes, times)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(times) - times, times)
    others = second.codes[np.repeat(starts, times) + within]
    width = max(len(second.names), 1)
    pairs, codes = np.unique(codes * width + others, return_inverse=True)
    names = tuple(
        tuple(sorted((*first.names[pair // width], *second.names[pair % width])))
        for pair in pairs.tolist()
    )
    return _Entries(rows, codes.astype(np.int64), names)


def _matches(
    batch: pa.RecordBatch, feature: str, text: str, cut: FeatureCut | None
) -> npt.NDArray[np.bool_]:
    """Rows of which some value of the feature is `text`, or lies in the range that it says."""
    found = values_of(batch, feature)
    matches = np.zeros(batch.num_rows, bool)
    if text == MISSING:
        matches[:] = True
        matches[found.rows] = False
        return matches
    bounds = None if _is_text(found.values) else range_of(text)
    if bounds is not None:
        numbers = found.values.to_numpy(zero_copy_only=False)
        chosen = (numbers >= bounds[0]) & (numbers < bounds[1])
    else:
        encoded = found.values.dictionary_encode()
        texts = [text_of(value) for value in encoded.dictionary.to_pylist()]
        known = set(cut.categories) if text == OTHER and cut is not None else None
        fits = [one == text if known is None else one not in known for one in texts]
        chosen = np.array(fits, bool)[encoded.indices.to_numpy(zero_copy_only=False)]
    matches[found.rows[chosen]] = True
    return matches


def _is_text(values: pa.Array) -> bool:
    return bool(pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type))
