"""Which page shows what: an address becomes a view, the same for people and for scripts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tfx_encore.pipeline.ui.address import AddressError, is_date, link, range_of
from tfx_encore.pipeline.ui.cache_view import CacheView, cache_view
from tfx_encore.pipeline.ui.calendar_view import CalendarView, calendar, records_of
from tfx_encore.pipeline.ui.daily_view import DailyView, daily_view
from tfx_encore.pipeline.ui.drift_view import DriftView, chosen_night, drift_view
from tfx_encore.pipeline.ui.found import Damaged, Release
from tfx_encore.pipeline.ui.live import ask_gateway
from tfx_encore.pipeline.ui.night_view import NightView, night_view
from tfx_encore.pipeline.ui.overview_view import Overview, overview, window
from tfx_encore.pipeline.ui.reading import Reader
from tfx_encore.pipeline.ui.records_view import RecordsView, records_view
from tfx_encore.pipeline.ui.releases_view import (
    ReleasesView,
    ReleaseView,
    release_view,
    releases_view,
)
from tfx_encore.pipeline.ui.slices_view import SlicesView, slices_view
from tfx_encore.schemas.nights import NightRecord

CALENDAR_DAYS = 92
COURSE_DAYS = 90


@dataclass(frozen=True)
class Asked:
    """What a page needs to know.

    Attributes:
        reader: the workspace.
        path: what the address says in its path, as `version` or `date`.
        query: what it says after the question mark.
        today: the day (UTC).
    """

    reader: Reader
    path: Mapping[str, str]
    query: Mapping[str, str]
    today: str


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
        path: its address, with `{version}` or `{date}`.
        template: the file that shows it.
        section: the entry of the navigation that it belongs to.
        view: makes what it shows.
    """

    path: str
    template: str
    section: str
    view: Callable[[Asked], Any]

    @property
    def api(self) -> str:
        """The address of the same as JSON."""
        return f"/api{self.path if self.path != '/' else '/overview'}.json"


def show_overview(asked: Asked) -> Overview:
    """What is live, how it goes, what needs a person."""
    reader = asked.reader
    dates = reader.nights.dates()
    return overview(
        reader.model,
        reader.label,
        releases=reader.releases(),
        nights=reader.nights.nights(window(dates)),
        dates=dates,
        records=reader.records(),
        today=asked.today,
    )


def show_releases(asked: Asked) -> ReleasesView:
    """All versions."""
    return releases_view(asked.reader.releases(), asked.reader.label)


def show_release(asked: Asked) -> ReleaseView:
    """One version."""
    release = find_release(asked)
    reader = asked.reader
    recent = reader.nights.nights(reader.nights.dates()[-366:])
    return release_view(
        release,
        reader.evidence(release),
        has_report=reader.report_file(release.version) is not None,
        nights=[night.date for night in records_of(recent) if night.version == release.version],
    )


def find_release(asked: Asked) -> Release:
    """The version that the address names.

    Raises:
        AddressError: it was never pushed; names those that were.
    """
    text = asked.path["version"]
    found = asked.reader.releases()
    release = found.of(int(text)) if text.isascii() and text.isdigit() and len(text) < 10 else None
    if release is None:
        there = [(f"version {r.version}", link(f"/releases/{r.version}")) for r in found.found]
        raise AddressError(f"There is no version {text[:40]}.", exists=there)
    return release


def show_nights(asked: Asked) -> CalendarView:
    """The calendar."""
    nights = asked.reader.nights
    dates = nights.dates()
    shown = range_of(asked.query, dates, CALENDAR_DAYS)
    return calendar(nights.between(shown.first, shown.last), dates, shown)


def show_night(asked: Asked) -> NightView | Damaged:
    """One night; what is wrong with it, if it is damaged."""
    night = _find_night(asked)
    if isinstance(night, Damaged):
        return night
    return night_view(night, asked.reader.nights.dates(), asked.reader.label)


def show_daily(asked: Asked) -> DailyView | Damaged:
    """What the cache saved on a day."""
    night = _find_night(asked)
    if isinstance(night, Damaged):
        return night
    return daily_view(night, asked.reader.nights.dates())


def _find_night(asked: Asked) -> NightRecord | Damaged:
    date = asked.path["date"]
    night = asked.reader.nights.night(date)
    if night is not None:
        return night
    if not is_date(date):
        raise AddressError(f"{date[:40]} is no date; write it as 2016-01-12.", 404, _some(asked))
    raise AddressError(
        f"There is no night {date}. `encore nightly --date {date}` evaluates it, if its log is "
        "still there.",
        exists=_some(asked),
    )


def _some(asked: Asked) -> list[tuple[str, str]]:
    """The last nights, as what exists."""
    dates = asked.reader.nights.dates()[-7:]
    return [("all nights", "/nights"), *((d, link(f"/nights/{d}")) for d in reversed(dates))]


def show_slices(asked: Asked) -> SlicesView:
    """A slice's metric over nights."""
    nights = asked.reader.nights
    shown = range_of(asked.query, nights.dates(), COURSE_DAYS)
    return slices_view(records_of(nights.between(shown.first, shown.last)), shown, asked.query)


def show_drift(asked: Asked) -> DriftView:
    """A feature's drift over nights."""
    nights = asked.reader.nights
    shown = range_of(asked.query, nights.dates(), COURSE_DAYS)
    found = records_of(nights.between(shown.first, shown.last))
    date = chosen_night(found, asked.query)
    return drift_view(found, shown, asked.query, nights.charts(date) if date else ())


def show_cache(asked: Asked) -> CacheView:
    """The cache."""
    reader = asked.reader
    shown = range_of(asked.query, reader.nights.dates(), COURSE_DAYS)
    nights = records_of(reader.nights.between(shown.first, shown.last))
    live = reader.releases().live(reader.label)
    answer = ask_gateway(reader.project)
    return cache_view(
        nights,
        shown,
        coverage=reader.coverage(live.version) if live else None,
        version=live.version if live else None,
        certificate=live.manifest.certificate if live and live.manifest else None,
        gateway=answer.model,
        workers=answer.workers,
        trouble=answer.trouble,
    )


def show_records(asked: Asked) -> RecordsView:
    """Invalidation records and who has applied them."""
    return records_view(asked.reader.records(ask_mlmd=True))


PAGES = (
    Page("/", "overview.html", "/", show_overview),
    Page("/releases", "releases.html", "/releases", show_releases),
    Page("/releases/{version}", "release.html", "/releases", show_release),
    Page("/nights", "nights.html", "/nights", show_nights),
    Page("/nights/{date}", "night.html", "/nights", show_night),
    Page("/slices", "slices.html", "/slices", show_slices),
    Page("/drift", "drift.html", "/drift", show_drift),
    Page("/cache", "cache.html", "/cache", show_cache),
    Page("/records", "records.html", "/records", show_records),
    Page("/daily/{date}", "daily.html", "/cache", show_daily),
)
SECTIONS = (
    ("/", "Overview"),
    ("/releases", "Releases"),
    ("/nights", "Nights"),
    ("/slices", "Slices"),
    ("/drift", "Drift"),
    ("/cache", "Cache"),
    ("/records", "Records"),
)
