"""The main job: two releases of the taxi model on two successive spans, through the command."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import pathlib
import re
import subprocess
import sys

import pytest
from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as pb


def _store(folder: pathlib.Path) -> MetadataStore:
    config = pb.ConnectionConfig()
    config.sqlite.filename_uri = str(folder / ".encore" / "metadata.sqlite")
    return MetadataStore(config)


def test_two_releases_push_versions_1_and_2_and_stable_is_2(released, encore):
    listed = encore(released.folder, "versions", "--json").json
    assert [row["version"] for row in listed["versions"]] == [1, 2]
    assert listed["labels"] == {"stable": 2}
    assert listed["versions"][1]["labels"] == ["stable"]


def test_the_second_release_withdraws_the_answers_of_the_first(released, encore):
    (record,) = encore(released.folder, "records", "--json").json
    fingerprints = [
        row["fingerprint"] for row in encore(released.folder, "versions", "--json").json["versions"]
    ]
    assert record["cause"] == "MODEL_PUSHED"
    assert (record["version_before"], record["version_after"]) == (1, 2)
    assert record["selector"] == {"kind": "fingerprint", "fingerprint": fingerprints[0]}
    assert record["fingerprint_after"] == fingerprints[1]


def test_the_record_is_an_output_artifact_of_the_pusher_in_ml_metadata(released):
    store = _store(released.folder)
    artifact = next(
        a
        for a in store.get_artifacts_by_type("tfx_encore.CacheInvalidation")
        if a.custom_properties["records"].int_value
    )
    (event,) = store.get_events_by_artifact_ids([artifact.id])
    (execution,) = store.get_executions_by_id([event.execution_id])
    kinds = {kind.id: kind.name for kind in store.get_execution_types()}
    assert event.type == pb.Event.OUTPUT
    assert kinds[execution.type_id].endswith("VersionedPusher")


def test_the_journal_holds_the_same_record(released, encore):
    (record,) = encore(released.folder, "records", "--json").json
    (entry,) = (released.folder / ".encore/releases/taxi/journal").glob("*.json")
    journal = json.loads(entry.read_text())
    assert {name: record[name] for name in journal} == journal


def test_why_names_the_data_of_both_spans(released, encore):
    page = encore(released.folder, "why", "2", "--json").json
    expected = {}
    for number in (1, 2):
        content = (released.folder / f".encore/data/span-{number}/data.csv").read_bytes()
        whole = hashlib.sha256(hashlib.sha256(content).digest()).hexdigest()
        expected[number] = f"sha256:{whole}"
    assert {span["span"]: span["digest"] for span in page["spans"]} == expected
    assert page["manifest"]["baseline_version"] == 1


def test_why_tells_the_whole_lineage(released, encore):
    page = encore(released.folder, "why", "2", "--json").json
    manifest = page["manifest"]
    assert {decision["gate"] for decision in manifest["decisions"]} == {
        "drift",
        "sliced_evaluation",
    }
    assert manifest["hyperparameters"]["train_steps"] == "300"
    assert manifest["schema_digest"].startswith("sha256:")
    assert manifest["created_by"]
    assert manifest["versions_of"]["tfx"] == importlib.metadata.version("tfx")
    assert manifest["lineage"]
    assert manifest["certificate"]["rows_checked"] > 0
    assert page["records"][0]["version_before"] == 1


def test_why_in_text_fits_a_terminal_and_names_the_digests(released, encore):
    text = encore(released.folder, "why", "2").out
    digests = encore(released.folder, "why", "2", "--json").json["spans"]
    assert all(span["digest"] in re.sub(r"\s+", "", text) for span in digests)
    assert max(map(len, text.splitlines())) <= 120


def test_the_second_release_was_judged_against_the_first(released, encore):
    decisions = encore(released.folder, "why", "2", "--json").json["manifest"]["decisions"]
    by_gate = {decision["gate"]: decision for decision in decisions}
    assert by_gate["drift"]["baseline"] == "release 1"
    assert by_gate["sliced_evaluation"]["baseline"] == "release 1"
    drift = [e for e in by_gate["drift"]["evidence"] if e["subject"] == "feature:payment_type"]
    assert any(e["effect"] and e["null_floor"] and e["effect"] > e["null_floor"] for e in drift)


def test_the_first_release_says_that_there_was_no_baseline(released, encore):
    page = encore(released.folder, "why", "1", "--json").json
    assert page["baseline"] is None
    assert all(decision["baseline"] is None for decision in page["manifest"]["decisions"])
    assert all("nothing" in decision["reason"] for decision in page["manifest"]["decisions"])


def test_the_terminal_shows_each_component_and_no_noise(released):
    text = released.run.out + released.run.err
    for component in (
        "CsvExampleGen",
        "Transform",
        "Trainer",
        "SlicedEvaluator",
        "VersionedPusher",
    ):
        assert text.count(f"✓ {component} ") == 2
    assert not re.search(r"WARNING|INFO:|tensorflow/|absl|FutureWarning|Traceback", text)
    assert released.run.err == ""
    assert "predicted hit rate" in text


def test_the_report_of_each_release_was_written(released):
    paths = re.findall(r"report\s+(\S+\.html)", released.run.out)
    assert len(paths) == 2
    for path in paths:
        html = pathlib.Path(path).read_text(encoding="utf-8")
        assert "<svg" in html
        assert not re.search(r"""(src|href)=["']?(https?:)?//""", html)


def test_running_again_with_nothing_changed_does_nothing_and_says_so(released, encore):
    again = encore(released.folder, "run", "--all-spans")
    assert again.code == 0
    assert again.out.count("nothing to do") == 2
    assert encore(released.folder, "versions", "--json").json["labels"] == {"stable": 2}
    assert len(encore(released.folder, "versions", "--json").json["versions"]) == 2


@pytest.fixture(scope="module")
def forced(released, encore):
    """Both spans forced again where they were made: TFX's cache knows files by their paths."""
    with released.alone():
        return {
            span: encore(released.folder, "run", "--span", str(span), "--force", "--json")
            for span in (2, 1)
        }


@pytest.mark.slow
def test_a_forced_run_asks_the_world_again_and_the_cache_for_the_rest(released, forced, encore):
    (again,) = forced[2].json
    states = {step["name"]: step["state"] for step in again["steps"]}
    assert states["LiveRelease"] == states["VersionedPusher"] == "ran"
    for component in ("CsvExampleGen", "StatisticsGen", "Transform", "Trainer", "CacheWarmer"):
        assert states[component] == "cached"
    assert again["state"] == "already_pushed"
    assert len(encore(released.folder, "versions", "--json").json["versions"]) == 2
    # The record is given once more, in an artifact of its own; the ledger shows one.
    assert len(encore(released.folder, "records", "--json").json) == 1


@pytest.mark.slow
def test_an_older_span_run_again_does_not_take_the_label_back(released, forced, encore):
    (older,) = forced[1].json
    assert older["state"] in ("already_pushed", "refused")
    assert encore(released.folder, "versions", "--json").json["labels"] == {"stable": 2}


def test_a_rollback_moves_the_label_and_writes_its_record(released_copy, encore):
    moved = encore(
        released_copy, "label", "set", "stable", "1", "--reason", "2 is too slow", "--json"
    )
    record = moved.json["record"]
    assert record["cause"] == "ROLLED_BACK"
    assert (record["version_before"], record["version_after"]) == (2, 1)
    records = encore(released_copy, "records", "--json").json
    assert [r["sequence"] for r in records] == [1, 2]
    assert records[1]["reason"] == "2 is too slow"


def test_a_label_cannot_point_at_a_version_that_is_not_there(released_copy, encore):
    refused = encore(released_copy, "label", "set", "stable", "9")
    assert refused.code == 1
    assert "9" in refused.err
    assert "1, 2" in refused.err
    assert encore(released_copy, "label", "list", "--json").json == {"stable": 2}


def test_a_slice_can_be_withdrawn_by_hand(released_copy, encore):
    done = encore(
        released_copy, "invalidate", "--model", "taxi", "--selector", "slice:payment_type=Cash",
        "--cause", "DATA_DRIFT", "--json",
    )  # fmt: skip
    assert done.json["selector"] == {"kind": "slice", "features": {"payment_type": "Cash"}}
    assert encore(released_copy, "records", "--json").json[-1]["cause"] == "DATA_DRIFT"


def test_a_slice_of_an_unknown_feature_is_refused_with_the_valid_ones(released_copy, encore):
    refused = encore(released_copy, "invalidate", "--selector", "slice:payment=Cash")
    assert refused.code == 2
    assert "payment_type" in refused.err
    assert len(encore(released_copy, "records", "--json").json) == 1


def test_following_records_prints_each_as_a_line_of_json(released, encore):
    followed = encore(released.folder, "records", "--follow", "--limit", "1", "--json")
    assert json.loads(followed.out)["sequence"] == 1


def test_the_served_model_has_the_three_signatures(released):
    code = (
        "import sys, json, tensorflow as tf\n"
        "model = tf.saved_model.load(sys.argv[1])\n"
        "print(json.dumps({name: sorted(f.structured_input_signature[1]) "
        "for name, f in model.signatures.items()}))"
    )
    path = released.folder / ".encore/releases/taxi/2"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    signatures = json.loads(done.stdout.splitlines()[-1])
    assert signatures["serving_default"] == ["examples"]
    assert signatures["transform_features"] == ["examples"]
    assert "payment_type" in signatures["predict_raw"]


def test_the_pushed_version_carries_the_warm_up_file_and_its_evidence(released):
    version = released.folder / ".encore/releases/taxi/2"
    evidence = released.folder / ".encore/releases/taxi/2.evidence"
    assert (version / "assets.extra/tf_serving_warmup_requests").stat().st_size > 0
    names = {path.name for path in evidence.iterdir()}
    assert {"manifest.json", "drift_report", "slice_report", "coverage", "snapshot"} <= names
