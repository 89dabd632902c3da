"""Runs of the release pipeline, releases and invalidation records as metrics. No IO here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from tfx_encore.monitoring import metric_families as families
from tfx_encore.monitoring.metric_families import Sample
from tfx_encore.monitoring.night_metrics import outcome_samples, seconds_of
from tfx_encore.schemas.decisions import Decision
from tfx_encore.schemas.records import Acknowledgement, Cause, InvalidationRecord
from tfx_encore.schemas.release import Manifest

RUN_STATES = ("pushed", "already_pushed", "unchanged", "refused", "failed")
MAX_CONSUMERS = 20
MAX_VERSIONS = 50
_FINGERPRINT_DIGITS = 12
_MIB = 1 << 20


class RunFacts(NamedTuple):
    """What a run of the release pipeline came to.

    Attributes:
        model: the model's name.
        state: one of `RUN_STATES`.
        ended: when, seconds since 1970.
        span: of the data.
        version: that it pushed, or that holds its content; None if there is none.
        seconds: wall time.
        steps: step -> wall time in seconds.
        peak_memory_mb: most memory, MiB.
        decisions: of its gates.
        coverage: hit rate of its snapshot on held-out rows; None if not measured.
    """

    model: str
    state: str
    ended: float
    span: int
    version: int | None = None
    seconds: float = 0.0
    steps: Mapping[str, float] = {}
    peak_memory_mb: float = 0.0
    decisions: Sequence[Decision] = ()
    coverage: float | None = None


def run_samples(run: RunFacts) -> tuple[Sample, ...]:
    """What a run says, as samples."""
    return tuple(_run(run))


def _run(run: RunFacts) -> Iterator[Sample]:
    labels = (run.model,)
    yield Sample(families.RUN_END, labels, run.ended)
    for state in RUN_STATES:
        yield Sample(families.RUN_STATE, (run.model, state), float(state == run.state))
    yield Sample(families.RUN_SPAN, labels, run.span)
    if run.version is not None:
        yield Sample(families.RUN_VERSION, labels, run.version)
    yield Sample(families.RUN_SECONDS, labels, run.seconds)
    for step, seconds in run.steps.items():
        yield Sample(families.RUN_STEP_SECONDS, (run.model, step), seconds)
    if run.peak_memory_mb:
        yield Sample(families.RUN_PEAK, labels, run.peak_memory_mb * _MIB)
    for decision in run.decisions:
        yield from outcome_samples(families.RUN_GATE, (run.model, decision.gate), decision.outcome)
    if run.coverage is not None:
        yield Sample(families.RUN_COVERAGE, labels, run.coverage)


def release_samples(
    model: str, labels: Mapping[str, int], manifests: Sequence[Manifest]
) -> tuple[Sample, ...]:
    """Which version is in force, and which are on disk.

    Args:
        model: the model's name.
        labels: label -> version.
        manifests: of the versions on disk; the newest `MAX_VERSIONS` are shown.
    """
    samples = [
        Sample(families.RELEASE_VERSION, (model, label), version)
        for label, version in sorted(labels.items())
    ]
    newest = sorted(manifests, key=lambda manifest: manifest.version)[-MAX_VERSIONS:]
    for manifest in newest:
        version = str(manifest.version)
        short = manifest.fingerprint.rpartition(":")[2][:_FINGERPRINT_DIGITS]
        samples.append(Sample(families.RELEASE_INFO, (model, version, short), 1.0))
        created = seconds_of(manifest.created_at)
        if created is not None:
            samples.append(Sample(families.RELEASE_CREATED, (model, version), created))
    return tuple(samples)


def record_samples(
    model: str,
    records: Sequence[InvalidationRecord],
    acknowledgements: Sequence[Acknowledgement],
    now: float,
) -> tuple[Sample, ...]:
    """The invalidation records, and how far gateways are behind them.

    Args:
        model: the model's name.
        records: all of its records, ascending.
        acknowledgements: all of them.
        now: seconds since 1970.
    """
    return tuple(_records(model, records, acknowledgements, now))


def _records(
    model: str,
    records: Sequence[InvalidationRecord],
    acknowledgements: Sequence[Acknowledgement],
    now: float,
) -> Iterator[Sample]:
    written = {record.sequence: seconds_of(record.created_at) or 0.0 for record in records}
    for cause in Cause:
        found = [record for record in records if record.cause == cause]
        yield Sample(families.RECORDS, (model, cause.value), len(found))
        if found:
            newest = max(written[record.sequence] for record in found)
            yield Sample(families.RECORD_NEWEST, (model, cause.value), newest)
    yield Sample(families.RECORD_SEQUENCE, (model,), max(written, default=0))
    newest_by_consumer = _newest(acknowledgements)
    recent = sorted(newest_by_consumer.values(), key=lambda ack: ack.acknowledged_at)
    for ack in recent[-MAX_CONSUMERS:]:
        labels = (model, ack.consumer)
        yield Sample(families.ACKNOWLEDGED, labels, ack.sequence)
        done = seconds_of(ack.acknowledged_at)
        if done is not None and ack.sequence in written:
            waited = max(0.0, done - written[ack.sequence])
            yield Sample(families.ACKNOWLEDGE_SECONDS, labels, waited)
    reached = max((ack.sequence for ack in recent), default=None)
    waiting = [at for sequence, at in written.items() if reached is not None and sequence > reached]
    pending = max(0.0, now - min(waiting)) if waiting else 0.0
    yield Sample(families.PENDING_SECONDS, (model,), pending)


def _newest(acknowledgements: Sequence[Acknowledgement]) -> dict[str, Acknowledgement]:
    """The highest record that each consumer has acknowledged."""
    found: dict[str, Acknowledgement] = {}
    for ack in acknowledgements:
        before = found.get(ack.consumer)
        if before is None or ack.sequence > before.sequence:
            found[ack.consumer] = ack
    return found
