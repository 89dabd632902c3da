"""The first page: what is live, how the last nights went, what needs a person. No IO here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tfx_encore.pipeline.ui.address import link
from tfx_encore.pipeline.ui.calendar_view import (
    DAMAGED,
    Day,
    day_of,
    missed_dates,
    missed_day,
)
from tfx_encore.pipeline.ui.found import Damaged, Night, Records, Release, Releases
from tfx_encore.pipeline.ui.night_view import Alarm, action_of, alarms_of
from tfx_encore.pipeline.ui.records_view import records_view
from tfx_encore.schemas.decisions import Outcome
from tfx_encore.schemas.nights import NightRecord, day_before, days_between

DAYS = 14
MOST_MISSED = 5


@dataclass(frozen=True)
class Task:
    """Something that needs a person.

    Attributes:
        tone: `block` or `warn`.
        title: what.
        reason: why, in a line.
        command: what to type; "" if it is not that simple.
        address: where to read on; "" if nowhere.
    """

    tone: str
    title: str
    reason: str
    command: str = ""
    address: str = ""


@dataclass(frozen=True)
class Overview:
    """The first page.

    Attributes:
        model: the model's name.
        label: what a push makes live.
        live: the version that is live; None if none is.
        labels: other labels and their versions.
        problem: why the releases cannot be read; "" if they can.
        last: the last night, if it can be read.
        days: the last days, ascending, missed ones included.
        alarms: of the last night.
        tasks: what needs a person, most urgent first.
        hit_rates: of the last days that have one, ascending: (date, rate).
    """

    model: str
    label: str
    live: Release | None
    labels: tuple[tuple[str, int], ...]
    problem: str
    last: NightRecord | None
    days: tuple[Day, ...]
    alarms: tuple[Alarm, ...]
    tasks: tuple[Task, ...]
    hit_rates: tuple[tuple[str, float], ...]

    @property
    def hit_rate(self) -> float | None:
        """Of the last night that has one."""
        return self.hit_rates[-1][1] if self.hit_rates else None


def overview(
    model: str,
    label: str,
    *,
    releases: Releases,
    nights: Sequence[Night],
    dates: Sequence[str],
    records: Records,
    today: str,
) -> Overview:
    """The first page.

    Args:
        model: the model's name.
        label: what a push makes live.
        releases: all versions.
        nights: the last nights, ascending.
        dates: all nights that there are, ascending.
        records: invalidation records and acknowledgements.
        today: the day (UTC) on which the page is read.
    """
    readable = [night for night in nights if isinstance(night, NightRecord)]
    last = nights[-1] if nights else None
    record = last if isinstance(last, NightRecord) else None
    rates = [(n.date, n.log.hit_rate) for n in readable if n.log.hit_rate is not None]
    others = {(name, r.version) for r in releases.found for name in r.labels if name != label}
    return Overview(
        model=model,
        label=label,
        live=releases.live(label),
        labels=tuple(sorted(others)),
        problem=releases.problem,
        last=record,
        days=last_days(nights, dates),
        alarms=alarms_of(record) if record else (),
        tasks=_urgent_first(
            *_release_tasks(releases),
            *_night_tasks(nights, label),
            *_missed_tasks(dates, today),
            *_record_tasks(records),
        ),
        hit_rates=tuple(rates),
    )


def window(dates: Sequence[str]) -> tuple[str, ...]:
    """The days that the first page shows, ascending."""
    if not dates:
        return ()
    return days_between(max(dates[0], day_before(dates[-1], DAYS - 1)), dates[-1])


def last_days(nights: Sequence[Night], dates: Sequence[str]) -> tuple[Day, ...]:
    """The last days, those without a night included."""
    there = {night.date: day_of(night) for night in nights}
    return tuple(there.get(date) or missed_day(date) for date in window(dates))


def _urgent_first(*tasks: Task) -> tuple[Task, ...]:
    return tuple(sorted(tasks, key=lambda task: task.tone != "block"))


def _release_tasks(releases: Releases) -> list[Task]:
    found = [
        Task("block", f"Version {item.version} is damaged", item.problem,
             address=link(f"/releases/{item.version}"))
        for item in releases.found if item.problem
    ]  # fmt: skip
    if releases.problem:
        found.append(
            Task("block", "The releases cannot be read", releases.problem, "encore doctor")
        )
    return found


def _night_tasks(nights: Sequence[Night], label: str) -> list[Task]:
    found = [
        Task("block", f"The night {day.date} cannot be read", day.reason, address=day.address)
        for day in map(day_of, nights)
        if day.state == DAMAGED
    ]
    last = nights[-1] if nights else None
    if last is None or isinstance(last, Damaged):
        return found
    tone = "block" if last.outcome is Outcome.BLOCK else "warn"
    address = link(f"/nights/{last.date}")
    for action in last.actions:
        if action.kind == "nothing" or action.state == "done":
            continue
        said = action_of(action, last.date, label)
        reason = f"{action.reason} Failed: {action.result}" if action.result else action.reason
        found.append(Task(tone, said.title, reason, said.command, address))
    return found


def _missed_tasks(dates: Sequence[str], today: str) -> list[Task]:
    """Nights that are missing between nights, and nights since the last one."""
    if not dates:
        return []
    found = []
    missed = missed_dates(dates)
    if missed:
        one = len(missed) == 1
        title = "1 night is missing" if one else f"{len(missed):,} nights are missing"
        which = ", ".join(missed[-MOST_MISSED:]) + (", and more" if missed[MOST_MISSED:] else "")
        span = f"--date {missed[0]}" if one else f"--from {missed[0]} --to {missed[-1]}"
        found.append(Task("warn", title, which, f"encore nightly {span}", "/nights"))
    since = len(days_between(dates[-1], today)) - 2
    if since > 0:
        command = f"encore nightly --from {day_before(dates[-1], -1)} --to {day_before(today)}"
        reason = f"The last night is {dates[-1]}, {since:,} day{'' if since == 1 else 's'} missing."
        found.append(Task("warn", "Nights have stopped", reason, command, "/nights"))
    return found


def _record_tasks(records: Records) -> list[Task]:
    late = [c for c in records_view(records).consumers if c.behind]
    return [
        Task(
            "warn",
            f"{consumer.name} is {consumer.behind:,} record{'s' * (consumer.behind > 1)} behind",
            f"It last applied record {consumer.sequence}; if it has ended, nothing is wrong.",
            address="/records",
        )
        for consumer in late
    ]
