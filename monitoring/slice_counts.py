"""What is counted of a slice: enough for every metric, interval and test, and mergeable.

All are frozen, start at `zero`, and add up with `+`: over the parts of a Beam run, over nights.
No IO here.

A row's score falls into one of `BINS` bins, evenly spaced on the logit scale (1/16 apart up to 8,
which is a probability of 0.0003 from either end, 1/4 apart up to 16), so that a model whose
scores crowd near 0 keeps its ranking. The decision threshold is always an edge, hence confusion
counts follow from bins exactly.
"""

from __future__ import annotations

import functools
import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

SliceKey = tuple[tuple[str, str], ...]
"""(feature, value as text) pairs in order of feature; () is everything."""

BINS = 322
NOT_A_NUMBER = BINS
OUT_OF_RANGE = BINS + 1
NO_MODEL = BINS + 2
_WIDTH = BINS + 3
_UNLABELLED = 2

Histogram = tuple[tuple[int, int], ...]
"""(bin, count) pairs in order of bin; bins without rows are left out."""


def slice_key(values: Mapping[str, str]) -> SliceKey:
    """The key of the slice where each feature has the value given."""
    return tuple(sorted(values.items()))


def slice_name(key: SliceKey) -> str:
    """A slice as a person writes it: `overall`, `payment_type=Cash`, `a=1, b=2`."""
    return ", ".join(f"{feature}={value}" for feature, value in key) or "overall"


@functools.lru_cache(maxsize=16)
def bin_edges(threshold: float) -> tuple[float, ...]:
    """The `BINS - 1` upper edges of all bins but the last, rising, in (0, 1).

    The grid's edge nearest to `threshold` gives way to it.
    """
    middle = [step / 16 for step in range(-128, 129)]
    tail = [8 + step / 4 for step in range(1, 33)]
    logits = [*(-x for x in reversed(tail)), *middle, *tail]
    edges = [1 / (1 + math.exp(-x)) for x in logits]
    wanted = math.log(threshold / (1 - threshold))
    edges[min(range(len(edges)), key=lambda i: abs(logits[i] - wanted))] = threshold
    return tuple(edges)


def score_bin(score: float, edges: tuple[float, ...]) -> int:
    """The bin of a score; a score equal to an edge lies below it, as TFMA's `>` has it."""
    if math.isnan(score):
        return NOT_A_NUMBER
    if score < 0.0 or score > 1.0:
        return OUT_OF_RANGE
    return bisect_left(edges, score)


def row_code(label: float | None, candidate: int, baseline: int = NO_MODEL) -> int:
    """One number for what a row adds to a slice: its label and the bins of both models' scores."""
    known = int(label) if label in {0, 1} else _UNLABELLED
    return (known * _WIDTH + candidate) * _WIDTH + baseline


@dataclass(frozen=True)
class Confusion:
    """Decisions of one model against the truth."""

    true_positives: int = 0
    false_positives: int = 0
    true_negatives: int = 0
    false_negatives: int = 0

    def __add__(self, other: Confusion) -> Confusion:
        return Confusion(
            self.true_positives + other.true_positives,
            self.false_positives + other.false_positives,
            self.true_negatives + other.true_negatives,
            self.false_negatives + other.false_negatives,
        )

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.true_positives + self.false_positives + self.negative_decisions

    @property
    def correct(self) -> int:
        """Rows decided rightly."""
        return self.true_positives + self.true_negatives

    @property
    def positive_decisions(self) -> int:
        """Rows decided positive: the denominator of precision."""
        return self.true_positives + self.false_positives

    @property
    def negative_decisions(self) -> int:
        """Rows decided negative."""
        return self.true_negatives + self.false_negatives

    @property
    def positives(self) -> int:
        """Rows that are positive: the denominator of recall."""
        return self.true_positives + self.false_negatives

    @property
    def negatives(self) -> int:
        """Rows that are negative."""
        return self.n - self.positives


@dataclass(frozen=True)
class ScoreCounts:
    """One model's scores on a slice, by class.

    Attributes:
        threshold: the decision threshold, an edge of the bins, in (0, 1).
        positives: (bin, count) of the positives.
        negatives: (bin, count) of the negatives.
        not_a_number: rows for which the model answered NaN; in no other count.
        out_of_range: rows with an answer outside [0, 1]; in no other count.
    """

    threshold: float
    positives: Histogram = ()
    negatives: Histogram = ()
    not_a_number: int = 0
    out_of_range: int = 0

    @classmethod
    def zero(cls, threshold: float) -> ScoreCounts:
        """Counts of no rows."""
        return cls(threshold)

    def __add__(self, other: ScoreCounts) -> ScoreCounts:
        """Counts of both.

        Raises:
            ValueError: the thresholds differ, hence the bins too.
        """
        _same_threshold(self.threshold, other.threshold)
        return ScoreCounts(
            self.threshold,
            _add(self.positives, other.positives),
            _add(self.negatives, other.negatives),
            self.not_a_number + other.not_a_number,
            self.out_of_range + other.out_of_range,
        )

    @functools.cached_property
    def confusion(self) -> Confusion:
        """Decisions at the threshold."""
        true_positives, false_negatives = _split(self.positives, self.threshold)
        false_positives, true_negatives = _split(self.negatives, self.threshold)
        return Confusion(true_positives, false_positives, true_negatives, false_negatives)

    def dense(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Counts by bin of the positives and of the negatives, both of shape [BINS]."""
        return _dense(self.positives), _dense(self.negatives)


@dataclass(frozen=True)
class JointDecisions:
    """Decisions of candidate and baseline on the same rows of one class.

    Attributes:
        both: rows that both decide positive.
        only_candidate: rows that only the candidate decides positive.
        only_baseline: rows that only the baseline decides positive.
        neither: rows that neither decides positive.
    """

    both: int = 0
    only_candidate: int = 0
    only_baseline: int = 0
    neither: int = 0

    def __add__(self, other: JointDecisions) -> JointDecisions:
        return JointDecisions(
            self.both + other.both,
            self.only_candidate + other.only_candidate,
            self.only_baseline + other.only_baseline,
            self.neither + other.neither,
        )


@dataclass(frozen=True)
class SliceCounts:
    """All rows of a slice by label, candidate's bin and baseline's bin: a sparse histogram.

    Attributes:
        threshold: the decision threshold, an edge of the bins, in (0, 1).
        rows: `row_code` -> number of rows.
    """

    threshold: float
    rows: dict[int, int] = field(default_factory=dict)

    @classmethod
    def zero(cls, threshold: float) -> SliceCounts:
        """Counts of no rows."""
        return cls(threshold)

    @classmethod
    def of(
        cls,
        threshold: float,
        labels: Iterable[float],
        candidate: Iterable[float],
        baseline: Iterable[float] | None = None,
    ) -> SliceCounts:
        """Counts rows given one by one: label, candidate's score and baseline's score of each."""
        edges = bin_edges(threshold)
        bins = [score_bin(float(score), edges) for score in candidate]
        others = [score_bin(float(s), edges) for s in baseline] if baseline is not None else None
        codes = map(
            row_code, labels, bins, others if others is not None else [NO_MODEL] * len(bins)
        )
        return cls(threshold, dict(Counter(codes)))

    def __add__(self, other: SliceCounts) -> SliceCounts:
        """Counts of both.

        Raises:
            ValueError: the thresholds differ, hence the bins too.
        """
        _same_threshold(self.threshold, other.threshold)
        return SliceCounts(self.threshold, dict(Counter(self.rows) + Counter(other.rows)))

    @property
    def n(self) -> int:
        """Number of rows, whatever became of them."""
        return sum(self.rows.values())

    @property
    def paired(self) -> bool:
        """True if a baseline was counted too."""
        return any(code % _WIDTH != NO_MODEL for code in self.rows)

    @property
    def unlabelled(self) -> int:
        """Rows whose label is missing or neither 0 nor 1; in no metric."""
        return sum(count for code, count in self.rows.items() if code // _WIDTH**2 == _UNLABELLED)

    @functools.cached_property
    def table(self) -> npt.NDArray[np.int64]:
        """The histogram as columns label, candidate's bin, baseline's bin, count: shape [C, 4]."""
        pairs = np.array(sorted(self.rows.items()), np.int64).reshape(-1, 2)
        code, count = pairs[:, 0], pairs[:, 1]
        columns = (code // _WIDTH**2, code // _WIDTH % _WIDTH, code % _WIDTH, count)
        return np.stack(columns, axis=1)

    def joint(self, label: int) -> npt.NDArray[np.int64]:
        """Rows of one class that both models scored: bins of each and counts, shape [C, 3]."""
        table = self.table
        scored = (table[:, 1] < BINS) & (table[:, 2] < BINS)
        rows: npt.NDArray[np.int64] = table[scored & (table[:, 0] == label)]
        return rows[:, 1:]

    def candidate(self) -> ScoreCounts:
        """The candidate's scores."""
        return self._models[0]

    def baseline(self) -> ScoreCounts | None:
        """The baseline's scores, or None if there is no baseline."""
        return self._models[1] if self.paired else None

    def decisions(self, label: int) -> JointDecisions:
        """Joint decisions on the rows of one class (0 or 1)."""
        return self._decisions[label]

    @functools.cached_property
    def _models(self) -> tuple[ScoreCounts, ScoreCounts]:
        return self._model(1), self._model(2)

    @functools.cached_property
    def _decisions(self) -> tuple[JointDecisions, JointDecisions]:
        return self._joint_decisions(0), self._joint_decisions(1)

    def _joint_decisions(self, label: int) -> JointDecisions:
        cells = self.joint(label)
        first = cells[:, 0] > _cut(self.threshold)
        second = cells[:, 1] > _cut(self.threshold)
        count = cells[:, 2]
        chosen = (first & second, first & ~second, ~first & second, ~first & ~second)
        return JointDecisions(*(int(count[which].sum()) for which in chosen))

    def _model(self, column: int) -> ScoreCounts:
        table = self.table
        by_bin = [
            np.bincount(rows[:, column], weights=rows[:, 3], minlength=_WIDTH).astype(np.int64)
            for rows in (table[table[:, 0] == 1], table[table[:, 0] == 0], table)
        ]
        positives, negatives, everything = by_bin
        return ScoreCounts(
            self.threshold,
            _sparse(positives[:BINS]),
            _sparse(negatives[:BINS]),
            int(everything[NOT_A_NUMBER]),
            int(everything[OUT_OF_RANGE]),
        )


@functools.lru_cache(maxsize=16)
def _cut(threshold: float) -> int:
    """The last bin of negative decisions."""
    return bin_edges(threshold).index(threshold)


def _split(histogram: Histogram, threshold: float) -> tuple[int, int]:
    """Counts above the threshold, and at or below it."""
    above = sum(count for number, count in histogram if number > _cut(threshold))
    return above, sum(count for _, count in histogram) - above


def _add(first: Histogram, second: Histogram) -> Histogram:
    return tuple(sorted((Counter(dict(first)) + Counter(dict(second))).items()))


def _dense(histogram: Histogram) -> npt.NDArray[np.float64]:
    counts = np.zeros(BINS)
    for number, count in histogram:
        counts[number] = count
    return counts


def _sparse(counts: npt.NDArray[np.int64]) -> Histogram:
    return tuple((int(number), int(counts[number])) for number in np.flatnonzero(counts))


def _same_threshold(first: float, second: float) -> None:
    if first != second:
        raise ValueError(
            f"counts at the thresholds {first} and {second} do not merge: their bins differ"
        )
