"""Counts batches, and follows the states of versions and labels. No IO here."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable

from tfx_encore.gateway import metrics_families as families
from tfx_encore.gateway.metrics_families import SECONDS, SIZES, TF_SIZE_BOUNDS
from tfx_encore.gateway.metrics_names import Names
from tfx_encore.gateway.metrics_numbers import Histogram, Numbers

DEFAULT_LABEL = "(default)"
_MOST_LABELS = 256  # by model


class BatchCounts:
    """Batches of one signature."""

    __slots__ = ("_padded_sizes", "_padding", "_rows", "_seconds", "_sizes", "_times")

    def __init__(self) -> None:
        self._sizes = [0] * (len(SIZES) + 1)
        self._padded_sizes = [0] * (len(TF_SIZE_BOUNDS) + 1)
        self._times = [0] * (len(SECONDS) + 1)
        self._rows = 0
        self._padding = 0
        self._seconds = 0.0

    def count(self, rows: int, padded: int, seconds: float) -> None:
        """The model computed one batch."""
        self._sizes[bisect_left(SIZES, rows)] += 1
        self._padded_sizes[bisect_left(TF_SIZE_BOUNDS, rows + padded)] += 1
        self._times[bisect_left(SECONDS, seconds)] += 1
        self._rows += rows
        self._padding += padded
        self._seconds += seconds

    def write(self, labels: tuple[str, str], numbers: Numbers) -> None:
        """Adds what was counted."""
        numbers.count(families.MODEL_ROWS, labels, self._rows)
        numbers.count(families.PADDING_ROWS, labels, self._padding)
        numbers.count(families.TF_RUNS, (), sum(self._sizes))
        sizes = Histogram(float(self._rows), list(self._sizes))
        numbers.observe(families.BATCH_ROWS.name, labels, sizes)
        padded = Histogram(float(self._rows + self._padding), list(self._padded_sizes))
        numbers.observe(families.TF_BATCH_SIZE.name, (), padded)
        times = Histogram(self._seconds, list(self._times))
        numbers.observe(families.MODEL_SECONDS.name, labels, times)


class ModelStates:
    """States of versions, and where labels point.

    Args:
        names: learns models and versions.
        wall_clock: seconds since 1970.
        steady_clock: seconds, never going back.
    """

    def __init__(
        self, names: Names, wall_clock: Callable[[], float], steady_clock: Callable[[], float]
    ) -> None:
        self._names = names
        self._wall_clock = wall_clock
        self._steady_clock = steady_clock
        self._states: dict[tuple[str, int], str] = {}
        self._loading: dict[tuple[str, int], float] = {}
        self._load_seconds: dict[tuple[str, int], float] = {}
        self._warm_ups: dict[tuple[str, int], tuple[int, float]] = {}
        self._problems: Counter[str] = Counter()
        self._labels: dict[tuple[str, str], tuple[int, float]] = {}
        self._switches: Counter[tuple[str, str]] = Counter()

    def version_state(self, model: str, version: int, state: str, problem: str) -> None:
        """A version changed its state."""
        key = (model, version)
        self._names.began(model, version)
        self._states[key] = state
        if problem:
            self._problems[model] += 1
        if state == "LOADING":
            self._loading[key] = self._steady_clock()
        elif state == "AVAILABLE" and key in self._loading:
            self._load_seconds[key] = self._steady_clock() - self._loading.pop(key)
        elif state == "END":
            self._names.ended(model, version)

    def warmed_up(self, model: str, version: int, records: int, seconds: float) -> None:
        """A version's warm-up file was replayed, perhaps once more."""
        self._names.learn(model, version)
        self._warm_ups[model, version] = (records, seconds)

    def switched(self, model: str, label: str, version: int) -> None:
        """A label points at another version."""
        key = (self._names.learn(model), label or DEFAULT_LABEL)
        if key not in self._labels and self._count_labels(model) >= _MOST_LABELS:
            return
        self._labels[key] = (version, self._wall_clock())
        self._switches[key] += 1

    def forget(self, model: str, version: int) -> None:
        """Drops what is known of a version."""
        key = (model, version)
        self._states.pop(key, None)
        self._loading.pop(key, None)
        self._load_seconds.pop(key, None)
        self._warm_ups.pop(key, None)

    def write(self, numbers: Numbers) -> None:
        """Adds what is known."""
        for (model, version), state in self._states.items():
            numbers.set(families.VERSION_STATE, (model, str(version), state), 1)
        for (model, version), seconds in self._load_seconds.items():
            numbers.set(families.LOAD_SECONDS, (model, str(version)), seconds)
        for (model, version), (records, seconds) in self._warm_ups.items():
            numbers.set(families.WARMUP_RECORDS, (model, str(version)), records)
            numbers.set(families.WARMUP_SECONDS, (model, str(version)), seconds)
        for model, problems in self._problems.items():
            numbers.count(families.VERSION_PROBLEMS, (model,), problems)
        for labels, (version, since) in self._labels.items():
            numbers.set(families.LABEL_VERSION, labels, version, changed_at=since)
            numbers.count(families.LABEL_SWITCHES, labels, self._switches[labels])

    def _count_labels(self, model: str) -> int:
        return sum(each[0] == model for each in self._labels)
