"""What the address of a page says: dates, ranges, choices; and addresses made again. No IO here."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


class AddressError(Exception):
    """An address that means nothing here.

    Attributes:
        status: 400 if it cannot be understood, 404 if what it names is not there.
        exists: (words, address) of what is there instead.
    """

    def __init__(
        self, message: str, status: int = 404, exists: Sequence[tuple[str, str]] = ()
    ) -> None:
        super().__init__(message)
        self.status = status
        self.exists = tuple(exists)


@dataclass(frozen=True)
class Range:
    """Days from `first` to `last`, both included."""

    first: str
    last: str

    @property
    def days(self) -> int:
        """How many."""
        return (_day(self.last) - _day(self.first)).days + 1

    def moved(self, periods: int) -> Range:
        """As many days, earlier by so many periods (later if negative)."""
        by = dt.timedelta(days=self.days * periods)
        return Range((_day(self.first) - by).isoformat(), (_day(self.last) - by).isoformat())


def is_date(text: str) -> bool:
    """True for a day that exists, as `2016-01-12`."""
    if not _DATE.fullmatch(text):
        return False
    try:
        dt.date.fromisoformat(text)
    except ValueError:
        return False
    return True


def range_of(query: Mapping[str, str], dates: Sequence[str], days: int) -> Range:
    """The range that `from` and `to` name; by default the last `days` days that have nights.

    Raises:
        AddressError: one of them is no date, or they are the wrong way round.
    """
    for name in ("from", "to"):
        if query.get(name) and not is_date(query[name]):
            raise AddressError(
                f"{name}={query[name][:40]} is no date; write it as {name}=2016-01-12", 400
            )
    last = query.get("to") or (dates[-1] if dates else "1970-01-01")
    back = (_day(last) - dt.timedelta(days=days - 1)).isoformat() if last > "0002" else last
    first = query.get("from") or min(last, max(back, dates[0] if dates else back))
    if first > last:
        raise AddressError(f"from={first} is after to={last}; exchange them", 400)
    if (_day(last) - _day(first)).days > MOST_DAYS:
        raise AddressError(
            f"{first} to {last} is more than {MOST_DAYS:,} days; ask for fewer at once", 400
        )
    return Range(first, last)


MOST_DAYS = 3660


def link(path: str, **query: str | int | None) -> str:
    """An address: `path` with those of `query` that are not None or empty.

    A trailing underscore of a name is dropped, so that `from_` can be given.
    """
    given = {name.rstrip("_"): str(v) for name, v in query.items() if v is not None and v != ""}
    return f"{path}?{urlencode(given)}" if given else path


def long_date(date: str) -> str:
    """A day as `Tue 12 Jan 2016`."""
    return _day(date).strftime("%a %-d %b %Y")


def short_date(date: str) -> str:
    """A day as `12 Jan`."""
    return _day(date).strftime("%-d %b")


def weekday(date: str) -> int:
    """0 for Monday."""
    return _day(date).weekday()


def _day(date: str) -> dt.date:
    return dt.date.fromisoformat(date)
