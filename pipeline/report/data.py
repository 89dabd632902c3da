"""What one release report says, and how it is read from a release's evidence.

`<releases>/<model>/<version>.evidence/` holds `manifest.json`, `drift_report/decision.json` and
`charts.json`, `slice_report/decision.json`, `coverage/coverage.json`. A part that is not there is
left out of the report, which then says what would stand in its place. A part that is there and
cannot be read is an error: an edited release must not look whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from pydantic.dataclasses import dataclass

from tfx_encore.schemas.charts import Coverage, FeatureChart
from tfx_encore.schemas.decisions import Decision, Outcome
from tfx_encore.schemas.errors import DataError, VersionNotFoundError
from tfx_encore.schemas.records import InvalidationRecord
from tfx_encore.schemas.release import Certificate, Manifest
from tfx_encore.schemas.serial import from_json

T = TypeVar("T")

DRIFT_GATE = "drift"
SLICE_GATE = "sliced_evaluation"


StepState = Literal["ran", "cached", "failed", "skipped"]


class Step(Protocol):
    """What the report needs of a component's result."""

    @property
    def name(self) -> str:
        """The component's id."""

    @property
    def seconds(self) -> float:
        """Wall time."""

    @property
    def state(self) -> StepState:
        """How it went."""


@dataclass(frozen=True)
class StepTime:
    """One component of the run.

    Attributes:
        name: the component's id.
        seconds: wall time; 0 if it did not run.
        state: whether it ran, was answered from TFX's cache, failed, or was never reached.
    """

    name: str
    seconds: float
    state: StepState = "ran"


@dataclass(frozen=True)
class ReleaseReport:
    """Everything the report of one release shows.

    Attributes:
        model: the model's name.
        version: the pushed version; None when nothing was pushed.
        labels: labels that pointed at the version when the report was written.
        outcome_line: what happened in one line, as `version 2 pushed, stable moved from 1 to 2`;
            None to have it worded from the rest.
        decisions: what each gate decided.
        charts: distributions of the features that DriftValidator saw.
        coverage: what the cache snapshot will be worth, if CacheWarmer ran.
        certificate: whether answers may be cached row by row, if CacheWarmer ran.
        manifest: the version's manifest; None when nothing was pushed.
        records: invalidation records that this release wrote.
        steps: components of the run in the order they ran.
        anomalies: what ExampleValidator found against the schema, one line each.
        lineage: name of an input -> id of its artifact in ML Metadata.
        written_at: UTC, RFC 3339; when the report was written.
    """

    model: str
    version: int | None = None
    labels: tuple[str, ...] = ()
    outcome_line: str | None = None
    decisions: tuple[Decision, ...] = ()
    charts: tuple[FeatureChart, ...] = ()
    coverage: Coverage | None = None
    certificate: Certificate | None = None
    manifest: Manifest | None = None
    records: tuple[InvalidationRecord, ...] = ()
    steps: tuple[StepTime, ...] = ()
    anomalies: tuple[str, ...] = ()
    lineage: dict[str, int] = field(default_factory=dict)
    written_at: str | None = None

    @property
    def blocked(self) -> tuple[Decision, ...]:
        """The decisions that stand in the way of a push."""
        return tuple(item for item in self.decisions if item.outcome is Outcome.BLOCK)

    @property
    def failed_steps(self) -> tuple[StepTime, ...]:
        """The components that failed."""
        return tuple(step for step in self.steps if step.state == "failed")

    def decision(self, gate: str) -> Decision | None:
        """Returns the decision of `gate`, or None if it made none."""
        return next((item for item in self.decisions if item.gate == gate), None)


def load(
    evidence: Path,
    *,
    labels: Iterable[str] = (),
    outcome_line: str | None = None,
    records: Iterable[InvalidationRecord] = (),
    steps: Iterable[Step] = (),
    anomalies: Iterable[str] = (),
    written_at: str | None = None,
) -> ReleaseReport:
    """Reads the report of a pushed version from `<releases>/<model>/<version>.evidence/`.

    The other arguments are what the evidence cannot know: where labels point now, what the ledger
    holds, how the run went.

    Raises:
        VersionNotFoundError: there is no such evidence directory; names those that exist.
        DataError: a file in it does not parse; names the file, the key and the value.
    """
    if not evidence.is_dir():
        raise VersionNotFoundError(_no_evidence(evidence))
    manifest = read_part(Manifest, evidence / "manifest.json")
    model, version = _identity(evidence, manifest)
    found = _decisions(evidence / "drift_report", evidence / "slice_report")
    return ReleaseReport(
        model=model,
        version=version,
        labels=tuple(labels),
        outcome_line=outcome_line,
        decisions=_merged(manifest.decisions if manifest else (), found),
        charts=read_charts(evidence / "drift_report"),
        coverage=read_part(Coverage, evidence / "coverage" / "coverage.json"),
        certificate=manifest.certificate if manifest else None,
        manifest=manifest,
        records=tuple(records),
        steps=_steps(steps),
        anomalies=tuple(anomalies),
        lineage=dict(manifest.lineage) if manifest else {},
        written_at=written_at,
    )


def load_refused(
    model: str,
    *,
    drift_report: Path | None = None,
    slice_report: Path | None = None,
    coverage: Path | None = None,
    decisions: Iterable[Decision] = (),
    certificate: Certificate | None = None,
    outcome_line: str | None = None,
    steps: Iterable[Step] = (),
    anomalies: Iterable[str] = (),
    lineage: Mapping[str, int] | None = None,
    written_at: str | None = None,
) -> ReleaseReport:
    """Reads the report of a run that pushed nothing, from its components' output directories.

    Args:
        model: the model's name.
        drift_report: directory of the DriftReport artifact, if DriftValidator ran.
        slice_report: directory of the SliceReport artifact, if SlicedEvaluator ran.
        coverage: directory of the CoverageReport artifact, if CacheWarmer ran.
        decisions: further decisions, as of the user's own gates.
        certificate: CacheWarmer's certificate, if it ran.
        outcome_line: as in `ReleaseReport`.
        steps: as in `ReleaseReport`.
        anomalies: as in `ReleaseReport`.
        lineage: as in `ReleaseReport`.
        written_at: as in `ReleaseReport`.

    Raises:
        DataError: a file does not parse; names the file, the key and the value.
    """
    found = _decisions(drift_report, slice_report)
    return ReleaseReport(
        model=model,
        outcome_line=outcome_line,
        decisions=_merged(found, tuple(decisions)),
        charts=read_charts(drift_report),
        coverage=read_part(Coverage, coverage / "coverage.json") if coverage else None,
        certificate=certificate,
        steps=_steps(steps),
        anomalies=tuple(anomalies),
        lineage=dict(lineage or {}),
        written_at=written_at,
    )


def read_part(kind: type[T], path: Path) -> T | None:
    """Returns the file parsed as `kind`, or None if there is no such file."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    return from_json(kind, text, source=str(path))


def _steps(steps: Iterable[Step]) -> tuple[StepTime, ...]:
    return tuple(StepTime(step.name, step.seconds, step.state) for step in steps)


def _decisions(*folders: Path | None) -> tuple[Decision, ...]:
    read = [read_part(Decision, folder / "decision.json") for folder in folders if folder]
    return tuple(item for item in read if item is not None)


def read_charts(folder: Path | None) -> tuple[FeatureChart, ...]:
    """Reads `charts.json` of a DriftReport; empty if there is no such report.

    Raises:
        DataError: the file does not parse.
    """
    if folder is None:
        return ()
    return read_part(tuple[FeatureChart, ...], folder / "charts.json") or ()


def _merged(first: tuple[Decision, ...], second: tuple[Decision, ...]) -> tuple[Decision, ...]:
    """One decision by gate, in order of first mention; the one with more evidence wins."""
    by_gate: dict[str, Decision] = {}
    for item in (*first, *second):
        known = by_gate.get(item.gate)
        if known is None or len(item.evidence) > len(known.evidence):
            by_gate[item.gate] = item
    return tuple(by_gate.values())


def _identity(evidence: Path, manifest: Manifest | None) -> tuple[str, int | None]:
    if manifest:
        return manifest.model, manifest.version
    stem = evidence.name.removesuffix(".evidence")
    return evidence.parent.name, int(stem) if stem.isdigit() else None


def _no_evidence(evidence: Path) -> str:
    there = sorted(path.name for path in evidence.parent.glob("*.evidence"))
    known = ", ".join(there) if there else "none"
    return f"{evidence}: no evidence of this release; {evidence.parent} has: {known}"
