"""RequestLogExampleGen on a day's log: every kind of request, and everything that is no request."""

from __future__ import annotations

import gzip
import json
import math
from typing import Any

import numpy as np
import pytest

from tfx_encore.components.request_log_example_gen.messages import Wanted
from tfx_encore.components.request_log_example_gen.records import RecordReader, Unusable
from tfx_encore.schemas import nights
from tfx_encore.schemas.nightly_policy import LogPolicy, NightlyPolicy


@pytest.fixture
def read():
    """Returns a function that reads one record, without Beam and without a file."""

    def reading(record: Any, **more: Any) -> Any:
        wanted = Wanted(
            "taxi",
            ("serving_default", "predict_raw"),
            kinds={"fare": "float32", "hour": "int64", "company": "string"},
            **more,
        )
        return RecordReader(wanted).read(record.SerializeToString())

    return reading


def request_features(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if not name.startswith("encore_")}


def test_a_plain_tf_serving_log_becomes_examples(logs, night, tmp_path):
    rows = [
        logs.example_of(fare=7.5, hour=9, company=b"Flash"),
        logs.example_of(fare=1.5, hour=0),
    ]
    file = logs.write_log(tmp_path / "day/a.tfrecord", [logs.predict_examples(rows, [0.25, 0.75])])
    made = night([file])
    first, second = made.rows
    assert request_features(first) == {"fare": 7.5, "hour": 9, "company": b"Flash"}
    assert request_features(second) == {"fare": 1.5, "hour": 0}
    assert first[nights.SCORE] == 0.25
    assert first[nights.PATH] == b"unknown"
    assert first[nights.VERSION] == 3
    assert first[nights.FINGERPRINT] == b""
    assert first[nights.TIME_US] == logs.NOON * 1_000_000
    assert first[nights.SIGNATURE] == b"serving_default"
    assert (first[nights.ROW], second[nights.ROW]) == (0, 1)
    assert first[nights.REQUEST_ID] == b"day/a.tfrecord#000000"
    assert nights.LABEL not in first
    report = made.report
    assert (report.files, report.records, report.requests, report.rows) == (1, 1, 1, 2)
    assert report.rows_by_version == {"3": 2}
    assert report.rows_by_path == {"unknown": 2}
    assert report.requests_by_cache == {}
    assert report.latency_us == {}
    assert (report.weighted_requests, report.weighted_rows) == (1.0, 2.0)
    assert (report.unreadable, report.set_aside) == (0, "")
    assert not made.set_aside.exists()


def test_equal_features_are_one_row_whichever_form_they_came_in(logs, night, tmp_path):
    example = logs.example_of(fare=7.5, hour=9, company=b"Flash")
    tensors = {
        "fare": np.float64([7.5]),
        "hour": np.int32([9]),
        "company": np.array([b"Flash"], object),
    }
    records = [
        logs.predict_examples([example], [0.5]),
        logs.predict_tensors(tensors, [[0.5]]),
        logs.classify([example], [0.5]),
        logs.regress([example], [0.5]),
    ]
    made = night([logs.write_log(tmp_path / "day/a.tfrecord", records)])
    assert len(made.rows) == 4
    assert len({row[nights.ROW_DIGEST] for row in made.rows}) == 1
    assert len({tuple(request_features(row).items()) for row in made.rows}) == 1
    assert {row[nights.SIGNATURE] for row in made.rows} == {b"serving_default", b"predict_raw"}
    assert made.report.effective_rows == 1.0


def test_nan_and_the_empty_string_are_missing_and_zero_is_not(logs, night, tmp_path):
    tensors = {
        "fare": np.float32([math.nan, 2.0]),
        "hour": np.int64([0, 5]),
        "company": np.array([b"Blue", b""], object),
    }
    records = [logs.predict_tensors(tensors, [0.1, 0.2])]
    made = night([logs.write_log(tmp_path / "day/a.tfrecord", records)])
    assert [request_features(row) for row in made.rows] == [
        {"hour": 0, "company": b"Blue"},
        {"fare": 2.0, "hour": 5},
    ]


@pytest.mark.slow
def test_the_schema_gives_the_types_and_leaves_others_out(logs, night, tmp_path):
    sent = logs.example_of(fare=7, hour=9.0, extra=b"x", encore_score=0.0)
    file = logs.write_log(tmp_path / "day/a.tfrecord", [logs.predict_examples([sent], [0.5])])
    (row,) = night([file]).rows
    assert request_features(row) == {"fare": 7.0, "hour": 9}
    assert isinstance(row["fare"], float)
    assert isinstance(row["hour"], int)
    (row,) = night([file], schema=None).rows
    assert request_features(row) == {"fare": 7, "hour": 9.0, "extra": b"x"}
    assert row[nights.SCORE] == 0.5


def test_a_classification_serves_the_score_of_class_1_else_of_the_last(logs, read):
    example = logs.example_of(fare=1.0)
    unnamed = logs.classify([example], [0.75])
    for found in unnamed.classify_log.response.result.classifications[0].classes:
        found.label = ""
    assert read(logs.classify([example], [0.75])).scores == [0.75]
    assert read(unnamed).scores == [0.25]


def test_the_context_of_an_input_belongs_to_each_row(logs, night, tmp_path):
    examples = [logs.example_of(fare=1.0), logs.example_of(fare=2.0, company=b"Own")]
    record = logs.classify(examples, [0.1, 0.2], context=logs.example_of(hour=7, company=b"All"))
    made = night([logs.write_log(tmp_path / "day/a.tfrecord", [record])])
    assert [request_features(row) for row in made.rows] == [
        {"fare": 1.0, "hour": 7, "company": b"All"},
        {"fare": 2.0, "hour": 7, "company": b"Own"},
    ]


def test_a_multi_inference_is_used_if_one_result_is_wanted(logs, read):
    record = logs.regress([logs.example_of(fare=1.0)], [0.5])
    multi = type(record)()
    multi.log_metadata.CopyFrom(record.log_metadata)
    multi.multi_inference_log.request.input.CopyFrom(record.regress_log.request.input)
    for signature, score in (("predict_raw", 0.5), ("other", 0.9)):
        result = multi.multi_inference_log.response.results.add()
        result.model_spec.signature_name = signature
        result.model_spec.version.value = 4
        result.regression_result.regressions.add(value=score)
    multi.log_metadata.model_spec.ClearField("version")
    unclear = type(record).FromString(multi.SerializeToString())
    unclear.multi_inference_log.response.results[1].model_spec.signature_name = "serving_default"
    found = read(multi)
    assert (found.scores, found.signature, found.version) == ([0.5], "predict_raw", 4)
    assert read(unclear).reason == "a MultiInference with 2 results to evaluate"


def test_the_prediction_key_names_the_output(logs, read):
    record = logs.predict_examples([logs.example_of(fare=1.0)], [0.5])
    more = record.predict_log.response.outputs["logit"]
    more.CopyFrom(record.predict_log.response.outputs["probability"])
    assert read(record, prediction_key="probability").scores == [0.5]
    assert read(record) == Unusable("several outputs, and no prediction_key", logs.NOON * 1_000_000)
    assert read(record, prediction_key="other").reason == "no output other"


def test_what_cannot_be_evaluated_is_counted_by_reason(logs, night, tmp_path):
    example = logs.example_of(fare=1.0)
    elsewhere = logs.predict_examples([example], [0.5])
    elsewhere.log_metadata.model_spec.name = "other"
    broken = logs.predict_examples([example], [0.5])
    broken.predict_log.request.inputs["examples"].string_val[0] = b"\xff no Example"
    records = [
        logs.predict_examples([example], [0.5], signature="transform_features"),
        logs.predict_examples([example], [1.5]),
        logs.predict_examples([example], [math.nan]),
        logs.predict_examples([example], [0.5, 0.5]),
        logs.predict_examples([example], [[0.5, 0.5]]),
        logs.predict_examples([logs.example_of(fare=b"much")], [0.5]),
        logs.predict_examples([logs.example_of(hour=1.5)], [0.5]),
        elsewhere,
        broken,
    ]
    report = night([logs.write_log(tmp_path / "day/a.tfrecord", records)]).report
    assert report.unusable == {
        "signature transform_features": 1,
        "a score that is not in [0, 1]": 2,
        "rows and scores of different number": 1,
        "the output is not one number for each row": 1,
        "feature fare is BYTES, not FLOAT": 1,
        "feature hour is FLOAT, not INT": 1,
        "of another model": 1,
        "an Example that cannot be read": 1,
    }
    assert (report.records, report.rows, report.unreadable) == (9, 0, 0)


def test_a_request_without_an_answer_is_a_failure(logs, night, tmp_path):
    failed = logs.predict_examples([logs.example_of(fare=1.0)], [0.5])
    failed.predict_log.ClearField("response")
    named = type(failed).FromString(failed.SerializeToString())
    named.log_metadata.saved_model_tags.append("encore.code=3")
    report = night([logs.write_log(tmp_path / "day/a.tfrecord", [failed, named, named])]).report
    assert report.failed == {"unknown": 1, "3": 2}
    assert (report.records, report.requests) == (3, 0)


def test_a_bad_record_is_set_aside_and_the_rest_is_read(logs, night, tmp_path):
    records = [logs.predict_examples([logs.example_of(fare=float(n))], [0.5]) for n in range(9)]
    file = logs.write_log(tmp_path / "day/a.tfrecord", records)
    data = bytearray(file.read_bytes())
    size = len(data) // 9
    data[4 * size + 40] ^= 1  # within a record
    data[6 * size + 3] ^= 1  # within a length
    file.write_bytes(bytes(data))
    made = night([file])
    report = made.report
    assert [row["fare"] for row in made.rows] == [0, 1, 2, 3, 5, 7, 8]
    assert (report.records, report.unreadable, report.set_aside) == (9, 2, "set_aside")
    index = json.loads((made.set_aside / "index.json").read_text())
    assert [(line["file"], line["offset"], line["reason"]) for line in index] == [
        ("day/a.tfrecord", 4 * size, "a record fails its checksum"),
        ("day/a.tfrecord", 6 * size, "a record's length fails its checksum"),
    ]
    kept = [(made.set_aside / line["kept"]).read_bytes() for line in index]
    assert kept == [bytes(data[4 * size : 5 * size]), bytes(data[6 * size : 7 * size])]


@pytest.mark.slow
def test_a_file_cut_short_is_read_as_far_as_it_goes(logs, night, tmp_path):
    records = [logs.predict_examples([logs.example_of(fare=float(n))], [0.5]) for n in range(5)]
    file = logs.write_log(tmp_path / "day/a.tfrecord", records)
    size = len(file.read_bytes()) // 5
    file.write_bytes(file.read_bytes()[: 4 * size + 7])
    report = night([file]).report
    assert (report.rows, report.records, report.unreadable) == (4, 5, 1)


def test_a_long_lost_stretch_counts_as_the_records_it_held(logs, night, tmp_path):
    records = [logs.predict_examples([logs.example_of(fare=float(n))], [0.5]) for n in range(20)]
    file = logs.write_log(tmp_path / "day/a.tfrecord", records)
    data = file.read_bytes()
    size = len(data) // 20
    file.write_bytes(data[: 5 * size] + bytes(10 * size) + data[15 * size :])
    report = night([file]).report
    assert (report.rows, report.records, report.unreadable) == (10, 20, 10)


@pytest.mark.slow
def test_a_damaged_gzip_file_is_read_up_to_the_damage(logs, night, tmp_path):
    rng = np.random.default_rng(1)
    records = [
        logs.predict_examples([logs.example_of(company=rng.bytes(2000))], [0.5]) for _ in range(50)
    ]
    file = logs.write_log(tmp_path / "day/a.tfrecord.gz", records)
    assert night([file]).report.rows == 50
    whole = file.read_bytes()
    half = len(whole) // 2
    file.write_bytes(whole[:half])
    report = night([file]).report
    assert 20 <= report.rows < 26
    assert (report.unreadable, report.set_aside) == (1, "set_aside")
    file.write_bytes(whole[:half] + bytes(1000) + whole[half + 1000 :])
    report = night([file]).report
    assert 20 <= report.rows < 26
    # What is left of the file tells about how much was lost.
    assert 10 < report.unreadable <= 30


def test_files_that_are_no_logs_are_unreadable(logs, night, tmp_path):
    examples = [logs.example_of(fare=1.0).SerializeToString(), b"\xff\xff\xff"]
    wrong = logs.write_log(tmp_path / "day/examples.tfrecord", examples)
    text = tmp_path / "day" / "text.tfrecord"
    text.write_text("fare,hour\n7.5,9\n")
    zipped = tmp_path / "day" / "zipped.tfrecord"
    zipped.write_bytes(gzip.compress(b"neither"))
    report = night([wrong, text, zipped]).report
    assert (report.files, report.records, report.unreadable, report.rows) == (3, 4, 4, 0)


def test_a_day_without_traffic_is_an_empty_report(night):
    made = night([])
    assert made.rows == []
    assert len(made.files) == 1
    assert (made.report.files, made.report.rows, made.report.effective_rows) == (0, 0, 0.0)
    assert made.report.first_us is None


def test_without_a_date_in_the_pattern_the_time_of_a_record_decides(logs, night, tmp_path):
    example, day = logs.example_of(fare=1.0), 86_400
    midnight = logs.NOON // day * day
    times = [midnight - 1, midnight, midnight + day - 1, midnight + day]
    records = [logs.predict_examples([example], [0.5], seconds=at) for at in times]
    file = logs.write_log(tmp_path / "day/a.tfrecord", records)
    policy = NightlyPolicy(log=LogPolicy(files="*.tfrecord"))
    report = night([file], policy=policy).report
    assert (report.records, report.rows) == (2, 2)
    assert report.first_us == midnight * 1_000_000
    assert report.last_us == (midnight + day - 1) * 1_000_000
    assert night([file]).report.rows == 4


def test_repeats_are_no_independent_evidence(logs, night, tmp_path):
    asked = [1.0] * 6 + [2.0] * 3 + [3.0]
    records = [logs.predict_examples([logs.example_of(fare=fare)], [0.5]) for fare in asked]
    files = [
        logs.write_log(tmp_path / "day/a.tfrecord", records[:4]),
        logs.write_log(tmp_path / "day/b.tfrecord", records[4:]),
    ]
    assert night(files).report.effective_rows == pytest.approx(100 / (36 + 9 + 1))


def test_two_runs_write_the_same_bytes(logs, night, tmp_path):
    rng = np.random.default_rng(1)
    files = []
    for number in range(3):
        records = [
            logs.predict_examples([logs.example_of(fare=float(fare))], [0.5], seconds=int(at))
            for fare, at in zip(rng.random(30), logs.NOON + rng.integers(0, 9, 30), strict=True)
        ]
        files.append(logs.write_log(tmp_path / f"day/{number}.tfrecord", records))
    once, again = night(files), night(files)
    assert [path.name for path in once.files] == [path.name for path in again.files]
    assert [p.read_bytes() for p in once.files] == [p.read_bytes() for p in again.files]
    assert once.report == again.report
    times = [row[nights.TIME_US] for row in once.rows]
    assert times == sorted(times)


@pytest.mark.slow
def test_many_buckets_hold_the_same_rows_as_one(logs, night, tmp_path, monkeypatch):
    from tfx_encore.components import packing
    from tfx_encore.components.request_log_example_gen import night_examples

    records = [
        logs.predict_examples([logs.example_of(fare=float(n % 7))] * 2, [0.25, 0.75])
        for n in range(60)
    ]
    files = [
        logs.write_log(tmp_path / "day/a.tfrecord", records[:25]),
        logs.write_log(tmp_path / "day/b.tfrecord", records[25:]),
    ]
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "request_id,row,label\n" + "".join(f"day/a.tfrecord#{n:06d},1,1\n" for n in range(30))
    )
    more = {"labels": [labels], "policy": NightlyPolicy(labels={"files": "labels.csv"})}
    whole = night(files, **more)
    monkeypatch.setattr(night_examples, "BUCKET_BYTES", 1000)
    monkeypatch.setattr(night_examples, "PART_BYTES", 1000)
    monkeypatch.setattr(packing, "_FLUSH_BYTES", 2000)
    cut = night(files, **more)
    assert len(whole.files) == 1
    assert len(cut.files) > 5
    assert cut.report == whole.report
    assert whole.report.labelled == 25
    assert whole.report.labels_unmatched == 5
    key = sorted(map(str, whole.rows))
    assert sorted(map(str, cut.rows)) == key
