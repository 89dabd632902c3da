"""Where the HTML report of a run or a version is, and writing it."""

from __future__ import annotations

import pathlib
from typing import Optional

from tfx_encore.pipeline.plan import RunResult
from tfx_encore.pipeline.report import build, data
from tfx_encore.pipeline.run import Project
from tfx_encore.schemas.clock import utc_now
from tfx_encore.schemas.serial import from_json


def write_report(project: Project, result: RunResult) -> pathlib.Path:
    """Writes the report of a run: of the version it pushed, or of why it pushed nothing."""
    if result.state == "pushed" and result.version is not None:
        return write_version_report(project, result.version, result)
    folders = {name: pathlib.Path(path) for name, path in result.evidence.items()}
    report = data.load_refused(
        result.model,
        drift_report=folders.get("drift_report"),
        slice_report=folders.get("slice_report"),
        coverage=folders.get("coverage"),
        certificate=result.certificate,
        outcome_line=result.reason,
        steps=result.steps,
        anomalies=result.anomalies,
        written_at=utc_now(),
    )
    return build.write(report, project.workspace.reports / f"{result.model}-{result.run_id}.html")


def write_version_report(
    project: Project, version: int, result: Optional[RunResult] = None
) -> pathlib.Path:
    """Writes the report of a pushed version.

    Args:
        project: the project.
        version: the version.
        result: the run that pushed it; looked up in the workspace if not given.

    Raises:
        VersionNotFoundError: no such version; names those that exist.
    """
    releases = project.releases
    manifest = releases.manifest(version)
    result = result or find_run(project, manifest.run_id)
    labels = sorted(name for name, at in releases.labels().items() if at == version)
    records = releases.records()
    report = data.load(
        releases.evidence_path(version),
        labels=labels,
        outcome_line=result.reason if result else None,
        records=[
            record for record in records if version in (record.version_before, record.version_after)
        ],
        steps=result.steps if result else (),
        anomalies=result.anomalies if result else (),
        written_at=utc_now(),
    )
    return build.write(report, project.workspace.reports / f"{manifest.model}-{version}.html")


def find_run(project: Project, run_id: Optional[str]) -> Optional[RunResult]:
    """What the workspace remembers of a run; None if it has never heard of it."""
    file = project.workspace.runs / f"{run_id}.json"
    if run_id is None or not file.exists():
        return None
    return from_json(RunResult, file.read_bytes(), source=str(file))
