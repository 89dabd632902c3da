"""Which rows the model answers again: drawn by hash, hits and misses alike. No IO here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from tfx_encore.components.logged_evaluator.rows import Rows
from tfx_encore.schemas.nights import PATHS

Drawn = tuple[int, bytes]
"""The number drawn for a row, and its Example."""
Sample = dict[str, list[Drawn]]
"""Path -> rows with the smallest numbers, rising."""


class Sampling:
    """Draws from the batches of one file.

    The smallest of a union lie in the union of the smallest: samples merge, and neither the order
    nor the files' borders matter.

    Args:
        size: rows of each path at most.
        fingerprint: only rows of this model.
    """

    def __init__(self, size: int, fingerprint: str) -> None:
        self._size = size
        self._fingerprint = fingerprint
        self.sample: Sample = {}

    def add(self, rows: Rows, records: Sequence[bytes]) -> None:
        """Takes what belongs into the sample."""
        ours = np.array([name == self._fingerprint for name, _ in rows.names], bool)[rows.models]
        if not self._size or not ours.any():
            return
        order = rows.order()
        for place, path in enumerate(PATHS):
            chosen = np.flatnonzero(ours & (rows.paths == place))
            best = chosen[np.argsort(order[chosen], kind="stable")[: self._size]]
            new = [(int(order[row]), bytes(records[row])) for row in best.tolist()]
            if new:
                self.sample[path] = _smallest(self.sample.get(path, []), new, size=self._size)


def merge_samples(samples: Iterable[Sample], size: int) -> Sample:
    """The smallest of each path; of nothing, nothing."""
    total: Sample = {}
    for sample in samples:
        for path, drawn in sample.items():
            total[path] = _smallest(total.get(path, []), drawn, size=size)
    return total


def share_out(sample: Sample, size: int) -> Sample:
    """At most `size` rows in all: alike many of each path, while there are."""
    left, chosen = size, {}
    waiting = sorted(sample, key=lambda path: (len(sample[path]), path))
    for place, path in enumerate(waiting):
        taken = sample[path][: left // (len(waiting) - place)]
        left -= len(taken)
        chosen[path] = taken
    return chosen


def _smallest(*parts: list[Drawn], size: int) -> list[Drawn]:
    return sorted(drawn for part in parts for drawn in part)[:size]
