"""One release, seen from the terminal's side: checks, a worker process, its progress, its end."""

from __future__ import annotations

import dataclasses
import glob
import json
import pathlib
from datetime import datetime, timezone
from typing import Any, Optional, Protocol

from tfx_encore.metadata.files import digest_of
from tfx_encore.metadata.releases import ReleaseDirectory
from tfx_encore.pipeline import data_schema
from tfx_encore.pipeline.config import ProjectConfig, check_features, features_used
from tfx_encore.pipeline.inputs import module_digest, provenance, resolve_module
from tfx_encore.pipeline.plan import ReleaseInputs, ReleasePlan, RunResult, StepResult
from tfx_encore.pipeline.spans import Span, read_span
from tfx_encore.pipeline.worker_process import run_worker
from tfx_encore.pipeline.workspace import Workspace
from tfx_encore.schemas.errors import DataError
from tfx_encore.schemas.serial import from_json, to_json


class Progress(Protocol):
    """Whoever shows how a run goes."""

    def started(self, step: str, index: int, of: int) -> None:
        """A component has begun."""

    def ended(self, step: StepResult) -> None:
        """A component has ended."""


@dataclasses.dataclass(frozen=True)
class Project:
    """A project file with what follows from it.

    Attributes:
        config: its validated content.
        file: where it was read from.
        workspace: where the project keeps what it makes.
    """

    config: ProjectConfig
    file: pathlib.Path
    workspace: Workspace

    @property
    def releases(self) -> ReleaseDirectory:
        """The release directory of the project's model."""
        return ReleaseDirectory(self.workspace.releases, self.config.model)

    @property
    def schema_file(self) -> pathlib.Path:
        """The curated data schema."""
        return self.workspace.project / self.config.data.schema_file

    def feature_names(self) -> tuple[str, ...]:
        """The features of the schema."""
        return tuple(data_schema.read_columns(self.schema_file))


def run_release(project: Project, span: int, progress: Progress, *, force: bool) -> RunResult:
    """Runs the release pipeline on a span, unless exactly this was released before.

    Args:
        project: the project.
        span: the number of the span.
        progress: told of each component.
        force: run even if nothing has changed; TFX's cache still answers what it can.

    Raises:
        DataError: the span's data or the schema cannot be used.
        StepFailedError: a component failed; names it, its cause and the log.
        WorkspaceBusyError: another run is under way.
    """
    with project.workspace.locked():
        plan, data = _plan(project, span)
        if not force:
            before = _released_before(project, plan)
            if before is not None:
                return _unchanged(project, plan, data, before)
        return _run_worker(project, plan, progress)


def _plan(project: Project, number: int) -> tuple[ReleasePlan, Span]:
    """Checks everything that can be checked before TFX is loaded."""
    config, workspace = project.config, project.workspace
    schema_file = project.schema_file
    columns = data_schema.read_columns(schema_file)
    check_features(features_used(config), columns, str(project.file))
    module, module_folder, source = resolve_module(config.training.module, workspace.project)
    data = read_span(config.data.spans, workspace.project, number, columns)
    run_id = f"{datetime.now(timezone.utc):%Y%m%dT%H%M%S%f}-span{number}"
    code = module_digest(source)
    inputs = ReleaseInputs(
        data_folder=str(data.folder),
        data_pattern=pathlib.PurePath(config.data.spans).name.replace("{SPAN}", str(number)),
        schema_path=str(data_schema.content_addressed(schema_file, workspace.inputs)),
        module=module,
        module_digest=code,
        releases=str(workspace.releases),
        provenance=provenance(config, data, digest_of(schema_file), code, run_id),
        request_log=_request_log(project),
    )
    plan = ReleasePlan(
        config=config.model_dump_json(by_alias=True),
        config_file=str(project.file.resolve()),
        run_id=run_id,
        module_folder=module_folder,
        artifacts=str(workspace.artifacts),
        inputs=inputs,
    )
    return plan, data


def _request_log(project: Project) -> Optional[str]:
    """The absolute pattern of the request log, if one is configured and has files."""
    if project.config.data.request_log is None:
        return None
    pattern = str(project.workspace.project / project.config.data.request_log)
    if not glob.glob(pattern):  # noqa: PTH207 - the pattern may be absolute
        raise DataError(
            f"no request log at {pattern}; remove data.request_log to warm the cache from examples"
        )
    return pattern


def _released_before(project: Project, plan: ReleasePlan) -> Optional[int]:
    """The version that was pushed from exactly these inputs, if there is one."""
    releases = project.releases
    wanted = plan.inputs.provenance.inputs_digest
    for version in reversed(releases.history()):
        if releases.manifest(version).inputs_digest == wanted:
            return version
    return None


def _unchanged(project: Project, plan: ReleasePlan, data: Span, version: int) -> RunResult:
    manifest = project.releases.manifest(version)
    return RunResult(
        model=project.config.model,
        span=data.number,
        run_id=plan.run_id,
        state="unchanged",
        reason=f"version {version} was made from exactly these inputs; nothing to do "
        "(--force runs the pipeline all the same)",
        version=version,
        fingerprint=manifest.fingerprint,
        decisions=manifest.decisions,
        certificate=manifest.certificate,
    )


def _run_worker(project: Project, plan: ReleasePlan, progress: Progress) -> RunResult:
    """Starts the worker, passes its progress on, and returns its result."""

    def on_event(kind: str, event: dict[str, Any]) -> None:
        if kind == "started":
            progress.started(**event)
        elif kind == "ended":
            progress.ended(StepResult(**event))

    body, log = run_worker(
        "tfx_encore.pipeline.worker",
        to_json(plan, indent=2),
        plan.run_id,
        project.workspace.runs,
        on_event,
    )
    result = from_json(RunResult, json.dumps(body), source="worker")
    return dataclasses.replace(result, log=log)


def save_result(project: Project, result: RunResult) -> None:
    """Writes what a run did where `find_run` looks for it."""
    file = project.workspace.runs / f"{result.run_id}.json"
    file.write_text(to_json(result, indent=2), encoding="utf-8")
