"""What of nights is kept no longer: raw logs, artifacts, statistics. Enforced after each run."""

from __future__ import annotations

import contextlib
import datetime as dt
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from tfx_encore.components.request_log_example_gen.sources import by_own_time, find_log_files
from tfx_encore.metadata.night_store import NightStore
from tfx_encore.pipeline.night_days import logged_days
from tfx_encore.pipeline.run import Project
from tfx_encore.schemas.nights import day_before


def enforce(project: Project, store: NightStore, today: str) -> tuple[str, ...]:
    """Removes what is too old; returns what was removed, one line each.

    The log of a day that has no record is never removed. Where the log's pattern does not name the
    day, a file may hold several, and no log is removed.
    """
    return (
        *_remove_logs(project, store, today),
        *_remove_artifacts(project, today),
        *_remove_nights(project, store, today),
    )


def is_over(day: str, keep_days: int, today: str) -> bool:
    """True for a day that ended more than `keep_days` days ago."""
    return day < day_before(today, keep_days)


def _remove_logs(project: Project, store: NightStore, today: str) -> Iterator[str]:
    nightly = project.config.nightly
    keep = nightly.retention.log_days
    if not keep or by_own_time(nightly.log):
        return
    folder = project.workspace.project / nightly.request_log
    if not folder.is_dir():
        return
    for day in logged_days(project):
        if is_over(day, keep, today) and store.has(day):
            files = find_log_files(folder, nightly.log, project.config.model, day)
            size = sum(file.stat().st_size for file in files)
            _remove_files(files)
            if files:
                yield f"request log of {day}: {_files(len(files))}, {size / 2**20:,.1f} MiB"


def _remove_files(files: Iterable[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)
        # The folder of the day, if nothing else is in it.
        with contextlib.suppress(OSError):
            file.parent.rmdir()


def _remove_artifacts(project: Project, today: str) -> Iterator[str]:
    """Examples and artifacts of nights, by when they were made: a day may be evaluated late."""
    root = project.workspace.night_artifacts
    keep = project.config.nightly.retention.evidence_days
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        made = dt.datetime.fromtimestamp(folder.stat().st_mtime, dt.timezone.utc).date().isoformat()
        if _is_day(folder.name) and is_over(made, keep, today):
            shutil.rmtree(folder)
            yield f"artifacts of {folder.name}"


def _remove_nights(project: Project, store: NightStore, today: str) -> Iterator[str]:
    keep = project.config.nightly.retention.statistics_days
    old = [day for day in store.dates() if keep and is_over(day, keep, today)]
    if not old:
        return
    with store.writing():
        for day in old:
            store.remove(day)
            yield f"night {day}"


def _files(count: int) -> str:
    return f"{count:,} file{'' if count == 1 else 's'}"


def _is_day(text: str) -> bool:
    try:
        dt.date.fromisoformat(text)
    except ValueError:
        return False
    return True
