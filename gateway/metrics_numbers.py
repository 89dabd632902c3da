"""Numbers of one worker or of several, added up. No IO here.

The statistics of a worker travel to whoever serves the page as JSON:

    {"format": 1,
     "counters": [[name, [label values], value], ...],
     "histograms": [[name, [label values], sum, [counts]], ...],
     "gauges": [[name, [label values], value or null for infinity, how to merge, changed at], ...]}
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tfx_encore.gateway.metrics_families import Family, Merge
from tfx_encore.schemas.errors import DataError

FORMAT = 1

Key = tuple[str, tuple[str, ...]]
"""Name of the family and values of its labels."""


class Gauge(NamedTuple):
    """A value that goes up and down.

    Attributes:
        value: now.
        merge: how several workers' become one.
        changed_at: seconds since 1970, for `last`.
    """

    value: float
    merge: Merge
    changed_at: float = 0.0


class Histogram(NamedTuple):
    """How often a value was within which bounds.

    Attributes:
        total: sum of the values.
        counts: number of values up to each bound and above the one before; the last without bound.
    """

    total: float
    counts: Sequence[int]


class Numbers:
    """Counters, histograms and gauges by family and labels.

    `add` changes the one that it is called on, never the other.
    """

    def __init__(self) -> None:
        self.counters: dict[Key, float] = {}
        self.histograms: dict[Key, Histogram] = {}
        self.gauges: dict[Key, Gauge] = {}

    def count(self, family: Family, labels: tuple[str, ...], value: float) -> None:
        """Adds to a counter."""
        key = (family.name, labels)
        self.counters[key] = self.counters.get(key, 0) + value

    def observe(self, name: str, labels: tuple[str, ...], seen: Histogram) -> None:
        """Adds to a histogram.

        Raises:
            DataError: it has other bounds.
        """
        key = (name, labels)
        known = self.histograms.get(key)
        if known is not None:
            if len(known.counts) != len(seen.counts):
                raise DataError(f"metric {name} has other bounds in another worker")
            counts = [a + b for a, b in zip(known.counts, seen.counts, strict=True)]
            seen = Histogram(known.total + seen.total, counts)
        self.histograms[key] = seen

    def set(
        self,
        family: Family,
        labels: tuple[str, ...],
        value: float,
        *,
        merge: Merge | None = None,
        changed_at: float = 0.0,
    ) -> None:
        """Sets a gauge."""
        self.gauges[family.name, labels] = Gauge(value, merge or family.merge, changed_at)

    def add(self, other: Numbers) -> None:
        """Adds another worker's numbers.

        Raises:
            DataError: a histogram of other bounds.
        """
        for key, value in other.counters.items():
            self.counters[key] = self.counters.get(key, 0) + value
        for (name, labels), seen in other.histograms.items():
            self.observe(name, labels, seen)
        for key, gauge in other.gauges.items():
            known = self.gauges.get(key)
            self.gauges[key] = gauge if known is None else _merged(known, gauge)

    def to_json(self) -> bytes:
        """Returns the numbers as JSON."""
        document = {
            "format": FORMAT,
            "counters": [[name, labels, value] for (name, labels), value in self.counters.items()],
            "histograms": [
                [name, labels, seen.total, seen.counts]
                for (name, labels), seen in self.histograms.items()
            ],
            "gauges": [
                [name, labels, None if math.isinf(g.value) else g.value, g.merge, g.changed_at]
                for (name, labels), g in self.gauges.items()
            ],
        }
        return json.dumps(document, separators=(",", ":")).encode()


def from_json(state: bytes) -> Numbers:
    """Reads numbers back.

    Raises:
        DataError: not such a document, or of another format.
    """
    try:
        document = json.loads(state)
        found = document.get("format")
        if found != FORMAT:
            raise DataError(f"metrics of format {found!r}; this process reads format {FORMAT}")
        return _read(document)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"not the metrics of a worker: {error}") from error


def without_gauges(state: bytes) -> bytes:
    """Returns what is to be kept of a worker that has ended.

    Its counters stay in the sums, which would go down without them; its gauges say nothing any
    more.

    Raises:
        DataError: not such a document, or of another format.
    """
    numbers = from_json(state)
    numbers.gauges.clear()
    return numbers.to_json()


def merged(states: Iterable[bytes]) -> Numbers:
    """Adds up the numbers of several workers.

    Raises:
        DataError: one of them is not such a document.
    """
    numbers = Numbers()
    for state in states:
        numbers.add(from_json(state))
    return numbers


def _read(document: Mapping[str, Any]) -> Numbers:
    numbers = Numbers()
    for name, labels, value in document["counters"]:
        numbers.counters[name, tuple(labels)] = value
    for name, labels, total, counts in document["histograms"]:
        numbers.histograms[name, tuple(labels)] = Histogram(total, counts)
    for name, labels, value, merge, changed_at in document["gauges"]:
        known = math.inf if value is None else value
        numbers.gauges[name, tuple(labels)] = Gauge(known, merge, changed_at)
    return numbers


def _merged(first: Gauge, second: Gauge) -> Gauge:
    if first.merge == "last":
        return max(first, second, key=lambda gauge: gauge.changed_at)
    values = (first.value, second.value)
    if first.merge == "sum":
        return first._replace(value=sum(values))
    return first._replace(value=min(values) if first.merge == "min" else max(values))
