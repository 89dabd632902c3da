"""The gateway's metrics: counted on the request path, shown as one page for all workers.

Counting is plain arithmetic on integers of this process; nothing is locked, since everything
happens on the event loop. docs/metrics.md lists what is shown.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from tfx_encore.cache.observer import CacheObserver
from tfx_encore.gateway import metrics_families as families
from tfx_encore.gateway.errors import Code
from tfx_encore.gateway.metrics_cache import CacheCounts, write_stats
from tfx_encore.gateway.metrics_exposition import (
    derive,
    describe,
    metrics,
    tensorflow_serving_text,
)
from tfx_encore.gateway.metrics_families import LATENCY_BOUNDS
from tfx_encore.gateway.metrics_models import BatchCounts, ModelStates
from tfx_encore.gateway.metrics_names import Names
from tfx_encore.gateway.metrics_numbers import Numbers, merged
from tfx_encore.gateway.metrics_probe import ModelCacheStats, Probe, TierStats
from tfx_encore.gateway.metrics_requests import CountingHandle, RequestCounts, RequestLabels
from tfx_encore.gateway.observer import CacheStatus, GatewayObserver, Protocol

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

__all__ = ["GatewayMetrics", "ModelCacheStats", "Probe", "TierStats"]


class GatewayMetrics(GatewayObserver):
    """Counts what the gateway does.

    Args:
        registry: gets a collector of these metrics, and is what `render` shows; by default one of
            its own.
        probe: asked for the state of the caches each time metrics are read.
        wall_clock: seconds since 1970.
        steady_clock: seconds, never going back.
        cpu_clock: seconds of processor time that this process has used.
    """

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        *,
        probe: Probe = tuple,
        wall_clock: Callable[[], float] = time.time,
        steady_clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.process_time,
    ) -> None:
        self.registry = registry if registry is not None else CollectorRegistry()
        self.probe = probe
        self._cpu_clock = cpu_clock
        names = self._names = Names(self._forget)
        self._requests = RequestCounts(names)
        self._handles = self._requests.handles
        self._models = ModelStates(names, wall_clock, steady_clock)
        self._batches: dict[tuple[str, str], BatchCounts] = {}
        self._caches: dict[str, CacheCounts] = {}
        self._queued: dict[str, int] = {}
        self._logged: dict[str, list[int]] = {}
        self._others = Numbers()
        self.registry.register(_Collector(self))

    # --- the request path ------------------------------------------------------------------------

    def request(
        self,
        *,
        protocol: Protocol,
        method: str,
        model: str,
        version: int,
        signature: str,
        code: Code,
        status: CacheStatus,
        seconds: float,
    ) -> None:
        """A request was answered."""
        labels = (protocol, method, model, version, signature, code, status)
        handle = self._handles.get(labels)  # type: ignore[call-overload] # a tuple finds its equal
        if handle is None:
            handle = self._requests.handle(RequestLabels(*labels))
        handle.counts[bisect_left(LATENCY_BOUNDS, seconds)] += 1
        handle.seconds += seconds

    def handle(
        self,
        *,
        protocol: Protocol,
        method: str,
        model: str,
        version: int,
        signature: str,
        code: Code = Code.OK,
        status: CacheStatus = "hit",
    ) -> CountingHandle:
        """Returns who counts requests of these labels: `count(seconds, rows)` for `request`.

        Keep it for as long as the version answers.
        """
        return self._requests.handle(
            RequestLabels(protocol, method, model, version, signature, code, status)
        )

    def rows(self, model: str, hits: int, rows: int) -> None:
        """Of the rows of a request so many were answered without the model."""
        counts = self._requests.rows.get(model)
        if counts is None:
            counts = self._requests.rows_of(self._names.learn(model))
        counts.cached += hits
        counts.computed += rows - hits

    def batch(self, model: str, signature: str, *, rows: int, padded: int, seconds: float) -> None:
        """The model computed one batch."""
        counts = self._batches.get((model, signature))
        if counts is None:
            model = self._names.learn(model, signature=signature)
            key = (model, self._names.signature(model, signature))
            counts = self._batches.setdefault(key, BatchCounts())
        counts.count(rows, padded, seconds)

    def queued(self, model: str, rows: int) -> None:
        """Rows that wait for a batch now."""
        self._queued[self._names.learn(model)] = rows

    def logged(self, model: str, requests: int, dropped: int) -> None:
        """Requests went into the request log's queue, or found it full."""
        counts = self._logged.setdefault(self._names.model(model), [0, 0])
        counts[0] += requests
        counts[1] += dropped

    # --- models and caches -----------------------------------------------------------------------

    def version_state(self, model: str, version: int, state: str, problem: str) -> None:
        """A version changed its state."""
        self._models.version_state(model, version, state, problem)

    def warmed_up(self, model: str, version: int, *, records: int, seconds: float) -> None:
        """A version's warm-up file was replayed."""
        self._models.warmed_up(model, version, records, seconds)

    def switched(self, model: str, label: str, version: int) -> None:
        """A label points at another version."""
        self._models.switched(model, label, version)

    def cache(self, model: str) -> CacheObserver:
        """Returns who counts for this model's cache."""
        model = self._names.learn(model)
        counts = self._caches.get(model)
        if counts is None:
            counts = self._caches[model] = CacheCounts(model)
        return counts

    # --- reading ---------------------------------------------------------------------------------

    def numbers(self) -> Numbers:
        """Returns this worker's numbers. On the event loop."""
        numbers = Numbers()
        self._requests.write(numbers)
        for model, rows in self._requests.rows.items():
            numbers.count(families.ROWS, (model, "cache"), rows.cached)
            numbers.count(families.ROWS, (model, "model"), rows.computed)
        for (model, signature), batches in self._batches.items():
            batches.write((model, signature), numbers)
        for cache in self._caches.values():
            cache.write(numbers)
        for stats in self.probe():
            write_stats(stats, numbers)
        for model, waiting in self._queued.items():
            numbers.set(families.QUEUE_ROWS, (model,), waiting)
        for model, (records, dropped) in self._logged.items():
            numbers.count(families.LOG_RECORDS, (model,), records)
            numbers.count(families.LOG_DROPPED, (model,), dropped)
        self._models.write(numbers)
        numbers.set(families.WORKERS, (), 1)
        numbers.count(families.WORKER_CPU, (), self._cpu_clock())
        return numbers

    def state(self) -> bytes:
        """Returns this worker's numbers for the one that shows the page."""
        return self.numbers().to_json()

    def merge(self, states: Iterable[bytes]) -> None:
        """Shows the numbers of other workers too, from now on, in place of those given before.

        Args:
            states: of each other worker, its newest; `metrics_numbers.without_gauges` of the last
                one of a worker that has ended, so that sums do not go down.

        Raises:
            DataError: one of them cannot be read; then nothing changes.
        """
        self._others = merged(states)

    def render(self) -> tuple[str, bytes]:
        """Returns the content type and the page."""
        numbers = self._everything()
        text = tensorflow_serving_text(numbers).encode()
        return CONTENT_TYPE, generate_latest(self.registry) + text

    def collect(self) -> list[Metric]:
        """Returns the gateway's own metrics, for a registry."""
        return metrics(self._everything())

    def _everything(self) -> Numbers:
        numbers = self.numbers()
        numbers.add(self._others)
        derive(numbers)
        return numbers

    def _forget(self, model: str, version: int) -> None:
        self._requests.forget(model, version)
        self._models.forget(model, version)


class _Collector(Collector):
    """What a registry asks."""

    def __init__(self, source: GatewayMetrics) -> None:
        self._source = source

    def collect(self) -> Iterator[Metric]:
        yield from self._source.collect()

    def describe(self) -> Iterable[Metric]:
        return describe()
