"""RequestLogExampleGen on what the gateway's own writer makes."""

from __future__ import annotations

import pytest

from tfx_encore.components.request_log_example_gen.messages import Wanted
from tfx_encore.components.request_log_example_gen.records import RecordReader
from tfx_encore.components.request_log_example_gen.sources import model_folder
from tfx_encore.gateway import request_log_files
from tfx_encore.gateway.errors import Code
from tfx_encore.gateway.request_log_records import prediction_log
from tfx_encore.gateway.request_record import RequestRecord
from tfx_encore.schemas import nights


@pytest.fixture
def logged(logs):
    """Returns a function: what the gateway logs of a request with so many rows."""

    def make(rows=1, rate=1.0, **more) -> bytes:
        fares = [logs.example_of(fare=float(row)) for row in range(rows)]
        pair = logs.predict_examples(fares, [0.5] * rows).predict_log
        said = {
            "protocol": "grpc",
            "method": "Predict",
            "model": "taxi",
            "version": 7,
            "label": "stable",
            "signature": "serving_default",
            "fingerprint": "sha256:" + "ab" * 32,
            "request": pair.request.SerializeToString(),
            "response": pair.response.SerializeToString(),
            "code": Code.OK,
            "message": "",
            "status": "miss",
            "request_id": "",
            "received_at": logs.NOON + 0.25,
        }
        return prediction_log(RequestRecord(**said | more), rate, None)

    return make


def test_what_the_gateway_adds_is_read(logs, logged, night, tmp_path):
    records = [
        logged(status="hit", request_id="order-1", seconds=0.0001),
        logged(status="miss", request_id="order-2", seconds=0.002, version=8, fingerprint="f8"),
        logged(status="off", rate=0.1, seconds=0.003),
    ]
    made = night([logs.write_log(tmp_path / "day/a.tfrecord", records)])
    by_id = {row[nights.REQUEST_ID]: row for row in made.rows}
    assert by_id[b"order-1"][nights.PATH] == b"hit"
    assert by_id[b"order-1"][nights.FINGERPRINT] == b"sha256:" + b"ab" * 32
    assert by_id[b"order-1"][nights.TIME_US] == logs.NOON * 1_000_000 + 250_000
    assert by_id[b"day/a.tfrecord#000002"][nights.PATH] == b"miss"
    report = made.report
    assert report.rows_by_version == {"7": 2, "8": 1}
    assert report.main_version == 7
    assert report.fingerprints == {"7": "sha256:" + "ab" * 32, "8": "f8"}
    assert report.rows_by_path == {"hit": 1, "miss": 2}
    assert report.hit_rate == pytest.approx(1 / 3)
    assert report.requests_by_cache == {"hit": 1, "miss": 1, "off": 1}
    assert report.latency_us == {"hit": 100.0, "miss": 2000.0, "off": 3000.0}
    assert (report.weighted_requests, report.weighted_hits) == (12.0, 1.0)


def test_rows_of_a_partial_hit_are_told_apart(logs, logged, night, tmp_path):
    records = [
        logged(rows=10, status="partial", hit_rows=bytes([0b0000_0101, 0b0000_0010])),
        logged(rows=3, status="partial"),
    ]
    made = night([logs.write_log(tmp_path / "day/a.tfrecord", records)])
    hits = [row[nights.ROW] for row in made.rows if row[nights.PATH] == b"hit"]
    assert hits == [0, 2, 9]
    assert made.report.rows_by_path == {"hit": 3, "miss": 7, "unknown": 3}
    assert made.report.requests_by_cache == {"partial": 2}


def test_failures_are_counted_by_code(logs, logged, night, tmp_path):
    records = [
        logged(status="error", code=Code.INVALID_ARGUMENT, response=b"", message="no"),
        logged(status="error", code=Code.UNAVAILABLE, request=b"\xff", response=b""),
    ]
    report = night([logs.write_log(tmp_path / "day/a.tfrecord", records)]).report
    assert report.failed == {"3": 1, "14": 1}
    assert report.rows == 0


def test_a_record_reads_the_same_in_any_layout(logged):
    reader = RecordReader(Wanted("taxi", ("serving_default",)))
    record = logged(rows=2, request_id="order-1")
    # An unknown field in front: only protobuf reads this.
    assert reader.read(b"\x98\x06\x01" + record) == reader.read(record)


@pytest.mark.parametrize("name", ["taxi", "a/b", ".hidden", "", "ümlaut", "*"])
def test_the_folder_of_a_model_is_the_gateways(name):
    assert model_folder(name) == request_log_files.model_folder(name)
