"""Pushing, labels, retention and records in a release directory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from tfx_encore.metadata.fingerprint import fingerprint_saved_model
from tfx_encore.metadata.model_config import quoted
from tfx_encore.metadata.release_push import PushRequest
from tfx_encore.metadata.releases import ReleaseDirectory, list_models
from tfx_encore.schemas.decisions import Decision, Outcome
from tfx_encore.schemas.errors import ConfigError, ModelError, VersionNotFoundError
from tfx_encore.schemas.records import Cause, RecordDraft, SelectAll, SelectFingerprint
from tfx_encore.schemas.release import Certificate, Provenance, SpanDigest

MakeModel = Callable[[str], Path]


@pytest.fixture
def releases(tmp_path: Path) -> ReleaseDirectory:
    return ReleaseDirectory(tmp_path / "releases", "taxi")


def served_by_tf_serving(releases: ReleaseDirectory) -> tuple[list[int], dict[str, int]]:
    config = model_server_config_pb2.ModelServerConfig()
    text_format.Parse(releases.models_config_path.read_text(), config)
    (model,) = config.model_config_list.config
    assert model.name == "taxi"
    assert model.base_path == str(releases.path.resolve())
    assert model.model_platform == "tensorflow"
    return list(model.model_version_policy.specific.versions), dict(model.version_labels)


def test_an_empty_directory_has_nothing_live(releases: ReleaseDirectory) -> None:
    assert releases.labels() == {}
    assert releases.versions() == ()
    assert releases.live() is None
    assert releases.records() == ()
    assert releases.verify() == []
    assert not releases.path.exists()


def test_the_first_push_is_version_1_writes_no_record_and_says_so(
    releases: ReleaseDirectory, make_model: MakeModel
) -> None:
    result = releases.push(PushRequest(make_model("a")))
    assert (result.version, result.pushed, result.records) == (1, True, ())
    assert "first" in result.reason
    assert "no invalidation record" in result.reason
    assert releases.live() == 1
    assert releases.verify() == []


def test_a_second_push_withdraws_the_first_ones_answers(
    releases: ReleaseDirectory, make_model: MakeModel
) -> None:
    first = releases.push(PushRequest(make_model("a")))
    second = releases.push(PushRequest(make_model("b")))
    (record,) = second.records
    assert record.cause is Cause.MODEL_PUSHED
    assert record.selector == SelectFingerprint(fingerprint=first.fingerprint)
    assert (record.version_before, record.version_after) == (1, 2)
    assert (record.fingerprint_before, record.fingerprint_after) == (
        first.fingerprint,
        second.fingerprint,
    )
    assert (record.label, record.sequence, record.created_by) == ("stable", 1, "VersionedPusher")
    assert releases.records() == (record,)
    assert releases.labels() == {"stable": 2}


def test_a_version_holds_the_saved_model_and_its_warm_up_and_nothing_else(
    releases: ReleaseDirectory, make_model: MakeModel, tmp_path: Path
) -> None:
    warmup = tmp_path / "requests"
    warmup.write_bytes(b"warm")
    releases.push(PushRequest(make_model("a"), warmup=warmup))
    version = releases.version_path(1)
    files = sorted(str(p.relative_to(version)) for p in version.rglob("*") if p.is_file())
    assert files == [
        "assets.extra/tf_serving_warmup_requests",
        "assets/vocabulary.txt",
        "fingerprint.pb",
        "saved_model.pb",
        "variables/variables.data-00000-of-00001",
        "variables/variables.index",
    ]
    assert fingerprint_saved_model(version) == fingerprint_saved_model(make_model("a"))


def test_the_manifest_keeps_all_that_was_said(
    releases: ReleaseDirectory, make_model: MakeModel, evidence: dict[str, Path]
) -> None:
    decision = Decision("drift", Outcome.WARN, "a little drift", "release 1")
    certificate = Certificate("serving_default", True, True, 100, "independent")
    provenance = Provenance(
        run_id="run-7",
        created_by="ada@laptop",
        inputs_digest="sha256:00",
        spans=(SpanDigest(1, "sha256:11", "data/*", {"train": 6}),),
        hyperparameters={"steps": "200"},
    )
    releases.push(
        PushRequest(
            make_model("a"),
            evidence=evidence,
            decisions=(decision,),
            certificate=certificate,
            provenance=provenance,
            schema_digest="sha256:22",
            lineage={"model": 12},
            versions_of={"tfx": "1.16.0"},
        )
    )
    manifest = releases.manifest(1)
    assert manifest.decisions == (decision,)
    assert manifest.certificate == certificate
    assert (manifest.run_id, manifest.created_by) == ("run-7", "ada@laptop")
    assert (manifest.spans, manifest.hyperparameters) == (
        provenance.spans,
        provenance.hyperparameters,
    )
    assert (manifest.schema_digest, manifest.lineage) == ("sha256:22", {"model": 12})
    assert manifest.baseline_version is None
    assert sorted(manifest.evidence) == ["schema.pbtxt", "statistics/Split-train/FeatureStats.pb"]
    assert (releases.evidence_path(1) / "schema.pbtxt").read_text() == "feature {}"


def test_the_manifest_names_the_version_that_was_live_and_the_user(
    releases: ReleaseDirectory, make_model: MakeModel
) -> None:
    releases.push(PushRequest(make_model("a")))
    releases.push(PushRequest(make_model("b")))
    assert releases.manifest(2).baseline_version == 1
    assert "@" in releases.manifest(2).created_by


def test_equal_content_makes_no_new_version(
    releases: ReleaseDirectory, make_model: MakeModel
) -> None:
    first = releases.push(PushRequest(make_model("a")))
    before = sorted(str(path) for path in releases.path.rglob("*"))
    again = releases.push(PushRequest(make_model("a")))
    assert (again.version, again.pushed, again.records) == (1, False, ())
    assert again.fingerprint == first.fingerprint
    assert "equals version 1, which is live" in again.reason
    assert sorted(str(path) for path in releases.path.rglob("*")) == before


def test_content_equal_to_an_older_version_moves_no_label_and_says_how(
    releases: ReleaseDirectory, make_model: MakeModel
) -> None:
    for content in "ab":
        releases.push(PushRequest(make_model(content)))
    result = releases.push(PushRequest(make_model("a")))
    assert (result.version, result.pushed, result.records) == (1, False, ())
    assert "encore label set stable 1" in result.reason
    assert releases.labels() == {"stable": 2}
    assert releases.versions() == (1, 2)


def test_content_whose_version_retention_removed_is_pushed_anew(
    releases: ReleaseDirectory, make_model: MakeModel
) -> None:
    for content in "aba":
        result = releases.push(PushRequest(make_model(content), keep=1))
    assert (result.version, result.pushed) == (3, True)


def test_a_repeated_attempt_of_the_same_run_is_given_its_records_again(
    releases: ReleaseDirectory, make_model: MakeModel
) -> None:
    releases.push(PushRequest(make_model("a"), provenance=Provenance(run_id="run-1")))
    request = PushRequest(make_model("b"), provenance=Provenance(run_id="run-2"))
    pushed = releases.push(request)
    releases.append_record(RecordDraft("taxi", Cause.MANUAL, SelectAll(), "by hand", "ada"))
    again = releases.push(request)
    assert not again.pushed
    assert again.repeated
    assert again.records == pushed.records
    assert len(releases.records()) == 2


def test_a_run_with_equal_inputs_counts_as_the_same_attempt(
    releases: ReleaseDirectory, make_model: MakeModel
) -> None:
    releases.push(PushRequest(make_model("a")))
    first = Provenance(run_id="run-2", inputs_digest="sha256:ab")
    second = Provenance(run_id="run-3", inputs_digest="sha256:ab")
    pushed = releases.push(PushRequest(make_model("b"), provenance=first))
    assert releases.push(PushRequest(make_model("b"), provenance=second)).records == pushed.records


@pytest.mark.parametrize("provenance", [Provenance(), Provenance(run_id="run-3")])
def test_equal_content_from_another_run_repeats_no_record(
    releases: ReleaseDirectory, make_model: MakeModel, provenance: Provenance
) -> None:
    releases.push(PushRequest(make_model("a")))
    releases.push(PushRequest(make_model("b"), provenance=Provenance(run_id="run-2")))
    again = releases.push(PushRequest(make_model("b"), provenance=provenance))
    assert again.records == ()
    assert not again.repeated


def test_a_later_rollback_and_return_is_not_taken_for_the_push(
    releases: ReleaseDirectory, make_model: MakeModel
) -> None:
    releases.push(PushRequest(make_model("a")))
    request = PushRequest(make_model("b"), provenance=Provenance(run_id="run-2"))
    pushed = releases.push(request)
    releases.set_label("stable", 1, by="ada", reason="complaints")
    releases.set_label("stable", 2, by="ada", reason="false alarm")
    assert releases.push(request).records == pushed.records


def test_tf_serving_reads_the_labels_and_keeps_the_previous_version_loaded(
    releases: ReleaseDirectory, make_model: MakeModel
) -> None:
    for content in "abc":
        releases.push(PushRequest(make_model(content)))
    releases.push(PushRequest(make_model("d"), label="canary"))
    assert served_by_tf_serving(releases) == ([2, 3, 4], {"stable": 3, "canary": 4})


def test_tf_serving_accepts_a_configuration_without_labels(
    releases: ReleaseDirectory, make_model: MakeModel
) -> None:
    releases.push(PushRequest(make_model("a")))
    releases.remove_label("stable", by="ada", reason="withdrawn")
    config = model_server_config_pb2.ModelServerConfig()
    text_format.Parse(releases.models_config_path.read_text(), config)
    assert not config.model_config_list.config
    assert config.WhichOneof("config") == "model_config_list"


def test_a_path_with_quotes_backslashes_and_letters_survives_the_text_format() -> None:
    path = '/models/"a\\b"/Zürich\n 1'
    config = model_server_config_pb2.ModelServerConfig()
    text_format.Parse(f"model_config_list {{ config {{ base_path: {quoted(path)} }} }}", config)
    assert config.model_config_list.config[0].base_path == path


def test_retention_keeps_the_newest_and_whatever_a_label_points_at(
    releases: ReleaseDirectory, make_model: MakeModel, evidence: dict[str, Path]
) -> None:
    releases.push(PushRequest(make_model("old"), label="pinned"))
    for content in "abcd":
        releases.push(PushRequest(make_model(content), keep=2, evidence=evidence))
    assert releases.versions() == (1, 4, 5)
    assert sorted(p.name for p in releases.path.iterdir() if p.name.isdigit()) == ["1", "4", "5"]
    assert releases.verify() == []


def test_manifests_outlive_their_versions_and_nothing_else_does(
    releases: ReleaseDirectory, make_model: MakeModel, evidence: dict[str, Path]
) -> None:
    for content in "abc":
        releases.push(PushRequest(make_model(content), keep=1, evidence=evidence))
    assert releases.history() == (1, 2, 3)
    assert [p.name for p in releases.evidence_path(1).iterdir()] == ["manifest.json"]
    assert releases.manifest(1).fingerprint == fingerprint_saved_model(make_model("a"))
    with pytest.raises(VersionNotFoundError, match=r"there are versions 3; .*retention"):
        releases.version_path(1)


def test_a_version_number_is_never_used_again(
    releases: ReleaseDirectory, make_model: MakeModel
) -> None:
    numbers = [releases.push(PushRequest(make_model(c), keep=1)).version for c in "abcab"]
    assert numbers == [1, 2, 3, 4, 5]
    assert json.loads((releases.path / "labels.json").read_text())["highest_version"] == 5


def test_a_rollback_withdraws_the_newer_versions_answers(
    releases: ReleaseDirectory, make_model: MakeModel
) -> None:
    prints = [releases.push(PushRequest(make_model(content))).fingerprint for content in "ab"]
    record = releases.set_label("stable", 1, by="ada", reason="complaints")
    assert record is not None
    assert record.cause is Cause.ROLLED_BACK
    assert record.selector == SelectFingerprint(fingerprint=prints[1])
    assert (record.version_before, record.version_after, record.sequence) == (2, 1, 2)
    assert (record.created_by, record.reason) == ("ada", "complaints")
    assert releases.live() == 1
    assert served_by_tf_serving(releases) == ([1, 2], {"stable": 1})


def test_moving_forward_again_is_a_push_of_the_newer_version(
    releases: ReleaseDirectory, make_model: MakeModel
) -> None:
    for content in "ab":
        releases.push(PushRequest(make_model(content)))
    releases.set_label("stable", 1, by="ada", reason="complaints")
    record = releases.set_label("stable", 2, by="ada", reason="false alarm")
    assert record is not None
    assert (record.cause, record.sequence) == (Cause.MODEL_PUSHED, 3)


def test_a_push_after_a_rollback_takes_the_next_number(
    releases: ReleaseDirectory, make_model: MakeModel
) -> None:
    for content in "ab":
        releases.push(PushRequest(make_model(content)))
    releases.set_label("stable", 1, by="ada", reason="complaints")
    result = releases.push(PushRequest(make_model("c")))
    assert result.version == 3
    assert (result.records[0].version_before, result.records[0].version_after) == (1, 3)


def test_a_label_that_does_not_move_writes_nothing(
    releases: ReleaseDirectory, make_model: MakeModel
) -> None:
    releases.push(PushRequest(make_model("a")))
    assert releases.set_label("stable", 1, by="ada", reason="again") is None
    assert releases.records() == ()


def test_a_new_label_withdraws_nothing(releases: ReleaseDirectory, make_model: MakeModel) -> None:
    releases.push(PushRequest(make_model("a")))
    assert releases.set_label("canary", 1, by="ada", reason="try it") is None
    assert releases.labels() == {"stable": 1, "canary": 1}


def test_a_removed_label_withdraws_its_answers_unless_another_label_needs_them(
    releases: ReleaseDirectory, make_model: MakeModel
) -> None:
    releases.push(PushRequest(make_model("a")))
    releases.set_label("canary", 1, by="ada", reason="try it")
    assert releases.remove_label("canary", by="ada", reason="tried") is None
    record = releases.remove_label("stable", by="ada", reason="recall")
    assert record is not None
    assert (record.cause, record.version_before, record.version_after) == (Cause.MANUAL, 1, None)
    assert releases.labels() == {}


@pytest.mark.parametrize("version", [0, -1, 3, 10**9])
def test_a_label_for_a_version_that_is_not_there_lists_those_that_are(
    releases: ReleaseDirectory, make_model: MakeModel, version: int
) -> None:
    for content in "ab":
        releases.push(PushRequest(make_model(content)))
    with pytest.raises(VersionNotFoundError, match=f"version {version} .*versions 1, 2"):
        releases.set_label("stable", version, by="ada", reason="?")
    with pytest.raises(VersionNotFoundError, match="versions 1, 2"):
        releases.manifest(version)
    assert releases.labels() == {"stable": 2}


def test_a_label_on_a_model_without_releases_makes_no_directory(releases: ReleaseDirectory) -> None:
    with pytest.raises(VersionNotFoundError, match="no versions yet"):
        releases.set_label("stable", 1, by="ada", reason="?")
    with pytest.raises(VersionNotFoundError, match="has no label 'stable'; it has none"):
        releases.remove_label("stable", by="ada", reason="?")
    assert not releases.path.exists()


def test_manual_records_take_the_next_sequence_and_page_from_a_cursor(
    releases: ReleaseDirectory,
) -> None:
    for reason in "abcde":
        releases.append_record(RecordDraft("taxi", Cause.MANUAL, SelectAll(), reason, "ada"))
    assert [record.sequence for record in releases.records()] == [1, 2, 3, 4, 5]
    assert [record.reason for record in releases.records(after=2, limit=2)] == ["c", "d"]
    assert releases.records(after=5) == ()
    assert releases.records(limit=0) == ()


def test_a_record_of_another_model_is_refused(releases: ReleaseDirectory) -> None:
    with pytest.raises(ConfigError, match="'bus' does not belong to 'taxi'"):
        releases.append_record(RecordDraft("bus", Cause.MANUAL, SelectAll(), "?", "ada"))


@pytest.mark.parametrize("name", ["", "../taxi", "a/b", ".hidden", "a b", "x" * 128, "taxi\n"])
def test_a_name_that_cannot_be_a_models_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="is not a model name"):
        ReleaseDirectory(tmp_path, name)


@pytest.mark.parametrize("label", ["", "Stable", "1st", "a b", "a/b", "x" * 64, "stable\n"])
def test_a_name_that_cannot_be_a_labels_is_refused(
    releases: ReleaseDirectory, make_model: MakeModel, label: str
) -> None:
    with pytest.raises(ConfigError, match="is not a label"):
        releases.push(PushRequest(make_model("a"), label=label))
    assert not releases.path.exists()


@pytest.mark.parametrize("name", ["manifest.json", ".hidden", "a/b", "", ".."])
def test_evidence_cannot_replace_the_manifest_or_leave_its_folder(
    releases: ReleaseDirectory, make_model: MakeModel, evidence: dict[str, Path], name: str
) -> None:
    request = PushRequest(make_model("a"), evidence={name: evidence["schema.pbtxt"]})
    with pytest.raises(ConfigError, match="cannot name evidence"):
        releases.push(request)


def test_a_model_that_is_not_what_was_examined_is_refused(
    releases: ReleaseDirectory, make_model: MakeModel
) -> None:
    with pytest.raises(ModelError, match="not sha256:other as the caller says"):
        releases.push(PushRequest(make_model("a"), fingerprint="sha256:other"))


def test_models_are_listed_by_name(tmp_path: Path, make_model: MakeModel) -> None:
    assert list_models(tmp_path / "nowhere") == ()
    for model in ("taxi", "bus"):
        ReleaseDirectory(tmp_path / "all", model).push(PushRequest(make_model("a")))
    (tmp_path / "all" / "notes").mkdir()
    assert list_models(tmp_path / "all") == ("bus", "taxi")
