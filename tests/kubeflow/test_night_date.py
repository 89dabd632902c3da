"""Which day a run of the nightly pipeline evaluates."""

from __future__ import annotations

import datetime as dt

import pytest

from tfx_encore.kubeflow.planning.night_date import Asked, asked
from tfx_encore.schemas.errors import ConfigError

CLOCK = dt.datetime(2026, 11, 30, 3, 0, tzinfo=dt.timezone.utc)
UNKNOWN = "{{$.pipeline_job_schedule_time_utc}}"


@pytest.mark.parametrize(
    ("date", "scheduled", "day"),
    [
        ("2016-01-12", UNKNOWN, "2016-01-12"),
        ("yesterday", UNKNOWN, "2026-11-29"),
        ("yesterday", "2026-11-28T03:00:00Z", "2026-11-27"),
        ("open", UNKNOWN, None),
        ("", UNKNOWN, None),
        ("20261127030000", UNKNOWN, "2026-11-26"),
        ("2026-11-27T00:30:00+02:00", UNKNOWN, "2026-11-25"),
        ("2026-11-01T03:00:00Z", UNKNOWN, "2026-10-31"),
    ],
)
def test_the_day_is_the_one_that_was_asked_for(date: str, scheduled: str, day: str | None) -> None:
    assert asked(date, scheduled, CLOCK).day == day


@pytest.mark.parametrize(
    ("scheduled", "today"),
    [
        (UNKNOWN, "2026-11-30"),
        ("", "2026-11-30"),
        ("1970-01-01T00:00:00Z", "2026-11-30"),
        ("2026-11-20T03:00:00Z", "2026-11-20"),
    ],
)
def test_the_runs_own_time_counts_where_the_backend_tells_it(scheduled: str, today: str) -> None:
    assert asked("open", scheduled, CLOCK) == Asked(today, None)


@pytest.mark.parametrize(
    ("date", "message"),
    [
        ("[[ScheduledTime]]", "left '\\[\\[ScheduledTime\\]\\]' as it was"),
        ("{{$.scheduledTime.strftime('%Y')}}", "left"),
        ("2026-12-01", "has not come yet"),
        ("2026-02-30", "is no day"),
        ("tomorrow", "is no day"),
    ],
)
def test_what_is_no_day_is_refused_with_the_way_out(date: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        asked(date, UNKNOWN, CLOCK)
