"""LiveRelease gives what is live, or says that nothing is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2
from tfx import types
from tfx.components.statistics_gen import stats_artifact_utils
from tfx.types import standard_artifacts
from tfx.utils import io_utils, path_utils

from tfx_encore.components.live_release.component import LiveRelease
from tfx_encore.components.live_release.executor import Executor
from tfx_encore.metadata.fingerprint import fingerprint_saved_model
from tfx_encore.metadata.release_push import PushRequest
from tfx_encore.metadata.releases import ReleaseDirectory
from tfx_encore.schemas.artifacts import RequestLogReport, SliceReport
from tfx_encore.schemas.errors import ConfigError, ReleaseCorruptError
from tfx_encore.schemas.nights import LogReport
from tfx_encore.schemas.release import Provenance, SpanDigest
from tfx_encore.schemas.serial import to_json

Outputs = dict[str, list[types.Artifact]]


@pytest.fixture
def outputs(tmp_path: Path) -> Outputs:
    made: Outputs = {}
    for key, kind in (
        ("model", standard_artifacts.Model),
        ("statistics", standard_artifacts.ExampleStatistics),
        ("schema", standard_artifacts.Schema),
        ("slice_report", SliceReport),
    ):
        artifact = kind()
        artifact.uri = str(tmp_path / "outputs" / key)
        Path(artifact.uri).mkdir(parents=True)
        made[key] = [artifact]
    return made


@pytest.fixture
def releases(tmp_path: Path) -> ReleaseDirectory:
    return ReleaseDirectory(tmp_path / "releases", "taxi")


def saved_model(folder: Path, content: str) -> Path:
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_text(content)
    (folder / "variables" / "variables.index").write_text("index")
    return folder


def statistics(folder: Path) -> Path:
    for split, examples in (("train", 6000), ("eval", 3000)):
        found = statistics_pb2.DatasetFeatureStatisticsList()
        found.datasets.add(num_examples=examples)
        (folder / f"Split-{split}").mkdir(parents=True)
        (folder / f"Split-{split}" / "FeatureStats.pb").write_bytes(found.SerializeToString())
    return folder


def run(tmp_path: Path, outputs: Outputs, label: str = "stable") -> None:
    component = LiveRelease(
        releases=str(tmp_path / "releases"), model_name="taxi", label=label, nonce="1"
    )
    Executor().Do({}, outputs, component.exec_properties)


def push(releases: ReleaseDirectory, tmp_path: Path, content: str, **more: object) -> None:
    releases.push(PushRequest(saved_model(tmp_path / content, content), **more))


def test_before_the_first_release_all_three_are_there_and_empty(
    tmp_path: Path, outputs: Outputs
) -> None:
    run(tmp_path, outputs)
    for (artifact,) in outputs.values():
        assert artifact.get_int_custom_property("present") == 0
        assert artifact.has_custom_property("present")
        assert not artifact.has_custom_property("version")
        assert list(Path(artifact.uri).iterdir()) == []
    assert outputs["statistics"][0].splits == []
    assert not (tmp_path / "releases").exists()


def test_stock_tfx_reads_all_three(
    tmp_path: Path, outputs: Outputs, releases: ReleaseDirectory
) -> None:
    (tmp_path / "schema.pbtxt").write_text('feature { name: "fare" type: FLOAT }')
    push(
        releases,
        tmp_path,
        "a",
        evidence={
            "statistics": statistics(tmp_path / "statistics"),
            "schema.pbtxt": tmp_path / "schema.pbtxt",
        },
        provenance=Provenance(spans=(SpanDigest(4, "sha256:1", "data"),)),
    )
    run(tmp_path, outputs)
    model, stats, schema = (outputs[key][0] for key in ("model", "statistics", "schema"))
    assert fingerprint_saved_model(path_utils.serving_model_path(model.uri)) == (
        releases.manifest(1).fingerprint
    )
    assert sorted(stats.splits) == ["eval", "train"]
    assert stats.span == 4
    view = stats_artifact_utils.load_statistics(stats, "train")
    assert view.proto().datasets[0].num_examples == 6000
    path = io_utils.get_only_uri_in_dir(schema.uri)
    parsed = io_utils.parse_pbtxt_file(path, schema_pb2.Schema())
    assert [feature.name for feature in parsed.feature] == ["fare"]
    for artifact in (model, stats, schema):
        assert artifact.get_custom_property("present") == 1
        assert artifact.get_custom_property("release") == "release 1"
        assert artifact.get_custom_property("version") == 1
        assert artifact.get_custom_property("fingerprint") == releases.manifest(1).fingerprint


def test_the_slice_report_of_the_live_release_comes_with_it(
    tmp_path: Path, outputs: Outputs, releases: ReleaseDirectory
) -> None:
    report = tmp_path / "report"
    report.mkdir()
    (report / "slices.json").write_text("{}")
    push(releases, tmp_path, "a", evidence={"slice_report": report})
    run(tmp_path, outputs)
    artifact = outputs["slice_report"][0]
    assert artifact.get_int_custom_property("present") == 1
    assert (Path(artifact.uri) / "slices.json").read_text() == "{}"


def test_it_follows_the_label_not_the_newest_version(
    tmp_path: Path, outputs: Outputs, releases: ReleaseDirectory
) -> None:
    for content in ("a", "b"):
        push(releases, tmp_path, content)
    releases.set_label("stable", 1, by="ada", reason="complaints")
    run(tmp_path, outputs)
    assert outputs["model"][0].get_int_custom_property("version") == 1


def test_another_label_gives_another_release_or_none(
    tmp_path: Path, outputs: Outputs, releases: ReleaseDirectory
) -> None:
    push(releases, tmp_path, "a")
    run(tmp_path, outputs, label="canary")
    assert outputs["model"][0].get_int_custom_property("present") == 0


def test_a_release_pushed_without_statistics_gives_its_model_and_says_what_it_lacks(
    tmp_path: Path, outputs: Outputs, releases: ReleaseDirectory
) -> None:
    push(releases, tmp_path, "a")
    run(tmp_path, outputs)
    present = {key: a.get_int_custom_property("present") for key, (a,) in outputs.items()}
    assert present == {"model": 1, "statistics": 0, "schema": 0, "slice_report": 0}
    assert outputs["statistics"][0].get_string_custom_property("release") == "release 1"


def test_a_damaged_live_version_is_no_baseline(
    tmp_path: Path, outputs: Outputs, releases: ReleaseDirectory
) -> None:
    push(releases, tmp_path, "a")
    (releases.path / "1" / "saved_model.pb").chmod(0o644)
    (releases.path / "1" / "saved_model.pb").write_text("edited")
    with pytest.raises(ReleaseCorruptError, match="was changed after it was pushed"):
        run(tmp_path, outputs)


def test_two_instances_never_share_a_cache_key() -> None:
    first, second = (LiveRelease(releases="/r", model_name="taxi") for _ in range(2))
    assert first.exec_properties["nonce"] != second.exec_properties["nonce"]
    assert LiveRelease.READS_WORLD


@pytest.mark.parametrize(("model", "label"), [("../taxi", "stable"), ("taxi", "Stable")])
def test_a_name_that_cannot_be_is_refused_when_the_pipeline_is_built(
    model: str, label: str
) -> None:
    with pytest.raises(ConfigError):
        LiveRelease(releases="/r", model_name=model, label=label)


def run_of_version(tmp_path: Path, outputs: Outputs, version: int) -> None:
    component = LiveRelease(
        releases=str(tmp_path / "releases"), model_name="taxi", nonce="1", version=version
    )
    Executor().Do({}, outputs, component.exec_properties)


def test_a_version_asked_for_is_given_though_another_is_live(
    tmp_path: Path, outputs: Outputs, releases: ReleaseDirectory
) -> None:
    for content in ("a", "b"):
        push(releases, tmp_path, content)
    run_of_version(tmp_path, outputs, 1)
    assert outputs["model"][0].get_int_custom_property("version") == 1


def test_of_a_version_that_retention_removed_the_rest_is_given(
    tmp_path: Path, outputs: Outputs, releases: ReleaseDirectory
) -> None:
    for content in ("a", "b"):
        push(releases, tmp_path, content, keep=1)
    assert releases.versions() == (2,)
    run_of_version(tmp_path, outputs, 1)
    for (artifact,) in outputs.values():
        assert artifact.get_int_custom_property("present") == 0
        assert artifact.get_string_custom_property("release") == "release 1"
        assert list(Path(artifact.uri).iterdir()) == []


def test_a_version_that_was_never_pushed_here_is_absent(
    tmp_path: Path, outputs: Outputs, releases: ReleaseDirectory
) -> None:
    push(releases, tmp_path, "a")
    run_of_version(tmp_path, outputs, 44)
    for (artifact,) in outputs.values():
        assert artifact.get_int_custom_property("present") == 0
        assert not artifact.has_custom_property("release")


def test_the_version_that_served_a_night_is_given(
    tmp_path: Path, outputs: Outputs, releases: ReleaseDirectory
) -> None:
    for content in ("a", "b"):
        push(releases, tmp_path, content)
    log = RequestLogReport()
    log.uri = str(tmp_path / "log")
    Path(log.uri).mkdir()
    report = Path(log.uri, "log.json")
    component = LiveRelease(releases=str(tmp_path / "releases"), model_name="taxi", nonce="1")
    report.write_text(to_json(LogReport(rows=9, rows_by_version={"1": 7, "2": 2})))
    Executor().Do({"log_report": [log]}, outputs, component.exec_properties)
    assert outputs["statistics"][0].get_int_custom_property("version") == 1
    # A plain TensorFlow Serving log names no version: what is live is taken.
    report.write_text(to_json(LogReport(rows=9, rows_by_version={"0": 9})))
    shutil.rmtree(outputs["model"][0].uri)
    Executor().Do({"log_report": [log]}, outputs, component.exec_properties)
    assert outputs["statistics"][0].get_int_custom_property("version") == 2
