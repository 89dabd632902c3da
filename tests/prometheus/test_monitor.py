"""`encore monitor`: what it shows, what it reads again, what it does about damage."""

from __future__ import annotations

import dataclasses
import json
import logging
import signal
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from tfx_encore.metadata.journal_ledger import JournalLedger
from tfx_encore.metadata.night_store import RECORD, NightStore
from tfx_encore.metadata.release_push import PushRequest
from tfx_encore.metadata.releases import ReleaseDirectory
from tfx_encore.monitoring.night_metrics import Limits, end_of
from tfx_encore.pipeline.commands.monitor import command
from tfx_encore.pipeline.commands.options import open_project
from tfx_encore.pipeline.monitor import Monitor, Part, monitor_of_project, monitor_of_releases
from tfx_encore.pipeline.monitor_server import application
from tfx_encore.pipeline.monitor_sources import (
    Clocked,
    DiskSource,
    NightsSource,
    RecordsSource,
    ReleasesSource,
)
from tfx_encore.pipeline.plan import RunResult
from tfx_encore.pipeline.run import save_result
from tfx_encore.schemas.errors import ConfigError
from tfx_encore.schemas.records import Cause, RecordDraft, SelectAll

HOUR = 3600.0


@dataclasses.dataclass
class Now:
    """A clock that stands still."""

    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


def shown(monitor: Monitor) -> dict[tuple[str, ...], float]:
    """Name and label values -> value."""
    return {(s.family.name, *s.labels): s.value for s in monitor.samples()}


def parsed(page: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Releases of a model with one version."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "saved_model.pb").write_bytes(b"a graph")
    ReleaseDirectory(tmp_path / "releases", "taxi").push(PushRequest(tmp_path / "model"))
    return tmp_path / "releases"


@pytest.fixture
def now() -> Now:
    return Now(end_of("2016-03-01") + 13 * HOUR)


@pytest.fixture
def nights(root: Path, story: Any, now: Now) -> Monitor:
    """Three nights up to the first of March."""
    store = NightStore(root, "taxi")
    for number, date in ((10, "2016-02-28"), (11, "2016-02-29"), (12, "2016-03-01")):
        story.commit(store, story.story_of(number, date))
    return Monitor([Part("taxi", "nights", NightsSource(store, Limits(), Clocked(now)))])


def test_the_newest_night_is_shown_with_its_age(nights: Monitor, now: Now) -> None:
    page = shown(nights)
    assert page["encore_nights", "taxi"] == 3
    assert page["encore_night_newest_end_timestamp_seconds", "taxi"] == end_of("2016-03-01")
    assert page["encore_night_age_seconds", "taxi"] == 13 * HOUR
    assert page["encore_nights_missing", "taxi"] == 0


def test_a_night_counts_as_missing_once_it_is_due(nights: Monitor, now: Now) -> None:
    now.seconds = end_of("2016-03-02") + 11 * HOUR
    assert shown(nights)["encore_nights_missing", "taxi"] == 0
    now.seconds = end_of("2016-03-02") + 12 * HOUR
    assert shown(nights)["encore_nights_missing", "taxi"] == 1


def test_a_hole_between_nights_is_counted(
    nights: Monitor, root: Path, story: Any, now: Now
) -> None:
    store = NightStore(root, "taxi")
    story.commit(store, story.story_of(16, "2016-03-05"))
    now.seconds = end_of("2016-03-05") + HOUR
    assert shown(nights)["encore_nights_missing", "taxi"] == 3


def test_a_night_is_read_once_and_again_when_it_has_changed(
    nights: Monitor, root: Path, story: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []
    read = NightStore.record
    monkeypatch.setattr(NightStore, "record", lambda s, d: reads.append(d) or read(s, d))
    for _ in range(3):
        assert shown(nights)["encore_night_trend_alarm", "taxi", "company=Sun Taxi", "recall"] == 0
    assert reads == ["2016-03-01"]
    alarmed = story.Story(59, "2016-03-01", alarm=True)
    story.commit(NightStore(root, "taxi"), alarmed, revision=2)
    page = shown(nights)
    assert page["encore_night_trend_alarm", "taxi", "company=Sun Taxi", "recall"] == 1
    assert page["encore_night_revision", "taxi"] == 2
    assert len(reads) == 2


def test_a_damaged_night_is_told_and_the_rest_still_shown(
    root: Path, nights: Monitor, now: Now, caplog: pytest.LogCaptureFixture
) -> None:
    # Heard whatever other tests of this process did to logging.
    caplog.set_level(logging.INFO, logger="tfx_encore.monitor")
    releases = Part("taxi", "releases", ReleasesSource(ReleaseDirectory(root, "taxi")))
    monitor = Monitor([*nights.parts, releases])
    path = NightStore(root, "taxi").path("2016-03-01", RECORD)
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(b"{")
    for _ in range(2):
        page = shown(monitor)
    assert page["encore_monitor_problems", "taxi", "nights"] == 1
    assert page["encore_monitor_problems", "taxi", "releases"] == 0
    assert page["encore_release_version", "taxi", "stable"] == 1
    assert ("encore_nights", "taxi") not in page
    assert "encore nightly --date 2016-03-01" in monitor.problems["taxi", "nights"]
    assert caplog.text.count("night.json") == 1
    path.write_bytes(content)
    assert shown(monitor)["encore_monitor_problems", "taxi", "nights"] == 0
    assert monitor.problems == {}


def test_versions_labels_and_records_are_shown(root: Path, now: Now) -> None:
    directory, ledger = ReleaseDirectory(root, "taxi"), JournalLedger(root)
    opened: list[int] = []

    def open_ledger() -> Any:
        opened.append(1)
        return nullcontext(ledger)

    parts = [
        Part("taxi", "releases", ReleasesSource(directory)),
        Part("taxi", "records", RecordsSource(directory, open_ledger, Clocked(now))),
    ]
    monitor = Monitor(parts)
    assert shown(monitor)["encore_invalidation_pending_seconds", "taxi"] == 0
    written = _append(ledger)
    now.seconds = written + 100
    # Nobody ever acknowledged anything: then no gateway is behind.
    assert shown(monitor)["encore_invalidation_pending_seconds", "taxi"] == 0
    ledger.acknowledge(ledger.records("taxi")[0], "gateway@here")
    now.seconds += 20
    page = shown(monitor)
    assert page["encore_invalidation_acknowledged_sequence", "taxi", "gateway@here"] == 1
    assert page["encore_invalidation_acknowledge_seconds", "taxi", "gateway@here"] < 60
    assert page["encore_invalidation_pending_seconds", "taxi"] == 0
    written = _append(ledger)
    now.seconds = written + 400
    page = shown(monitor)
    assert page["encore_invalidation_pending_seconds", "taxi"] == pytest.approx(400, abs=1)
    assert page["encore_invalidation_sequence", "taxi"] == 2
    assert page["encore_invalidation_records_total", "taxi", "MANUAL"] == 2
    assert page["encore_invalidation_records_total", "taxi", "ERASURE"] == 0
    before = len(opened)
    shown(monitor)
    assert len(opened) == before  # not at every look


def _append(ledger: JournalLedger) -> float:
    from tfx_encore.monitoring.night_metrics import seconds_of

    record = ledger.append(RecordDraft("taxi", Cause.MANUAL, SelectAll(), "test", "test"))
    return seconds_of(record.created_at) or 0.0


def test_disk_is_counted_once_for_each_place(tmp_path: Path, now: Now) -> None:
    releases = tmp_path / "releases"
    releases.mkdir()
    (tmp_path / "here").write_bytes(b"x" * 5000)
    (releases / "there").write_bytes(b"x" * 50_000)
    (tmp_path / "again").hardlink_to(tmp_path / "here")
    places = {"workspace": tmp_path, "releases": releases, "requests": tmp_path / "absent"}
    page = shown(Monitor([Part("", "disk", DiskSource(places, Clocked(now)))]))
    assert 5000 <= page["encore_disk_used_bytes", "workspace"] < 50_000
    assert page["encore_disk_used_bytes", "releases"] >= 50_000
    assert ("encore_disk_used_bytes", "requests") not in page
    free, size = (page[f"encore_disk_{n}_bytes", "workspace"] for n in ("free", "size"))
    assert 0 < free < size


def test_a_project_is_shown_with_the_ledger_in_ml_metadata(project_file: Path) -> None:
    project = open_project(str(project_file))
    (project_file.parent / "model").mkdir()
    (project_file.parent / "model" / "saved_model.pb").write_bytes(b"a graph")
    project.releases.push(PushRequest(project_file.parent / "model"))
    draft = RecordDraft("taxi", Cause.MANUAL, SelectAll(), "test", "test")
    project.releases.append_record(draft)
    monitor = monitor_of_project(project)
    page = shown(monitor)
    assert monitor.problems == {}
    assert page["encore_invalidation_sequence", "taxi"] == 1
    assert page["encore_release_version", "taxi", "stable"] == 1
    assert page["encore_disk_used_bytes", "releases"] > 0


def test_the_newest_run_is_shown(project_file: Path) -> None:
    project = open_project(str(project_file))
    runs = project.workspace.runs
    assert shown(monitor_of_project(project))["encore_monitor_problems", "taxi", "runs"] == 0
    runs.mkdir()
    for number, state in ((1, "pushed"), (2, "refused")):
        run_id = f"2026110{number}T000000000000-span{number}"
        result = RunResult(model="taxi", span=number, run_id=run_id, state=state, reason="")
        save_result(project, result)
    (runs / "20261109T000000000000-span3.plan.json").write_text("{}")
    (runs / "20261109T000000000000-night.json").write_text("{}")
    page = shown(monitor_of_project(project))
    assert page["encore_run_span", "taxi"] == 2
    assert page["encore_run_state", "taxi", "refused"] == 1
    assert page["encore_run_state", "taxi", "pushed"] == 0


def test_a_page_is_given_in_the_format_that_is_asked_for(nights: Monitor) -> None:
    client = TestClient(application(nights))
    plain = client.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=")
    found = parsed(plain.text)
    assert found["encore_night_slice_cases"]
    open_ = client.get("/metrics", headers={"accept": "application/openmetrics-text"})
    assert open_.headers["content-type"].startswith("application/openmetrics-text")
    assert open_.text.endswith("# EOF\n")
    assert client.get("/healthz").json() == {"status": "ok", "problems": {}}


def test_a_page_never_repeats_a_series(nights: Monitor) -> None:
    page = TestClient(application(nights)).get("/metrics").text
    series = [line.rpartition(" ")[0] for line in page.splitlines() if not line.startswith("#")]
    assert len(series) == len(set(series)) > 200


def test_the_command_serves_until_it_is_told_to_end(
    root: Path, programs: Any, until: Any, get: Any, start_monitor: Any
) -> None:
    address = start_monitor("--releases", str(root))
    assert 'encore_release_version{label="stable",model="taxi"} 1.0' in get(
        f"http://{address}/metrics"
    )
    assert json.loads(get(f"http://{address}/healthz"))["status"] == "ok"
    (process,) = programs._running
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) in (0, -signal.SIGTERM)


def test_once_prints_the_page_and_ends(root: Path) -> None:
    run = CliRunner().invoke(command, ["--releases", str(root), "--once"])
    assert run.exit_code == 0, run.output
    assert parsed(run.output)["encore_release_version"] == [
        ({"model": "taxi", "label": "stable"}, 1.0)
    ]


def test_an_address_that_is_taken_is_said(root: Path, start_monitor: Any) -> None:
    port = start_monitor("--releases", str(root)).rpartition(":")[2]
    run = CliRunner().invoke(command, ["--releases", str(root), "--port", port])
    assert isinstance(run.exception, ConfigError)
    assert f"127.0.0.1:{port} cannot be listened on" in str(run.exception)


@pytest.mark.parametrize("args", [["--model", "x"], ["--config", "a", "--releases", "b"]])
def test_what_contradicts_itself_is_refused(args: list[str]) -> None:
    run = CliRunner().invoke(command, args)
    assert isinstance(run.exception, ConfigError)


def test_a_folder_without_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no model"):
        monitor_of_releases(tmp_path, None)


def test_files_are_written_for_prometheus_and_grafana(tmp_path: Path) -> None:
    run = CliRunner().invoke(command, ["--write-files", str(tmp_path)])
    assert run.exit_code == 0
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert {
        "prometheus/rules/gateway.yaml",
        "prometheus/rules/nights.yaml",
        "prometheus/prometheus.yaml",
        "prometheus/alertmanager.yaml",
        "grafana/dashboards/encore-quality.json",
        "grafana/provisioning/datasources.yaml",
    } <= names
