"""Categorical features: one table of counts for two data sets. No IO here.

TFDV lists a feature's most frequent categories (1,000 unless told otherwise) and says how many
values there are. Where a list is not complete, only categories so frequent that both lists would
name them if nothing had changed get a cell of their own; the others share the cell `(other)` on
both sides. One of the frequent ones that a list does not name gets the greatest count that the list
can hide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tfx_encore.monitoring.drift_statistics import CategoricalValues

Array = npt.NDArray[np.float64]

OTHER = "(other)"
_SURE = 4.0  # standard deviations


@dataclass(frozen=True)
class Table:
    """Counts of the same cells in two data sets.

    Attributes:
        labels: names of the cells, most frequent first; the last may be `(other)`.
        current: counts now, shape [B].
        baseline: counts at the baseline, shape [B].
    """

    labels: tuple[str, ...]
    current: Array
    baseline: Array

    @property
    def n(self) -> float:
        """Number of current values."""
        return float(self.current.sum())

    @property
    def m(self) -> float:
        """Number of baseline values."""
        return float(self.baseline.sum())

    @property
    def pooled(self) -> Array:
        """Counts of both together, shape [B]."""
        return np.asarray(self.current + self.baseline)

    @property
    def named(self) -> npt.NDArray[np.bool_]:
        """True for cells that are one category, shape [B]."""
        return np.array([label != OTHER for label in self.labels], dtype=bool)


def _sure_count(side: CategoricalValues, share: float) -> float:
    """The pooled count from which `side`, expected to hold `share` of it, surely lists a category.

    Solves k share - z sd(k) = cut-off, for z standard deviations of the binomial count.
    """
    if side.complete:
        return 0.0
    spread = _SURE * np.sqrt(share * (1 - share))
    root = (spread + np.sqrt(spread**2 + 4 * share * side.hidden_at_most)) / (2 * share)
    return float(root**2)


def _cells(current: CategoricalValues, baseline: CategoricalValues) -> list[str]:
    """Categories that get a cell of their own.

    Chosen by pooled counts alone, which favours neither side. Choosing those that both lists name
    would keep the ones that are frequent by chance, and make `(other)` look drifted.
    """
    total = current.total + baseline.total
    least = max(
        _sure_count(side, side.total / total) for side in (current, baseline) if side.total > 0
    )
    pooled = {
        label: current.counts.get(label, 0.0) + baseline.counts.get(label, 0.0)
        for label in {*current.counts, *baseline.counts}
    }
    return sorted(label for label, count in pooled.items() if count >= least)


def _counts(labels: list[str], side: CategoricalValues) -> Array:
    """Counts of `labels`; those not listed get the greatest count that can be hidden."""
    hidden = side.hidden_at_most
    counts = np.array([side.counts.get(label, hidden) for label in labels], dtype=np.float64)
    unlisted = np.array([label not in side.counts for label in labels], dtype=bool)
    excess = counts[unlisted].sum() - side.remainder
    if excess > 0:
        counts[unlisted] *= side.remainder / counts[unlisted].sum()
    return counts


def align(current: CategoricalValues, baseline: CategoricalValues) -> Table:
    """Puts both sides' counts into the same cells, most frequent first."""
    labels = _cells(current, baseline)
    now, then = _counts(labels, current), _counts(labels, baseline)
    order = np.argsort(-(now + then), kind="stable")
    rest_now, rest_then = current.total - now.sum(), baseline.total - then.sum()
    names = [*(labels[i] for i in order), OTHER]
    now, then = np.append(now[order], max(rest_now, 0)), np.append(then[order], max(rest_then, 0))
    some = now + then >= 0.5
    kept = tuple(name for name, is_some in zip(names, some, strict=True) if is_some)
    return Table(kept, now[some], then[some])


def unseen(table: Table) -> tuple[tuple[str, float], ...]:
    """Categories that the baseline lacks and their share of current values, largest first."""
    found = [
        (label, float(count / table.n))
        for label, count, before in zip(table.labels, table.current, table.baseline, strict=True)
        if before == 0 and count > 0 and label != OTHER
    ]
    return tuple(sorted(found, key=lambda pair: (-pair[1], pair[0])))
