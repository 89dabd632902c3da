"""Rows and right answers by every cell of every feature and pair of features. No IO here.

What is kept of a night for slice discovery: `pairs.json`. Whole numbers only, so that counts of
batches add up to the same in any order.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, PlainSerializer, PlainValidator
from pydantic.dataclasses import dataclass

from tfx_encore.monitoring.slice_discovery_cuts import Cuts, FeatureCut, cell_numbers

FORMAT = 1
_ARRAYS = ConfigDict(arbitrary_types_allowed=True)

Table = tuple[str, ...]
"""The features of a table of cells: one, or two in order of name."""


def _read_cells(value: Any) -> npt.NDArray[np.int64]:
    """An array as it is, or what `_write_cells` wrote."""
    if isinstance(value, np.ndarray):
        return value.astype(np.int64, copy=False)
    if not isinstance(value, dict) or not {"size", "cells"} <= value.keys():
        raise ValueError("expected {size, cells}")
    found = np.zeros((int(value["size"]), 3), np.int64)
    cells = np.asarray(value["cells"], np.int64).reshape(-1, 4)
    if cells.size and not 0 <= cells[:, 0].min() <= cells[:, 0].max() < len(found):
        raise ValueError(f"a cell's number is outside 0 to {len(found) - 1}")
    found[cells[:, 0]] = cells[:, 1:]
    return found


def _write_cells(value: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Cells with rows, as [number, rows, right, squares]."""
    used = np.flatnonzero(value[:, 0])
    cells = np.concatenate([used[:, None], value[used]], axis=1)
    return {"size": len(value), "cells": cells.tolist()}


Cells = Annotated[npt.NDArray[np.int64], PlainValidator(_read_cells), PlainSerializer(_write_cells)]


@dataclass(frozen=True, eq=False, config=_ARRAYS)
class PairCounts:
    """Labelled rows and right answers by cell; mergeable with `+`.

    Attributes:
        cuts: feature -> how it is cut.
        cells: shape [C, 3], all tables one after the other, in the order of `tables`, the cells of
            a pair row by row: rows, of them answered rightly, sum of squared multiplicities of
            equal rows (equal to `rows` where none repeats).
    """

    cuts: dict[str, FeatureCut]
    cells: Cells = field(default_factory=lambda: np.zeros((0, 3), np.int64))
    format: int = FORMAT

    def __post_init__(self) -> None:
        """Refuses cells that do not fit the cuts.

        Raises:
            ValueError: there are more or fewer cells than the cuts make.
        """
        size = sum(self.sizes.values())
        if self.cells.shape != (size, 3):
            raise ValueError(f"{len(self.cells)} cells do not fit cuts that make {size}")

    @classmethod
    def zero(cls, cuts: Cuts) -> PairCounts:
        """Counts of no rows."""
        size = sum(int(np.prod([cuts[name].cells for name in table])) for table in _tables(cuts))
        return cls(dict(cuts), np.zeros((size, 3), np.int64))

    @property
    def tables(self) -> tuple[Table, ...]:
        """The tables there are: everything (`()`), single features, pairs."""
        return tuple(self.sizes)

    @functools.cached_property
    def sizes(self) -> dict[Table, int]:
        """Cells of each table."""
        return {
            table: int(np.prod([self.cuts[name].cells for name in table], dtype=np.int64))
            for table in _tables(self.cuts)
        }

    @functools.cached_property
    def _starts(self) -> dict[Table, int]:
        ends = itertools.accumulate(self.sizes.values())
        return {t: e - n for (t, n), e in zip(self.sizes.items(), ends, strict=True)}

    def table(self, *features: str) -> npt.NDArray[np.int64]:
        """Cells of everything [3], of a feature [A, 3] or of a pair in order of name [A, B, 3]."""
        start = self._starts[features]
        shape = [self.cuts[name].cells for name in features]
        return self.cells[start : start + self.sizes[features]].reshape(*shape, 3)

    def __add__(self, other: PairCounts) -> PairCounts:
        """Counts of both.

        Raises:
            ValueError: they were cut differently.
        """
        if self.cuts != other.cuts:
            differ = sorted(
                name
                for name in {*self.cuts, *other.cuts}
                if self.cuts.get(name) != other.cuts.get(name)
            )
            raise ValueError(f"counts with different cuts of {', '.join(differ)} do not merge")
        return PairCounts(self.cuts, self.cells + other.cells)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PairCounts):
            return NotImplemented
        return self.cuts == other.cuts and bool(np.array_equal(self.cells, other.cells))

    __hash__ = None  # type: ignore[assignment]


def _tables(cuts: Cuts) -> tuple[Table, ...]:
    names = sorted(cuts)
    return ((), *((name,) for name in names), *itertools.combinations(names, 2))


def count(
    columns: Mapping[str, npt.ArrayLike],
    correct: npt.ArrayLike,
    cuts: Cuts,
    *,
    weights: npt.ArrayLike | None = None,
) -> PairCounts:
    """Counts the labelled rows of a batch.

    Args:
        columns: feature -> its values, [N]: numbers, str or bytes; None and NaN are missing. A
            feature that is cut but not here is missing in every row; others are not looked at.
        correct: [N] bool: whether the row was answered rightly; with `weights`, how many of the
            rows it stands for were (a whole number, at most the weight).
        cuts: how the features are cut; the same for all batches.
        weights: [N] whole numbers: how many equal rows a row stands for, so that repeats are not
            taken for independent evidence. To be right over a day, equal rows of the day must come
            as one. Default: 1 each.

    Raises:
        ValueError: lengths differ, or more were right than there are rows.
    """
    known = {name: cell_numbers(columns[name], cuts[name]) for name in columns if name in cuts}
    return count_cells(known, correct, cuts, weights=weights)


def count_cells(
    cells: Mapping[str, npt.ArrayLike],
    correct: npt.ArrayLike,
    cuts: Cuts,
    *,
    weights: npt.ArrayLike | None = None,
) -> PairCounts:
    """As `count`, where the numbers of the cells, [N] each, are known: see `cell_numbers`.

    Raises:
        ValueError: lengths differ, or more were right than there are rows.
    """
    right = np.asarray(correct).astype(np.int64)
    rows = len(right)
    times = None if weights is None else np.asarray(weights).astype(np.int64)
    _require(right, times)
    codes = {
        name: np.asarray(cells[name]).astype(np.int64)
        if name in cells
        else np.zeros(rows, np.int64)
        for name in cuts
    }
    for name, found in codes.items():
        if found.shape != (rows,):
            raise ValueError(f"column {name!r} has shape {found.shape}, but there are {rows} rows")
    total = PairCounts.zero(cuts)
    parts = [
        _cells(_place(table, codes, cuts, rows), size, right, times)
        for table, size in total.sizes.items()
    ]
    return PairCounts(total.cuts, np.concatenate(parts))


def _require(right: npt.NDArray[np.int64], times: npt.NDArray[np.int64] | None) -> None:
    if times is not None and times.shape != right.shape:
        raise ValueError(f"{len(times)} weights for {len(right)} rows")
    if right.size and (right.min() < 0 or (right > (1 if times is None else times)).any()):
        raise ValueError("more right answers than rows; with `weights`, `correct` counts rows")


def _place(
    table: Table, codes: Mapping[str, npt.NDArray[np.int64]], cuts: Cuts, rows: int
) -> npt.NDArray[np.int64]:
    """The cell of each row in a table."""
    if not table:
        return np.zeros(rows, np.int64)
    if len(table) == 1:
        return codes[table[0]]
    first, second = table
    return codes[first] * cuts[second].cells + codes[second]


def _cells(
    place: npt.NDArray[np.int64],
    size: int,
    right: npt.NDArray[np.int64],
    times: npt.NDArray[np.int64] | None,
) -> npt.NDArray[np.int64]:
    """Rows, right answers and squares by cell, shape [size, 3]."""
    if times is None:
        rows = np.bincount(place, minlength=size)
        hit = np.bincount(place[right > 0], minlength=size)
        return np.stack([rows, hit, rows], axis=1)
    columns = [np.bincount(place, of, minlength=size) for of in (times, right, times * times)]
    return np.stack(columns, axis=1).round().astype(np.int64)
