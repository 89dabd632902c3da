"""What `encore monitor` reads: nights, releases, records, disks; each as seldom as possible."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from tfx_encore.metadata.ledger import Ledger
from tfx_encore.metadata.night_store import RECORD, NightStore
from tfx_encore.metadata.releases import ReleaseDirectory
from tfx_encore.monitoring import metric_families as families
from tfx_encore.monitoring.metric_families import Sample
from tfx_encore.monitoring.night_metrics import DAY_SECONDS, Limits, end_of, night_samples
from tfx_encore.monitoring.run_metrics import record_samples, release_samples, run_samples
from tfx_encore.pipeline.metrics_export import facts_of, read_slices
from tfx_encore.pipeline.plan import RunResult
from tfx_encore.schemas.errors import EncoreError
from tfx_encore.schemas.records import Acknowledgement, InvalidationRecord
from tfx_encore.schemas.release import Manifest
from tfx_encore.schemas.serial import from_json

T = TypeVar("T")
_HOUR = 3600.0


class Clocked(NamedTuple):
    """The time, and how old what costs much to read may be.

    Attributes:
        now: seconds since 1970.
        disk_seconds: how long the sizes of folders are kept.
        ledger_seconds: how long acknowledgements are kept.
    """

    now: Callable[[], float] = time.time
    disk_seconds: float = 60.0
    ledger_seconds: float = 15.0


@dataclass
class Kept(Generic[T]):
    """A value that is read again once its key has changed."""

    key: object = None
    value: T | None = None

    def get(self, key: object, read: Callable[[], T]) -> T:
        """The value of `key`."""
        if self.value is None or key != self.key:
            self.value, self.key = read(), key
        return self.value


class NightsSource:
    """The newest night of a model; read again when there is a newer one or a new revision."""

    def __init__(
        self, store: NightStore, limits: Limits, clock: Clocked, due_hours: float = 12.0
    ) -> None:
        self._store = store
        self._limits = limits
        self._clock = clock
        self._due_hours = due_hours
        self._kept: Kept[tuple[Sample, ...]] = Kept()

    def samples(self) -> Iterator[Sample]:
        """The newest night, and how old it is."""
        dates = self._store.dates()
        model, now = self._store.model, self._clock.now()
        yield Sample(families.NIGHTS, (model,), len(dates))
        if not dates:
            return
        yield from self._night(dates[-1])
        yield Sample(families.NIGHT_AGE, (model,), max(0.0, now - end_of(dates[-1])))
        yield Sample(families.NIGHTS_MISSING, (model,), self._missing(dates, now))

    def _night(self, date: str) -> tuple[Sample, ...]:
        try:
            return self._kept.get(self._place(date), lambda: self._read(date))
        except (EncoreError, OSError):  # a new revision may have taken its place meanwhile
            return self._kept.get(self._place(date), lambda: self._read(date))

    def _place(self, date: str) -> tuple[str, int]:
        """Changes with each revision, also where a night was removed and made anew."""
        path = self._store.path(date, RECORD)
        return str(path), path.parents[1].stat().st_mtime_ns

    def _read(self, date: str) -> tuple[Sample, ...]:
        record = self._store.record(date)
        return night_samples(record, read_slices(self._store, date), self._limits)

    def _missing(self, dates: tuple[str, ...], now: float) -> int:
        """Days that should be there and are not; a day is due some hours after its end."""
        today = time.strftime("%Y-%m-%d", time.gmtime(now - self._due_hours * _HOUR))
        due = (end_of(today) - end_of(dates[0])) / DAY_SECONDS
        return max(0, round(due) - sum(1 for date in dates if date < today))


class ReleasesSource:
    """Which version is in force. Manifests never change, so each is read once."""

    def __init__(self, releases: ReleaseDirectory) -> None:
        self._releases = releases
        self._manifests: dict[int, Manifest] = {}

    def samples(self) -> Iterator[Sample]:
        """Labels and versions."""
        state = self._releases.state()
        for version in state.versions:
            if version not in self._manifests:
                self._manifests[version] = self._releases.manifest(version)
        there = [self._manifests[version] for version in state.versions]
        yield from release_samples(self._releases.model, state.labels, there)


class RunsSource:
    """The newest run of the release pipeline that came to a result.

    Args:
        runs: folder where `encore run` keeps what each run did.
    """

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        self._kept: Kept[tuple[Sample, ...]] = Kept()

    def samples(self) -> Iterator[Sample]:
        """How it ended; nothing before the first."""
        found = [path for path in self._runs.glob("*-span*.json") if path.suffixes == [".json"]]
        if found:
            newest = max(found, key=lambda path: path.name)  # names begin with the time
            ended = newest.stat().st_mtime
            yield from self._kept.get((newest.name, ended), lambda: self._read(newest, ended))

    def _read(self, file: Path, ended: float) -> tuple[Sample, ...]:
        result = from_json(RunResult, file.read_bytes(), source=str(file))
        return run_samples(facts_of(result, ended))


class RecordsSource:
    """Invalidation records (read once each) and their acknowledgements."""

    def __init__(
        self,
        releases: ReleaseDirectory,
        ledger: Callable[[], AbstractContextManager[Ledger]],
        clock: Clocked,
    ) -> None:
        self._releases = releases
        self._ledger = ledger
        self._clock = clock
        self._records: list[InvalidationRecord] = []
        self._acknowledgements: Kept[tuple[Acknowledgement, ...]] = Kept()

    def samples(self) -> Iterator[Sample]:
        """How many there are, and how far gateways are behind them."""
        self._records += self._releases.records(after=len(self._records))
        now = self._clock.now()
        acks = self._acknowledgements.get(
            (len(self._records), now // self._clock.ledger_seconds), self._read
        )
        yield from record_samples(self._releases.model, self._records, acks, now)

    def _read(self) -> tuple[Acknowledgement, ...]:
        if not self._records:
            return ()
        with self._ledger() as ledger:
            return ledger.acknowledgements(self._releases.model)


@dataclass
class DiskSource:
    """How full the disks are, and with what.

    Attributes:
        places: name -> folder; what lies in a folder that has a name of its own counts there.
        clock: how often to look.
    """

    places: Mapping[str, Path]
    clock: Clocked
    _kept: Kept[tuple[Sample, ...]] = field(default_factory=Kept)

    def samples(self) -> Iterator[Sample]:
        """Used, free and in all, for each place that is there."""
        yield from self._kept.get(self.clock.now() // self.clock.disk_seconds, self._read)

    def _read(self) -> tuple[Sample, ...]:
        found = []
        homes = {path.resolve() for path in self.places.values()}
        for name, path in sorted(self.places.items()):
            if not path.is_dir():
                continue
            room = shutil.disk_usage(path)
            used = _used(path.resolve(), homes)
            found.append(Sample(families.DISK_USED, (name,), used))
            found.append(Sample(families.DISK_FREE, (name,), room.free))
            # As df has it: what is kept for the administrator is no room.
            found.append(Sample(families.DISK_SIZE, (name,), room.used + room.free))
        return tuple(found)


def _used(top: Path, others: set[Path]) -> int:
    """Bytes of the files below `top`, folders that are places of their own left out."""
    total, seen = 0, set()
    for folder, names, files in os.walk(top):
        names[:] = [name for name in names if Path(folder, name) not in others]
        for name in files:
            try:
                status = Path(folder, name).lstat()
            except FileNotFoundError:
                continue  # removed meanwhile
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                total += status.st_blocks * 512
    return total
