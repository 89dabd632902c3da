"""LoggedEvaluator on logged rows and real SavedModels; every run is a real Beam pipeline."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from ml_metadata.metadata_store import metadata_store
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.dsl.components.common.importer import Importer
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.metadata import sqlite_metadata_connection_config
from tfx.orchestration.pipeline import Pipeline
from tfx.types import standard_artifacts

from tfx_encore.components.logged_evaluator.component import LoggedEvaluator
from tfx_encore.components.logged_evaluator.decoding import read_batches
from tfx_encore.components.logged_evaluator.executor import find_model
from tfx_encore.components.logged_evaluator.recompute import Again, repeat
from tfx_encore.components.logged_evaluator.sample import share_out
from tfx_encore.components.logged_evaluator.slicing import Slicer
from tfx_encore.components.sliced_evaluator.executor import Executor as SlicedEvaluator
from tfx_encore.metadata.fingerprint import fingerprint_saved_model
from tfx_encore.monitoring.night_slices import NightSlices
from tfx_encore.monitoring.served_paths import judge_paths, wrong_slices
from tfx_encore.monitoring.slice_counts import SliceCounts, slice_key
from tfx_encore.monitoring.slice_report import SliceTable
from tfx_encore.pipeline.beam_options import beam_args
from tfx_encore.schemas.artifacts import SliceReport
from tfx_encore.schemas.decisions import Outcome
from tfx_encore.schemas.errors import DataError, ModelError
from tfx_encore.schemas.nightly_policy import LogPolicy, NightlyPolicy
from tfx_encore.schemas.nights import LogReport
from tfx_encore.schemas.serial import from_json, to_json

AA = "sha256:aa"


def sampling(rows: int) -> NightlyPolicy:
    return NightlyPolicy(log=LogPolicy(recompute_rows=rows))


def slice_of(night: NightSlices, **features: str):
    return night.of(AA)[slice_key(features)]


def test_slices_and_counts_are_those_of_the_release_s_own_evaluation(
    traffic, counted, policy, model_of, write, tmp_path
):
    """Integers, floats, text, several values and missing ones: names and counts as TFMA's."""
    report = SliceReport()
    report.uri = str(tmp_path / "report")
    outputs = {
        "evaluation": standard_artifacts.ModelEvaluation(),
        "blessing": standard_artifacts.ModelBlessing(),
        "slice_report": report,
    }
    for name, artifact in outputs.items():
        artifact.uri = str(tmp_path / name)
    inputs = {"examples": [write(tmp_path / "examples", traffic)], "model": [model_of()]}
    context = BaseBeamExecutor.Context(
        beam_pipeline_args=[*beam_args("FnApiRunner")], tmp_dir=str(tmp_path / "t"), unique_id="1"
    )
    SlicedEvaluator(context).Do(
        inputs,
        {name: [artifact] for name, artifact in outputs.items()},
        {"policy": to_json(policy), "example_splits": json.dumps(["night"])},
    )
    table = from_json(SliceTable, Path(report.uri, "slices.json").read_bytes())

    ours = counted.night.of(AA)
    theirs = {item.key: item for item in table.slices}
    assert set(ours) == set(theirs)
    assert {"fare=0.25", "fare=1", "hour=7", "tags=night", "payment_type=Prepaíd"} <= {
        item.name for item in ours.values()
    }
    assert {key: item.counts(0.5).n for key, item in ours.items()} == {
        key: item.n for key, item in theirs.items()
    }
    assert {key: item.counts(0.5).candidate() for key, item in ours.items()} == {
        key: item.candidate.counts for key, item in theirs.items()
    }


def test_rows_are_counted_by_path_label_and_score(row_type, tallied):
    rows = [
        row_type(path=b"hit", score=0.9, label=1.0),
        row_type(path=b"hit", score=0.2, label=0.0),
        row_type(path=b"miss", score=0.9, label=None),
        row_type(path=b"miss", score=float("nan"), label=1.0),
        row_type(path=b"what", score=1.5, label=7.0),
    ]
    everything = slice_of(tallied(rows))
    for path, chosen in {"hit": rows[:2], "miss": rows[2:4], "unknown": rows[4:]}.items():
        labels = [float("nan") if row.label is None else row.label for row in chosen]
        expected = SliceCounts.of(0.5, labels, [row.score for row in chosen])
        assert everything.counts(0.5, [path]) == expected


def test_squares_and_cubes_are_those_of_the_multiplicities_over_all_batches(row_type, tallied):
    rows = [row_type(hour=1)] * 5 + [row_type(hour=2)] * 3 + [row_type(hour=2, label=None)] * 2
    night = tallied(rows[:4], rows[4:7], rows[7:])
    everything, two = slice_of(night), slice_of(night, hour="2")
    assert (everything.squares, everything.labelled_squares) == (25 + 25, 25 + 9)
    assert everything.labelled_cubes == 125 + 27
    assert (two.squares, two.labelled_squares, two.labelled_cubes) == (25, 9, 27)


def test_equal_rows_that_different_models_answered_are_different(row_type, tallied):
    rows = [row_type()] * 3 + [row_type(fingerprint=b"sha256:bb", version=4)] * 2
    night = tallied(rows)
    assert night.fingerprints() == (AA, "sha256:bb")
    assert slice_of(night).squares == 9
    assert (slice_of(night).version, night.of("sha256:bb")[()].version) == (3, 4)


def test_a_version_alone_tells_the_model_where_its_fingerprint_is_known(row_type, tallied):
    rows = [row_type(fingerprint=b""), row_type(fingerprint=b"", version=9), row_type(version=9)]
    night = tallied(rows, fingerprints={9: "sha256:nine"})
    counts = {name: night.of(name)[()].counts(0.5).n for name in night.fingerprints()}
    assert counts == {"": 1, AA: 1, "sha256:nine": 1}


def test_answers_that_the_model_gave_agree_with_its_own(counted, policy):
    paths = slice_of(counted.night).paths
    assert {path: sum(found.recomputed.values()) for path, found in paths.items()} == {
        "hit": 150,
        "miss": 150,
    }
    decision = judge_paths(counted.night, AA, policy)
    assert decision.outcome is Outcome.OK
    assert slice_of(counted.night).recomputed(0.5).n == 300


def test_a_path_with_few_rows_leaves_its_place_to_the_other():
    sample = {"hit": [(n, b"") for n in range(300)], "miss": [(n, b"") for n in range(20)]}
    assert {path: len(rows) for path, rows in share_out(sample, 300).items()} == {
        "hit": 280,
        "miss": 20,
    }


def test_wrong_cached_answers_of_one_slice_block_and_name_it(traffic, evaluate, model_of, policy):
    """A cache that went on answering cash rides as the model before did."""
    rows = [
        replace(row, score=min(row.score + 0.3, 1.0))
        if row.path == b"hit" and row.payment_type == b"Cash"
        else row
        for row in traffic
    ]
    night = evaluate(rows, model=model_of(), nightly=sampling(400)).night
    decision = judge_paths(night, AA, policy)
    assert decision.outcome is Outcome.BLOCK
    blamed = [item.subject for item in decision.evidence if item.outcome is Outcome.BLOCK]
    assert blamed == ["slice:overall", "slice:payment_type=Cash"]
    assert [item.features for item in wrong_slices(night, AA)] == [{"payment_type": "Cash"}]
    assert slice_of(night).paths["hit"].max_difference == pytest.approx(0.3, abs=0.01)
    assert slice_of(night, payment_type="Card").paths["hit"].disagreeing == 0


def test_rows_of_another_model_are_neither_answered_again_nor_searched_for_slices(
    traffic, evaluate, model_of, training_statistics
):
    """A log of versions alone: release and log report say whose they are."""
    other = [replace(row, fingerprint=b"", version=4, score=0.01) for row in traffic[:700]]
    rows = other + [replace(row, fingerprint=b"") for row in traffic[700:]]
    found = evaluate(
        rows,
        model=model_of(),
        nightly=sampling(100),
        report=LogReport(fingerprints={"4": "sha256:bb"}),
        training_statistics=training_statistics,
    )
    night = found.night
    assert night.fingerprints() == (AA, "sha256:bb")
    assert night.of("sha256:bb")[()].recomputed(0.5).n == 0
    assert sum(of.disagreeing for of in slice_of(night).paths.values()) == 0
    assert slice_of(night).recomputed(0.5).n == 100
    assert found.pairs.cells[0, 0] == 1300


def test_rows_that_the_model_refuses_are_left_out_of_the_sample(traffic, evaluate, model_of):
    rows = traffic[:600]
    refused = sum(row.fare is None or row.fare <= 1.0 for row in rows)
    assert 0 < refused < 600
    night = evaluate(rows, model=model_of("refuses"), nightly=sampling(600)).night
    assert slice_of(night).recomputed(0.5).n == 600 - refused


def test_a_model_with_several_outputs_needs_the_name_of_one(traffic, model_of, policy, as_example):
    sample = {
        "hit": [(number, record) for number, record in enumerate(map(as_example, traffic[:50]))]
    }
    slicer = Slicer(policy.all_slices)
    path = f"{model_of('two').uri}/Format-Serving"
    with pytest.raises(ModelError, match=r"outputs more, outputs; name the one"):
        repeat(sample, Again(path, policy, {}), slicer)
    named = policy.model_copy(update={"prediction_key": "outputs"})
    found = repeat(sample, Again(path, named, {}), slicer).found[AA, ()].values()
    assert sum(sum(path.recomputed.values()) for path in found) == 50
    assert not any(path.disagreeing for path in found)


def test_a_release_that_is_absent_gives_no_model(model_of):
    absent = model_of()
    absent.set_int_custom_property("present", 0)
    assert find_model([absent], {}) == find_model(None, {}) == (None, None)


def test_a_model_without_a_fingerprint_is_given_its_own_and_names_its_version(model_of):
    known: dict[int, str] = {}
    path, fingerprint = find_model([model_of(fingerprint="", version=5)], known)
    assert fingerprint == fingerprint_saved_model(path) == known[5]


def test_equal_input_gives_equal_bytes_however_it_is_spread_over_files(
    traffic, counted, evaluate, model_of, training_statistics
):
    again = evaluate(
        traffic[::-1],
        model=model_of(),
        nightly=sampling(300),
        training_statistics=training_statistics,
        files=5,
    )
    assert again.read("slices.json") == counted.read("slices.json")
    assert again.read("pairs.json") == counted.read("pairs.json")


def test_extra_slices_are_counted_besides_values_ranges_and_missing(traffic, evaluate, counted):
    wanted = [
        {"payment_type": "Cash", "fare": "[1, 2)"},
        {"hour": "(missing)"},
        {"fare": ">= 2", "tags": "airport"},
        {"payment_type": "Cash"},
        {"fare": "< 0"},
    ]
    plain, night = counted.night, evaluate(traffic, extra_slices=json.dumps(wanted)).night
    rows = Counter(
        {
            0: sum(r.payment_type == b"Cash" and 1 <= (r.fare or 0) < 2 for r in traffic),
            1: sum(r.hour is None for r in traffic),
            2: sum((r.fare or 0) >= 2 and b"airport" in r.tags for r in traffic),
        }
    )
    for number, count in rows.items():
        assert slice_of(night, **wanted[number]).counts(0.5).n == count > 0
    cash = [slice_of(of, payment_type="Cash").counts(0.5) for of in (plain, night)]
    assert cash[0] == cash[1]
    assert len(night.slices) == len(plain.slices) + 3


def test_a_day_without_rows_gives_empty_statistics(evaluate, model_of):
    counted = evaluate([], model=model_of())
    assert counted.night == NightSlices(0.5)
    assert counted.artifact.get_int_custom_property("rows") == 0


def test_the_artifact_carries_model_date_rows_and_counts(counted):
    of = counted.artifact
    assert of.get_string_custom_property("model") == "taxi"
    assert of.get_string_custom_property("date") == "2016-01-12"
    assert of.get_int_custom_property("rows") == 2000
    assert of.get_string_custom_property("payload").encode() == counted.read("slices.json")


def test_a_damaged_file_is_named(traffic, write, tmp_path):
    examples = write(tmp_path / "damaged", traffic[:100], 1)
    file = next(Path(examples.uri, "Split-night").iterdir())
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"data_tfrecord-00000-of-00001.gz cannot be read"):
        list(read_batches(str(file)))


def test_pairs_count_each_distinct_row_with_its_weight(traffic, counted):
    pairs = counted.pairs
    assert {"payment_type", "hour", "fare"} <= set(pairs.cuts)
    assert not any(name.startswith("encore_") for name in pairs.cuts)
    right = sum((row.score > 0.5) == (row.label == 1) for row in traffic)
    assert pairs.table().tolist() == [2000, right, slice_of(counted.night).labelled_squares]
    cash = pairs.cuts["payment_type"].categories.index("Cash") + 1
    assert pairs.table("payment_type")[cash, 0] == sum(r.payment_type == b"Cash" for r in traffic)
    missing = pairs.table("hour", "payment_type")[0, cash, 0]
    assert missing == sum(r.hour is None and r.payment_type == b"Cash" for r in traffic)


def test_it_runs_in_a_tfx_pipeline(traffic, write, model_of, policy, tmp_path):
    write(tmp_path / "examples", traffic[:300])
    examples = Importer(
        str(tmp_path / "examples"),
        standard_artifacts.Examples,
        properties={"split_names": '["night"]'},
    ).with_id("Examples")
    model = Importer(
        model_of().uri,
        standard_artifacts.Model,
        custom_properties={"fingerprint": AA, "version": 3},
    ).with_id("Model")
    evaluator = LoggedEvaluator(
        examples=examples.outputs["result"],
        model=model.outputs["result"],
        policy=policy,
        nightly=sampling(50),
        model_name="taxi",
        date="2016-01-12",
        extra_slices=[{"hour": "(missing)"}],
    )
    connection = sqlite_metadata_connection_config(str(tmp_path / "metadata.db"))
    LocalDagRunner().run(
        Pipeline(
            pipeline_name="night",
            pipeline_root=str(tmp_path / "root"),
            components=[examples, model, evaluator],
            metadata_connection_config=connection,
            beam_pipeline_args=[*beam_args("FnApiRunner")],
        )
    )
    store = metadata_store.MetadataStore(connection)
    (artifact,) = store.get_artifacts_by_type("tfx_encore.NightStatistics")
    assert artifact.custom_properties["rows"].int_value == 300
    payload = artifact.custom_properties["payload"].string_value
    night = from_json(NightSlices, payload)
    assert slice_of(night).recomputed(0.5).n == 50
    assert slice_of(night, hour="(missing)").counts(0.5).n > 0
