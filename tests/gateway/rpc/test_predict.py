"""Predict, as tensorflow_serving/servables/tensorflow/predict_impl_test.cc expects it."""

from __future__ import annotations

import asyncio

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import predict_pb2

from tfx_encore.gateway.errors import Code, ServingError, invalid
from tfx_encore.gateway.tensor_proto import to_proto, to_tensor

INVALID = grpc.StatusCode.INVALID_ARGUMENT


def test_an_answer_names_model_version_and_signature(kit):
    async def scenario():
        async with kit.serving(kit.Gateway(kit.FakeModel(version=7))) as client:
            return await client.prediction.Predict(kit.predict_request([1.0, 2.5]))

    answer = asyncio.run(scenario())
    assert answer.model_spec.name == "m"
    assert answer.model_spec.version.value == 7
    assert answer.model_spec.signature_name == "serving_default"
    assert sorted(answer.outputs) == ["version", "y"]
    assert list(answer.outputs["y"].float_val) == [2.0, 5.0]
    assert list(answer.outputs["version"].int64_val) == [7, 7]
    assert not answer.outputs["y"].tensor_content
    assert [dim.size for dim in answer.outputs["y"].tensor_shape.dim] == [2]


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("mode", ["rows", "requests", "off"])
def test_the_same_answer_comes_from_model_rows_and_raw_bytes(kit, mode, times):
    async def scenario():
        gateway = kit.Gateway(mode=mode)
        async with kit.serving(gateway) as client:
            answers = [
                await client.prediction.Predict(kit.predict_request([3.0, -0.0]))
                for _ in range(times)
            ]
            return answers, gateway

    answers, gateway = asyncio.run(scenario())
    assert all(answer == answers[0] for answer in answers)
    assert list(answers[-1].outputs["y"].float_val) == [6.0, -0.0]
    assert len(gateway.servables[1].model.calls) == (times if mode == "off" else 1)


def test_tensor_content_is_read_as_the_values_are(kit):
    async def scenario():
        async with kit.serving(kit.Gateway()) as client:
            request = kit.predict_request()
            request.inputs["x"].ClearField("float_val")
            request.inputs["x"].tensor_content = np.float32([1.25]).tobytes()
            return await client.prediction.Predict(request)

    assert list(asyncio.run(scenario()).outputs["y"].float_val) == [2.5]


def test_a_scalar_is_computed_although_it_has_no_rows(kit):
    model = kit.FakeModel(answer=lambda inputs, _: {"y": inputs["x"] * 2, "version": inputs["x"]})

    async def scenario():
        async with kit.serving(kit.Gateway(model)) as client:
            return await client.prediction.Predict(kit.predict_request(x=np.float32(2.0)))

    answer = asyncio.run(scenario())
    assert to_tensor(answer.outputs["y"]).tolist() == 4.0


def test_an_output_filter_is_obeyed(kit):
    async def scenario():
        gateway = kit.Gateway()
        async with kit.serving(gateway) as client:
            request = kit.predict_request()
            request.output_filter.append("y")
            return await client.prediction.Predict(request), gateway.servables[1].model.calls

    answer, calls = asyncio.run(scenario())
    assert list(answer.outputs) == ["y"]
    assert calls[0][2] == ("y",)


def test_versions_are_chosen_by_number_by_label_and_by_default(kit):
    async def scenario():
        gateway = kit.Gateway(kit.FakeModel(1), kit.FakeModel(2), labels={"stable": 1})
        async with kit.serving(gateway) as client:
            by_number = kit.predict_request()
            by_number.model_spec.version.value = 1
            by_label = kit.predict_request()
            by_label.model_spec.version_label = "stable"
            requests = (kit.predict_request(), by_number, by_label)
            return [await client.prediction.Predict(request) for request in requests]

    assert [answer.model_spec.version.value for answer in asyncio.run(scenario())] == [2, 1, 1]


def _spec(**fields):
    request = predict_pb2.PredictRequest()
    version = fields.pop("version", None)
    for name, value in fields.items():
        setattr(request.model_spec, name, value)
    if version is not None:
        request.model_spec.version.value = version
    return request


def _with(request, **tensors):
    for name, array in tensors.items():
        request.inputs[name].CopyFrom(to_proto(array))
    return request


ONE = np.float32([1.0])
REFUSED = {
    "no model spec": (predict_pb2.PredictRequest(), INVALID, "Missing ModelSpec"),
    "empty model spec": (_spec(name=""), INVALID, "Missing ModelSpec"),
    "no name": (_spec(signature_name="x"), INVALID, "ModelSpec has no name specified."),
    "unknown model": (
        _spec(name="other"),
        grpc.StatusCode.NOT_FOUND,
        "Servable not found for request: Latest(other)",
    ),
    "unknown version": (
        _spec(name="m", version=9),
        grpc.StatusCode.NOT_FOUND,
        "Servable not found for request: Specific(m, 9)",
    ),
    "version zero": (
        _spec(name="m", version=0),
        grpc.StatusCode.NOT_FOUND,
        "Servable not found for request: Specific(m, 0)",
    ),
    "unknown label": (
        _spec(name="m", version_label="canary"),
        INVALID,
        "Unrecognized servable version label: canary",
    ),
    "unknown signature": (
        _spec(name="m", signature_name="none"),
        grpc.StatusCode.FAILED_PRECONDITION,
        'Serving signature key "none" not found.',
    ),
    "no inputs": (
        _spec(name="m"),
        INVALID,
        "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}. "
        "Missing but required: {x}.",
    ),
    "too many inputs": (
        _with(_spec(name="m"), unknown_2=ONE, unknown_1=ONE),
        INVALID,
        "input size does not match signature: 2!=1 len({unknown_1,unknown_2}) != len({x}). "
        "Sent extra: {unknown_1,unknown_2}. Missing but required: {x}.",
    ),
    "another input": (
        _with(_spec(name="m"), z=ONE),
        INVALID,
        "Signature input alias: x(feed name: serving_default_x:0) not found in request and no "
        "default value provided. Inputs expected to be in the request {z}, or default input "
        "alias set: ",
    ),
    "wrong type": (
        _with(_spec(name="m"), x=np.array([b"a"], object)),
        INVALID,
        "Expects arg[0] to be float but object is provided",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_answered_is_refused_in_the_words_of_tensorflow_serving(kit, case):
    request, code, message = REFUSED[case]
    if case == "empty model spec":
        request = predict_pb2.PredictRequest()

    async def scenario():
        async with kit.serving(kit.Gateway()) as client:
            return await kit.refused(client.prediction.Predict(request))

    found = asyncio.run(scenario())
    assert (found.code, found.message) == (code, message)


def test_a_tensor_that_cannot_be_read_is_named(kit):
    async def scenario():
        async with kit.serving(kit.Gateway()) as client:
            request = kit.predict_request()
            request.inputs["x"].tensor_content = b"123"
            request.output_filter.append("nothing")  # said later
            return await kit.refused(client.prediction.Predict(request))

    found = asyncio.run(scenario())
    assert (found.code, found.message) == (INVALID, "tensor parsing error: x")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["none"],
            "output tensor alias not found in signature: none Outputs expected to be in the set "
            "{version,y}.",
        ),
        (["y", "y"], "duplicate output tensor alias: y"),
    ],
)
def test_an_output_filter_names_known_outputs_once(kit, names, message):
    async def scenario():
        async with kit.serving(kit.Gateway()) as client:
            request = kit.predict_request()
            request.output_filter.extend(names)
            return await kit.refused(client.prediction.Predict(request))

    found = asyncio.run(scenario())
    assert (found.code, found.message) == (INVALID, message)


def test_an_input_with_a_default_may_be_left_out(kit):
    model = kit.FakeModel()
    default = np.array([[1.0, 2.0]], np.float32)
    model.signature_def["two"].defaults["x"].CopyFrom(to_proto(default))

    async def scenario():
        async with kit.serving(kit.Gateway(model)) as client:
            request = kit.predict_request(signature="two", name=np.array([b"a"], object))
            return await client.prediction.Predict(request)

    assert list(asyncio.run(scenario()).outputs["y"].float_val) == [3.0]


@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"\x0c\x00", b"\x0a\x05m"])
def test_bytes_that_are_no_message_are_an_internal_error_as_in_the_original(kit, data):
    async def scenario():
        async with kit.serving(kit.Gateway()) as client:
            call = client.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
            return await kit.refused(call(data))

    assert asyncio.run(scenario()).code == grpc.StatusCode.INTERNAL


def test_a_long_message_is_cut_as_in_the_original(kit):
    model = kit.FakeModel()
    model.raises = invalid("é" * 2000)

    async def scenario():
        async with kit.serving(kit.Gateway(model)) as client:
            return await kit.refused(client.prediction.Predict(kit.predict_request()))

    assert asyncio.run(scenario()).message == "é" * 512 + "...TRUNCATED"


@pytest.mark.parametrize("code", [code for code in Code if code != Code.OK])
def test_every_code_of_the_model_reaches_the_client(kit, code):
    model = kit.FakeModel()
    model.raises = ServingError(code, "so it is")

    async def scenario():
        async with kit.serving(kit.Gateway(model)) as client:
            return await kit.refused(client.prediction.Predict(kit.predict_request()))

    found = asyncio.run(scenario())
    assert (found.code.value[0], found.message) == (int(code), "so it is")


def test_a_fault_of_ours_is_an_internal_error_that_tells_no_details(kit, caplog):
    model = kit.FakeModel()
    model.raises = RuntimeError("a path, a secret")

    async def scenario():
        gateway = kit.Gateway(model)
        async with kit.serving(gateway) as client:
            found = await kit.refused(client.prediction.Predict(kit.predict_request()))
            return found, gateway.observer.requests

    found, requests = asyncio.run(scenario())
    assert found.code == grpc.StatusCode.INTERNAL
    assert "secret" not in found.message
    assert "call failed method=Predict model=m" in caplog.text
    assert requests[0]["code"] == Code.INTERNAL


def test_a_refusal_by_the_model_is_remembered(kit):
    model = kit.FakeModel()
    model.raises = invalid("never")

    async def scenario():
        async with kit.serving(kit.Gateway(model)) as client:
            return [
                await kit.refused(client.prediction.Predict(kit.predict_request()))
                for _ in range(3)
            ]

    assert {found.message for found in asyncio.run(scenario())} == {"never"}
    assert len(model.calls) == 1


def test_a_deadline_that_passes_is_said_to_the_client_and_to_the_metrics(kit):
    model = kit.FakeModel()

    async def scenario():
        never = asyncio.Event()
        model.wait = never.wait
        gateway = kit.Gateway(model)
        async with kit.serving(gateway) as client:
            call = client.prediction.Predict(kit.predict_request(), timeout=0.2)
            found = await kit.refused(call)
            for _ in range(500):
                if gateway.observer.requests:
                    break
                await asyncio.sleep(0.01)
            never.set()
            return found, gateway.observer.requests

    found, requests = asyncio.run(scenario())
    assert found.code == grpc.StatusCode.DEADLINE_EXCEEDED
    assert [told["code"] for told in requests] == [Code.DEADLINE_EXCEEDED]


def test_a_client_that_gives_up_does_not_stop_the_computation_of_others(kit):
    model = kit.FakeModel()

    async def scenario():
        gate = asyncio.Event()
        model.wait = gate.wait
        gateway = kit.Gateway(model)
        (servable,) = gateway.servables.values()
        async with kit.serving(gateway) as client:
            first = client.prediction.Predict(kit.predict_request())
            second = client.prediction.Predict(kit.predict_request())
            while servable.in_flight < 2:
                await asyncio.sleep(0.01)
            first.cancel()
            for _ in range(500):
                if gateway.observer.requests:
                    break
                await asyncio.sleep(0.01)
            gate.set()
            return await second, gateway.observer.requests[0]["code"]

    answer, code = asyncio.run(scenario())
    assert list(answer.outputs["y"].float_val) == [2.0]
    assert code == Code.CANCELLED
    assert len(model.calls) == 1
