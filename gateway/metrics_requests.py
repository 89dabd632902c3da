"""Counts requests: the part of the metrics that every request passes. No IO here.

One list of counts for each set of labels gives the number of requests, the histogram of their times
in Prometheus's bounds, and that in TensorFlow Serving's.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple

from tfx_encore.gateway.errors import Code
from tfx_encore.gateway.metrics_families import LATENCY_BOUNDS
from tfx_encore.gateway.metrics_names import OTHER, Names
from tfx_encore.gateway.metrics_numbers import Histogram, Numbers
from tfx_encore.gateway.observer import CacheStatus, Protocol, RequestHandle

RAW = "requests"
"""Name of the histogram in `Numbers` that holds all labels of `RequestLabels`, in their order."""

MOST_HANDLES = 10_000


class RequestLabels(NamedTuple):
    """What requests are told apart by; see `observer.GatewayObserver.request`."""

    protocol: Protocol
    method: str
    model: str
    version: int
    signature: str
    code: Code
    status: CacheStatus


class RowCounts:
    """Rows of answered requests of one model.

    Attributes:
        cached: answered without the model.
        computed: the others.
    """

    __slots__ = ("cached", "computed")

    def __init__(self) -> None:
        self.cached = 0
        self.computed = 0


class CountingHandle(RequestHandle):
    """Counts requests of one set of labels.

    Attributes:
        counts: requests by `LATENCY_BOUNDS`.
        seconds: sum of their times.
    """

    __slots__ = ("_rows", "counts", "seconds")

    def __init__(self, rows: RowCounts) -> None:
        self.counts = [0] * (len(LATENCY_BOUNDS) + 1)
        self.seconds = 0.0
        self._rows = rows

    def count(self, seconds: float, rows: int = 0) -> None:
        """A request was answered.

        Args:
            seconds: from the last byte read to the first byte written.
            rows: that were answered without the model.
        """
        self.counts[bisect_left(LATENCY_BOUNDS, seconds)] += 1
        self.seconds += seconds
        if rows:
            self._rows.cached += rows


class RequestCounts:
    """All handles.

    Args:
        names: which labels there may be.
    """

    def __init__(self, names: Names) -> None:
        self._names = names
        self.handles: dict[RequestLabels, CountingHandle] = {}
        self.rows: dict[str, RowCounts] = {}

    def handle(self, labels: RequestLabels) -> CountingHandle:
        """Returns who counts requests of these labels, or of those that may stand for them."""
        known = self._known(labels)
        handle = self.handles.get(known)
        if handle is None:
            if len(self.handles) >= MOST_HANDLES:
                known = known._replace(model=OTHER, version=0, signature="")
            rows = self.rows_of(known.model)
            handle = self.handles.setdefault(known, CountingHandle(rows))
        return handle

    def rows_of(self, model: str) -> RowCounts:
        """Returns the rows of a model that is known."""
        rows = self.rows.get(model)
        if rows is None:
            rows = self.rows[model] = RowCounts()
        return rows

    def forget(self, model: str, version: int) -> None:
        """Drops what was counted of a version."""
        for labels in [each for each in self.handles if each[2:4] == (model, version)]:
            del self.handles[labels]

    def write(self, numbers: Numbers) -> None:
        """Adds what was counted."""
        for labels, handle in self.handles.items():
            values = tuple(str(int(value)) if isinstance(value, int) else value for value in labels)
            numbers.observe(RAW, values, Histogram(handle.seconds, list(handle.counts)))

    def _known(self, labels: RequestLabels) -> RequestLabels:
        protocol, method, model, version, signature, code, status = labels
        names = self._names
        if code == Code.OK:
            names.learn(model, version, signature)
        return RequestLabels(
            protocol,
            names.method(method),
            names.model(model),
            names.version(model, version),
            names.signature(model, signature),
            code,
            status,
        )
