"""What one run of the release pipeline is given, and what it gives back. No IO here."""

from __future__ import annotations

from dataclasses import field
from typing import Literal, Optional

from pydantic.dataclasses import dataclass

from tfx_encore.schemas.charts import Coverage
from tfx_encore.schemas.decisions import Decision
from tfx_encore.schemas.records import InvalidationRecord
from tfx_encore.schemas.release import Certificate, Provenance


@dataclass(frozen=True)
class ReleaseInputs:
    """What the release pipeline reads besides the configuration.

    Attributes:
        data_folder: folder with the span's CSV files.
        data_pattern: pattern of the files within it.
        schema_path: the curated schema, under a name that changes with its content.
        module: importable module with preprocessing_fn and run_fn.
        module_digest: digest of its source, so that TFX's cache notices an edit.
        releases: root of the release directory.
        provenance: what the manifest will say of the run.
        request_log: pattern of PredictionLog files to warm the cache with, if there are any.
    """

    data_folder: str
    data_pattern: str
    schema_path: str
    module: str
    module_digest: str
    releases: str
    provenance: Provenance
    request_log: Optional[str] = None


@dataclass(frozen=True)
class ReleasePlan:
    """Everything a worker process needs to run the release pipeline.

    Attributes:
        config: the project configuration as JSON (already validated).
        config_file: where it was read from.
        run_id: unique name of the run, as `20261120T185046-span2`.
        module_folder: folder to put on the import path for the user's module, or "".
        artifacts: TFX's pipeline root.
        inputs: what the pipeline reads.
    """

    config: str
    config_file: str
    run_id: str
    module_folder: str
    artifacts: str
    inputs: ReleaseInputs


@dataclass(frozen=True)
class StepResult:
    """How one component went.

    Attributes:
        name: the component's id.
        state: `ran`, `cached` (answered by TFX's cache), `failed` or `skipped`.
        seconds: wall time.
    """

    name: str
    state: Literal["ran", "cached", "failed", "skipped"]
    seconds: float


@dataclass(frozen=True)
class RunResult:
    """How one run of the release pipeline went.

    Attributes:
        model: the model's name.
        span: the span of data it was made from.
        run_id: the run's unique name.
        state: `pushed`, `already_pushed` (equal content), `unchanged` (nothing was run),
            `refused` (a gate said BLOCK) or `failed`.
        reason: one line for a person.
        version: the version pushed, or the one that already holds this content.
        fingerprint: of the model, if one was made.
        decisions: what each gate decided.
        certificate: what may be cached.
        coverage: what the cache snapshot will be worth.
        records: invalidation records written.
        anomalies: what ExampleValidator found, one line each.
        steps: components in order.
        seconds: wall time in all.
        peak_memory_mb: highest resident memory of the worker, MiB.
        evidence: name of a report -> folder that holds it.
        log: path of the full log.
        report: path of the HTML report.
    """

    model: str
    span: int
    run_id: str
    state: Literal["pushed", "already_pushed", "unchanged", "refused", "failed"]
    reason: str
    version: Optional[int] = None
    fingerprint: Optional[str] = None
    decisions: tuple[Decision, ...] = ()
    certificate: Optional[Certificate] = None
    coverage: Optional[Coverage] = None
    records: tuple[InvalidationRecord, ...] = ()
    anomalies: tuple[str, ...] = ()
    steps: tuple[StepResult, ...] = ()
    seconds: float = 0.0
    peak_memory_mb: float = 0.0
    evidence: dict[str, str] = field(default_factory=dict)
    log: Optional[str] = None
    report: Optional[str] = None
