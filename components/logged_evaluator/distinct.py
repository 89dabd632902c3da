"""Distinct rows of the day, each once, with how often it was asked. No IO here.

Repeats are found over the whole day, so rows travel to where their equals are, packed by the
hundred thousand: Beam's cost per element would be many times that of the counting.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tfx_encore.components.logged_evaluator.rows import Keys, Rows
from tfx_encore.components.logged_evaluator.slicing import Members
from tfx_encore.components.logged_evaluator.tally import Squares, add_squares
from tfx_encore.monitoring.slice_counts import SliceKey
from tfx_encore.monitoring.slice_discovery import Cuts, FeatureCut, PairCounts, count

# Rows with equal keys have equal features, hence the same slices and cells.


@dataclass(frozen=True)
class Distinct:
    """D distinct rows.

    Attributes:
        keys: [D] rising.
        counts: [D, 3] how often each was asked, with a label, and then decided rightly.
        models: [D] index into `names`.
        names: fingerprints.
        cells: [D, F] the cell of each feature, see `slicing.cells_of`.
        member_rows: [M] which of the D rows ...
        member_slices: [M] ... lies in which of `slices`.
        slices: keys of slices.
    """

    keys: Keys
    counts: npt.NDArray[np.int32]
    models: npt.NDArray[np.int16]
    names: tuple[str, ...]
    cells: npt.NDArray[np.integer[Any]]
    member_rows: npt.NDArray[np.int32]
    member_slices: npt.NDArray[np.int32]
    slices: tuple[SliceKey, ...]

    def __len__(self) -> int:
        return len(self.keys)

    def split(self, buckets: int) -> Iterator[tuple[int, Distinct]]:
        """The rows of each bucket of keys."""
        bucket = (self.keys % np.uint64(buckets)).astype(np.int64)
        for number in np.unique(bucket).tolist():
            yield number, _chosen(self, bucket == number)

    def columns(self) -> tuple[Any, ...]:
        """All of it as tuples of texts and bytes, fit to be packed; `of_columns` reads them."""
        return tuple(
            (value.dtype.str, value.shape, np.ascontiguousarray(value).tobytes())
            if isinstance(value, np.ndarray)
            else (None, None, value)
            for value in vars(self).values()
        )

    @classmethod
    def of_columns(cls, columns: Sequence[tuple[Any, Any, Any]]) -> Distinct:
        """What `columns` was made of."""
        values: list[Any] = [
            value if kind is None else np.frombuffer(value, kind).reshape(shape)
            for kind, shape, value in columns
        ]
        return cls(*values)


def distinct_rows(
    rows: Rows,
    members: Members,
    slices: Sequence[SliceKey],
    cells: npt.NDArray[np.integer[Any]],
    threshold: float,
) -> Distinct:
    """The distinct rows of a batch."""
    once = np.ones(rows.n, np.int64)
    counts = np.stack([once, rows.known, rows.right(threshold)], axis=1).astype(np.int32)
    return merged(
        [
            Distinct(
                keys=rows.keys,
                counts=counts,
                models=rows.models.astype(np.int16),
                names=tuple(name for name, _ in rows.names),
                cells=cells,
                member_rows=members.rows.astype(np.int32),
                member_slices=members.slices.astype(np.int32),
                slices=tuple(slices),
            )
        ]
    )


def merged(parts: Sequence[Distinct]) -> Distinct:
    """Equal rows of all parts as one; at least one part."""
    names, models = _renumbered([(part.names, part.models) for part in parts])
    slices, member_slices = _renumbered([(part.slices, part.member_slices) for part in parts])
    starts = np.cumsum([0, *map(len, parts)])
    member_rows = np.concatenate(
        [part.member_rows + start for part, start in zip(parts, starts[:-1], strict=True)]
    )
    keys, first, inverse = np.unique(
        np.concatenate([part.keys for part in parts]), return_index=True, return_inverse=True
    )
    counts = np.concatenate([part.counts for part in parts])
    sums = [np.bincount(inverse, counts[:, column], len(keys)) for column in range(3)]
    is_first = np.zeros(len(inverse), bool)
    is_first[first] = True
    kept = is_first[member_rows]
    return Distinct(
        keys=keys,
        counts=np.stack(sums, axis=1).round().astype(np.int32),
        models=models[first].astype(np.int16),
        names=names,
        cells=np.concatenate([part.cells for part in parts])[first],
        member_rows=inverse[member_rows[kept]].astype(np.int32),
        member_slices=member_slices[kept].astype(np.int32),
        slices=slices,
    )


def squares_of(rows: Distinct) -> Squares:
    """Sums of squared multiplicities by model and slice."""
    models = rows.models[rows.member_rows].astype(np.int64)
    place = models * max(len(rows.slices), 1) + rows.member_slices
    # By key: beyond 2^53 the last digit of a sum depends on the order.
    order = np.argsort(rows.member_rows, kind="stable")
    found, inverse = np.unique(place[order], return_inverse=True)
    asked, labelled = rows.counts[rows.member_rows[order], :2].astype(np.float64).T
    sums = [np.bincount(inverse, power) for power in (asked**2, labelled**2, labelled**3)]
    parts = []
    for number, *powers in zip(found.tolist(), *(of.tolist() for of in sums), strict=True):
        model, slice_ = divmod(number, len(rows.slices))
        whole = (round(powers[0]), round(powers[1]), round(powers[2]))
        parts.append({(rows.names[model], rows.slices[slice_]): whole})
    return add_squares(parts)


def pairs_of(rows: Distinct, cuts: Cuts, fingerprint: str | None) -> PairCounts:
    """Counts for slice discovery: the labelled rows of one model, or of all if None.

    Cells are already known; so that `count` counts cells and not values, it is given cuts under
    which the number of a cell lies in the cell of that number.
    """
    chosen = rows.counts[:, 1] > 0
    if fingerprint is not None:
        chosen &= np.array([name == fingerprint for name in rows.names], bool)[rows.models]
    cells = rows.cells[chosen].astype(np.float64)
    columns = {
        feature: np.where(cells[:, place] == 0, np.nan, cells[:, place])
        for place, feature in enumerate(sorted(cuts))
    }
    counts = rows.counts[chosen]
    found = count(columns, counts[:, 2], _by_number(cuts), weights=counts[:, 1])
    return PairCounts(dict(cuts), found.cells)


def add_pairs(parts: Iterable[PairCounts], cuts: Cuts) -> PairCounts:
    """Adds up; of nothing, nothing."""
    return sum(parts, PairCounts.zero(cuts))


def _by_number(cuts: Cuts) -> dict[str, FeatureCut]:
    return {
        feature: FeatureCut(numeric=True, edges=tuple(float(n) for n in range(2, cut.cells)))
        for feature, cut in cuts.items()
    }


def _renumbered(parts: Sequence[tuple[Sequence, npt.NDArray]]) -> tuple[tuple, npt.NDArray]:  # type: ignore[type-arg]
    """One list of names for all parts, and the numbers by it."""
    numbers: dict[object, int] = {}
    found = []
    for names, of_part in parts:
        new = np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)
        found.append(new[of_part] if len(new) else of_part.astype(np.int64))
    return tuple(numbers), np.concatenate(found)


def _chosen(rows: Distinct, chosen: npt.NDArray[np.bool_]) -> Distinct:
    number = np.cumsum(chosen) - 1
    kept = chosen[rows.member_rows]
    return Distinct(
        keys=rows.keys[chosen],
        counts=rows.counts[chosen],
        models=rows.models[chosen],
        names=rows.names,
        cells=rows.cells[chosen],
        member_rows=number[rows.member_rows[kept]].astype(np.int32),
        member_slices=rows.member_slices[kept],
        slices=rows.slices,
    )
