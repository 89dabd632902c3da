"""Nights from real log files through the real TFX pipeline and the command."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from openlineage.client.event_v2 import RunEvent
from openlineage.client.serde import Serde

from tfx_encore.components.night_recorder.recording import content_of
from tfx_encore.metadata.mlmd_night_ledger import MlmdNightLedger
from tfx_encore.metadata.night_store import LINEAGE, RECORD, NightStore
from tfx_encore.pipeline.commands.options import open_project
from tfx_encore.pipeline.mlmd import connection
from tfx_encore.schemas.decisions import Decision, Outcome
from tfx_encore.schemas.nights import NightAction, NightRecord
from tfx_encore.schemas.serial import from_json, to_json

FIRST, SECOND, THIRD = "2016-01-11", "2016-01-12", "2016-01-13"


def store_of(folder: Path) -> NightStore:
    return NightStore(folder / ".encore" / "releases", "taxi")


def gate(record: NightRecord, name: str) -> Any:
    return next(decision for decision in record.decisions if decision.gate == name)


def test_a_range_of_nights_is_evaluated_in_one_run(evaluated: Any) -> None:
    assert evaluated.said.code == 0, evaluated.said.err
    assert f"night {FIRST} (1 of 3)" in evaluated.said.out
    assert f"night {THIRD} (3 of 3)" in evaluated.said.out
    assert "✓ NightRecorder" in evaluated.said.out
    assert store_of(evaluated.folder).dates() == (FIRST, SECOND, THIRD)


def test_a_night_says_what_was_read_by_whom_and_how_well(evaluated: Any) -> None:
    record = store_of(evaluated.folder).record(FIRST)
    assert (record.log.rows, record.log.labelled, record.version) == (500, 500, 2)
    assert record.log.hit_rate == pytest.approx(2 / 3, abs=0.01)
    assert gate(record, "cached_path").outcome is Outcome.OK
    accuracy = next(m for m in record.metrics if m.metric == "accuracy" and not m.features)
    assert 0.7 < accuracy.interval[0] < accuracy.value < accuracy.interval[1] < 1
    assert {d.gate for d in record.decisions} == {
        "log", "skew", "drift", "slices", "cached_path", "trend", "estimate",
    }  # fmt: skip


def test_wrong_answers_from_the_cache_are_found_and_named(evaluated: Any) -> None:
    record = store_of(evaluated.folder).record(SECOND)
    assert record.outcome is Outcome.BLOCK
    assert gate(record, "cached_path").outcome is Outcome.BLOCK
    assert record.actions[0].kind == "invalidate_slice"
    assert record.actions[0].features == {"payment_type": "Cash"}


def test_a_night_of_plain_tensorflow_serving_logs_works_without_the_gateway(evaluated: Any) -> None:
    store = store_of(evaluated.folder)
    record = store.record(THIRD)
    assert (record.log.rows, record.version) == (500, 2)
    assert record.log.fingerprints == {}
    assert record.fingerprint == store.record(FIRST).fingerprint
    assert record.log.rows_by_path == {"unknown": 500}
    assert record.estimates, "without labels performance is estimated"
    assert gate(record, "skew").outcome in {Outcome.OK, Outcome.WARN}


def test_nights_are_named_by_the_command_with_what_is_wrong_since_when(
    evaluated: Any, encore: Any
) -> None:
    records = encore(evaluated.folder, "nights", "--json").json
    assert [record["date"] for record in records] == [FIRST, SECOND, THIRD]
    alarms = [a for a in records[1]["alarms"] if a["gate"] == "cached_path"]
    assert {(a["outcome"], a["since"]) for a in alarms} == {("BLOCK", SECOND)}
    table = encore(evaluated.folder, "nights", "--last", "2").out
    assert FIRST not in table.split("\n\n")[0]
    assert "cached_path!" in table
    assert "invalidate slice" in table


def test_why_shows_a_night_and_still_a_version(evaluated: Any, encore: Any) -> None:
    page = encore(evaluated.folder, "why", SECOND)
    assert f"night {SECOND}" in page.out
    assert "request log" in page.out
    assert "payment_type=Cash" in page.out
    document = encore(evaluated.folder, "why", SECOND, "--json").json
    assert document["inputs"]["log"][0]["digest"].startswith("sha256:")
    assert document["release"]["version"] == 2
    assert document["looked_at"]["trend"] == [FIRST]
    assert "version 2" in encore(evaluated.folder, "why", "2").out
    assert encore(evaluated.folder, "why", "2016-02-30").code == 1
    assert encore(evaluated.folder, "why", "soon").code == 2


def test_the_lineage_event_can_be_read_by_openlineage(evaluated: Any) -> None:
    store = store_of(evaluated.folder)
    document = json.loads(store.path(SECOND, LINEAGE).read_text())
    assert document["eventType"] == "COMPLETE"
    assert document["schemaURL"].endswith("OpenLineage.json#/$defs/RunEvent")
    assert {"runId", "facets"} == set(document["run"])
    assert document["run"]["facets"]["nominalTime"]["nominalStartTime"] == f"{SECOND}T00:00:00Z"
    log, labels, release = document["inputs"]
    assert log["inputFacets"]["inputStatistics"]["rowCount"] == 500
    failed = [
        check
        for check in log["inputFacets"]["dataQualityAssertions"]["assertions"]
        if not check["success"]
    ]
    assert any(check["assertion"].startswith("cached_path.") for check in failed)
    assert labels["namespace"] == "file"
    version = release["facets"]["version"]["datasetVersion"]
    assert version == store.record(SECOND).fingerprint
    (output,) = document["outputs"]
    assert output["name"].endswith(f"nights/{SECOND}")
    # Every facet says who made it and by which schema, as the specification demands.
    assert not list(_facets_without_schema(document))
    event = RunEvent(**_event_fields(document))
    assert Serde.to_dict(event)["eventTime"] == document["eventTime"]


def _event_fields(document: dict[str, Any]) -> dict[str, Any]:
    from openlineage.client.event_v2 import Job, Run, RunState

    return {
        "eventType": RunState(document["eventType"]),
        "eventTime": document["eventTime"],
        "run": Run(runId=document["run"]["runId"]),
        "job": Job(namespace=document["job"]["namespace"], name=document["job"]["name"]),
    }


def _facets_without_schema(value: Any) -> Any:
    if isinstance(value, dict):
        for key, item in value.items():
            if key.lower().endswith("facets"):
                yield from (n for n, f in item.items() if not {"_producer", "_schemaURL"} <= set(f))
            yield from _facets_without_schema(item)
    elif isinstance(value, list):
        for item in value:
            yield from _facets_without_schema(item)


def test_ml_metadata_holds_each_night_with_what_it_was_made_from(evaluated: Any) -> None:
    project = open_project(str(evaluated.folder / "encore.yaml"))
    ledger = MlmdNightLedger(connection(project.config, project.workspace))
    try:
        assert ledger.revisions("taxi") == {FIRST: 1, SECOND: 1, THIRD: 1}
        assert ledger.record("taxi", SECOND) == store_of(evaluated.folder).record(SECOND)
        with ledger._store.reading() as store:
            kinds = {kind.name for kind in store.get_artifact_types()}
    finally:
        ledger.close()
    assert {"tfx_encore.NightStatistics", "tfx_encore.TrendReport"} <= kinds


@pytest.mark.parametrize(
    ("component", "name"),
    [("SkewValidator", "skew"), ("SeasonalDriftValidator", "drift"), ("TrendMonitor", "trend")],
)
def test_the_record_says_what_the_components_said(
    evaluated: Any, component: str, name: str
) -> None:
    for date in (FIRST, SECOND, THIRD):
        folder = evaluated.folder / ".encore" / "artifacts" / "nights" / date / component
        (file,) = folder.glob("report/*/decision.json")
        said = from_json(Decision, file.read_bytes(), source=str(file))
        assert gate(store_of(evaluated.folder).record(date), name) == said


@pytest.fixture
def night_copy(evaluated: Any, tmp_path: Path) -> Path:
    """The evaluated project, to be changed. It lies elsewhere: digests must not notice."""
    folder = tmp_path / "taxi"
    shutil.copytree(evaluated.folder, folder)
    return folder


def test_nothing_is_done_where_nothing_is_new_wherever_the_project_lies(
    night_copy: Path, encore: Any
) -> None:
    said = encore(night_copy, "nightly", "--from", FIRST, "--to", THIRD, "--json")
    assert said.code == 0, said.err
    assert (said.json["evaluated"], said.json["unchanged"]) == ([], [FIRST, SECOND, THIRD])
    assert encore(night_copy, "nightly", "--date", SECOND, "--fail-on", "BLOCK").code == 3


def test_acting_withdraws_the_slice_with_wrong_answers(night_copy: Path, encore: Any) -> None:
    said = encore(night_copy, "nightly", "--date", SECOND, "--act")
    assert said.code == 0, said.err
    (record,) = [
        r for r in encore(night_copy, "records", "--json").json if r["cause"] == "DATA_DRIFT"
    ]
    assert record["selector"] == {"kind": "slice", "features": {"payment_type": "Cash"}}
    assert f"night {SECOND}" in record["reason"]


def test_wrong_usage_is_said(evaluated: Any, encore: Any) -> None:
    folder = evaluated.folder
    assert encore(folder, "nightly", "--from", FIRST).code == 2
    assert encore(folder, "nightly", "--from", THIRD, "--to", FIRST).code == 2
    assert encore(folder, "nightly", "--date", FIRST, "--to", FIRST).code == 2
    said = encore(folder, "nightly", "--date", "2015-01-01")
    assert (said.code, len(said.err.splitlines())) == (1, 1)
    assert "no requests of taxi are logged on 2015-01-01" in said.err


@pytest.mark.slow
def test_backfill_of_real_rows_equals_each_night_on_its_day(night_copy: Path, encore: Any) -> None:
    store = store_of(night_copy)
    together = {record.date: content_of(record) for record in store.records()}
    shutil.rmtree(store.home)
    for date in (THIRD, FIRST, SECOND):
        assert encore(night_copy, "nightly", "--date", date).code == 0
    assert {record.date: content_of(record) for record in store.records()} == together


@pytest.mark.slow
def test_acting_warms_the_cache_from_the_nights_traffic(night_copy: Path, encore: Any) -> None:
    store = store_of(night_copy)
    record = replace(store.record(FIRST), actions=(NightAction("rewarm", "coverage has fallen"),))
    folder = store.path(FIRST, RECORD).parent
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    with store.writing():
        store.commit(FIRST, {**files, RECORD: to_json(record).encode()})

    said = encore(night_copy, "nightly", "--date", FIRST, "--act", "--json")
    assert said.code == 0, said.err
    (action,) = store.record(FIRST).actions
    assert action.state == "done", action.result
    assert Path(action.result).is_dir()
    assert FIRST in action.result


@pytest.mark.slow
def test_labels_that_come_late_are_used(night_copy: Path, encore: Any) -> None:
    labels = night_copy / "labels" / f"{SECOND}.csv"
    labels.write_text(labels.read_text().replace(",0\n", ",1\n"))
    said = encore(night_copy, "nightly", "--date", SECOND, "--json")
    assert said.json["evaluated"] == [SECOND]
    assert said.json["judged_again"] == [THIRD]
    assert from_json(NightRecord, json.dumps(said.json["records"][0])).revision == 2


@pytest.mark.slow
def test_a_worker_that_is_killed_leaves_the_old_revision(night_copy: Path) -> None:
    store = store_of(night_copy)
    before = store.record(SECOND)
    command = subprocess.Popen(
        [str(Path(sys.executable).parent / "encore"), "nightly", "--date", SECOND, "--force"],
        cwd=night_copy,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.kill(_worker_of(command.pid), signal.SIGKILL)
    _, said = command.communicate(timeout=60)
    assert (command.returncode, "was killed" in said) == (1, True)
    assert store.record(SECOND) == before


def _worker_of(command: int) -> int:
    children = Path(f"/proc/{command}/task/{command}/children")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for child in children.read_text().split():
            if b"pipeline.nightly_worker" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
        time.sleep(0.05)
    raise AssertionError("no worker was started")
