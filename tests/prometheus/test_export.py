"""Metrics of runs and nights into a textfile folder or to a Pushgateway, and when that fails."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import ValidationError

from tfx_encore.metadata.night_store import NightStore
from tfx_encore.monitoring import metric_families as families
from tfx_encore.monitoring.exporters import page_of, write_textfile
from tfx_encore.monitoring.metric_families import Sample
from tfx_encore.pipeline.commands.options import open_project
from tfx_encore.pipeline.metrics_export import export, failed_run
from tfx_encore.pipeline.plan import RunResult, StepResult
from tfx_encore.pipeline.run import Project
from tfx_encore.schemas.decisions import Decision, Outcome
from tfx_encore.schemas.errors import StepFailedError
from tfx_encore.schemas.metrics_policy import MetricsPolicy

RUN = RunResult(
    model="taxi",
    span=2,
    run_id="r",
    state="refused",
    reason="drift",
    decisions=(Decision("drift", Outcome.BLOCK, "drift"),),
    steps=(StepResult("Trainer", "ran", 8.5),),
    seconds=40.0,
    peak_memory_mb=1.0,
)


@pytest.fixture
def project(project_file: Path) -> Project:
    return open_project(str(project_file))


def values(file: Path) -> dict[tuple[str, tuple[str, ...]], float]:
    return {
        (s.name, tuple(v for k, v in sorted(s.labels.items()) if k != "model")): s.value
        for family in text_string_to_metric_families(file.read_text())
        for s in family.samples
    }


def test_nothing_is_written_unless_a_place_is_named(project: Project, tmp_path: Path) -> None:
    before = set(tmp_path.rglob("*"))
    assert export(project, [RUN]) == ()
    assert set(tmp_path.rglob("*")) == before


def test_a_run_is_written_where_node_exporter_reads(project: Project, tmp_path: Path) -> None:
    policy = MetricsPolicy(textfile_dir="textfiles")
    assert export(project, [RUN], policy) == ()
    (file,) = (tmp_path / "textfiles").iterdir()
    assert file.name == "encore_run_taxi.prom"
    assert stat.S_IMODE(file.stat().st_mode) & 0o044 == 0o044  # node_exporter is another user
    found = values(file)
    assert found["encore_run_state", ("refused",)] == 1
    assert found["encore_run_state", ("pushed",)] == 0
    assert found["encore_run_step_seconds", ("Trainer",)] == 8.5
    assert found["encore_run_peak_memory_bytes", ()] == 1 << 20
    assert found["encore_run_gate_outcome", ("drift", "BLOCK")] == 1


def test_a_run_that_ended_with_an_error_can_be_told_of(project: Project, tmp_path: Path) -> None:
    result = failed_run(project, 4, StepFailedError("Trainer", "no rows", "log"))
    assert export(project, [result], MetricsPolicy(textfile_dir="t")) == ()
    found = values(tmp_path / "t" / "encore_run_taxi.prom")
    assert found["encore_run_state", ("failed",)] == 1
    assert found["encore_run_span", ()] == 4


def test_of_nights_the_newest_in_the_store_is_written(
    project: Project, tmp_path: Path, story: Any
) -> None:
    store = NightStore(project.workspace.releases, "taxi")
    older = story.commit(store, story.Story(3, "2016-01-03"))
    story.commit(store, story.Story(59, "2016-02-28", alarm=True))
    # Only an older night has run, to make up for it.
    assert export(project, [older], MetricsPolicy(textfile_dir="t")) == ()
    found = values(tmp_path / "t" / "encore_night_taxi.prom")
    assert found["encore_night_outcome", ("BLOCK",)] == 1
    assert found["encore_night_recomputed_rows", ("hit",)] == 700


def test_places_that_cannot_be_reached_are_told_and_fail_nothing(
    project: Project, tmp_path: Path, free_port: Any
) -> None:
    (tmp_path / "file").touch()
    address = f"http://127.0.0.1:{free_port()}"
    policy = MetricsPolicy(textfile_dir="file", pushgateway=address, timeout_seconds=2)
    folder, gateway = export(project, [RUN], policy)
    assert "metrics.textfile_dir" in folder
    assert address in gateway
    assert "metrics.pushgateway" in gateway


def test_a_file_that_is_replaced_leaves_no_other_behind(tmp_path: Path) -> None:
    for number in (1.0, 2.0):
        write_textfile(tmp_path, "x", [Sample(families.NIGHTS, ("taxi",), number)])
    assert [path.name for path in tmp_path.iterdir()] == ["x.prom"]
    assert values(tmp_path / "x.prom") == {("encore_nights", ()): 2.0}


def test_a_label_may_hold_anything() -> None:
    odd = 'a"b\\c\nd 出租车'
    page = page_of([Sample(families.NIGHTS, (odd,), 1.0)]).decode()
    (family,) = text_string_to_metric_families(page)
    assert family.samples[0].labels == {"model": odd}


@pytest.mark.parametrize("address", ["localhost:9091", "ftp://x", "http://a:" + "b@c:9091"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ValidationError):
        MetricsPolicy(pushgateway=address)
