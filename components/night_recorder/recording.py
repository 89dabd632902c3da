"""Judges a night from what is on disk, and commits the record if it has changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from tensorflow_metadata.proto.v0 import statistics_pb2

from tfx_encore.components.night_recorder import lineage_event
from tfx_encore.components.night_recorder.inputs import NightInputs
from tfx_encore.components.night_recorder.looking_back import Looked, Records, look_back
from tfx_encore.components.night_recorder.release_evidence import (
    fingerprints_by_version,
    served_release,
)
from tfx_encore.metadata import night_store as names
from tfx_encore.metadata.night_store import NightStore
from tfx_encore.metadata.releases import ReleaseDirectory
from tfx_encore.monitoring import tfdv_reader
from tfx_encore.monitoring.drift_statistics import DatasetStatistics
from tfx_encore.monitoring.night_judge import (
    Judged,
    Night,
    Past,
    Policies,
    Release,
    independent_share,
    judge_night,
    name_models,
)
from tfx_encore.monitoring.night_slices import NightSlices
from tfx_encore.monitoring.slice_discovery import PairCounts
from tfx_encore.schemas.clock import utc_now
from tfx_encore.schemas.decisions import Decision
from tfx_encore.schemas.nights import LogReport, NightAction, NightCoverage, NightRecord
from tfx_encore.schemas.serial import from_json, to_json

T = TypeVar("T")

COVERAGE = "coverage.json"  # schemas.nights.NightCoverage
INPUTS = "inputs.json"  # NightInputs
_MADE_BY_JUDGING = (names.RECORD, names.TRENDS, names.LINEAGE)


@dataclass(frozen=True)
class Recorder:
    """Judges nights of one model and keeps the records.

    Attributes:
        root: root of the release directory.
        model: the model's name.
        policies: by what is judged.
        run_id: written into records.
        clock: gives the time of records.
        store: the nights.
    """

    root: str
    model: str
    policies: Policies
    run_id: str
    clock: Callable[[], str] = utc_now
    store: NightStore = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "store", NightStore(self.root, self.model))

    @property
    def releases(self) -> ReleaseDirectory:
        """The releases of the model."""
        return ReleaseDirectory(self.root, self.model)

    def evaluated(
        self, date: str, files: Mapping[str, bytes], evaluation_digest: str
    ) -> tuple[NightRecord, bool]:
        """Judges a night that was just evaluated; commits it if its content is new.

        Args:
            date: the day.
            files: what the evaluation found: name in the store -> content.
            evaluation_digest: see `NightRecord`.

        Returns:
            the record that is in the store then, and whether it is a new revision.
        """
        with self.store.writing():
            records = {record.date: record for record in self.store.records()}
            if date in records:
                # Of the snapshot that was the newest then: later ones were made from this night.
                files = {**files, **self._kept(date, COVERAGE)}
            return self._commit(date, dict(files), evaluation_digest, records)

    def judged_again(self, date: str) -> tuple[NightRecord, bool]:
        """Judges a night again from what its evaluation left, without its rows."""
        with self.store.writing():
            records = {record.date: record for record in self.store.records()}
            files = self.files(date)
            return self._commit(date, files, records[date].evaluation_digest, records)

    def changed(self, record: NightRecord) -> NightRecord:
        """Keeps a record that says what became of its actions; gives it the next revision."""
        with self.store.writing():
            files = {**self.files(record.date), **self._kept(record.date, names.TRENDS)}
            return self._write(record, files)

    def files(self, date: str) -> dict[str, bytes]:
        """What the evaluation of a night left in the store."""
        folder = self.store.path(date, names.RECORD).parent
        paths = (p for p in sorted(folder.iterdir()) if p.name not in _MADE_BY_JUDGING)
        return {path.name: path.read_bytes() for path in paths}

    def _commit(
        self, date: str, files: dict[str, bytes], digest: str, records: Records
    ) -> tuple[NightRecord, bool]:
        judged = self._judge(date, files, digest, records)
        before = records.get(date)
        record = _with_actions_of(judged.record, before)
        if judged.trends is not None:
            files[names.TRENDS] = to_json(judged.trends).encode()
        if before is not None and content_of(record) == content_of(before):
            return before, False
        return self._write(record, files), True

    def _judge(self, date: str, files: dict[str, bytes], digest: str, records: Records) -> Judged:
        log = _read(LogReport, files, names.LOG) or LogReport()
        releases = self.releases
        served = served_release(releases, log)
        slices = _read(NightSlices, files, names.SLICES)
        if slices is not None:
            slices = name_models(slices, fingerprints_by_version(releases, log))
            files[names.SLICES] = to_json(slices).encode()
        looked = look_back(records, date, served.fingerprint, self.policies.nightly)
        night = Night(
            model=self.model,
            date=date,
            log=log,
            slices=slices,
            pairs=_read(PairCounts, files, names.PAIRS),
            statistics=_statistics(files.get(names.STATISTICS), date),
            skew=_read(Decision, files, names.SKEW),
            coverage=_read(NightCoverage, files, COVERAGE),
            evaluation_digest=digest,
        )
        release = Release(
            served.version, served.fingerprint, served.name, served.table, served.roll_back_to
        )
        return judge_night(night, release, self._past(looked, records), self.policies)

    def _past(self, looked: Looked, records: Records) -> Past:
        read = self.store.read
        statistics = {d: _statistics(read(d, names.STATISTICS), d) for d in looked.season}
        slices = {d: read(d, names.SLICES) for d in looked.release}
        return Past(
            slices={
                d: from_json(NightSlices, text, source=f"{d}/{names.SLICES}")
                for d, text in slices.items()
                if text is not None
            },
            statistics={d: found for d, found in statistics.items() if found is not None},
            excluded=looked.excluded,
            shares={d: independent_share(records[d].log) for d in looked.season},
            findings=looked.findings,
            alarms=looked.alarms,
            digest=looked.digest,
        )

    def _write(self, record: NightRecord, files: dict[str, bytes]) -> NightRecord:
        date = record.date
        revision = self.store.record(date).revision + 1 if self.store.has(date) else 1
        record = replace(record, revision=revision, run_id=self.run_id, created_at=self.clock())
        inputs = _read(NightInputs, files, INPUTS) or NightInputs()
        place = lineage_event.Place(
            str(Path(self.store.home) / date), {name: len(data) for name, data in files.items()}
        )
        event = lineage_event.completed(record, inputs, place)
        text = to_json(record, indent=2).encode()
        self.store.commit(date, {**files, names.RECORD: text, names.LINEAGE: event.encode()})
        return record

    def _kept(self, date: str, name: str) -> dict[str, bytes]:
        data = self.store.read(date, name)
        return {} if data is None else {name: data}


def content_of(record: NightRecord) -> NightRecord:
    """The record without what differs from run to run and from place to place."""
    coverage = record.coverage
    return replace(
        record,
        revision=1,
        run_id="",
        created_at="",
        log=replace(record.log, set_aside=""),
        coverage=None if coverage is None else replace(coverage, snapshot=""),
    )


def _with_actions_of(record: NightRecord, before: NightRecord | None) -> NightRecord:
    """What was done stays done when a night is judged again and proposes it again."""
    done = {_action_key(a): a for a in (before.actions if before else ()) if a.state != "proposed"}
    kept = (done.get(_action_key(action)) for action in record.actions)
    actions = [
        replace(action, state=old.state, result=old.result) if old else action
        for action, old in zip(record.actions, kept, strict=True)
    ]
    return replace(record, actions=tuple(actions))


def _action_key(action: NightAction) -> tuple[str, tuple[tuple[str, str], ...], int | None]:
    return action.kind, tuple(sorted(action.features.items())), action.version


def _read(kind: type[T], files: Mapping[str, bytes], name: str) -> T | None:
    data = files.get(name)
    return None if data is None else from_json(kind, data, source=name)


def _statistics(data: bytes | None, date: str) -> DatasetStatistics | None:
    if data is None:
        return None
    found = statistics_pb2.DatasetFeatureStatisticsList.FromString(data)
    return tfdv_reader.read_statistics(found, source=f"{date}/{names.STATISTICS}")
