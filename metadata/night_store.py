"""What nights leave behind, beside the release journal.

<releases>/<model>/nights/
  2016-01-12/
    head.json             {"revision": 2}: its replacement is the commit
    2/                    night.json, log.json, slices.json, statistics.pb, ...
  .lock                   one writer at a time
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tfx_encore.metadata.files import READ_ONLY, Disk
from tfx_encore.metadata.release_layout import Layout
from tfx_encore.metadata.release_lock import exclusive
from tfx_encore.schemas.errors import DataError, ReleaseCorruptError
from tfx_encore.schemas.nights import NightRecord
from tfx_encore.schemas.serial import from_json

RECORD = "night.json"  # schemas.nights.NightRecord
LOG = "log.json"  # schemas.nights.LogReport
SLICES = "slices.json"  # monitoring.night_slices.NightSlices
PAIRS = "pairs.json"  # monitoring.slice_discovery: counts by pairs of features
STATISTICS = "statistics.pb"  # TFDV's DatasetFeatureStatisticsList of the day's rows
TRENDS = "trends.json"  # monitoring.trend: the series behind the trend decision
SKEW = "skew.json"  # schemas.decisions.Decision against the release's training data
SKEW_CHARTS = "skew_charts.json"  # tuple of schemas.charts.FeatureChart
LINEAGE = "openlineage.json"  # the run event

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_HEAD = "head.json"


class NightStore:
    """The nights of one model, one folder each; readers need no lock.

    Args:
        root: root of the release directory.
        model: the model's name.
        disk: makes the changes.
        lock_timeout_seconds: how long a writer waits for another.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        model: str,
        *,
        disk: Disk | None = None,
        lock_timeout_seconds: float = 60.0,
    ) -> None:
        self.model = model
        self.home = Layout(root, model).home / "nights"
        self._disk = disk or Disk()
        self._lock_timeout_seconds = lock_timeout_seconds

    def dates(self) -> tuple[str, ...]:
        """The nights that there are, ascending."""
        if not self.home.is_dir():
            return ()
        names = (path.parent.name for path in self.home.glob(f"*/{_HEAD}"))
        return tuple(sorted(name for name in names if _DATE.fullmatch(name)))

    def has(self, date: str) -> bool:
        """True if the night was evaluated."""
        return (self.home / date / _HEAD).is_file()

    def path(self, date: str, name: str) -> Path:
        """Where a file of the night's current revision is, be it there or not.

        Raises:
            DataError: there is no such night; names those that are.
        """
        return self.home / date / str(self._revision(date)) / name

    def read(self, date: str, name: str) -> bytes | None:
        """A file of the night's current revision; None if the night has no such file."""
        try:
            return self.path(date, name).read_bytes()
        except FileNotFoundError:
            return None

    def record(self, date: str) -> NightRecord:
        """The decision record of a night.

        Raises:
            DataError: there is no such night; names those that are.
            ReleaseCorruptError: it was edited, or is missing.
        """
        path = self.path(date, RECORD)
        try:
            return from_json(NightRecord, path.read_bytes(), source=str(path))
        except (OSError, DataError) as error:
            raise ReleaseCorruptError(
                f"{error}; remove {path.parent.parent} and run `encore nightly --date {date}`"
            ) from error

    def records(self, first: str | None = None, last: str | None = None) -> Iterator[NightRecord]:
        """The records from `first` to `last`, both included, ascending."""
        for date in self.dates():
            if (first is None or date >= first) and (last is None or date <= last):
                yield self.record(date)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Holds the lock that writers take.

        Raises:
            ReleaseBusyError: another process held it for too long.
        """
        self._disk.make_dir(self.home)
        with exclusive(self.home / ".lock", self._lock_timeout_seconds):
            yield

    def commit(self, date: str, files: Mapping[str, bytes]) -> int:
        """Makes `files` the night's content, in one step; returns the new revision.

        To be called while `writing` is held. A crash leaves the old revision or the new one.
        """
        if not _DATE.fullmatch(date):
            raise DataError(f"{date!r} is no date; write it as 2016-01-12")
        folder = self.home / date
        self._disk.make_dir(folder)
        revision = self._revision(date) + 1 if self.has(date) else 1
        staging, target = folder / f".{revision}.next", folder / str(revision)
        for leftover in (staging, target):
            self._disk.remove_tree(leftover)
        self._disk.make_dir(staging)
        for name, data in sorted(files.items()):
            self._disk.write(staging / name, data, mode=READ_ONLY)
        self._disk.sync_dir(staging)
        self._disk.rename(staging, target)
        self._disk.replace(folder / _HEAD, json.dumps({"revision": revision}).encode())
        for path in folder.iterdir():
            if path.name not in {_HEAD, str(revision)}:
                self._disk.remove_tree(path)
        return revision

    def remove(self, date: str) -> None:
        """Forgets a night; to be called while `writing` is held."""
        self._disk.remove_tree(self.home / date / _HEAD)
        self._disk.remove_tree(self.home / date)

    def _revision(self, date: str) -> int:
        head = self.home / date / _HEAD
        try:
            return int(json.loads(head.read_bytes())["revision"])
        except FileNotFoundError as error:
            dates = self.dates()
            there = f"there are {dates[0]} to {dates[-1]}" if dates else "there is none yet"
            raise DataError(
                f"{self.model} has no night {date}; {there}; `encore nightly --date {date}` "
                "evaluates it"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise ReleaseCorruptError(
                f"{head} is unreadable; remove {head.parent} and run `encore nightly --date {date}`"
            ) from error
