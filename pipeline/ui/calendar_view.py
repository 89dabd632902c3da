"""Nights as a calendar: a grid for each month, and the same days as a list. No IO here."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tfx_encore.pipeline.report import words
from tfx_encore.pipeline.ui.address import Range, link, long_date, weekday
from tfx_encore.pipeline.ui.found import Damaged, Night
from tfx_encore.schemas.decisions import Outcome
from tfx_encore.schemas.nights import NightRecord, days_between

MISSED = "missed"
DAMAGED = "damaged"
_MARKS = {MISSED: "?", DAMAGED: "⚠"}
_WORDS = {MISSED: "no night", DAMAGED: "cannot be read"}


@dataclass(frozen=True)
class Day:
    """One day of the calendar.

    Attributes:
        date: as `2016-01-12`.
        number: of the day in its month.
        state: an outcome in lower case, `missed` or `damaged`: the class to colour it by.
        mark: one character that says the same.
        words: the same in words.
        reason: what decided.
        rows: rows of traffic; None if unknown.
        alarms: how many there were.
        version: that answered most rows; None if unknown.
        actions: kinds of what was proposed, without `nothing`.
        address: of the night; "" if there is none.
    """

    date: str
    number: int
    state: str
    mark: str
    words: str
    reason: str
    rows: int | None = None
    alarms: int = 0
    version: int | None = None
    actions: tuple[str, ...] = ()
    address: str = ""

    @property
    def notable(self) -> bool:
        """True if there is something to say of it."""
        return self.state != Outcome.OK.value.lower()

    @property
    def spoken(self) -> str:
        """What it says to who hears it."""
        alarms = f", {self.alarms} alarm{'' if self.alarms == 1 else 's'}" if self.alarms else ""
        return f"{long_date(self.date)}: {self.words}{alarms}"


@dataclass(frozen=True)
class Month:
    """A month as weeks from Monday to Sunday; None where the range or the month has no day."""

    name: str
    key: str
    weeks: tuple[tuple[Day | None, ...], ...]


@dataclass(frozen=True)
class CalendarView:
    """The nights of a range.

    Attributes:
        range: the days.
        months: ascending.
        days: all days of the range newest first, without those before the first night.
        tally: (state, mark, words, how many), the worst first.
        earlier: address of the range before, if there are nights in or before it.
        later: address of the range after, likewise.
        first: the first night that there is; None if there is none.
        last: the last.
    """

    range: Range
    months: tuple[Month, ...]
    days: tuple[Day, ...]
    tally: tuple[tuple[str, str, str, int], ...]
    earlier: str
    later: str
    first: str | None
    last: str | None


def day_of(night: Night) -> Day:
    """What a night looks like from afar."""
    number = int(night.date[8:])
    address = link(f"/nights/{night.date}")
    if isinstance(night, Damaged):
        return Day(
            night.date, number, DAMAGED, _MARKS[DAMAGED], _WORDS[DAMAGED], night.message,
            address=address,
        )  # fmt: skip
    return Day(
        date=night.date,
        number=number,
        state=night.outcome.value.lower(),
        mark=words.MARKS[night.outcome],
        words=words.OUTCOMES[night.outcome],
        reason=night.reason,
        rows=night.log.rows,
        alarms=len(night.alarms),
        version=night.version,
        actions=tuple(a.kind for a in night.actions if a.kind != "nothing"),
        address=address,
    )


def missed_day(date: str) -> Day:
    """A day between nights that has none."""
    reason = f"`encore nightly --date {date}` evaluates it"
    return Day(date, int(date[8:]), MISSED, _MARKS[MISSED], _WORDS[MISSED], reason)


def missed_dates(dates: Sequence[str], last: str | None = None) -> tuple[str, ...]:
    """Days between the first night and `last` (the last night, if not given) that have none."""
    if not dates:
        return ()
    there = set(dates)
    return tuple(d for d in days_between(dates[0], last or dates[-1]) if d not in there)


def calendar(nights: Iterable[Night], dates: Sequence[str], shown: Range) -> CalendarView:
    """The nights of a range.

    Args:
        nights: those of the range.
        dates: all nights that there are, ascending.
        shown: the range.
    """
    days = {night.date: day_of(night) for night in nights}
    for date in missed_dates(dates):
        if shown.first <= date <= shown.last:
            days[date] = missed_day(date)
    before, after = shown.moved(1), shown.moved(-1)
    return CalendarView(
        range=shown,
        months=_months(days, shown),
        days=tuple(days[date] for date in sorted(days, reverse=True)),
        tally=_tally(days.values()),
        earlier=_nights(before) if dates and dates[0] < shown.first else "",
        later=_nights(after) if dates and dates[-1] > shown.last else "",
        first=dates[0] if dates else None,
        last=dates[-1] if dates else None,
    )


def _nights(shown: Range) -> str:
    return link("/nights", from_=shown.first, to=shown.last)


_ORDER = ("block", "warn", DAMAGED, MISSED, "insufficient_data", "ok")


def _tally(days: Iterable[Day]) -> tuple[tuple[str, str, str, int], ...]:
    found = list(days)
    counted = Counter(day.state for day in found)
    said = {day.state: (day.mark, day.words) for day in found}
    return tuple((s, *said[s], counted[s]) for s in _ORDER if counted[s])


def _months(days: dict[str, Day], shown: Range) -> tuple[Month, ...]:
    """The months that hold a day to show, each whole."""
    keys = sorted({date[:7] for date in days})
    if not keys:
        return ()
    return tuple(_month(key, days) for key in _keys(keys[0], min(keys[-1], shown.last[:7])))


def _keys(first: str, last: str) -> list[str]:
    year, month = int(first[:4]), int(first[5:])
    keys = [first]
    while keys[-1] < last:
        year, month = (year, month + 1) if month < 12 else (year + 1, 1)
        keys.append(f"{year:04d}-{month:02d}")
    return keys


def _month(key: str, days: dict[str, Day]) -> Month:
    start = dt.date.fromisoformat(f"{key}-01")
    end = (start.replace(day=28) + dt.timedelta(days=4)).replace(day=1) - dt.timedelta(days=1)
    all_days = days_between(start.isoformat(), end.isoformat())
    cells: list[Day | None] = [None] * weekday(all_days[0])
    cells += [days.get(d) or Day(d, int(d[8:]), "", "", "", "") for d in all_days]
    cells += [None] * (-len(cells) % 7)
    weeks = tuple(tuple(cells[i : i + 7]) for i in range(0, len(cells), 7))
    return Month(start.strftime("%B %Y"), key, weeks)


def records_of(nights: Iterable[Night]) -> tuple[NightRecord, ...]:
    """The nights that can be read."""
    return tuple(night for night in nights if isinstance(night, NightRecord))
