"""What `encore doctor` looks at inside a project."""

from __future__ import annotations

import pathlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import quote

from tfx_encore.metadata.releases import ReleaseDirectory
from tfx_encore.pipeline.config import ProjectConfig, check_features, features_used, load_config
from tfx_encore.pipeline.data_schema import read_columns
from tfx_encore.pipeline.doctor import Check, disk_check, guarded
from tfx_encore.pipeline.inputs import resolve_module
from tfx_encore.pipeline.mlmd import connection
from tfx_encore.pipeline.night_days import logged_days
from tfx_encore.pipeline.quiet import hush
from tfx_encore.pipeline.run import Project
from tfx_encore.pipeline.spans import available_spans
from tfx_encore.pipeline.workspace import Workspace
from tfx_encore.schemas.errors import EncoreError, LedgerError

_SHOWN = 8  # spans that are named


def project_checks(config_file: pathlib.Path) -> Iterator[Check]:
    """The project file, what it names, its workspace, its metadata and its releases."""
    try:
        config = load_config(config_file)
    except EncoreError as error:
        yield Check("project", "configuration", "problem", str(error), "mend the file")
        return
    workspace = Workspace.of(config, config_file)
    yield Check("project", "configuration", "ok", f"{config_file}, model {config.model}")
    yield guarded("schema", lambda: _schema(config, config_file, workspace.project))
    yield guarded(
        "module", lambda: str(resolve_module(config.training.module, workspace.project)[2])
    )
    yield _spans(config, workspace.project)
    yield _request_log(config, config_file, workspace)
    yield disk_check(workspace.root)
    yield guarded("metadata", lambda: _metadata(config, workspace))
    yield from _releases(config, workspace)


def _schema(config: ProjectConfig, config_file: pathlib.Path, project: pathlib.Path) -> str:
    columns = read_columns(project / config.data.schema_file)
    check_features(features_used(config), columns, str(config_file))
    return f"{config.data.schema_file}, {len(columns)} features"


def _spans(config: ProjectConfig, project: pathlib.Path) -> Check:
    found = available_spans(config.data.spans, project)
    if not found:
        advice = "put CSV files there; `make run` does so for the taxi example"
        nothing = f"no file matches {config.data.spans}"
        return Check("project", "data", "missing", nothing, advice, required=False)
    shown = ", ".join(map(str, found[-_SHOWN:]))
    last = f"the last {_SHOWN}: " if len(found) > _SHOWN else ""
    return Check("project", "data", "ok", f"{len(found)} span(s) ({last}{shown})")


def _request_log(config: ProjectConfig, config_file: pathlib.Path, workspace: Workspace) -> Check:
    """The folder that nights are read from."""
    folder = workspace.project / config.nightly.request_log
    try:
        days = logged_days(Project(config=config, file=config_file, workspace=workspace))
    except EncoreError:
        found = f"{folder}: not there yet; `encore serve --request_log_dir` makes it"
        return Check("project", "request log", "ok", found)
    shown = f"{len(days)} day(s), {days[0]} to {days[-1]}" if days else "no day is logged"
    return Check("project", "request log", "ok", f"{folder}: {shown}")


def _metadata(config: ProjectConfig, workspace: Workspace) -> str:
    """Opens the store without making one."""
    if config.metadata.journal:
        return f"the release journal below {workspace.releases} is the ledger"
    hush()
    from tfx_encore.metadata.mlmd_store import MlmdStore, sqlite_path

    store = MlmdStore(connection(config, workspace))
    try:
        with store.reading() as opened:
            if opened is None:
                return f"{store.name}: nothing recorded yet; the first run makes it"
        path = sqlite_path(store.config)
        version = f", schema version {_schema_version(path)}" if path else ""
        return f"{store.name}: opens{version}"
    finally:
        store.close()


def _schema_version(path: pathlib.Path) -> int:
    """The version of ML Metadata's tables."""
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as store:
            return int(store.execute("SELECT schema_version FROM MLMDEnv").fetchone()[0])
    except (sqlite3.Error, TypeError, ValueError) as error:
        raise LedgerError(f"{path}: no schema version can be read: {error}") from error


def _releases(config: ProjectConfig, workspace: Workspace) -> Iterator[Check]:
    try:
        releases = ReleaseDirectory(workspace.releases, config.model)
        wrong = releases.verify()
        versions, labels = ([], {}) if wrong else (releases.versions(), releases.labels())
    except EncoreError as error:
        wrong = [str(error)]
    for problem in wrong:
        yield Check(
            "project", "releases", "problem", problem, "nothing is pushed until it is sound"
        )
    if wrong:
        return
    shown = ", ".join(f"{label} -> {version}" for label, version in sorted(labels.items()))
    found = f"{releases.path}: {len(versions)} version(s) sound; {shown or 'no label'}"
    yield Check("project", "releases", "ok", found if versions else f"{releases.path}: none yet")
