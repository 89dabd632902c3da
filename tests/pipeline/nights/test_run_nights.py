"""Which nights are evaluated, judged again, left alone and removed.

A stand-in takes the place of the worker process: it "reads" a day's log, whose file says how many
rows were right. Everything else is real: files, digests, judging, the store, ML Metadata.
"""

from __future__ import annotations

import fcntl
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tfx_encore.components.night_recorder.executor import evaluation_digest
from tfx_encore.components.night_recorder.recording import INPUTS, Recorder, content_of
from tfx_encore.metadata import night_store as names
from tfx_encore.metadata.mlmd_night_ledger import MlmdNightLedger
from tfx_encore.metadata.night_store import NightStore
from tfx_encore.monitoring.night_judge import Policies
from tfx_encore.monitoring.night_slices import NightSlices, PathCounts, ServedSlice
from tfx_encore.monitoring.slice_counts import bin_edges, row_code, score_bin
from tfx_encore.pipeline import nightly
from tfx_encore.pipeline.commands.options import open_project
from tfx_encore.pipeline.mlmd import connection
from tfx_encore.pipeline.night_plan import NightFailure, NightsPlan, NightsResult, NightTask
from tfx_encore.pipeline.run import Project
from tfx_encore.schemas.decisions import Decision, Evidence, Outcome
from tfx_encore.schemas.errors import DataError, WorkspaceBusyError
from tfx_encore.schemas.nights import LogReport, NightAction, NightRecord
from tfx_encore.schemas.serial import from_json, to_json

FINGERPRINT = "sha256:" + "1" * 64
EDGES = bin_edges(0.5)
TODAY = "2016-01-20"


class Silent:
    """Progress that nobody watches."""

    def __init__(self) -> None:
        self.nights: list[str] = []
        self.failures: list[NightFailure] = []

    def started(self, step: str, index: int, of: int) -> None: ...

    def ended(self, step: Any) -> None: ...

    def night(self, date: str, index: int, of: int) -> None:
        self.nights.append(date)

    def night_failed(self, failure: NightFailure) -> None:
        self.failures.append(failure)


class Worker:
    """Stands for the worker process."""

    def __init__(self) -> None:
        self.fails_on: set[str] = set()

    def __call__(
        self, module: str, plan: str, run_id: str, runs: Path, on_event: Callable[..., None]
    ) -> tuple[dict[str, Any], str]:
        work = from_json(NightsPlan, plan)
        config = nightly_config(work)
        failures = []
        for index, task in enumerate(work.tasks, start=1):
            on_event("night", {"date": task.date, "index": index, "of": len(work.tasks)})
            if task.date in self.fails_on:
                failure = {"date": task.date, "step": "StatisticsGen", "cause": "no space"}
                failures.append(failure)
                on_event("night_failed", failure)
            else:
                self.evaluate(work, task, config)
        return {"failures": failures, "peak_memory_mb": 1.0}, str(runs / f"{run_id}.log")

    def evaluate(self, work: NightsPlan, task: NightTask, project: Project) -> None:
        config = project.config
        policies = Policies(
            config.nightly, config.evaluation, project.feature_names(), work.policy_digest
        )
        releases = str(project.workspace.releases)
        recorder = Recorder(releases, config.model, policies, work.run_id)
        files = {**evaluated(task), INPUTS: to_json(task.files).encode()}
        digest = evaluation_digest(recorder, files[names.LOG], task.inputs_digest)
        recorder.evaluated(task.date, files, digest)


def nightly_config(work: NightsPlan) -> Project:
    return open_project(work.config_file)


def evaluated(task: NightTask) -> Mapping[str, bytes]:
    """What the components would have written for a day."""
    said = json.loads(Path(task.files.log[0].path).read_text())
    rows, right, labelled = said["rows"], said["right"], bool(task.files.labels)
    good, bad = score_bin(0.9, EDGES), score_bin(0.1, EDGES)
    truth = 1.0 if labelled else None
    counts = {row_code(truth, good): right, row_code(truth, bad): rows - right}
    paths = {"miss": PathCounts(rows=counts)}
    if said.get("wrong"):
        wrong = {row_code(truth, good, bad): 50}
        paths = {"hit": PathCounts(counts, wrong, said["wrong"], 0.8)}
    slices = tuple(
        ServedSlice(FINGERPRINT, 1, features, paths, float(rows), float(rows if labelled else 0))
        for features in ({}, {"payment_type": "Cash"})
    )
    log = LogReport(
        files=1,
        records=rows,
        requests=rows,
        rows=rows,
        rows_by_version={"1": rows},
        fingerprints={"1": FINGERPRINT},
        rows_by_path={"miss": rows},
        labelled=rows if labelled else 0,
        effective_rows=float(rows),
    )
    skew = Decision("skew", Outcome.OK, "as in training")
    if said.get("skew"):
        check = Evidence("feature:payment_type", "l_infinity", Outcome.BLOCK, "Cash is gone")
        skew = Decision("skew", Outcome.BLOCK, "Cash is gone", evidence=(check,))
    return {
        names.LOG: to_json(log).encode(),
        names.SLICES: to_json(NightSlices(0.5, slices)).encode(),
        names.SKEW: to_json(skew).encode(),
    }


class Bench:
    """A project with days of traffic."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.worker = Worker()
        self.progress = Silent()
        (folder / "labels").mkdir()

    def configure(self, **nightly_section: Any) -> None:
        file = self.folder / "encore.yaml"
        config = yaml.safe_load(file.read_text())
        config["nightly"] = {**config.get("nightly", {}), **nightly_section}
        file.write_text(yaml.safe_dump(config))

    @property
    def project(self) -> Project:
        return open_project(str(self.folder / "encore.yaml"))

    @property
    def store(self) -> NightStore:
        return NightStore(self.project.workspace.releases, "taxi")

    def log(self, date: str, *, rows: int = 400, right: int = 360, **more: Any) -> Path:
        file = self.folder / ".encore" / "requests" / "taxi" / date / "a.tfrecord"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"rows": rows, "right": right, **more}))
        return file

    def label(self, date: str, said: str = "all") -> None:
        (self.folder / "labels" / f"{date}.csv").write_text(said)

    def run(self, *dates: str, **options: Any) -> NightsResult:
        self.progress = Silent()
        options = {"today": TODAY, **options}
        return nightly.run_nights(self.project, dates or None, self.progress, **options)

    def contents(self) -> dict[str, NightRecord]:
        return {record.date: content_of(record) for record in self.store.records()}

    def revisions(self) -> dict[str, int]:
        return {record.date: record.revision for record in self.store.records()}


@pytest.fixture
def bench(taxi_project: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench(taxi_project)
    monkeypatch.setattr(nightly, "run_worker", made.worker)
    made.configure(labels={"files": "labels/{DATE}.csv"}, retention={"log_days": 0})
    return made


def day(number: int) -> str:
    return f"2016-01-{number:02d}"


def test_a_night_run_twice_changes_nothing(bench: Bench) -> None:
    bench.log(day(12))
    first = bench.run(day(12))
    files = {path: path.read_bytes() for path in bench.store.home.rglob("*") if path.is_file()}
    second = bench.run(day(12))
    assert (first.evaluated, second.evaluated, second.unchanged) == ((day(12),), (), (day(12),))
    assert files == {p: p.read_bytes() for p in bench.store.home.rglob("*") if p.is_file()}


def test_forcing_an_unchanged_night_evaluates_it_but_makes_no_new_revision(bench: Bench) -> None:
    bench.log(day(12))
    bench.run(day(12))
    bench.run(day(12), force=True)
    assert bench.progress.nights == [day(12)]
    assert bench.revisions() == {day(12): 1}


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_backfill_equals_each_night_on_its_day_and_any_other_order(bench: Bench, seed: int) -> None:
    draw = random.Random(seed)
    days = [day(n) for n in range(1, 9)]
    for date in days:
        bench.log(date, right=draw.choice([330, 360, 370]), skew=draw.random() < 0.5)
        bench.label(date)
    bench.run(*days)
    together = bench.contents()
    for date in bench.store.dates():
        bench.store.remove(date)
    for date in sorted(days, key=lambda _: draw.random()):
        bench.run(date)
    assert bench.contents() == together
    assert {alarm.since for record in together.values() for alarm in record.alarms} - set(days[:1])


def test_cron_finds_yesterday_and_the_nights_it_missed(bench: Bench) -> None:
    for number in (14, 15, 17, 19, 20):
        bench.log(day(number))
    result = bench.run()
    assert bench.progress.nights == [day(14), day(15), day(17), day(19)]
    # Days without traffic between them are nights too, and today is not over.
    assert bench.store.dates() == tuple(day(n) for n in range(14, 20))
    assert bench.store.record(day(16)).reason == "no requests logged"
    assert set(result.evaluated) == set(bench.store.dates())
    assert bench.run().evaluated == ()


def test_a_missed_night_changes_the_nights_after_it_as_if_it_had_run(bench: Bench) -> None:
    for number in (10, 12):
        bench.log(day(number), skew=True)
    bench.run(day(10), day(11), day(12))
    assert bench.store.record(day(12)).alarms[0].since == day(10)
    bench.log(day(11), skew=False)
    result = bench.run(day(11))
    assert bench.progress.nights == [day(11)]
    assert result.judged_again == (day(12),)
    assert bench.store.record(day(12)).alarms[0].since == day(12)


def test_late_labels_evaluate_the_day_anew_and_judge_later_nights_again(bench: Bench) -> None:
    for number in range(10, 20):
        bench.log(day(number), right=340)
    bench.run()
    assert not any(record.metrics for record in bench.store.records())
    bench.label(day(11))
    result = bench.run()
    assert bench.progress.nights == [day(11)]
    assert bench.store.record(day(11)).log.labelled == 400
    assert result.judged_again == tuple(day(n) for n in range(12, 20))


def test_labels_are_waited_for_only_so_long(bench: Bench) -> None:
    bench.configure(labels={"files": "labels/{DATE}.csv", "wait_days": 3})
    for number in (10, 18):
        bench.log(day(number))
    bench.run()
    bench.label(day(10))
    bench.label(day(18))
    bench.run()
    assert bench.progress.nights == [day(18)]
    bench.run(day(10))
    assert bench.progress.nights == [day(10)]


def test_requests_that_were_logged_late_are_seen(bench: Bench) -> None:
    bench.log(day(19))
    bench.run()
    bench.log(day(19), rows=500)
    bench.run()
    assert bench.store.record(day(19)).log.rows == 500
    assert bench.revisions()[day(19)] == 2


def test_a_changed_threshold_judges_without_reading_rows(bench: Bench) -> None:
    bench.log(day(12), right=300)
    bench.label(day(12))
    bench.run(day(12))
    bench.configure(trend={"metrics": ["precision"]})
    result = bench.run(day(12))
    assert (bench.progress.nights, result.judged_again) == ([], (day(12),))


def test_a_night_whose_log_is_gone_keeps_its_record(bench: Bench) -> None:
    file = bench.log(day(12))
    bench.run(day(12))
    file.unlink()
    assert bench.run(day(12), force=True).unchanged == (day(12),)
    assert bench.store.record(day(12)).log.rows == 400


def test_a_range_without_any_log_names_the_folder_and_the_way_out(bench: Bench) -> None:
    bench.log(day(19))
    with pytest.raises(DataError, match=r"no requests of taxi are logged .*request_log_dir"):
        bench.run("2015-05-01", "2015-05-02")
    with pytest.raises(DataError, match="has not come yet"):
        bench.run("2016-01-21")
    with pytest.raises(DataError, match="write it as 2016-01-12"):
        bench.run("12.1.2016")


def test_two_at_once_do_not_collide(bench: Bench) -> None:
    bench.log(day(12))
    bench.project.workspace.create()
    with (bench.project.workspace.root / "nightly.lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(WorkspaceBusyError, match="another `encore nightly`") as error:
            bench.run(day(12))
    assert error.value.exit_code == 4
    assert bench.run(day(12)).evaluated == (day(12),)


def test_a_release_run_does_not_keep_nights_waiting(bench: Bench) -> None:
    bench.log(day(12))
    with bench.project.workspace.locked():
        assert bench.run(day(12)).evaluated == (day(12),)


def test_a_night_that_fails_is_said_and_does_not_stop_the_others(bench: Bench) -> None:
    for number in (12, 13, 14):
        bench.log(day(number))
    bench.worker.fails_on = {day(13)}
    result = bench.run(day(12), day(13), day(14))
    assert result.failures == (NightFailure(day(13), "StatisticsGen", "no space"),)
    assert bench.store.dates() == (day(12), day(14))
    event = json.loads((bench.store.home / day(13) / names.LINEAGE).read_text())
    assert event["eventType"] == "FAIL"
    assert event["run"]["facets"]["errorMessage"]["message"] == "StatisticsGen: no space"
    bench.worker.fails_on = set()
    assert bench.run(day(13)).evaluated == (day(13),)
    assert bench.run(day(12), day(13), day(14)).judged_again == ()


def test_a_crash_before_the_commit_leaves_the_old_revision(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.log(day(12))
    bench.run(day(12))
    before = bench.store.record(day(12))
    bench.log(day(12), rows=500)

    def killed(*_: Any) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(NightStore, "commit", killed)
        with pytest.raises(KeyboardInterrupt):
            bench.run(day(12))
    assert bench.store.record(day(12)) == before
    assert bench.run(day(12)).records[0].log.rows == 500


def test_a_run_that_was_killed_before_judging_again_is_made_up_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (10, 11):
        bench.log(day(number), skew=True)
    bench.run(day(11))
    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "judged_again", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            bench.run(day(10))
    assert bench.store.record(day(11)).alarms[0].since == day(11)
    bench.run(day(10))
    assert bench.store.record(day(11)).alarms[0].since == day(10)


class TestRetention:
    """What is removed after a run."""

    @pytest.fixture(autouse=True)
    def _seven_days(self, bench: Bench) -> None:
        bench.configure(retention={"log_days": 7})

    def test_the_log_of_an_evaluated_day_goes_when_it_is_old(self, bench: Bench) -> None:
        old, young = bench.log(day(12)), bench.log(day(13))
        result = bench.run(day(12), day(13))
        assert [line.split(":")[0] for line in result.removed] == [f"request log of {day(12)}"]
        assert (old.exists(), young.exists()) == (False, True)
        assert bench.store.dates() == (day(12), day(13))

    def test_a_day_without_a_record_is_never_removed(self, bench: Bench) -> None:
        kept = bench.log(day(2))
        bench.log(day(19))
        bench.worker.fails_on = {day(2)}
        bench.run(day(2), day(19))
        bench.run()
        assert kept.exists()

    def test_statistics_go_only_if_that_is_asked_for(self, bench: Bench) -> None:
        bench.log("2015-09-01")
        bench.log(day(19))
        bench.run("2015-09-01")
        bench.run(day(19))
        assert bench.store.has("2015-09-01")
        bench.configure(retention={"log_days": 7, "statistics_days": 90})
        assert bench.run(day(19)).removed == ("night 2015-09-01",)
        assert bench.store.dates() == (day(19),)


class TestActing:
    """`--act`."""

    @pytest.fixture(autouse=True)
    def _live(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(nightly.night_acting, "_is_live", lambda *_: True)
        bench.log(day(12), wrong=9)

    def records(self, bench: Bench) -> list[Any]:
        return list(bench.project.releases.records())

    def test_without_act_everything_is_proposed(self, bench: Bench) -> None:
        record = bench.run(day(12)).records[0]
        assert record.outcome is Outcome.BLOCK
        assert {a.state for a in record.actions} == {"proposed"}
        assert self.records(bench) == []

    def test_without_act_the_cache_is_warmed_anew_from_the_newest_night_alone(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        warmed = []

        def rewarm(_project: Any, record: NightRecord, _action: Any) -> str:
            warmed.append(record.date)
            return "a snapshot"

        monkeypatch.setattr(nightly.night_acting, "_rewarm", rewarm)
        bench.log(day(13))
        bench.run(day(12), day(13))
        with bench.store.writing():
            for date in (day(12), day(13)):
                folder = bench.store.path(date, "night.json").parent
                files = {path.name: path.read_bytes() for path in folder.iterdir()}
                fallen = (NightAction("rewarm", "coverage has fallen"),)
                record = replace(bench.store.record(date), actions=fallen)
                bench.store.commit(date, {**files, "night.json": to_json(record).encode()})
        assert bench.run(day(12), day(13)).acted == (day(13),)
        assert bench.run(day(12), day(13)).acted == ()
        assert warmed == [day(13)]

    def test_wrong_cached_answers_are_withdrawn_once(self, bench: Bench) -> None:
        record = bench.run(day(12), act=True).records[0]
        (written,) = self.records(bench)
        assert (written.cause.value, record.actions[0].state) == ("DATA_DRIFT", "done")
        assert record.actions[0].result == written.record_id
        assert written.reason.startswith(f"night {day(12)}: ")
        again = bench.run(day(12), act=True)
        assert again.acted == ()
        assert again.unchanged == (day(12),)
        assert self.records(bench) == [written]

    def test_a_kill_between_the_record_and_the_night_writes_no_second_record(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Recorder, "changed", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                bench.run(day(12), act=True)
        record = bench.run(day(12), act=True).records[0]
        (written,) = self.records(bench)
        assert record.actions[0].result == written.record_id

    def test_what_was_done_stays_done_when_the_night_is_judged_again(self, bench: Bench) -> None:
        bench.run(day(12), act=True)
        bench.label(day(12))
        record = bench.run(day(12)).records[0]
        assert record.log.labelled
        assert record.actions[0].state == "done"

    def test_a_version_that_is_not_live_any_more_is_left(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(nightly.night_acting, "_is_live", lambda *_: False)
        bench.run(day(12), act=True)
        assert self.records(bench) == []


def test_every_revision_reaches_ml_metadata_once(bench: Bench) -> None:
    for number in (10, 11):
        bench.log(day(number), skew=True)
    bench.run(day(11))
    bench.run(day(10))
    bench.run(day(10))
    project = bench.project
    ledger = MlmdNightLedger(connection(project.config, project.workspace))
    try:
        assert ledger.revisions("taxi") == {day(10): 1, day(11): 2}
        assert ledger.record("taxi", day(11)) == bench.store.record(day(11))
        with ledger._store.reading() as store:
            found = store.get_artifacts_by_type("tfx_encore.NightDecision")
        assert sorted(a.name for a in found) == [
            f"taxi/{day(10)}/1", f"taxi/{day(11)}/1", f"taxi/{day(11)}/2",
        ]  # fmt: skip
    finally:
        ledger.close()


def test_a_failed_action_is_said_and_tried_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nightly.night_acting, "_is_live", lambda *_: True)
    bench.log(day(12), wrong=9)

    def refused(*_: Any) -> str:
        raise DataError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(nightly.night_acting, "_invalidate", refused)
        (action, *_) = bench.run(day(12), act=True).records[0].actions
    assert (action.state, action.result) == ("failed", "the disk is full")
    (action, *_) = bench.run(day(12), act=True).records[0].actions
    assert action.state == "done"
    assert replace(action, state="proposed", result="").kind == "invalidate_slice"
