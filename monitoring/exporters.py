"""Takes samples to where Prometheus finds them: a page, a textfile, a Pushgateway."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, push_to_gateway, write_to_textfile
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from tfx_encore.monitoring.metric_families import MetricFamily, Sample
from tfx_encore.schemas.errors import EncoreError
from tfx_encore.schemas.metrics_policy import MetricsPolicy


class ExportError(EncoreError):
    """Metrics could not be written or pushed."""


class Samples(Collector):
    """Samples that are already there, for prometheus_client."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._samples = tuple(samples)

    def collect(self) -> Iterator[Metric]:
        """Each metric with its samples; of equal ones the first, for a page must not repeat any."""
        found: dict[str, Metric] = {}
        seen: set[tuple[str, tuple[str, ...]]] = set()
        for sample in self._samples:
            place = (sample.family.name, sample.labels)
            if place not in seen:
                seen.add(place)
                metric = found.setdefault(sample.family.name, _metric(sample.family))
                metric.add_sample(sample.family.name, sample.named, sample.value)
        yield from found.values()


def registry_of(samples: Iterable[Sample]) -> CollectorRegistry:
    """A registry that holds nothing but these samples."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Samples(samples))
    return registry


def page_of(samples: Iterable[Sample]) -> bytes:
    """The samples in Prometheus's text format."""
    return generate_latest(registry_of(samples))


def write_textfile(folder: Path, name: str, samples: Iterable[Sample]) -> Path:
    """Writes `<name>.prom` for node_exporter's textfile collector; a reader finds old or new.

    Raises:
        ExportError: the folder cannot be written to.
    """
    file = folder / f"{name}.prom"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_to_textfile(str(file), registry_of(samples))
    except OSError as error:
        raise ExportError(
            f"{file} cannot be written: {error.strerror or error}; see `metrics.textfile_dir`"
        ) from error
    return file


def push(
    address: str, job: str, model: str, samples: Iterable[Sample], timeout_seconds: float = 5.0
) -> None:
    """Replaces what a Pushgateway holds for this job and model.

    Raises:
        ExportError: it cannot be reached, or refuses.
    """
    try:
        push_to_gateway(
            address,
            job=job,
            registry=registry_of(samples),
            grouping_key={"model": model},
            timeout=timeout_seconds,
        )
    except OSError as error:  # urllib's errors are
        raise ExportError(
            f"the Pushgateway at {address} did not take the metrics: {error}; see "
            "`metrics.pushgateway`"
        ) from error


def deliver(
    policy: MetricsPolicy, base: Path, kind: str, model: str, samples: Iterable[Sample]
) -> tuple[str, ...]:
    """Writes and pushes as configured; returns what went wrong, one line each.

    Metrics that do not arrive fail no run: the alert on their age says so.

    Args:
        policy: where to.
        base: folder that a relative `textfile_dir` starts from.
        kind: `night` or `run`: part of the file's name and of the job.
        model: the model's name.
        samples: what to deliver.
    """
    found = tuple(samples)
    problems = []
    job = f"{policy.job}_{kind}"
    try:
        if policy.textfile_dir:
            write_textfile(base / policy.textfile_dir, f"{job}_{model}", found)
    except ExportError as error:
        problems.append(str(error))
    try:
        if policy.pushgateway:
            push(policy.pushgateway, job, model, found, policy.timeout_seconds)
    except ExportError as error:
        problems.append(str(error))
    return tuple(problems)


def _metric(family: MetricFamily) -> Metric:
    name = family.name.removesuffix("_total") if family.kind == "counter" else family.name
    return Metric(name, family.meaning, family.kind)
