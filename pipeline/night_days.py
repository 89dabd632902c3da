"""Which days are looked at: those asked for, or those that cron's run finds open."""

from __future__ import annotations

import datetime as dt
import glob
import re
from collections.abc import Iterable

from tfx_encore.components.request_log_example_gen.sources import (
    DATE,
    MODEL,
    find_log_files,
    model_folder,
)
from tfx_encore.pipeline.run import Project
from tfx_encore.schemas.errors import DataError
from tfx_encore.schemas.nights import day_before, days_between

_DAY = r"\d{4}-\d{2}-\d{2}"


def today() -> str:
    """The present day, UTC."""
    return dt.datetime.now(dt.timezone.utc).date().isoformat()


def check_day(text: str, latest: str) -> str:
    """Returns a day as `2016-01-12`.

    Raises:
        DataError: it is no day, or lies after `latest`.
    """
    try:
        day = dt.date.fromisoformat(text).isoformat()
    except ValueError as error:
        raise DataError(f"{text!r} is no day; write it as 2016-01-12") from error
    if day > latest:
        raise DataError(f"{day} has not come yet (today is {latest}, UTC)")
    return day


def logged_days(project: Project) -> tuple[str, ...]:
    """The days that have request log files, ascending; () if the pattern does not name the day.

    Raises:
        DataError: the folder of the request log does not exist.
    """
    nightly, model = project.config.nightly, project.config.model
    folder = project.workspace.project / nightly.request_log
    find_log_files(folder, nightly.log, model, "1970-01-01")
    if DATE not in nightly.log.files:
        return ()
    pattern = nightly.log.files.replace(MODEL, glob.escape(model_folder(model)))
    wanted = f"{glob.escape(str(folder))}/{pattern.replace(DATE, '*')}"
    found = glob.glob(wanted, recursive=True)  # noqa: PTH207 - the pattern may be absolute
    exact = _translated(pattern)
    matches = (exact.search(path) for path in found)
    return tuple(sorted({match["day"] for match in matches if match and _is_day(match["day"])}))


def open_days(project: Project, recorded: Iterable[str], now: str) -> tuple[str, ...]:
    """The days that a run without dates looks at.

    Yesterday; every day since the log began, or since the first night, that has no record and whose
    log was to be kept till now; and the days whose labels are still waited for.

    Args:
        project: the project.
        recorded: days that have a record.
        now: the present day.

    Raises:
        DataError: the folder of the request log does not exist, or nothing was ever logged.
    """
    recorded, logged = set(recorded), logged_days(project)
    yesterday = day_before(now)
    known = sorted({*recorded, *logged})
    if not known and DATE in project.config.nightly.log.files:
        raise nothing_logged(project)
    first = max([_earliest(project, now), *known[:1]])
    missing = {day for day in days_between(first, yesterday) if day not in recorded}
    waiting = {day for day in logged if _waits_from(project, now) <= day <= yesterday}
    return tuple(sorted({yesterday, *missing, *waiting}))


def nothing_logged(project: Project, days: tuple[str, ...] = ()) -> DataError:
    """The error that a range without any log is."""
    nightly = project.config.nightly
    pattern = nightly.log.files.replace(MODEL, project.config.model)
    when = f" from {days[0]} to {days[-1]}" if len(days) > 1 else f" on {days[0]}" if days else ""
    return DataError(
        f"no requests of {project.config.model} are logged{when} in "
        f"{project.workspace.project / nightly.request_log} ({pattern}); serve with "
        "`encore serve --request_log_dir`, or correct `nightly.request_log` and "
        "`nightly.log.files`"
    )


def _earliest(project: Project, now: str) -> str:
    """The first day whose log was to be kept till now."""
    keep = project.config.nightly.retention.log_days
    return day_before(now, keep) if keep else "0001-01-01"


def _waits_from(project: Project, now: str) -> str:
    """The first day whose labels are still waited for."""
    labels = project.config.nightly.labels
    return day_before(now, labels.wait_days) if labels else now


def _translated(pattern: str) -> re.Pattern[str]:
    """A regular expression that finds the day in a path that the pattern matched."""
    before, _, _ = pattern.partition(DATE)
    lead = re.escape(before.rpartition("/")[2]).replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
    return re.compile(rf"(?:^|/){lead}(?P<day>{_DAY})(?!\d)")


def _is_day(text: str) -> bool:
    try:
        dt.date.fromisoformat(text)
    except ValueError:
        return False
    return True
