"""CacheWarmer from artifacts to artifacts."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2
from tfx.types import standard_artifacts

from tfx_encore.cache.answers import decode_answer
from tfx_encore.cache.keys import KeyMaker
from tfx_encore.cache.rows import decode_row, encode_row, to_array
from tfx_encore.cache.snapshot import read_entries, verify_snapshot
from tfx_encore.cache.tf_example import ExampleRows
from tfx_encore.components.cache_warmer import executor
from tfx_encore.components.cache_warmer.component import CacheWarmer
from tfx_encore.components.cache_warmer.executor import Executor
from tfx_encore.components.cache_warmer.warm import warm
from tfx_encore.metadata.fingerprint import fingerprint_saved_model
from tfx_encore.metadata.releases import ReleaseDirectory
from tfx_encore.pipeline.beam_options import beam_args
from tfx_encore.schemas.artifacts import CacheSnapshot, CoverageReport
from tfx_encore.schemas.charts import Coverage
from tfx_encore.schemas.errors import ConfigError, DataError, ModelError
from tfx_encore.schemas.records import Cause, RecordDraft, SelectAll
from tfx_encore.schemas.release import Certificate
from tfx_encore.schemas.serial import from_json, to_json
from tfx_encore.schemas.warmup_policy import WarmupPolicy

POLICY = WarmupPolicy(exclude_features=("label",), batch_size=32, certify_rows=40)


def write_records(path: Path, records) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    return path


def examples_artifact(root: Path, train, later):
    artifact = standard_artifacts.Examples()
    artifact.uri = str(root)
    artifact.split_names = '["train", "eval"]'
    for split, records in (("train", train), ("eval", later)):
        options = tf.io.TFRecordOptions(compression_type="GZIP")
        folder = root / f"Split-{split}"
        folder.mkdir(parents=True)
        with tf.io.TFRecordWriter(str(folder / "data.gz"), options) as writer:
            for record in records:
                writer.write(record)
    return artifact


@pytest.fixture(scope="module")
def traffic(make_example):
    """Rows with a head: fare decides how often one comes."""
    rng = random.Random(3)

    def make(count, **more):
        return [
            make_example(
                fare=float(int(rng.paretovariate(0.8))),
                hour=rng.choice([3, 9, None]),
                unread=rng.random(),
                label=rng.randint(0, 1),
                **more,
            )
            for _ in range(count)
        ]

    return make


@pytest.fixture
def run(tmp_path, models, traffic):
    """Runs the executor; returns (snapshot artifact, coverage artifact)."""
    return runner(tmp_path, models, traffic)


@pytest.fixture(scope="module")
def sound(tmp_path_factory, models, traffic):
    """The outputs of one ordinary run, for the tests that only look."""
    return runner(tmp_path_factory.mktemp("sound"), models, traffic)()


def runner(tmp_path, models, traffic):
    """Makes a function that runs the executor in a folder of its own."""

    def go(
        kind="sound",
        policy=POLICY,
        request_log=None,
        train=None,
        later=None,
        schema=None,
        releases=None,
    ):
        root = tmp_path / f"run-{random.random()}"
        model = standard_artifacts.Model()
        model.uri = str(root / "model")
        (root / "model").mkdir(parents=True)
        (root / "model" / "Format-Serving").symlink_to(models(kind))
        inputs = {
            "model": [model],
            "examples": [
                examples_artifact(root / "data", train or traffic(600), later or traffic(200))
            ],
        }
        outputs = {"snapshot": [CacheSnapshot()], "coverage": [CoverageReport()]}
        for name, (artifact,) in outputs.items():
            artifact.uri = str(root / name)
        if schema is not None:
            inputs["schema"] = [schema]
        properties = {
            "policy": to_json(policy),
            "request_log": request_log,
            "releases": releases and str(releases),
        }
        context = Executor.Context(
            beam_pipeline_args=[*beam_args("FnApiRunner")], tmp_dir=str(root / "tmp"), unique_id="1"
        )
        go.snapshot = Path(outputs["snapshot"][0].uri)
        Executor(context).Do(inputs, outputs, properties)
        return outputs["snapshot"][0], outputs["coverage"][0]

    return go


def read_coverage(artifact) -> Coverage:
    return from_json(Coverage, Path(artifact.uri, "coverage.json").read_text())


def read_certificate(artifact) -> Certificate:
    return from_json(Certificate, Path(artifact.uri, "certificate.json").read_text())


def test_each_cached_answer_is_the_one_the_model_gives_in_a_full_batch(sound, models):
    snapshot, _ = sound
    meta = verify_snapshot(snapshot.uri)
    entries = list(read_entries(snapshot.uri))
    assert meta.fingerprint == fingerprint_saved_model(models())
    assert meta.entries == len(entries) > 10
    call = tf.saved_model.load(models()).signatures["predict_raw"]
    for entry in entries[:20]:
        row = {name: to_array(cell) for name, cell in decode_row(entry.row).items()}
        company = row["company"][0] if len(row["company"]) else b""
        batch = {
            "fare": np.repeat(row["fare"], 32),
            "hour": np.repeat(row["hour"], 32),
            "company": np.array([company] * 32, dtype=object),
            "unread": np.zeros(32, dtype="f"),
        }
        live = call(**{name: tf.constant(values) for name, values in batch.items()})
        kept = to_array(decode_answer(entry.answer)["score"])
        assert kept.tobytes() == live["score"].numpy()[0].tobytes()
        assert entry.cost > 0


def test_entries_come_most_frequent_first_and_properties_sum_them_up(sound):
    snapshot, coverage = sound
    seen = [entry.seen for entry in read_entries(snapshot.uri)]
    assert seen == sorted(seen, reverse=True)
    assert sum(seen) == 600
    assert snapshot.get_int_custom_property("entries") == len(seen)
    assert snapshot.get_string_custom_property("fingerprint").startswith("sha256:")
    assert snapshot.get_int_custom_property("bytes") > 0
    report = read_coverage(coverage)
    assert coverage.get_float_custom_property("hit_rate") == pytest.approx(report.hit_rate)
    assert coverage.get_string_custom_property("window") == "split 'eval'"


def test_coverage_is_what_replaying_the_held_out_rows_gives(run, traffic, models):
    train, later = traffic(500), traffic(150)
    snapshot, coverage = run(
        train=train, later=later, policy=POLICY.model_copy(update={"max_entries": 8})
    )
    meta = verify_snapshot(snapshot.uri)
    reader = ExampleRows(meta.signatures[0])
    (maker,) = meta.key_makers()
    keys = [entry.key for entry in read_entries(snapshot.uri)]
    held = [maker.key(encode_row(reader.row(example))) for example in later]
    report = read_coverage(coverage)
    assert report.entries == len(keys) == 8
    assert report.rows_counted == 500
    assert report.rows_held_out == 150
    assert report.hit_rate == pytest.approx(sum(key in keys for key in held) / 150)
    for point in report.curve:
        head = set(keys[: point.entries])
        assert point.hit_rate == pytest.approx(sum(key in head for key in held) / 150)
    distinct = {maker.key(encode_row(reader.row(example))) for example in train}
    assert report.distinct_raw == len(distinct)


def test_transformed_keys_are_fewer_and_answer_more(run):
    _, coverage = run(policy=POLICY.model_copy(update={"max_entries": 8}))
    report = read_coverage(coverage)
    assert report.distinct_transformed < report.distinct_raw
    assert report.hit_rate_transformed > report.hit_rate


def test_without_the_proof_no_hit_rate_by_transformed_key_is_promised(run):
    snapshot, coverage = run(kind="raw")
    assert not read_certificate(snapshot).transformed_only
    report = read_coverage(coverage)
    assert report.distinct_transformed is not None
    assert report.hit_rate_transformed is None


def test_features_the_model_does_not_compute_from_are_not_in_the_key(sound):
    snapshot, _ = sound
    meta = verify_snapshot(snapshot.uri)
    assert [feature.name for feature in meta.signatures[0].key_features] == [
        "company",
        "fare",
        "hour",
    ]
    assert read_certificate(snapshot).features_read == ("company", "fare", "hour")


def test_a_sound_model_gets_its_certificate(sound):
    snapshot, _ = sound
    certificate = read_certificate(snapshot)
    assert certificate.cacheable_rows
    assert certificate.transformed_only
    assert certificate.rows_checked > 10


@pytest.mark.parametrize(
    ("kind", "why"), [("batch", "beside it in a batch"), ("random", "RandomStandardNormal")]
)
def test_a_model_that_is_not_a_function_of_the_row_gets_no_certificate_and_no_entries(
    run, kind, why
):
    snapshot, coverage = run(kind=kind)
    certificate = read_certificate(snapshot)
    assert not certificate.cacheable_rows
    assert why in certificate.message
    assert verify_snapshot(snapshot.uri).entries == 0
    assert read_coverage(coverage).hit_rate == 0


def test_equal_data_give_equal_rows_keys_and_answers_again(run, traffic):
    train, later = traffic(300), traffic(50)
    first, _ = run(train=train, later=later)
    second, _ = run(train=list(reversed(train)), later=later)

    def without_cost(artifact):
        return [entry._replace(cost=0) for entry in read_entries(artifact.uri)]

    assert without_cost(first) == without_cost(second)


def test_ties_go_to_the_smaller_key(run, make_example, models):
    train = [make_example(fare=float(fare)) for fare in range(50)]
    snapshot, _ = run(train=train, policy=POLICY.model_copy(update={"max_entries": 10}))
    meta = verify_snapshot(snapshot.uri)
    (maker,) = meta.key_makers()
    reader = ExampleRows(meta.signatures[0])
    keys = sorted(maker.key(encode_row(reader.row(example))) for example in train)
    assert [entry.key for entry in read_entries(snapshot.uri)] == keys[:10]


def test_the_byte_budget_is_kept(run):
    snapshot, _ = run(policy=POLICY.model_copy(update={"max_bytes": 2_000}))
    meta = verify_snapshot(snapshot.uri)
    assert meta.entries > 0
    assert meta.bytes <= 2_000 + 100  # magic, frame and head of one block


def test_the_warm_up_file_is_a_tf_serving_one(run, models):
    snapshot, _ = run(policy=POLICY.model_copy(update={"warmup_requests": 5}))
    path = str(Path(snapshot.uri, "tf_serving_warmup_requests"))
    call = tf.saved_model.load(models()).signatures["serving_default"]
    records = list(tf.compat.v1.io.tf_record_iterator(path))
    assert len(records) == 5
    for record in records:
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        assert request.model_spec.signature_name == "serving_default"
        answer = call(examples=tf.make_ndarray(request.inputs["examples"]))
        assert answer["score"].shape == [1]


def test_rows_answered_with_nan_are_left_out(run, make_example):
    # This model answers NaN from noon on.
    train = [make_example(fare=float(fare), hour=hour) for fare in range(20) for hour in (3, 15)]
    snapshot, _ = run(kind="nan", train=train)
    hours = [to_array(decode_row(entry.row)["hour"]) for entry in read_entries(snapshot.uri)]
    assert hours == [3] * 20


def test_a_model_that_answers_everything_with_nan_fails_and_writes_nothing(run):
    with pytest.raises(ModelError, match="NaN"):
        run(kind="all_nan")
    assert not run.snapshot.exists()


def test_an_excluded_feature_that_the_model_reads_is_refused(run):
    with pytest.raises(ConfigError, match="fare"):
        run(policy=POLICY.model_copy(update={"exclude_features": ("fare",)}))


def test_a_timestamp_feature_cuts_by_time(run, traffic, make_example):
    train = [make_example(fare=float(at), seconds=at) for at in range(100)]
    later = [make_example(fare=float(at), seconds=at) for at in range(100, 200)]
    policy = POLICY.model_copy(update={"timestamp_feature": "seconds", "held_out_fraction": 0.25})
    _, coverage = run(train=train, later=later, policy=policy)
    report = read_coverage(coverage)
    assert report.rows_counted == 150
    assert report.rows_held_out == 50
    assert "seconds" in report.window


def log_record(examples, signature="serving_default", output_filter=()) -> bytes:
    log = prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.model_spec.signature_name = signature
    request.output_filter.extend(output_filter)
    request.inputs["examples"].CopyFrom(tf.make_tensor_proto(examples, tf.string))
    return log.SerializeToString()


def raw_record(fares) -> bytes:
    log = prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.model_spec.signature_name = "predict_raw"
    values = {
        "fare": np.array(fares, "f"),
        "hour": np.full(len(fares), 9, np.int64),
        "company": np.array([b"Flash"] * len(fares), dtype=object),
        "unread": np.random.default_rng(0).random(len(fares)).astype("f"),
    }
    for name, value in values.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return log.SerializeToString()


def test_a_request_log_is_counted_row_by_row_in_its_order(run, tmp_path, make_example):
    first = [log_record([make_example(fare=1.0), make_example(fare=2.0)]) for _ in range(40)]
    last = [log_record([make_example(fare=1.0)]) for _ in range(10)]
    write_records(tmp_path / "log" / "a.tfrecord", first)
    write_records(tmp_path / "log" / "b.tfrecord", last)
    snapshot, coverage = run(request_log=str(tmp_path / "log" / "*.tfrecord"))
    report = read_coverage(coverage)
    assert report.source == "request log"
    assert (report.rows_counted, report.rows_held_out) == (80, 10)
    assert report.hit_rate == 1.0
    assert [entry.seen for entry in read_entries(snapshot.uri)] == [40, 40]


def test_raw_requests_are_warmed_under_their_own_signature(run, tmp_path, make_example):
    records = [raw_record([1.0, 2.0]), log_record([make_example(fare=1.0)]), raw_record([1.0])]
    records += [log_record([make_example(fare=3.0)]), log_record([make_example(fare=9.0)])]
    write_records(tmp_path / "log.tfrecord", records)
    policy = POLICY.model_copy(update={"raw_signature": "predict_raw"})
    snapshot, _ = run(request_log=str(tmp_path / "log.tfrecord"), policy=policy)
    meta = verify_snapshot(snapshot.uri)
    assert [spec.signature for spec in meta.signatures] == ["serving_default", "predict_raw"]
    counts = [(entry.signature, entry.seen) for entry in read_entries(snapshot.uri)]
    assert counts[0] == (1, 2)
    assert sorted(counts[1:]) == [(0, 1), (0, 1), (1, 1)]


def test_from_examples_both_signatures_are_warmed(run, make_example):
    train = [make_example(fare=float(fare)) for fare in (1, 1, 2)]
    policy = POLICY.model_copy(update={"raw_signature": "predict_raw"})
    snapshot, _ = run(train=train, policy=policy)
    entries = list(read_entries(snapshot.uri))
    assert sorted((entry.signature, entry.seen) for entry in entries) == [
        (0, 1),
        (0, 2),
        (1, 1),
        (1, 2),
    ]
    answers = {entry.answer for entry in entries if entry.seen == 2}
    assert len(answers) == 1


def test_requests_that_cannot_be_warmed_are_passed_over(run, tmp_path, make_example):
    good = [log_record([make_example(fare=float(fare))]) for fare in range(8)]
    odd = [
        log_record([make_example()], signature="other"),
        log_record([make_example()], output_filter=["score"]),
        log_record([b"no example"]),
        prediction_log_pb2.PredictionLog().SerializeToString(),
    ]
    write_records(tmp_path / "log.tfrecord", odd + good)
    _, coverage = run(request_log=str(tmp_path / "log.tfrecord"))
    report = read_coverage(coverage)
    assert report.rows_counted + report.rows_held_out == 8


def test_a_truncated_log_is_refused_with_file_and_offset_and_nothing_is_written(
    run, tmp_path, make_example
):
    path = write_records(tmp_path / "log.tfrecord", [log_record([make_example()])] * 10)
    size = path.stat().st_size // 10
    path.write_bytes(path.read_bytes()[: 7 * size + 5])
    with pytest.raises(DataError, match=rf"log.tfrecord: unreadable from byte {7 * size} "):
        run(request_log=str(path))
    assert not run.snapshot.exists()


def test_a_truncated_log_is_read_up_to_the_damage_if_the_policy_allows(run, tmp_path, make_example):
    path = write_records(tmp_path / "log.tfrecord", [log_record([make_example()])] * 10)
    path.write_bytes(path.read_bytes()[:-5])
    policy = POLICY.model_copy(update={"tolerate_damaged_share": 0.2})
    _, coverage = run(request_log=str(path), policy=policy)
    report = read_coverage(coverage)
    assert report.rows_counted + report.rows_held_out == 9


def test_a_log_that_is_not_there_is_named(run, tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        run(request_log=str(tmp_path / "nowhere*"))


def test_a_signature_that_the_model_lacks_is_named_with_those_it_has(run):
    with pytest.raises(ModelError, match="predict_raw"):
        run(policy=POLICY.model_copy(update={"signature": "classify"}))


def test_the_snapshot_says_which_record_was_the_newest_before_anything_was_computed(
    run, tmp_path, monkeypatch
):
    releases = ReleaseDirectory(tmp_path / "releases", "taxi")
    purge = RecordDraft("taxi", Cause.MANUAL, SelectAll(), "a test", "me")
    for _ in range(2):
        releases.append_record(purge)

    def overtaken(*given, **named):
        releases.append_record(purge)
        return warm(*given, **named)

    monkeypatch.setattr(executor, "warm", overtaken)
    policy = POLICY.model_copy(update={"model_name": "taxi"})
    snapshot, _ = run(policy=policy, releases=tmp_path / "releases")
    assert verify_snapshot(snapshot.uri).generation == 2


def test_before_the_first_record_and_without_a_release_directory_there_is_no_generation(
    sound, tmp_path
):
    assert executor.newest_record(str(tmp_path / "nothing"), "taxi") == 0
    assert verify_snapshot(sound[0].uri).generation == 0


def test_the_component_carries_its_policy_as_one_json_string():
    component = CacheWarmer(
        model=_channel(standard_artifacts.Model),
        examples=_channel(standard_artifacts.Examples),
        request_log="logs/*",
        policy=POLICY,
        releases="/releases",
    )
    properties = component.spec.exec_properties
    assert from_json(WarmupPolicy, properties["policy"]) == POLICY
    assert json.loads(properties["policy"])["batch_size"] == 32
    assert properties["request_log"] == "logs/*"
    assert properties["releases"] == "/releases"
    assert component.outputs["snapshot"].type_name == "tfx_encore.CacheSnapshot"


def _channel(kind):
    from tfx import types

    return types.Channel(type=kind)


def test_keys_carry_the_fingerprint(sound, models):
    snapshot, _ = sound
    meta = verify_snapshot(snapshot.uri)
    entry = next(read_entries(snapshot.uri))
    assert KeyMaker(meta.fingerprint, "serving_default").key(entry.row) == entry.key
    assert KeyMaker("sha256:other", "serving_default").key(entry.row) != entry.key
