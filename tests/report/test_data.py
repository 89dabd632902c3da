"""Reading a report from what a release or a refused run left behind."""

import dataclasses
from types import SimpleNamespace

import pytest

from tfx_encore.pipeline.report.data import StepTime, load, load_refused
from tfx_encore.schemas.decisions import Decision, Outcome
from tfx_encore.schemas.errors import DataError, VersionNotFoundError
from tfx_encore.schemas.serial import to_json


def _put(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "[" + ",".join(map(to_json, value)) + "]" if isinstance(value, tuple) else to_json(value)
    )


@pytest.fixture
def evidence(tmp_path, released):
    folder = tmp_path / "taxi" / "2.evidence"
    _put(folder / "manifest.json", released.manifest)
    _put(folder / "drift_report" / "decision.json", released.decisions[0])
    _put(folder / "drift_report" / "charts.json", released.charts)
    _put(folder / "slice_report" / "decision.json", released.decisions[1])
    _put(folder / "coverage" / "coverage.json", released.coverage)
    return folder


def test_a_release_reads_back_as_it_was_written(evidence, released):
    read = load(
        evidence,
        labels=released.labels,
        outcome_line=released.outcome_line,
        records=released.records,
        steps=released.steps,
        written_at=released.written_at,
    )
    assert read == released


def test_missing_parts_leave_gaps_and_no_error(tmp_path):
    folder = tmp_path / "taxi" / "7.evidence"
    folder.mkdir(parents=True)
    read = load(folder)
    assert (read.model, read.version) == ("taxi", 7)
    assert (read.decisions, read.charts, read.coverage, read.manifest) == ((), (), None, None)


def test_a_missing_release_names_those_that_exist(evidence):
    with pytest.raises(VersionNotFoundError, match=r"2\.evidence"):
        load(evidence.parent / "9.evidence")


def test_a_truncated_part_is_an_error_that_names_the_file(evidence):
    part = evidence / "coverage" / "coverage.json"
    part.write_text(part.read_text()[:40])
    with pytest.raises(DataError, match=r"coverage\.json"):
        load(evidence)


def test_a_part_that_is_a_directory_is_an_error_that_names_it(evidence):
    (evidence / "manifest.json").unlink()
    (evidence / "manifest.json").mkdir()
    with pytest.raises(DataError, match=r"manifest\.json: cannot be read"):
        load(evidence)


def test_a_manifest_that_keeps_decisions_short_does_not_hide_the_evidence(evidence, released):
    short = tuple(dataclasses.replace(item, evidence=()) for item in released.decisions)
    _put(evidence / "manifest.json", dataclasses.replace(released.manifest, decisions=short))
    assert load(evidence).decisions == released.decisions


def test_decisions_of_ones_own_gates_come_from_the_manifest(evidence, released):
    own = Decision("privacy_review", Outcome.OK, "signed off")
    _put(
        evidence / "manifest.json",
        dataclasses.replace(released.manifest, decisions=(own, *released.decisions)),
    )
    assert [item.gate for item in load(evidence).decisions] == [
        "privacy_review",
        "drift",
        "sliced_evaluation",
    ]


def test_a_refused_run_is_read_from_its_components_outputs(tmp_path, refused):
    by_gate = {item.gate: item for item in refused.decisions}
    _put(tmp_path / "drift" / "decision.json", by_gate["drift"])
    _put(tmp_path / "drift" / "charts.json", refused.charts)
    _put(tmp_path / "slices" / "decision.json", by_gate["sliced_evaluation"])
    read = load_refused(
        "taxi",
        drift_report=tmp_path / "drift",
        slice_report=tmp_path / "slices",
        steps=[StepTime("VersionedPusher", 0.1, "failed")],
        lineage={"model": 23},
    )
    assert read.version is None
    assert {item.gate for item in read.blocked} == {"drift", "sliced_evaluation"}
    assert read.charts == refused.charts
    assert [step.name for step in read.failed_steps] == ["VersionedPusher"]


def test_steps_are_taken_from_whatever_has_a_name_a_time_and_a_state():
    step = SimpleNamespace(name="Trainer", seconds=8.2, state="cached", other="ignored")
    read = load_refused("taxi", steps=[step], anomalies=["fare (train): missing"])
    assert read.steps == (StepTime("Trainer", 8.2, "cached"),)
    assert read.anomalies == ("fare (train): missing",)


def test_a_run_that_failed_before_any_gate_has_a_report_too(tmp_path):
    read = load_refused("taxi", drift_report=tmp_path / "never-written")
    assert (read.decisions, read.charts) == ((), ())
