"""What the gateway says of itself agrees with what its clients have seen."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

MODEL = "counted"
PATH = f"/v1/models/{MODEL}:predict"
STEP = 1_000_000


@pytest.fixture(scope="module")
def seen(shared: Any) -> Counter[str]:
    """Asks in every way; returns how often each status came, and the codes, protocols and rows."""
    gateway, found = shared.gateway, Counter[str]()

    def ask(rows: Sequence[int], status: str) -> None:
        reply = gateway.predict(*rows, model=MODEL)
        assert reply.json() == {"predictions": [row + STEP for row in rows]}
        assert reply.cache == status
        found.update([status, "rest", "ok", *["row"] * len(rows)])

    for row in range(20):
        ask([row], "miss")
    for _ in range(5):
        for row in range(20):
            ask([row], "hit")
    ask([1, 2, 100], "partial")
    ask([1, 2, 100], "hit")
    for _ in range(7):
        assert gateway.ask(PATH, b'{"instances": ["a"]}').status == 400
        found.update(["error", "rest", "invalid"])
    for _ in range(3):
        pinned = f"/v1/models/{MODEL}/versions/9:predict"
        assert gateway.ask(pinned, b'{"instances": [1]}').status == 404
        found.update(["error", "rest", "not found"])
    for status in _ask_by_grpc(gateway.grpc_port):
        found.update([status, "grpc", "ok", "row"])
    return found


def _ask_by_grpc(port: int) -> list[str]:
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    statuses = []
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for row in (3, 200, 200):
            request = predict_pb2.PredictRequest()
            request.model_spec.name = MODEL
            request.inputs["row"].CopyFrom(tf.make_tensor_proto([row], tf.int64))
            reply, call = stub.Predict.with_call(request, timeout=60)
            assert list(reply.outputs["answer"].int64_val) == [row + STEP]
            statuses.append(dict(call.trailing_metadata())["x-encore-cache"])
    assert statuses == ["hit", "miss", "hit"]
    return statuses


def test_the_metrics_count_what_the_client_counted(shared, seen) -> None:
    def count(name: str, **labels: str) -> int:
        return int(shared.gateway.count(name, model=MODEL, **labels))

    assert count("encore_requests_total", method="Predict") == seen["rest"] + seen["grpc"]
    for label, ours in (("OK", "ok"), ("INVALID_ARGUMENT", "invalid"), ("NOT_FOUND", "not found")):
        assert count("encore_requests_total", method="Predict", code=label) == seen[ours]
    for status in ("hit", "miss", "partial", "error"):
        assert count("encore_request_seconds_count", cache=status) == seen[status]
    computed = 20 + 1 + 1
    assert count("encore_cache_misses_total") == computed
    assert count("encore_rows_total", source="model") == computed
    assert count("encore_rows_total", source="cache") == seen["row"] - computed


def test_tensorflow_servings_own_names_count_the_same(shared, seen) -> None:
    def count(status: str) -> int:
        name = ":tensorflow:serving:request_count_total"  # the parser's ending, not the page's
        return int(shared.gateway.count(name, model_name=MODEL, status=status))

    assert count("OK") == seen["ok"]


def test_the_request_log_is_readable_while_it_is_written_and_marks_hits(shared, seen, wait) -> None:
    wanted = seen["rest"] + seen["grpc"]
    wait(lambda: len(_records(shared.request_log)) >= wanted, "the log")
    records = _records(shared.request_log)
    assert len(records) == wanted
    told = [_tags(record) for record in records]
    assert Counter(tags["cache"] for tags in told) == {
        status: seen[status] for status in ("hit", "miss", "partial", "error")
    }
    assert Counter(tags["protocol"] for tags in told) == {
        "rest": seen["rest"],
        "grpc": seen["grpc"],
    }
    for record in records:
        log = record.predict_log
        assert record.log_metadata.model_spec.name == MODEL
        if log.HasField("response"):
            rows = list(log.request.inputs["row"].int64_val)
            answers = list(log.response.outputs["answer"].int64_val)
            assert rows
            assert answers == [row + STEP for row in rows]


def _records(folder: Path) -> list[Any]:
    """Every PredictionLog of the model, read as TensorFlow reads TFRecords."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    files = [str(path) for path in (folder / MODEL).glob("*/*") if path.stat().st_size]
    dataset = tf.data.TFRecordDataset(files)
    return [prediction_log_pb2.PredictionLog.FromString(raw.numpy()) for raw in dataset]


def _tags(record: Any) -> dict[str, str]:
    tags = record.log_metadata.saved_model_tags
    assert tags[0] == "serve"
    return dict(tag[len("encore.") :].split("=", 1) for tag in tags[1:])


def test_status_metadata_and_pages_answer_beside(shared, seen) -> None:
    gateway = shared.gateway
    assert gateway.states(MODEL) == {1: ("AVAILABLE", "OK", "")}
    metadata = gateway.ask(f"/v1/models/{MODEL}/metadata").json()
    assert metadata["model_spec"] == {"name": MODEL, "signature_name": "", "version": "1"}
    assert json.dumps(metadata).count("serving_default")
    assert gateway.ask("/healthz").status == 200
