"""Which day a run of the nightly pipeline evaluates. No IO here.

A run evaluates one day. The parameter `date` says which:

- a day, as 2016-01-12;
- a time, as the backend fills in for `[[ScheduledTime]]`: the day before it;
- `yesterday`: the day before the run's own time;
- `open`: the newest day that nobody has evaluated yet (see `night_planner`).

The run's own time is the one that it was scheduled for, where the backend tells it; else the clock.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from tfx_encore.schemas.errors import ConfigError
from tfx_encore.schemas.nights import day_before

OPEN, YESTERDAY = "open", "yesterday"
_COMPACT = "%Y%m%d%H%M%S"  # what Kubeflow's [[ScheduledTime]] becomes
_FIRST_YEAR = 2000  # a backend that knows no time says 1970


@dataclass(frozen=True)
class Asked:
    """What a run was asked for.

    Attributes:
        today: the day (UTC) of the run.
        day: the day to evaluate; None for the newest open one.
    """

    today: str
    day: str | None


def asked(date: str, scheduled: str, clock: dt.datetime) -> Asked:
    """Reads the parameter `date`.

    Args:
        date: see above.
        scheduled: the time for which the run was scheduled, as RFC 3339; anything else where the
            backend does not tell.
        clock: the present time.

    Raises:
        ConfigError: `date` is none of these, or a macro that the backend left as it was.
    """
    today = (_time(scheduled) or clock).astimezone(dt.timezone.utc).date().isoformat()
    text = date.strip()
    if text in {"", OPEN}:
        return Asked(today, None)
    if text == YESTERDAY:
        return Asked(today, day_before(today))
    time = _time(text)
    if time is not None:
        return Asked(today, day_before(time.date().isoformat()))
    return Asked(today, _day(text, today))


def _day(text: str, today: str) -> str:
    if text.startswith(("[[", "{{")):
        raise ConfigError(
            f"the backend left {text!r} as it was; it fills in such macros from Kubeflow Pipelines "
            f"2.16 on. Give {OPEN!r}, {YESTERDAY!r} or a day instead",
            key="date",
        )
    try:
        day = dt.date.fromisoformat(text).isoformat()
    except ValueError as error:
        raise ConfigError(
            f"{text!r} is no day; write 2016-01-12, {OPEN!r} or {YESTERDAY!r}", key="date"
        ) from error
    if day > today:
        raise ConfigError(f"{day} has not come yet (today is {today}, UTC)", key="date")
    return day


def _time(text: str) -> dt.datetime | None:
    """A time in one of the two forms that the backend writes; None if it is neither."""
    try:
        time = dt.datetime.strptime(text, _COMPACT).replace(tzinfo=dt.timezone.utc)
    except ValueError:
        try:
            time = dt.datetime.fromisoformat(text.replace("Z", "+00:00"))
        except ValueError:
            return None
    if time.tzinfo is None or time.year < _FIRST_YEAR:
        return None
    return time.astimezone(dt.timezone.utc)
