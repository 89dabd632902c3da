"""Warm-up files, replayed as TensorFlow Serving replays them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.example import example_pb2
from tensorflow_serving.apis import prediction_log_pb2

from tfx_encore.gateway.errors import Code, ServingError
from tfx_encore.gateway.models.local_model import LocalLoader
from tfx_encore.gateway.models.warmup import MAX_RECORDS, replay, warmup_file
from tfx_encore.gateway.observer import GatewayObserver
from tfx_encore.gateway.tensor_proto import to_proto

CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"
ANY = ("STRING", (-1,))


def write(path, records):
    """Writes records, or bytes that are none, as a model's warm-up file."""
    file = warmup_file(str(path))
    file.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(file)) as writer:
        for record in records:
            writer.write(record if isinstance(record, bytes) else record.SerializeToString())
    return file


def example(fare=1.0):
    made = example_pb2.Example()
    made.features.feature["x"].float_list.value.extend([fare, 2.0])
    return made


def predict(inputs, signature="", output_filter=()):
    log = prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.model_spec.signature_name = signature
    request.output_filter.extend(output_filter)
    for name, array in inputs.items():
        request.inputs[name].CopyFrom(to_proto(array))
    return log


def on_examples(kind, signature):
    log = prediction_log_pb2.PredictionLog()
    request = getattr(log, kind).request
    request.model_spec.signature_name = signature
    request.input.example_list.examples.append(example())
    return log


def multi_inference(*tasks):
    log = prediction_log_pb2.PredictionLog()
    request = log.multi_inference_log.request
    request.input.example_list.examples.extend([example(), example(3.0)])
    for method, signature in tasks:
        request.tasks.add(method_name=method).model_spec.signature_name = signature
    return log


def failure(model, path):
    with pytest.raises(ServingError) as caught:
        asyncio.run(replay(model, str(path), GatewayObserver()))
    return caught.value


@pytest.fixture
def model(fake_model):
    """A fake whose signatures take Examples, or x."""
    numbers = {"x": ("FLOAT", (-1, 2))}
    return fake_model(
        serving_default=(numbers, {"y": ("FLOAT", (-1,))}, lambda x: {"y": x[:, 0]}),
        classify=(
            {"inputs": ANY},
            {"scores": ("FLOAT", (-1, 2))},
            lambda inputs: {"scores": np.zeros((len(inputs), 2), np.float32)},
        ),
        regress=(
            {"inputs": ANY},
            {"outputs": ("FLOAT", (-1,))},
            lambda inputs: {"outputs": np.zeros(len(inputs), np.float32)},
        ),
        wide=(
            {"inputs": ANY},
            {"outputs": ("FLOAT", (-1,))},
            lambda inputs: {"outputs": np.zeros((len(inputs), 3), np.float32)},
        ),
    )


X = {"x": np.float32([[1, 2]])}


def test_every_kind_of_record_is_run_on_a_real_model(small_model, tmp_path, make_inputs):
    records = [
        predict(make_inputs(2)),
        predict(make_inputs(1), "serving_default", ["score"]),
        on_examples("classify_log", "classify"),
        on_examples("regress_log", "regress"),
        multi_inference((CLASSIFY, "classify"), (REGRESS, "regress")),
        prediction_log_pb2.PredictionLog(),
    ]
    write(tmp_path, records)

    async def main():
        loader = LocalLoader(intra_op=1)
        model = await loader.load("small", 1, small_model)
        count = await replay(model, str(tmp_path), GatewayObserver())
        await model.close()
        loader.close()
        return count

    assert asyncio.run(main()) == len(records)


def test_records_are_run_in_order_as_they_ask(model, tmp_path):
    write(
        tmp_path,
        [
            predict(X, output_filter=["y"]),
            on_examples("regress_log", "regress"),
            multi_inference((CLASSIFY, "classify"), (REGRESS, "regress")),
        ],
    )
    assert asyncio.run(replay(model, str(tmp_path), GatewayObserver())) == 3
    assert [(name, outputs) for name, _, outputs in model.calls] == [
        ("serving_default", ("y",)),
        ("regress", ("outputs",)),
        ("classify", ("scores",)),
        ("regress", ("outputs",)),
    ]
    assert [len(inputs.get("inputs", ())) for _, inputs, _ in model.calls] == [0, 1, 2, 2]


def test_a_model_without_the_file_needs_none(model, tmp_path):
    assert asyncio.run(replay(model, str(tmp_path), GatewayObserver())) == 0


def test_the_observer_hears_of_it(model, tmp_path):
    heard = []

    class Observer(GatewayObserver):
        def warmed_up(self, model, version, *, records, seconds):
            heard.append((model, version, records, seconds >= 0))

    write(tmp_path, [predict(X)] * 3)
    asyncio.run(replay(model, str(tmp_path), Observer()))
    assert heard == [("fake", 1, 3, True)]


def test_a_thousand_records_are_run_and_one_more_is_an_error(model, tmp_path):
    write(tmp_path, [predict(X)] * MAX_RECORDS)
    assert asyncio.run(replay(model, str(tmp_path), GatewayObserver())) == 1000
    file = write(tmp_path, [predict(X)] * (MAX_RECORDS + 1))
    error = failure(model, tmp_path)
    assert error.code == Code.INVALID_ARGUMENT
    assert error.message == f"Number of warmup records exceeds the maximum (1000) at {file}"


def test_a_file_that_is_no_tfrecord(model, tmp_path):
    write(tmp_path, []).write_bytes(b"these are not the records that you are looking for")
    error = failure(model, tmp_path)
    assert error.code == Code.DATA_LOSS
    assert error.message.endswith("Please verify your warmup data is in TFRecord format.")


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_file_that_is_damaged(model, tmp_path, damage):
    file = write(tmp_path, [predict(X)] * 2)
    data = bytearray(file.read_bytes())
    if damage == "flip":
        data[20] ^= 1
    file.write_bytes(bytes(data if damage == "flip" else data[:-3]))
    assert failure(model, tmp_path).code == Code.DATA_LOSS


def test_a_record_that_is_no_log(model, tmp_path):
    file = write(tmp_path, [predict(X), b"\xff\xff\xff"])
    error = failure(model, tmp_path)
    assert error.code == Code.INVALID_ARGUMENT
    assert error.message == f"Failed to parse warmup record 2 (3 bytes) from {file}"


@pytest.mark.parametrize("kind", ["session_run_log", "predict_streamed_log"])
def test_kinds_that_are_not_replayed(model, tmp_path, kind):
    log = prediction_log_pb2.PredictionLog()
    getattr(log, kind).SetInParent()
    write(tmp_path, [log])
    error = failure(model, tmp_path)
    assert error.code == Code.UNIMPLEMENTED
    assert "Unsupported log_type for warmup" in error.message


@pytest.mark.parametrize(
    ("record", "code", "words"),
    [
        (predict(X, "no_such"), Code.FAILED_PRECONDITION, 'signature key "no_such" not found'),
        (predict({}), Code.INVALID_ARGUMENT, "input size does not match signature"),
        (predict(X, output_filter=["z"]), Code.INVALID_ARGUMENT, "alias not found"),
        (predict({"x": np.float64([[1, 2]])}), Code.INVALID_ARGUMENT, "x is float64"),
        (on_examples("classify_log", "regress"), Code.INVALID_ARGUMENT, "classification"),
        (on_examples("regress_log", "wide"), Code.INVALID_ARGUMENT, "output Tensor shape"),
        (multi_inference(("other", "regress")), Code.UNIMPLEMENTED, "method_name: other"),
    ],
    ids=["signature", "inputs", "filter", "dtype", "not a classifier", "answer", "method"],
)
def test_the_first_record_that_fails_fails_the_load(model, tmp_path, record, code, words):
    write(tmp_path, [predict(X), record, predict(X)])
    error = failure(model, tmp_path)
    assert error.code == code
    assert error.message.startswith("warm-up record 2 of ")
    assert words in error.message
    assert model.calls[0][0] == "serving_default"
    assert Path(error.message.split(": ")[0].removeprefix("warm-up record 2 of ")).is_file()
