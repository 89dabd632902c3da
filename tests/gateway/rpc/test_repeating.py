"""What comes from the raw tier, what is told of it, and when it may not be used."""

from __future__ import annotations

import asyncio
import gc
import weakref

import grpc
import pytest

from tfx_encore.cache.inference_cache import InferenceCache
from tfx_encore.cache.invalidation import InvalidationState
from tfx_encore.cache.memory_store import MemoryStore
from tfx_encore.gateway.errors import Code
from tfx_encore.schemas.records import Cause, InvalidationRecord, SelectAll


def record(sequence):
    created = "2026-01-01T00:00:00.000000Z"
    return InvalidationRecord("m", sequence, Cause.MANUAL, SelectAll(), "a test", created, "test")


async def cached(client, request):
    """The answer's `y` and what the trailing metadata says of it."""
    call = client.prediction.Predict(request)
    answer = await call
    trailers = dict(await call.trailing_metadata() or ())
    return list(answer.outputs["y"].float_val), trailers.get("x-encore-cache")


def test_trailing_metadata_says_where_the_answer_came_from(kit):
    async def scenario():
        async with kit.serving(kit.Gateway(kit.FakeModel(5))) as client:
            call = client.prediction.Predict(kit.predict_request([1.0, 2.0]))
            await call
            first = dict(await call.trailing_metadata())
            partial = await cached(client, kit.predict_request([2.0, 3.0]))
            hit = await cached(client, kit.predict_request([3.0]))
            raw = await cached(client, kit.predict_request([3.0]))
            return first, [partial, hit, raw]

    first, others = asyncio.run(scenario())
    assert first == {
        "x-encore-cache": "miss",
        "x-encore-fingerprint": "sha256:5",
        "x-encore-version": "5",
    }
    assert others == [([4.0, 6.0], "partial"), ([6.0], "hit"), ([6.0], "hit")]


def test_metadata_can_be_turned_off(kit):
    async def scenario():
        async with kit.serving(kit.Gateway(headers=False)) as client:
            found = []
            for _ in range(3):
                call = client.prediction.Predict(kit.predict_request())
                await call
                found.append(dict(await call.trailing_metadata() or ()))
            bad = await kit.refused(client.prediction.Predict(kit.predict_request(signature="z")))
            return found, bad.trailers

    found, bad = asyncio.run(scenario())
    assert found == [{}, {}, {}]
    assert "x-encore-cache" not in bad


def test_an_error_says_which_version_refused(kit):
    async def scenario():
        async with kit.serving(kit.Gateway(kit.FakeModel(3))) as client:
            request = kit.predict_request(signature="none")
            return (await kit.refused(client.prediction.Predict(request))).trailers

    trailers = asyncio.run(scenario())
    assert trailers["x-encore-cache"] == "error"
    assert trailers["x-encore-version"] == "3"


def test_only_a_body_whose_rows_were_all_known_is_kept_whole(kit):
    gateway = kit.Gateway()

    async def scenario():
        kept = []
        async with kit.serving(gateway) as client:
            for _ in range(3):
                await client.prediction.Predict(kit.predict_request())
                kept.append(len(gateway.service.raw))
        return kept

    assert asyncio.run(scenario()) == [0, 1, 1]


def test_the_same_bytes_sent_to_another_method_are_another_request(kit):
    """Classify and Regress take messages of the same layout."""

    async def scenario():
        async with kit.serving(kit.Gateway()) as client:
            data = kit.regress_request().SerializeToString()
            prefix = "/tensorflow.serving.PredictionService/"
            regress = client.channel.unary_unary(prefix + "Regress")
            classify = client.channel.unary_unary(prefix + "Classify")
            for _ in range(3):
                await regress(data)
            return await kit.refused(classify(data))

    found = asyncio.run(scenario())
    assert found.code == grpc.StatusCode.INVALID_ARGUMENT


def test_a_switch_ends_every_repetition(kit):
    gateway = kit.Gateway(kit.FakeModel(1))

    async def scenario():
        async with kit.serving(gateway) as client:
            for _ in range(3):
                await client.prediction.Predict(kit.predict_request())
            gateway.servables[2] = kit.make_servable(kit.FakeModel(2))
            gateway.publish()
            return await client.prediction.Predict(kit.predict_request())

    assert asyncio.run(scenario()).model_spec.version.value == 2


def test_nothing_holds_a_replaced_model_once_it_was_swept(kit):
    gateway = kit.Gateway(kit.FakeModel(1))
    old = weakref.ref(gateway.servables[1])

    async def scenario():
        async with kit.serving(gateway) as client:
            for _ in range(3):
                await client.prediction.Predict(kit.predict_request())
            gateway.servables[2] = kit.make_servable(kit.FakeModel(2))
            del gateway.servables[1]
            gateway.publish()
            gateway.service.sweep()

    asyncio.run(scenario())
    gc.collect()
    assert old() is None


def test_an_invalidation_ends_every_repetition(kit):
    model = kit.FakeModel()
    cache = InferenceCache("m", [MemoryStore(2**20)], state=InvalidationState("m", None, float))
    gateway = kit.Gateway(servables=[kit.make_servable(model, cache)])

    async def scenario():
        async with kit.serving(gateway) as client:
            for _ in range(3):
                await client.prediction.Predict(kit.predict_request())
            cache.state.apply(record(1))
            return await cached(client, kit.predict_request())

    assert asyncio.run(scenario()) == ([2.0], "miss")
    assert len(model.calls) == 2


def test_what_expires_is_not_repeated(kit):
    now = [1e9]
    model = kit.FakeModel()
    cache = InferenceCache("m", [MemoryStore(2**20)], wall_clock=lambda: now[0])
    servable = kit.make_servable(model, cache)
    gateway = kit.Gateway(servables=[servable], clock=lambda: now[0])

    async def scenario():
        async with kit.serving(gateway) as client:
            for _ in range(3):
                await client.prediction.Predict(kit.predict_request())
            now[0] += 86_400
            return await cached(client, kit.predict_request())

    assert asyncio.run(scenario()) == ([2.0], "miss")
    assert len(model.calls) == 2


def test_metrics_hear_of_every_call_and_row(kit):
    gateway = kit.Gateway(kit.FakeModel(2))

    async def scenario():
        async with kit.serving(gateway) as client:
            for _ in range(3):
                await client.prediction.Predict(kit.predict_request([1.0, 2.0]))
            await kit.refused(client.prediction.Predict(kit.predict_request(model="made up")))
            await kit.refused(client.prediction.Predict(kit.predict_request(signature="none")))

    asyncio.run(scenario())
    told = gateway.observer.requests
    assert [item["status"] for item in told] == ["miss", "hit", "hit", "error", "error"]
    assert [item["code"] for item in told[2:]] == [
        Code.OK,
        Code.NOT_FOUND,
        Code.FAILED_PRECONDITION,
    ]
    assert told[0] | {"status": "hit"} == told[1] == told[2]
    assert told[2] == {
        "method": "Predict",
        "model": "m",
        "version": 2,
        "signature": "serving_default",
        "code": Code.OK,
        "status": "hit",
    }
    assert told[3]["model"] == ""
    assert (told[4]["model"], told[4]["version"]) == ("m", 2)
    assert (gateway.observer.hits, gateway.observer.total) == (4, 6)


def test_an_observer_with_handles_counts_repetitions_by_them(kit):
    gateway = kit.Gateway(kit.FakeModel(2))
    counted = []

    class Handle:
        def count(self, seconds, rows):
            counted.append((seconds >= 0, rows))

    def handle(**told):
        counted.append(told)
        return Handle()

    gateway.observer.handle = handle

    async def scenario():
        async with kit.serving(gateway) as client:
            for _ in range(4):
                await client.prediction.Predict(kit.predict_request([1.0, 2.0]))

    asyncio.run(scenario())
    labels = {"protocol": "grpc", "method": "Predict", "model": "m", "version": 2}
    labels |= {"signature": "serving_default", "code": Code.OK, "status": "hit"}
    assert counted == [labels, (True, 2), (True, 2)]
    assert len(gateway.observer.requests) == 2


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_log_gets_requests_and_answers_as_they_went_over_the_wire(kit, place):
    gateway = kit.Gateway(kit.FakeModel(2), labels={"stable": 2})
    request = kit.predict_request()
    request.model_spec.version_label = "stable"

    async def scenario():
        answers = []
        async with kit.serving(gateway) as client:
            for number in range(3):
                metadata = (("x-request-id", f"id-{number}"),)
                answers.append(await client.prediction.Predict(request, metadata=metadata))
        return answers

    answers = asyncio.run(scenario())
    written = gateway.log.records[place]
    assert written.request == request.SerializeToString()
    assert type(answers[place]).FromString(written.response) == answers[place]
    assert (written.protocol, written.method, written.model) == ("grpc", "Predict", "m")
    assert (written.version, written.label) == (2, "stable")
    assert (written.signature, written.fingerprint) == ("serving_default", "sha256:2")
    assert (written.code, written.message) == (Code.OK, "")
    assert written.status == ("miss" if place == 0 else "hit")
    assert written.request_id == f"id-{place}"
    assert written.received_at > 1.6e9


def test_the_log_gets_failures(kit):
    gateway = kit.Gateway()

    async def scenario():
        async with kit.serving(gateway) as client:
            await kit.refused(client.prediction.Predict(kit.predict_request(signature="none")))

    asyncio.run(scenario())
    (written,) = gateway.log.records
    assert (written.code, written.response) == (Code.FAILED_PRECONDITION, b"")
    assert written.message == 'Serving signature key "none" not found.'
    assert written.status == "error"
