"""Nights, seen from the terminal's side: which days, what is new, a worker, judging, retention."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Optional, Protocol

from tfx_encore.components.night_recorder import lineage_event
from tfx_encore.components.night_recorder.inputs import NightInputs
from tfx_encore.components.night_recorder.looking_back import digest_of_values
from tfx_encore.components.night_recorder.recording import INPUTS, Recorder
from tfx_encore.components.night_recorder.release_evidence import served_release
from tfx_encore.metadata import night_store as names
from tfx_encore.metadata.files import Disk, digest_of
from tfx_encore.metadata.night_store import NightStore
from tfx_encore.monitoring.night_judge import Policies
from tfx_encore.pipeline import data_schema, night_acting, night_days, night_retention
from tfx_encore.pipeline.night_digests import has_log, inputs_digest, night_files, policy_digest
from tfx_encore.pipeline.night_judging import judge_again
from tfx_encore.pipeline.night_plan import (
    NightFailure,
    NightsPlan,
    NightsResult,
    NightTask,
    WorkerResult,
)
from tfx_encore.pipeline.plan import StepResult
from tfx_encore.pipeline.run import Progress, Project
from tfx_encore.pipeline.worker_process import run_worker
from tfx_encore.schemas.clock import utc_now
from tfx_encore.schemas.nights import LogReport, NightRecord, day_before
from tfx_encore.schemas.serial import from_json, to_json

_WORKER = "tfx_encore.pipeline.nightly_worker"


class NightProgress(Progress, Protocol):
    """Whoever shows how a run of nights goes."""

    def night(self, date: str, index: int, of: int) -> None:
        """The rows of a day are about to be evaluated."""

    def night_failed(self, failure: NightFailure) -> None:
        """A day could not be evaluated; the run goes on."""


def run_nights(
    project: Project,
    dates: Optional[Sequence[str]],
    progress: NightProgress,
    *,
    act: bool = False,
    force: bool = False,
    today: Optional[str] = None,
) -> NightsResult:
    """Evaluates days of traffic and judges them, and whatever later nights follow from them.

    A day for which nothing is new is left alone. A release run may go on at the same time: the two
    share ML Metadata, whose transactions are short, and nothing else that either changes.

    Args:
        project: the project.
        dates: the days; None for yesterday, those that were missed, and those whose labels came.
        progress: told of each day and component.
        act: carry out the proposals that are safe.
        force: evaluate the days (yesterday, if none are given) even if nothing is new.
        today: the present day (UTC); by the clock if not given.

    Raises:
        DataError: no request log, no such day, nothing logged in all of the days.
        WorkspaceBusyError: another `encore nightly` is under way.
        StepFailedError: the worker process died. A day that fails does not stop the others.
    """
    with project.workspace.locked("nightly"):
        return _Run(project, progress, act=act, force=force, today=today or night_days.today()).run(
            dates
        )


@dataclass
class _Run:
    """One run of nights."""

    project: Project
    progress: NightProgress
    act: bool
    force: bool
    today: str
    run_id: str = field(
        default_factory=lambda: f"{datetime.now(timezone.utc):%Y%m%dT%H%M%S%f}-nights"
    )
    steps: list[StepResult] = field(default_factory=list)
    empty: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        project = self.project
        self.store = NightStore(project.workspace.releases, project.config.model)
        policies = Policies(
            project.config.nightly,
            project.config.evaluation,
            project.feature_names(),
            policy_digest(project.config),
        )
        self.recorder = Recorder(
            str(project.workspace.releases), project.config.model, policies, self.run_id
        )
        self.schema_path = str(
            data_schema.content_addressed(project.schema_file, project.workspace.inputs)
        )
        self.schema_digest = digest_of(project.schema_file)

    def run(self, dates: Optional[Sequence[str]]) -> NightsResult:
        """Does it all, in an order that a killed run does not upset."""
        began = time.monotonic()
        days = self._days(dates)
        tasks = self._tasks(days, asked=dates is not None)
        worker, log = self._evaluate(tasks)
        self._record_empty(days)
        evaluated = {task.date for task in tasks} - {f.date for f in worker.failures}
        asked = set(days) if dates is not None else set()
        again = judge_again(self.recorder, asked, force=self.force)
        acted = night_acting.act(self.project, self.recorder, days, asked=self.act)
        night_acting.publish(self.project, self.store)
        removed = night_retention.enforce(self.project, self.store, self.today)
        touched = sorted({*days, *again} & set(self.store.dates()))
        return NightsResult(
            records=tuple(self.store.record(day) for day in touched),
            evaluated=tuple(sorted(evaluated | self.empty)),
            judged_again=tuple(sorted(set(again) - evaluated)),
            unchanged=tuple(
                day for day in touched if day not in {*evaluated, *again, *acted, *self.empty}
            ),
            acted=acted,
            failures=worker.failures,
            removed=removed,
            steps=tuple(self.steps),
            run_id=self.run_id,
            seconds=time.monotonic() - began,
            peak_memory_mb=worker.peak_memory_mb,
            log=log,
        )

    def _days(self, dates: Optional[Sequence[str]]) -> tuple[str, ...]:
        recorded = self.store.dates()
        if dates is None:
            return night_days.open_days(self.project, recorded, self.today)
        days = tuple(sorted({night_days.check_day(day, self.today) for day in dates}))
        if not any(day in recorded or has_log(self.project, day) for day in days):
            raise night_days.nothing_logged(self.project, days)
        return days

    def _tasks(self, days: Sequence[str], *, asked: bool) -> tuple[NightTask, ...]:
        """The days whose rows are there and not evaluated as they are now."""
        forced = set(days) if asked else {day_before(self.today)}
        tasks = []
        for day in days:
            files = night_files(self.project, day)
            if not files.log:
                continue
            digest = inputs_digest(self.project.config, files, self.schema_digest)
            if (self.force and day in forced) or self._evaluation_digest(day, digest) is None:
                tasks.append(NightTask(day, files, digest))
        return tuple(tasks)

    def _evaluation_digest(self, day: str, inputs: str) -> Optional[str]:
        """The digest of a night that is evaluated from exactly these inputs; None if it is not."""
        if not self.store.has(day):
            return None
        record = self.store.record(day)
        release = self._manifest_digest(record)
        digest = digest_of_values(inputs, release)
        return digest if digest == record.evaluation_digest else None

    def _manifest_digest(self, record: NightRecord) -> str:
        return served_release(self.project.releases, record.log).manifest_digest

    def _evaluate(self, tasks: tuple[NightTask, ...]) -> tuple[WorkerResult, str]:
        if not tasks:
            return WorkerResult(), ""
        plan = NightsPlan(
            config=self.project.config.model_dump_json(by_alias=True),
            config_file=str(self.project.file.resolve()),
            run_id=self.run_id,
            schema_path=self.schema_path,
            policy_digest=self.recorder.policies.digest,
            tasks=tasks,
        )
        body, log = run_worker(
            _WORKER, to_json(plan, indent=2), self.run_id, self.project.workspace.runs, self._told
        )
        return from_json(WorkerResult, json.dumps(body), source="worker"), log

    def _told(self, kind: str, event: dict[str, object]) -> None:
        if kind == "started":
            self.progress.started(**event)  # type: ignore[arg-type]
        elif kind == "ended":
            step = StepResult(**event)  # type: ignore[arg-type]
            self.steps.append(step)
            self.progress.ended(step)
        elif kind == "night":
            self.progress.night(**event)  # type: ignore[arg-type]
        elif kind == "night_failed":
            failure = NightFailure(**event)  # type: ignore[arg-type]
            self._keep_failure(failure)
            self.progress.night_failed(failure)

    def _keep_failure(self, failure: NightFailure) -> None:
        """The OpenLineage event of a failure, beside the night's revisions until the next one."""
        store, date = self.store, failure.date
        revision = store.record(date).revision + 1 if store.has(date) else 1
        event = lineage_event.failed(
            store.model, date, revision, at=utc_now(), error=f"{failure.step}: {failure.cause}"
        )
        with store.writing():
            disk = Disk()
            disk.make_dir(store.home / date)
            disk.replace(store.home / date / names.LINEAGE, event.encode())

    def _record_empty(self, days: Sequence[str]) -> None:
        """Days without any request are nights too; a record whose log is gone stays."""
        for day in days:
            if self.store.has(day) or has_log(self.project, day):
                continue
            files = {
                names.LOG: to_json(LogReport()).encode(),
                INPUTS: to_json(NightInputs()).encode(),
            }
            _, new = self.recorder.evaluated(day, files, digest_of_values("", ""))
            if new:
                self.empty.add(day)
