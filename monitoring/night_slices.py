"""Mergeable sufficient statistics of a night, slice by slice: `slices.json`. No IO here.

Everything that is asked of a night later (metrics, intervals, trends, estimates) follows from these
counts; they are kept when the rows are gone. All are frozen, start empty and add up with `+`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import field

from pydantic.dataclasses import dataclass

from tfx_encore.monitoring.slice_counts import SliceCounts, SliceKey, slice_key, slice_name

FORMAT = 1


@dataclass(frozen=True)
class PathCounts:
    """Rows of a slice that took one way: from the cache, or from the model.

    Attributes:
        rows: `row_code(label, bin of the served score)` -> rows.
        recomputed: `row_code(label, bin served, bin recomputed)` -> rows of the sample that the
            model answered again.
        disagreeing: rows of that sample whose two answers differ by more than rounding.
        max_difference: largest absolute difference of the two scores.
    """

    rows: dict[int, int] = field(default_factory=dict)
    recomputed: dict[int, int] = field(default_factory=dict)
    disagreeing: int = 0
    max_difference: float = 0.0

    def __add__(self, other: PathCounts) -> PathCounts:
        """Counts of both."""
        return PathCounts(
            dict(Counter(self.rows) + Counter(other.rows)),
            dict(Counter(self.recomputed) + Counter(other.recomputed)),
            self.disagreeing + other.disagreeing,
            max(self.max_difference, other.max_difference),
        )


@dataclass(frozen=True)
class ServedSlice:
    """A slice of the rows that one model answered.

    Attributes:
        fingerprint: of the model, "" if the log does not say.
        version: of the model, 0 if unknown.
        features: feature -> value as text; empty for everything.
        paths: `hit`, `miss`, `unknown` -> counts.
        squares: sum of the squared multiplicities of equal rows, so that n^2 / squares is Kish's
            effective number of independent rows. Of a sum it is an upper bound of independence:
            rows that repeat across the parts count as different.
        labelled_squares: the same over labelled rows only.
        labelled_cubes: sum of their cubed multiplicities; 0 if unknown. A few very popular rows
            make sums lopsided, which squares do not show.
    """

    fingerprint: str
    version: int
    features: dict[str, str]
    paths: dict[str, PathCounts] = field(default_factory=dict)
    squares: float = 0.0
    labelled_squares: float = 0.0
    labelled_cubes: float = 0.0

    @property
    def key(self) -> SliceKey:
        """The slice's key."""
        return slice_key(self.features)

    @property
    def name(self) -> str:
        """As a person writes it."""
        return slice_name(self.key)

    def counts(self, threshold: float, paths: Iterable[str] | None = None) -> SliceCounts:
        """The served answers against the truth; of some paths only, if given."""
        total: Counter[int] = Counter()
        for path, found in self.paths.items():
            if paths is None or path in paths:
                total.update(found.rows)
        return SliceCounts(threshold, dict(total))

    def recomputed(self, threshold: float, paths: Iterable[str] | None = None) -> SliceCounts:
        """Served (candidate) against recomputed (baseline) answers of the sample."""
        total: Counter[int] = Counter()
        for path, found in self.paths.items():
            if paths is None or path in paths:
                total.update(found.recomputed)
        return SliceCounts(threshold, dict(total))

    def __add__(self, other: ServedSlice) -> ServedSlice:
        """Counts of both.

        Raises:
            ValueError: they are of different slices or models.
        """
        if (self.fingerprint, self.key) != (other.fingerprint, other.key):
            raise ValueError(f"{self.name} and {other.name} are not the same slice of one model")
        names = sorted({*self.paths, *other.paths})
        empty = PathCounts()
        merged = {n: self.paths.get(n, empty) + other.paths.get(n, empty) for n in names}
        return ServedSlice(
            self.fingerprint,
            max(self.version, other.version),
            self.features,
            merged,
            self.squares + other.squares,
            self.labelled_squares + other.labelled_squares,
            self.labelled_cubes + other.labelled_cubes,
        )


@dataclass(frozen=True)
class NightSlices:
    """All slices of a night, by model and slice, overall first.

    Attributes:
        threshold: decision threshold, in (0, 1): an edge of the bins.
        slices: the slices.
    """

    threshold: float
    slices: tuple[ServedSlice, ...] = ()
    format: int = FORMAT

    def of(self, fingerprint: str) -> dict[SliceKey, ServedSlice]:
        """The slices of one model's rows by key."""
        return {item.key: item for item in self.slices if item.fingerprint == fingerprint}

    def fingerprints(self) -> tuple[str, ...]:
        """The models that answered, those with most rows first."""
        overall = [item for item in self.slices if not item.features]
        rows = {s.fingerprint: s.counts(self.threshold).n for s in overall}
        return tuple(sorted(rows, key=lambda name: (-rows[name], name)))

    def __add__(self, other: NightSlices) -> NightSlices:
        """Counts of both, as of several nights.

        Raises:
            ValueError: the thresholds differ, hence the bins too.
        """
        if self.threshold != other.threshold:
            raise ValueError(
                f"nights at the thresholds {self.threshold} and {other.threshold} do not merge"
            )
        total: dict[tuple[str, SliceKey], ServedSlice] = {}
        for item in (*self.slices, *other.slices):
            place = (item.fingerprint, item.key)
            total[place] = total[place] + item if place in total else item
        return NightSlices(self.threshold, ordered(total.values()))


def ordered(slices: Iterable[ServedSlice]) -> tuple[ServedSlice, ...]:
    """In the order in which they are written: by model, overall first, then by features."""
    return tuple(sorted(slices, key=lambda s: (s.fingerprint, len(s.key), s.key)))
