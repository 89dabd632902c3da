"""Where the server listens, how much it takes, how it ends."""

from __future__ import annotations

import asyncio

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import prediction_service_pb2_grpc

from tfx_encore.gateway.rpc.server import parse_channel_arguments, serve_grpc
from tfx_encore.schemas.errors import ConfigError


async def ask(address, request):
    async with grpc.aio.insecure_channel(address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        return await stub.Predict(request, timeout=20)


def test_a_unix_socket_beside_the_port_or_alone(kit, tmp_path):
    path = f"unix:{tmp_path / 'grpc.sock'}"

    async def scenario():
        gateway = kit.Gateway()
        uds = str(tmp_path / "grpc.sock")
        both = await serve_grpc(gateway.service, "127.0.0.1", 0, uds=uds)
        answers = [await ask(path, kit.predict_request())]
        answers.append(await ask(f"127.0.0.1:{both.port}", kit.predict_request()))
        await both.close(0)
        alone = await serve_grpc(gateway.service, "", None, uds=uds)
        answers.append(await ask(path, kit.predict_request()))
        await alone.close(0)
        return answers, alone.port

    answers, port = asyncio.run(scenario())
    assert [list(answer.outputs["y"].float_val) for answer in answers] == [[2.0]] * 3
    assert port == 0


def test_neither_port_nor_socket_is_an_error_of_the_configuration(kit):
    with pytest.raises(ConfigError, match="port"):
        asyncio.run(serve_grpc(kit.Gateway().service, "127.0.0.1", None))


def test_a_port_that_is_taken_is_an_error_unless_it_is_shared(kit):
    async def scenario():
        service = kit.Gateway().service
        first = await serve_grpc(service, "127.0.0.1", 0)
        try:
            with pytest.raises(ConfigError, match=str(first.port)):
                await serve_grpc(service, "127.0.0.1", first.port)
        finally:
            await first.close(0)
        one = await serve_grpc(service, "127.0.0.1", 0, reuse_port=True)
        other = await serve_grpc(service, "127.0.0.1", one.port, reuse_port=True)
        assert one.port == other.port
        await one.close(0)
        await other.close(0)

    asyncio.run(scenario())


def test_messages_of_more_than_grpcs_own_four_megabytes_are_taken(kit):
    values = np.zeros(3_000_000, np.float32)

    async def scenario():
        gateway = kit.Gateway(mode="off")
        listener = await serve_grpc(gateway.service, "127.0.0.1", 0)
        unlimited = [("grpc.max_receive_message_length", -1)]
        address = f"127.0.0.1:{listener.port}"
        try:
            async with grpc.aio.insecure_channel(address, options=unlimited) as channel:
                stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
                return await stub.Predict(kit.predict_request(x=values))
        finally:
            await listener.close(0)

    assert len(asyncio.run(scenario()).outputs["y"].float_val) == len(values)


def test_messages_beyond_the_bound_are_refused(kit):
    async def scenario():
        async with kit.serving(kit.Gateway(), max_message_bytes=1000) as client:
            small = await client.prediction.Predict(kit.predict_request())
            large = kit.predict_request(x=np.zeros(1000, np.float32))
            return small, await kit.refused(client.prediction.Predict(large))

    small, refused = asyncio.run(scenario())
    assert list(small.outputs["y"].float_val) == [2.0]
    assert refused.code == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_calls_under_way_end_before_the_server_does(kit):
    model = kit.FakeModel()

    async def scenario():
        gate = asyncio.Event()
        model.wait = gate.wait
        gateway = kit.Gateway(model)
        listener = await serve_grpc(gateway.service, "127.0.0.1", 0)
        address = f"127.0.0.1:{listener.port}"
        async with grpc.aio.insecure_channel(address) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            call = stub.Predict(kit.predict_request())
            while not model.calls:
                await asyncio.sleep(0.01)
            closing = asyncio.ensure_future(listener.close(20))
            await asyncio.sleep(0.05)
            gate.set()
            answer = await call
            await closing
        return answer

    assert list(asyncio.run(scenario()).outputs["y"].float_val) == [2.0]


def test_channel_arguments_are_read_as_tensorflow_serving_reads_them(kit):
    text = "grpc.max_connection_age_ms=2000,grpc.lb_policy_name=pick_first,,a=99999999999"
    assert parse_channel_arguments(text) == [
        ("grpc.max_connection_age_ms", 2000),
        ("grpc.lb_policy_name", "pick_first"),
        ("a", "99999999999"),
    ]
    assert parse_channel_arguments("") == []


@pytest.mark.parametrize("text", ["a", "=1", "a=1,b"])
def test_a_channel_argument_without_key_or_value_is_refused(text):
    with pytest.raises(ConfigError, match="key=value"):
        parse_channel_arguments(text)


def test_channel_arguments_reach_grpc(kit):
    arguments = parse_channel_arguments("grpc.max_receive_message_length=1000")

    async def scenario():
        async with kit.serving(kit.Gateway(), channel_arguments=arguments) as client:
            large = kit.predict_request(x=np.zeros(1000, np.float32))
            return await kit.refused(client.prediction.Predict(large))

    assert asyncio.run(scenario()).code == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_an_unknown_method_is_unimplemented(kit):
    async def scenario():
        async with kit.serving(kit.Gateway()) as client:
            call = client.channel.unary_unary("/tensorflow.serving.PredictionService/Nothing")
            return await kit.refused(call(b""))

    assert asyncio.run(scenario()).code == grpc.StatusCode.UNIMPLEMENTED
