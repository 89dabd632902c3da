"""The request log as a whole: what is offered can be read by whoever reads TensorFlow Serving's."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from datetime import datetime, timezone

import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    predict_pb2,
    prediction_log_pb2,
    regression_pb2,
)

from tfx_encore.gateway.errors import Code
from tfx_encore.gateway.request_log import Converted, RequestLogPolicy, TfRecordRequestLog
from tfx_encore.gateway.request_log_records import read_tags
from tfx_encore.gateway.request_record import RequestRecord

NOON = datetime(2026, 3, 1, 12, 0, 0, tzinfo=timezone.utc).timestamp()


def predict_request(value=1.0):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "taxi"
    request.model_spec.version_label = "stable"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([value], tf.float32))
    return request


def predict_response(value=2.0):
    response = predict_pb2.PredictResponse()
    response.outputs["y"].CopyFrom(tf.make_tensor_proto([value], tf.float32))
    return response


def record(**values):
    made = {
        "protocol": "grpc",
        "method": "Predict",
        "model": "taxi",
        "version": 7,
        "label": "stable",
        "signature": "serving_default",
        "fingerprint": "sha256:abc",
        "request": predict_request().SerializeToString(),
        "response": predict_response().SerializeToString(),
        "code": Code.OK,
        "message": "",
        "status": "hit",
        "request_id": "r-1",
        "received_at": NOON + 0.25,
    }
    return RequestRecord(**{**made, **values})


def write(tmp_path, *records, converter=None, observer=None, **policy):
    """Logs records; returns what of them was taken."""

    async def scenario():
        log = TfRecordRequestLog(
            RequestLogPolicy(directory=tmp_path, keep_days=0, **policy),
            converter=converter,
            observer=observer,
        )
        taken = [log.offer(each) for each in records]
        await log.close()
        return taken

    return asyncio.run(scenario())


def read(tmp_path):
    paths = sorted(str(path) for path in tmp_path.rglob("*.tfrecord"))
    dataset = tf.data.TFRecordDataset(paths)
    return [
        prediction_log_pb2.PredictionLog.FromString(each) for each in dataset.as_numpy_iterator()
    ]


def test_a_prediction_log_is_read_by_the_stock_reader(tmp_path):
    assert write(tmp_path, record()) == [True]
    [path] = tmp_path.rglob("*.tfrecord")
    assert path.parent == tmp_path / "taxi" / "2026-03-01"
    [log] = read(tmp_path)
    assert log.predict_log.request == predict_request()
    assert log.predict_log.response == predict_response()
    metadata = log.log_metadata
    assert metadata.model_spec.name == "taxi"
    assert metadata.model_spec.version.value == 7
    assert metadata.model_spec.signature_name == "serving_default"
    assert metadata.timestamp_secs == int(NOON)
    assert metadata.sampling_config.sampling_rate == pytest.approx(0.01)
    assert metadata.saved_model_tags[0] == "serve"
    assert read_tags(metadata.saved_model_tags) == {
        "log": "1",
        "cache": "hit",
        "protocol": "grpc",
        "time_us": str(int(NOON) * 1_000_000 + 250_000),
        "code": "0",
        "fingerprint": "sha256:abc",
        "label": "stable",
        "request_id": "r-1",
    }


@pytest.mark.parametrize(
    ("method", "field", "request_type", "response_type"),
    [
        (
            "Classify",
            "classify_log",
            classification_pb2.ClassificationRequest,
            classification_pb2.ClassificationResponse,
        ),
        (
            "Regress",
            "regress_log",
            regression_pb2.RegressionRequest,
            regression_pb2.RegressionResponse,
        ),
        (
            "MultiInference",
            "multi_inference_log",
            inference_pb2.MultiInferenceRequest,
            inference_pb2.MultiInferenceResponse,
        ),
    ],
)
def test_every_method_has_its_own_field(tmp_path, method, field, request_type, response_type):
    request, response = request_type(), response_type()
    request.input.example_list.examples.add()
    write(
        tmp_path,
        record(
            method=method,
            request=request.SerializeToString(),
            response=response.SerializeToString(),
        ),
    )
    [log] = read(tmp_path)
    assert log.WhichOneof("log_type") == field
    assert getattr(log, field).request == request
    assert getattr(log, field).HasField("response")


def test_an_error_is_logged_without_a_response_and_says_what_it_was(tmp_path):
    failed = {"response": b"", "code": Code.INVALID_ARGUMENT, "status": "error"}
    write(
        tmp_path,
        record(**failed, message="no such input: \ud800" + "x" * 5000),
        record(**failed, message="", request=b"\xff\xff garbage"),
    )
    readable, unreadable = read(tmp_path)
    tags = read_tags(readable.log_metadata.saved_model_tags)
    assert tags["code"] == "3"
    assert tags["message"].startswith("no such input: ?xxx")
    assert len(tags["message"]) == 1024
    assert readable.predict_log.request == predict_request()
    assert not readable.predict_log.HasField("response")
    assert readable.log_metadata.sampling_config.sampling_rate == 1.0
    assert unreadable.WhichOneof("log_type") == "predict_log"
    assert not unreadable.predict_log.HasField("request")


def test_json_is_converted_in_the_thread_that_writes(tmp_path, watching):
    threads = []

    def convert(each):
        threads.append(threading.current_thread().name)
        if each.request == b"bad":
            raise ValueError("not JSON")
        return Converted(predict_request(), predict_response())

    write(
        tmp_path,
        record(protocol="rest", request=b'{"instances": [1]}', response=b"{}"),
        record(protocol="rest", request=b"bad"),
        record(protocol="rest", request=b"bad", code=Code.INVALID_ARGUMENT),
        converter=convert,
        observer=watching,
    )
    assert threads == ["request-log"] * 3
    converted, failed = read(tmp_path)
    assert converted.predict_log.response == predict_response()
    assert read_tags(converted.log_metadata.saved_model_tags)["protocol"] == "rest"
    assert not failed.predict_log.HasField("request")
    assert sorted(watching.logs) == [("taxi", 0, 1)] + [("taxi", 1, 0)] * 3


def test_a_full_queue_drops_and_counts(tmp_path, watching):
    def slow(each):
        time.sleep(0.2)
        return Converted(predict_request())

    rest = record(protocol="rest", request=b"{}", response=b"")
    taken = write(
        tmp_path, *[rest] * 20, converter=slow, observer=watching, queue_records=2, rate=1.0
    )
    assert taken.count(False) >= 15
    assert watching.logs.count(("taxi", 0, 1)) == taken.count(False)
    assert len(read(tmp_path)) == taken.count(True)


def test_bodies_that_wait_are_bounded_in_bytes(tmp_path, watching):
    large = record(response=b"\0" * 2000)
    assert write(tmp_path, large, observer=watching, queue_bytes=1000) == [False]
    assert watching.logs == [("taxi", 0, 1)]


def test_a_directory_that_cannot_be_written_costs_records_only(tmp_path, watching):
    (tmp_path / "file").write_text("not a folder")
    taken = write(tmp_path / "file", record(), record(), observer=watching)
    assert taken == [True, True]
    assert watching.logs.count(("taxi", 0, 1)) == 2


def test_methods_that_have_no_log_are_not_written(tmp_path, watching):
    write(tmp_path, record(method="GetModelMetadata"), observer=watching)
    assert read(tmp_path) == []
    assert ("taxi", 0, 1) in watching.logs


def test_nothing_is_taken_after_it_was_closed(tmp_path):
    async def scenario():
        log = TfRecordRequestLog(RequestLogPolicy(directory=tmp_path))
        await log.close()
        return log.offer(record())

    assert asyncio.run(scenario()) is False


PROCESS = """
    import asyncio, sys, time
    from pathlib import Path
    from tfx_encore.gateway.errors import Code
    from tfx_encore.gateway.request_log import RequestLogPolicy, TfRecordRequestLog
    from tfx_encore.gateway.request_record import RequestRecord

    async def main():
        log = TfRecordRequestLog(RequestLogPolicy(directory=Path(sys.argv[1])))
        log.start()
        request = bytes.fromhex(sys.argv[2])
        while True:
            for _ in range(100):
                log.offer(
                    RequestRecord("grpc", "Predict", "taxi", 1, "", "s", "f", request, b"",
                                  Code.OK, "", "miss", "", time.time())
                )
            await asyncio.sleep(0.05)
            print(sum(path.stat().st_size for path in Path(sys.argv[1]).rglob(".*.part")),
                  flush=True)

    asyncio.run(main())
"""


def test_after_kill_9_the_next_start_recovers_what_was_written(tmp_path):
    request = predict_request().SerializeToString()
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROCESS), str(tmp_path), request.hex()],
        stdout=subprocess.PIPE,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    try:
        for line in process.stdout:  # the first record waits for TensorFlow to be imported
            if int(line) > 10_000:
                break
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        process.stdout.close()
    written = sum(path.stat().st_size for path in tmp_path.rglob(".*.part"))
    assert written > 10_000

    async def next_start():
        log = TfRecordRequestLog(RequestLogPolicy(directory=tmp_path))
        log.start()
        await log.close()

    asyncio.run(next_start())
    assert not list(tmp_path.rglob(".*.part"))
    logs = read(tmp_path)
    assert len(logs) > 30
    assert all(log.predict_log.request == predict_request() for log in logs)
