"""Counts by model, slice, path and code of the row: small, and mergeable. No IO here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tfx_encore.components.logged_evaluator.rows import Floats, Ints, Model, Rows
from tfx_encore.components.logged_evaluator.slicing import Members
from tfx_encore.monitoring.night_slices import NightSlices, PathCounts, ServedSlice, ordered
from tfx_encore.monitoring.slice_counts import (
    NOT_A_NUMBER,
    OUT_OF_RANGE,
    SliceKey,
    bin_edges,
    row_code,
)
from tfx_encore.schemas.nights import PATHS

Place = tuple[str, SliceKey]
"""Fingerprint and slice."""
Squares = dict[Place, tuple[int, int, int]]
"""Sums over distinct rows: c^2 of all rows, c^2 and c^3 of labelled ones."""

_CODES, _PATHS, _MODELS = 1 << 20, len(PATHS) + 1, 1 << 12
_BINS = row_code(0, 1) - row_code(0, 0)


@dataclass
class Tally:
    """What was counted.

    Attributes:
        rows: (fingerprint, slice) -> path -> `row_code` -> rows.
        versions: fingerprint -> the highest version that had it.
    """

    rows: dict[Place, dict[str, Counter[int]]] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Repeated:
    """The sample that the model answered again: (fingerprint, slice) -> path -> what was found."""

    found: Mapping[Place, Mapping[str, PathCounts]] = field(default_factory=dict)


def score_bins(scores: Floats, threshold: float) -> Ints:
    """The bin of each score, as `slice_counts.score_bin` has it."""
    bins = np.searchsorted(np.asarray(bin_edges(threshold)), scores, side="left").astype(np.int64)
    bins[(scores < 0) | (scores > 1)] = OUT_OF_RANGE
    bins[np.isnan(scores)] = NOT_A_NUMBER
    return bins


def row_codes(labels: Floats, bins: Ints, others: Ints | None = None) -> Ints:
    """The code of each row, as `slice_counts.row_code` has it."""
    of_label = np.array([row_code(0, 0), row_code(1, 0), row_code(None, 0)], np.int64)
    known = np.where(np.isnan(labels), 2, labels).astype(np.int64)
    codes: Ints = of_label[known] + _BINS * bins
    if others is not None:
        codes += others + (row_code(0, 0, 0) - row_code(0, 0))
    return codes


class Counting:
    """Counts batches of one file; `tally` says what was found.

    Args:
        threshold: the decision threshold.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._models: dict[Model, int] = {}
        self._parts: list[tuple[Ints, Ints]] = []

    def add(self, rows: Rows, members: Members) -> None:
        """Counts a batch; slices are numbered alike in all batches."""
        models = np.array([self._model(name) for name in rows.names], np.int64)[rows.models]
        codes = row_codes(rows.labels, score_bins(rows.scores, self._threshold))
        of_row = (models * _PATHS + rows.paths) * _CODES + codes
        packed = members.slices * (_MODELS * _PATHS * _CODES) + of_row[members.rows]
        places, counts = np.unique(packed, return_counts=True)
        self._parts.append((places, counts))
        if len(self._parts) > 64:
            self._merge()

    def tally(self, keys: Sequence[SliceKey]) -> Tally:
        """The counts, with the slices' keys by number."""
        self._merge()
        names = list(self._models)
        tally = Tally()
        for name, version in names:
            tally.versions[name] = max(version, tally.versions.get(name, 0))
        for places, counts in self._parts:
            rest, code = np.divmod(places, _CODES)
            rest, path = np.divmod(rest, _PATHS)
            number, model = np.divmod(rest, _MODELS)
            columns = (number.tolist(), model.tolist(), path.tolist(), code.tolist())
            for at, of, way, what, count in zip(*columns, counts.tolist(), strict=True):
                paths = tally.rows.setdefault((names[of][0], keys[at]), {})
                paths.setdefault(PATHS[way], Counter())[what] += count
        return tally

    def _model(self, name: Model) -> int:
        number = self._models.setdefault(name, len(self._models))
        if number >= _MODELS:
            raise ValueError(f"more than {_MODELS} models answered in one file of examples")
        return number

    def _merge(self) -> None:
        if len(self._parts) > 1:
            self._parts = [summed(*(np.concatenate(part) for part in zip(*self._parts)))]  # noqa: B905


def summed(places: Ints, counts: npt.NDArray[np.int64]) -> tuple[Ints, Ints]:
    """Distinct places, and the sum of the counts of each."""
    distinct, inverse = np.unique(places, return_inverse=True)
    total = np.zeros(len(distinct), np.int64)
    np.add.at(total, inverse, counts)
    return distinct, total


def add_tallies(tallies: Iterable[Tally]) -> Tally:
    """Adds up; of nothing, nothing."""
    total = Tally()
    for tally in tallies:
        for place, paths in tally.rows.items():
            into = total.rows.setdefault(place, {})
            for path, counts in paths.items():
                into.setdefault(path, Counter()).update(counts)
        for name, version in tally.versions.items():
            total.versions[name] = max(version, total.versions.get(name, 0))
    return total


def add_squares(parts: Iterable[Squares]) -> Squares:
    """Adds up; of nothing, nothing."""
    total: Squares = {}
    for part in parts:
        for place, (rows, labelled, cubes) in part.items():
            before = total.get(place, (0, 0, 0))
            total[place] = (before[0] + rows, before[1] + labelled, before[2] + cubes)
    return total


def night_slices(
    threshold: float, tally: Tally, squares: Squares, repeated: Repeated
) -> NightSlices:
    """Everything that was counted of a night."""
    slices = []
    for place, paths in tally.rows.items():
        fingerprint, key = place
        again = repeated.found.get(place, {})
        everything, labelled, cubes = squares.get(place, (0, 0, 0))
        slices.append(
            ServedSlice(
                fingerprint=fingerprint,
                version=tally.versions[fingerprint],
                features=dict(key),
                paths={
                    path: PathCounts(dict(sorted(counts.items()))) + again.get(path, PathCounts())
                    for path, counts in sorted(paths.items())
                },
                squares=float(everything),
                labelled_squares=float(labelled),
                labelled_cubes=float(cubes),
            )
        )
    return NightSlices(threshold, ordered(slices))
