"""How features are cut into cells, the same for every batch and every night. No IO here.

Counts of two batches add up only if both were cut alike, so the cuts come from outside: from the
statistics of the release's training data. A feature's cells are numbered: 0 for a missing value,
then its ranges or its categories in order, then, for categories, one for all others.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping

import numpy as np
import numpy.typing as npt
from pydantic.dataclasses import dataclass

from tfx_encore.monitoring.drift_statistics import (
    DatasetStatistics,
    FeatureStatistics,
)

MISSING = "(missing)"
OTHER = "(other)"
ANY = "(any)"
MAX_CATEGORIES = 30
MAX_RANGES = 10
_MIN_SHARE = 0.001  # of the examples: rarer categories have no support in a night either
_RANGE = re.compile(r"\[(?P<low>[^,\s]+), (?P<high>[^)\s]+)\)|< (?P<below>\S+)|>= (?P<from>\S+)")

Cells = npt.NDArray[np.int64]


@dataclass(frozen=True)
class FeatureCut:
    """How one feature is cut.

    Attributes:
        numeric: into ranges by `edges`, else into `categories`.
        edges: rising; a value x lies in `[edges[i], edges[i + 1])`.
        categories: those with a cell of their own, as text.
    """

    numeric: bool
    edges: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()

    @property
    def cells(self) -> int:
        """How many cells there are: missing, and the ranges or the categories and the rest."""
        return 2 + (len(self.edges) if self.numeric else len(self.categories))

    def text(self, first: int, last: int | None = None) -> str:
        """A cell, or the adjacent ranges `first` to `last`, as a person writes it."""
        if first == 0:
            return MISSING
        if not self.numeric:
            return self.categories[first - 1] if first <= len(self.categories) else OTHER
        bounds = (-math.inf, *self.edges, math.inf)
        return range_text(bounds[first - 1], bounds[first if last is None else last])


Cuts = Mapping[str, FeatureCut]
"""Feature -> its cut."""


def range_text(low: float, high: float) -> str:
    """`[3.1, 5.2)`, `< 3.1`, `>= 5.2`, or `(any)`."""
    if math.isinf(low):
        return ANY if math.isinf(high) else f"< {high:.12g}"
    return f">= {low:.12g}" if math.isinf(high) else f"[{low:.12g}, {high:.12g})"


def range_of(text: str) -> tuple[float, float] | None:
    """The range (low, high) that `range_text` wrote; None if the text is no range."""
    if text == ANY:
        return -math.inf, math.inf
    found = _RANGE.fullmatch(text)
    if found is None:
        return None
    try:
        low = float(found["low"] or found["from"] or -math.inf)
        return low, float(found["high"] or found["below"] or math.inf)
    except ValueError:
        return None


def cell_numbers(values: npt.ArrayLike, cut: FeatureCut) -> Cells:
    """The cell of each value, shape [N]; None and NaN are missing.

    Args:
        values: [N] numbers, str or bytes (UTF-8), of any dtype.
        cut: how they are cut.
    """
    array = values if isinstance(values, np.ndarray) else np.array(values, dtype=object)
    return _ranges(array, cut) if cut.numeric else _categories(array, cut)


def _ranges(values: npt.NDArray[np.generic], cut: FeatureCut) -> Cells:
    if values.dtype == object:
        values = np.array([math.nan if v is None else v for v in values.tolist()], np.float64)
    numbers = values.astype(np.float64)
    cells = np.searchsorted(np.asarray(cut.edges, np.float64), numbers, side="right") + 1
    return np.where(np.isnan(numbers), 0, cells).astype(np.int64)


def _categories(values: npt.NDArray[np.generic], cut: FeatureCut) -> Cells:
    number: dict[object, int] = {text: cell for cell, text in enumerate(cut.categories, start=1)}
    number |= {text.encode(): cell for text, cell in number.items() if isinstance(text, str)}
    number[None] = 0
    if values.dtype == object:
        cells = [number.get(value, -1) for value in values.tolist()]
        return _named(np.asarray(cells, np.int64), values, cut)
    distinct, place = np.unique(values, return_inverse=True)
    cells = [number.get(value, -1) for value in distinct.tolist()]
    numbers: Cells = _named(np.asarray(cells, np.int64), distinct, cut)[place.reshape(-1)]
    return numbers


def _named(cells: Cells, values: npt.NDArray[np.generic], cut: FeatureCut) -> Cells:
    """Gives values without a cell yet theirs: NaN, numbers, and what has none of its own."""
    number = {text: cell for cell, text in enumerate(cut.categories, start=1)}
    for row in np.flatnonzero(cells < 0).tolist():
        value: object = values[row]
        missing = isinstance(value, float) and math.isnan(value)
        cells[row] = 0 if missing else number.get(_text(value), cut.cells - 1)
    return cells


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def cuts_from_statistics(
    statistics: DatasetStatistics,
    ignore: Collection[str] = (),
    *,
    max_categories: int = MAX_CATEGORIES,
    max_ranges: int = MAX_RANGES,
) -> dict[str, FeatureCut]:
    """Cuts by a data set's statistics, as those of the release's training data.

    Numeric features are cut at the bounds of their quantile buckets, categorical ones into their
    most frequent categories. Features that would give one cell only are left out, as are those of
    other kinds.

    Args:
        statistics: see `tfdv_reader.read_statistics`.
        ignore: features to leave out: labels, identifiers.
        max_categories: categories with a cell of their own, for each feature.
        max_ranges: ranges, for each feature.
    """
    cuts = {}
    for name, feature in sorted(statistics.features.items()):
        if name in ignore or not feature.present:
            continue
        cut = _cut(feature, max_categories, max_ranges)
        if cut and (cut.cells > 2 or feature.missing):
            cuts[name] = cut
    return cuts


def _cut(feature: FeatureStatistics, max_categories: int, max_ranges: int) -> FeatureCut | None:
    if feature.numeric is not None:
        buckets = feature.numeric.buckets
        ends = [*(b.low for b in buckets[:1]), *(b.high for b in buckets)]
        return FeatureCut(numeric=True, edges=_edges(ends, max_ranges))
    if feature.categorical is not None:
        total = feature.present + feature.missing
        counts = feature.categorical.counts
        common = [name for name, count in counts.items() if count >= _MIN_SHARE * total]
        best = sorted(common, key=lambda name: (-counts[name], name))[:max_categories]
        return FeatureCut(numeric=False, categories=tuple(best))
    return None


def _edges(ends: list[float], ranges: int) -> tuple[float, ...]:
    """Inner bounds of quantile buckets, thinned out to so many ranges of similar support."""
    if len(ends) < 3:
        return ()
    chosen = np.linspace(0, len(ends) - 1, min(ranges, len(ends) - 1) + 1).round().astype(int)
    distinct = sorted({ends[place] for place in chosen.tolist() if math.isfinite(ends[place])})
    gaps = np.diff(np.asarray(distinct, np.float64))
    # A value that fills the lowest bucket would leave nothing below its own edge; one that fills
    # the highest has a range of its own.
    inner = {ends[place] for place in chosen[1:-1].tolist()}
    return tuple(
        _short(edge, float(gaps[max(0, n - 1) : n + 1].min(initial=math.inf)))
        for n, edge in enumerate(distinct)
        if edge in inner and edge > ends[0]
    )


def _short(value: float, gap: float) -> float:
    """As few digits as tell an edge from its neighbours, `gap` away; whole numbers stay."""
    if value == round(value) or math.isinf(gap):
        return value
    return round(value, 1 - math.floor(math.log10(gap)))
