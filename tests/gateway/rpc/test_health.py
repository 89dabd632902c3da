"""Health checks as grpc_health_probe and Kubernetes make them."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from tfx_encore.gateway.rpc.health import Health, service_of
from tfx_encore.gateway.rpc.server import serve_grpc

CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"


def name(service: str) -> bytes:
    return b"\x0a" + bytes([len(service)]) + service.encode() if service else b""


async def served(kit, ready, ask):
    gateway = kit.Gateway()
    listener = await serve_grpc(gateway.service, "127.0.0.1", 0, health=Health(ready))
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{listener.port}") as channel:
            return await ask(channel)
    finally:
        await listener.close(0)


@pytest.mark.parametrize("service", ["", "tensorflow.serving.PredictionService"])
@pytest.mark.parametrize(("is_ready", "status"), [(True, b"\x08\x01"), (False, b"\x08\x02")])
def test_the_server_is_serving_exactly_while_it_is_ready(kit, service, is_ready, status):
    async def ask(channel):
        return await channel.unary_unary(CHECK)(name(service), timeout=10)

    assert asyncio.run(served(kit, lambda: is_ready, ask)) == status


def test_a_service_that_is_not_here_is_not_found(kit):
    async def ask(channel):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await channel.unary_unary(CHECK)(name("other.Service"), timeout=10)
        return raised.value.code()

    assert asyncio.run(served(kit, lambda: True, ask)) == grpc.StatusCode.NOT_FOUND


def test_a_watcher_hears_of_each_change(kit):
    state = [False]

    async def ask(channel):
        heard = []
        async for status in channel.unary_stream(WATCH)(name(""), timeout=20):
            heard.append(status)
            state[0] = True
            if len(heard) == 2:
                return heard
        return heard

    assert asyncio.run(served(kit, lambda: state[0], ask)) == [b"\x08\x02", b"\x08\x01"]


@pytest.mark.parametrize("data", [b"\x0a", b"\x0a\x05abc", b"\x12\x01a", b"\x0a\xff\xff"])
def test_bytes_that_are_no_request_name_no_service(data):
    assert service_of(data) is None
