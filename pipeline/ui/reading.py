"""What the pages read: nights, releases, records, a running gateway. Reads only, writes nothing.

Whatever is damaged becomes a value that says so, never an exception: one bad file must not take
away the view of the others.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

from tfx_encore.metadata.journal_ledger import JournalLedger
from tfx_encore.metadata.night_store import RECORD, SKEW_CHARTS, NightStore
from tfx_encore.metadata.release_state import ReleaseState
from tfx_encore.metadata.releases import ReleaseDirectory
from tfx_encore.pipeline.report import data
from tfx_encore.pipeline.run import Project
from tfx_encore.pipeline.ui.found import Damaged, Night, Records, Release, Releases
from tfx_encore.schemas.charts import Coverage, FeatureChart
from tfx_encore.schemas.errors import EncoreError
from tfx_encore.schemas.records import Acknowledgement

_Stamp = tuple[str, int, int]


class NightReader:
    """The nights of a model; each revision is parsed once.

    Args:
        store: where they are.
    """

    def __init__(self, store: NightStore) -> None:
        self._store = store
        self._parsed: dict[str, tuple[_Stamp, Night]] = {}
        self._lock = threading.Lock()

    def dates(self) -> tuple[str, ...]:
        """The nights that there are, ascending."""
        return self._store.dates()

    def night(self, date: str) -> Night | None:
        """One night; None if there is none of that name, whatever `date` is."""
        return self._read(date) if date in self.dates() else None

    def nights(self, dates: Iterable[str]) -> tuple[Night, ...]:
        """The nights of `dates`, of those that there are, in order."""
        there = set(self.dates())
        return tuple(self._read(date) for date in dates if date in there)

    def between(self, first: str, last: str) -> tuple[Night, ...]:
        """The nights from `first` to `last`, both included, ascending."""
        return tuple(self._read(date) for date in self.dates() if first <= date <= last)

    def newest(self) -> Night | None:
        """The last night, or None."""
        dates = self.dates()
        return self._read(dates[-1]) if dates else None

    def charts(self, date: str) -> tuple[FeatureChart, ...]:
        """The distributions of a night beside the release's; empty if there are none to read."""
        try:
            path = self._store.path(date, SKEW_CHARTS)
            return data.read_part(tuple[FeatureChart, ...], path) or ()
        except EncoreError:
            return ()

    def _read(self, date: str) -> Night:
        try:
            path = self._store.path(date, RECORD)
            found = path.stat()
        except (EncoreError, OSError):
            return self._parse(date)
        stamp = (str(path), found.st_ino, found.st_mtime_ns)
        with self._lock:
            known = self._parsed.get(date)
        if known is None or known[0] != stamp:
            known = (stamp, self._parse(date))
            with self._lock:
                self._parsed[date] = known
        return known[1]

    def _parse(self, date: str) -> Night:
        try:
            return self._store.record(date)
        except (EncoreError, OSError) as error:
            return Damaged(date, str(error))


class Reader:
    """Everything that the pages show of a project.

    Args:
        project: the project.
    """

    def __init__(self, project: Project) -> None:
        self.project = project
        self.model = project.config.model
        self.label = project.config.release.label
        self.nights = NightReader(NightStore(project.workspace.releases, self.model))

    @property
    def directory(self) -> ReleaseDirectory:
        """The release directory."""
        return self.project.releases

    def releases(self) -> Releases:
        """All versions that were ever pushed."""
        try:
            state = self.directory.state()
        except (EncoreError, OSError) as error:
            return Releases(problem=str(error))
        versions = range(state.highest_version, 0, -1)
        return Releases(tuple(self._release(version, state) for version in versions))

    def _release(self, version: int, state: ReleaseState) -> Release:
        labels = tuple(sorted(name for name, at in state.labels.items() if at == version))
        manifest, problem = None, ""
        try:
            manifest = self.directory.manifest(version)
        except (EncoreError, OSError) as error:
            problem = str(error)
        return Release(version, manifest, problem, labels, version in state.versions)

    def evidence(self, release: Release) -> data.ReleaseReport | str:
        """What a release was decided on; why it cannot be read, if it cannot."""
        version = release.version
        try:
            records = self.directory.records()
            return data.load(
                self.directory.evidence_path(version),
                labels=release.labels,
                records=[r for r in records if version in (r.version_before, r.version_after)],
            )
        except (EncoreError, OSError) as error:
            return str(error)

    def report_file(self, version: int) -> Path | None:
        """The HTML report of a version, if `encore report` or a run wrote one."""
        path = self.project.workspace.reports / f"{self.model}-{version}.html"
        return path if path.is_file() else None

    def coverage(self, version: int) -> Coverage | None:
        """What the snapshot of a version was predicted to be worth; None if that is unknown."""
        try:
            folder = self.directory.evidence_path(version)
            return data.read_part(Coverage, folder / "coverage" / "coverage.json")
        except (EncoreError, OSError):
            return None

    def records(self, *, ask_mlmd: bool = False) -> Records:
        """Invalidation records with acknowledgements, those in ML Metadata too if asked for."""
        problems: list[str] = []
        try:
            found = self.directory.records()
        except (EncoreError, OSError) as error:
            found, problems = (), [str(error)]
        acks: set[Acknowledgement] = set()
        try:
            ledger = JournalLedger(self.project.workspace.releases)
            acks.update(ledger.acknowledgements(self.model))
        except (EncoreError, OSError) as error:
            problems.append(str(error))
        if ask_mlmd and self._has_mlmd():
            acks.update(self._from_mlmd(problems))
        ordered = sorted(acks, key=lambda ack: (ack.sequence, ack.consumer, ack.acknowledged_at))
        return Records(found, tuple(ordered), tuple(problems))

    def _has_mlmd(self) -> bool:
        """False for an SQLite store that nobody made: looking must not make it."""
        config = self.project.config
        if config.metadata.journal:
            return False
        remote = config.metadata.mysql or config.metadata.grpc
        return bool(remote) or self.project.workspace.sqlite(config).is_file()

    def _from_mlmd(self, problems: list[str]) -> tuple[Acknowledgement, ...]:
        from tfx_encore.pipeline.mlmd import open_ledger

        try:
            with open_ledger(self.project) as ledger:
                return ledger.acknowledgements(self.model)
        except (EncoreError, OSError) as error:
            problems.append(f"ML Metadata: {error}")
            return ()
