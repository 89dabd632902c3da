"""MultiInference, as multi_inference_test.cc and multi_inference_helper_test.cc expect it."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from tensorflow_serving.apis import inference_pb2

from tfx_encore.gateway.signature import CLASSIFY, PREDICT, REGRESS

INVALID = grpc.StatusCode.INVALID_ARGUMENT


def call(kit, request, gateway=None, repeats=1):
    async def scenario():
        async with kit.serving(gateway or kit.Gateway()) as client:
            try:
                made = [await client.prediction.MultiInference(request) for _ in range(repeats)]
            except grpc.aio.AioRpcError as error:
                return error.code(), error.details()
            return made[-1]

    return asyncio.run(scenario())


@pytest.mark.parametrize("repeats", [1, 2, 3])
def test_each_task_has_its_result_in_order(kit, repeats):
    gateway = kit.Gateway(kit.FakeModel(version=4))
    tasks = (("regress", REGRESS), ("classify", CLASSIFY), ("scores", CLASSIFY))
    answer = call(kit, kit.multi_request(tasks, [0.25, 0.5]), gateway, repeats)
    kinds = [result.WhichOneof("result") for result in answer.results]
    assert kinds == ["regression_result", "classification_result", "classification_result"]
    assert [item.value for item in answer.results[0].regression_result.regressions] == [0.5, 1.0]
    second = answer.results[1].classification_result.classifications[1]
    assert [item.score for item in second.classes] == [0.5, 0.5]
    assert [result.model_spec.signature_name for result in answer.results] == [
        "regress",
        "classify",
        "scores",
    ]
    assert {result.model_spec.version.value for result in answer.results} == {4}
    assert len(gateway.servables[4].model.calls) == 3


def test_one_task_is_enough(kit):
    answer = call(kit, kit.multi_request((("regress", REGRESS),)))
    assert len(answer.results) == 1


def _named(kit, *names):
    request = kit.multi_request(tuple((f"regress{n or ''}", REGRESS) for n in range(len(names))))
    for task, name in zip(request.tasks, names, strict=True):
        task.model_spec.name = name
        task.model_spec.signature_name = "regress" if name else ""
    return request


def test_requests_that_cannot_be_are_refused(kit):
    empty = kit.multi_request()
    empty.input.Clear()
    same = (("regress", REGRESS), ("regress", REGRESS))
    unknown = kit.multi_request((("none", REGRESS),))
    later = _named(kit, "m", "")
    cases = [
        (inference_pb2.MultiInferenceRequest(), INVALID, "ModelSpec has no name specified."),
        (_named(kit, ""), INVALID, "ModelSpec has no name specified."),
        (
            _named(kit, "other"),
            grpc.StatusCode.NOT_FOUND,
            "Servable not found for request: Latest(other)",
        ),
        (empty, INVALID, "Input is empty."),
        (unknown, INVALID, "Requested signature not found in model graph: none"),
        (later, INVALID, "Found ModelSpec with an empty model name."),
        (
            _named(kit, "m", "other"),
            INVALID,
            "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
        ),
        (kit.multi_request(same), INVALID, "Duplicate evaluation of signature: regress"),
        (
            kit.multi_request((("serving_default", PREDICT),)),
            grpc.StatusCode.UNIMPLEMENTED,
            f"Unsupported signature method_name: {PREDICT}",
        ),
        (
            kit.multi_request((("classify", REGRESS),)),
            INVALID,
            "Expected one output Tensor.",
        ),
    ]
    for request, code, message in cases:
        assert call(kit, request) == (code, message)


def test_the_first_task_names_the_version(kit):
    gateway = kit.Gateway(kit.FakeModel(1), kit.FakeModel(2))
    request = kit.multi_request()
    request.tasks[0].model_spec.version.value = 1
    request.tasks[1].model_spec.version.value = 2
    answer = call(kit, request, gateway)
    assert {result.model_spec.version.value for result in answer.results} == {1}


def test_tasks_that_were_seen_apart_are_hits_together(kit):
    gateway = kit.Gateway()

    async def scenario():
        async with kit.serving(gateway) as client:
            await client.prediction.Classify(kit.classify_request([0.5]))
            await client.prediction.Regress(kit.regress_request([0.5]))
            call = client.prediction.MultiInference(kit.multi_request(values=[0.5]))
            await call
            return dict(await call.trailing_metadata())

    assert asyncio.run(scenario())["x-encore-cache"] == "hit"
    assert len(gateway.servables[1].model.calls) == 2


def test_a_switch_between_two_tasks_gives_both_to_the_new_version(kit):
    old, new = kit.FakeModel(1), kit.FakeModel(2)
    gateway = kit.Gateway(old)

    async def scenario():
        gates = {"classify": asyncio.Event(), "regress": asyncio.Event()}

        async def wait():
            await gates[old.calls[-1][0]].wait()

        old.wait = wait
        async with kit.serving(gateway) as client:
            call = client.prediction.MultiInference(kit.multi_request())
            while len(old.calls) < 2:
                await asyncio.sleep(0.01)
            gates["classify"].set()
            await asyncio.sleep(0.05)
            gateway.servables[2] = kit.make_servable(new)
            gateway.publish()
            gates["regress"].set()
            return await call

    answer = asyncio.run(scenario())
    assert {result.model_spec.version.value for result in answer.results} == {2}
