"""Versions are swapped while calls are in flight."""

from __future__ import annotations

import asyncio
import random

import grpc
import pytest

from tfx_encore.gateway.inference import MAX_MOVES


def test_a_call_that_a_switch_overtakes_is_answered_by_the_new_version(kit):
    old = kit.FakeModel(1)
    gateway = kit.Gateway(old)

    async def scenario():
        gate = asyncio.Event()
        old.wait = gate.wait
        async with kit.serving(gateway) as client:
            call = client.prediction.Predict(kit.predict_request())
            while not old.calls:
                await asyncio.sleep(0.01)
            gateway.servables[2] = kit.make_servable(kit.FakeModel(2))
            gateway.publish()
            gate.set()
            return await call

    answer = asyncio.run(scenario())
    assert answer.model_spec.version.value == 2
    assert list(answer.outputs["version"].int64_val) == [2]


def test_a_request_is_read_anew_by_the_new_version(kit):
    """The new version lacks the signature: what the old one had begun does not count."""
    old = kit.FakeModel(1)
    gateway = kit.Gateway(old)
    fewer = {name: made for name, made in kit.SIGNATURES.items() if name != "two"}

    async def scenario():
        import numpy as np

        gate = asyncio.Event()
        old.wait = gate.wait
        async with kit.serving(gateway) as client:
            request = kit.predict_request(
                signature="two",
                name=np.array([b"a"], object),
                x=np.float32([[1, 2]]),
            )
            call = client.prediction.Predict(request)
            while not old.calls:
                await asyncio.sleep(0.01)
            gateway.servables[2] = kit.make_servable(kit.FakeModel(2, fewer))
            gateway.publish()
            gate.set()
            return await kit.refused(call)

    assert asyncio.run(scenario()).code == grpc.StatusCode.FAILED_PRECONDITION


def test_a_route_that_never_rests_is_given_up(kit):
    model = kit.FakeModel(1)
    gateway = kit.Gateway(model)
    moves = []

    async def move():
        moves.append(1)
        version = 2 + len(moves)
        made = kit.FakeModel(version)
        made.wait = move
        gateway.servables[version] = kit.make_servable(made)
        gateway.publish()

    model.wait = move

    async def scenario():
        async with kit.serving(gateway) as client:
            return await kit.refused(client.prediction.Predict(kit.predict_request()))

    found = asyncio.run(scenario())
    assert found.code == grpc.StatusCode.UNAVAILABLE
    assert len(moves) == MAX_MOVES


@pytest.mark.parametrize("mode", ["rows", "requests", "off"])
def test_no_answer_is_older_than_a_version_that_was_live_when_it_was_asked_for(kit, mode):
    """1,500 calls by 12 clients while 30 versions are swapped: every answer is of a version that
    was live at some moment between its request and its answer, and names the one that computed it.
    """
    rng = random.Random(1)
    gateway = kit.Gateway(kit.FakeModel(1), mode=mode)
    live = [1]
    seen = []

    async def swap():
        for version in range(2, 32):
            await asyncio.sleep(0.01)
            model = kit.FakeModel(version)
            model.wait = lambda: asyncio.sleep(0.002)
            gateway.servables = {version: kit.make_servable(model, mode=mode)}
            gateway.publish()
            live[0] = version

    async def ask(client):
        for _ in range(125):
            before = live[0]
            answer = await client.prediction.Predict(kit.predict_request([rng.randint(1, 8)]))
            version = answer.model_spec.version.value
            assert list(answer.outputs["version"].int64_val) == [version]
            assert before <= version <= live[0]
            seen.append(version)

    async def scenario():
        async with kit.serving(gateway) as client:
            await asyncio.gather(swap(), *(ask(client) for _ in range(12)))

    asyncio.run(scenario())
    assert len(seen) == 1500
    assert len(set(seen)) > 3
