"""Every cell of the features and pairs, tested together. No IO here.

A single feature's cell is compared with all other rows. A pair's cell is compared with all other
rows *and* with what remains of each of its two parents, and counts only if it is worse than all
three (an intersection-union test: the largest p-value stands), so that a pair is never found merely
because one of its features is bad by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tfx_encore.monitoring.multiple_testing import benjamini_hochberg
from tfx_encore.monitoring.slice_discovery_counts import PairCounts, Table
from tfx_encore.monitoring.slice_discovery_pvalues import accuracy, effective, p_worse
from tfx_encore.schemas.nightly_policy import DiscoveryPolicy

Span = tuple[int, int]
"""First and last cell of a feature, both included."""
Counts = npt.NDArray[np.int64]
_LEAST_EFFECTIVE = 30  # fewer independent rows say nothing, whatever the policy


@dataclass(frozen=True)
class Slice:
    """Rows by cells of one or two features, adjacent ranges joined.

    Attributes:
        table: the features, in order of name.
        spans: the cells of each.
        p_value: adjusted over everything tested; of joined ranges the largest.
    """

    table: Table
    spans: tuple[Span, ...]
    p_value: float

    def cells_of(self, feature: str) -> Span:
        """Its cells of one of its features."""
        return self.spans[self.table.index(feature)]

    def within(self, counts: PairCounts) -> Counts:
        """Its rows, right answers and squares, shape [3]."""
        block = counts.table(*self.table)
        for axis, (first, last) in enumerate(self.spans):
            block = np.take(block, range(first, last + 1), axis=axis)
        found: Counts = block.reshape(-1, 3).sum(axis=0)
        return found


@dataclass(frozen=True)
class _Tested:
    """The cells of one table that have support: numbers [T, features], p-values, who is large."""

    table: Table
    places: Counts
    p_values: npt.NDArray[np.float64]
    large: npt.NDArray[np.bool_]


def bad_slices(counts: PairCounts, policy: DiscoveryPolicy) -> list[Slice]:
    """Cells that are worse by at least the policy's effect, false discoveries controlled.

    Adjacent ranges of a numeric feature that are all bad come joined.
    """
    tested = [
        _test(counts, table, policy)
        for table in counts.tables
        if 0 < len(table) <= policy.max_features and not set(table) & set(policy.ignore_features)
    ]
    if not tested:
        return []
    adjusted = benjamini_hochberg(np.concatenate([part.p_values for part in tested]))
    found, start = [], 0
    for part in tested:
        p_values = adjusted[start : start + len(part.p_values)]
        start += len(p_values)
        chosen = np.flatnonzero(part.large & (p_values <= policy.false_discovery_rate))
        cells = {tuple(part.places[i].tolist()): float(p_values[i]) for i in chosen.tolist()}
        found += _joined(part.table, cells, counts)
    return found


def _test(counts: PairCounts, table: Table, policy: DiscoveryPolicy) -> _Tested:
    cells = counts.table(*table)
    others = [counts.table()[None] if len(table) == 1 else counts.table()[None, None]]
    if len(table) == 2:
        others += [counts.table(table[0])[:, None], counts.table(table[1])[None]]
    tested = _supported(cells, policy.min_rows)
    for whole in others:
        tested = tested & _supported(np.broadcast_to(whole, cells.shape) - cells, policy.min_rows)
    places = np.argwhere(tested)
    part = cells[tested]
    rests = [np.broadcast_to(whole, cells.shape)[tested] - part for whole in others]
    p_values = np.max([p_worse(part, rest) for rest in rests], axis=0)
    losses = np.min([accuracy(rest) - accuracy(part) for rest in rests], axis=0)
    return _Tested(table, places, p_values, losses >= policy.min_effect)


def _supported(counts: Counts, least: int) -> npt.NDArray[np.bool_]:
    found = (counts[..., 0] >= least) & (effective(counts) >= min(least, _LEAST_EFFECTIVE))
    return np.asarray(found, np.bool_)


def _joined(table: Table, cells: dict[tuple[int, ...], float], counts: PairCounts) -> list[Slice]:
    """Cells as slices, adjacent ranges that differ in one numeric feature only made one."""
    found = [Slice(table, tuple((c, c) for c in cell), p) for cell, p in sorted(cells.items())]
    for axis, name in enumerate(table):
        if not counts.cuts[name].numeric:
            continue
        found.sort(key=lambda s, a=axis: (s.spans[:a] + s.spans[a + 1 :], s.spans[a]))  # type: ignore[misc]
        merged: list[Slice] = []
        for item in found:
            if merged and _adjacent(merged[-1], item, axis):
                merged.append(_union(merged.pop(), item, axis))
            else:
                merged.append(item)
        found = merged
    return found


def _adjacent(first: Slice, second: Slice, axis: int) -> bool:
    same = all(
        a == b for i, (a, b) in enumerate(zip(first.spans, second.spans, strict=True)) if i != axis
    )
    return same and first.spans[axis][0] > 0 and first.spans[axis][1] + 1 == second.spans[axis][0]


def _union(first: Slice, second: Slice, axis: int) -> Slice:
    span = (first.spans[axis][0], second.spans[axis][1])
    spans = (*first.spans[:axis], span, *first.spans[axis + 1 :])
    return Slice(first.table, spans, max(first.p_value, second.p_value))
