"""Wake-up of those who follow invalidations: quick when it works, harmless when it does not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tfx_encore.cache.redis_accelerator import InvalidationAccelerator
from tfx_encore.cache.redis_config import RedisConfig

service = pytest.mark.service("redis-server")
Use = Callable[[InvalidationAccelerator], Awaitable[Any]]


def with_accelerator(config: RedisConfig, use: Use, model: str = "taxi", **options: Any) -> Any:
    async def run() -> Any:
        accelerator = InvalidationAccelerator(config, model, **options)
        try:
            return await use(accelerator)
        finally:
            await accelerator.close()

    return asyncio.run(run())


async def until(true: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


@service
def test_an_announcement_wakes_who_waits(server, config_of) -> None:
    async def use(follower: InvalidationAccelerator) -> None:
        assert await follower.wait(5)  # it listens from now on
        announcer = InvalidationAccelerator(config_of(server), "taxi")
        for sequence in range(3):
            waiting = asyncio.ensure_future(follower.wait(10))
            await asyncio.sleep(0.02)
            begun = time.monotonic()
            assert await announcer.announce(sequence)
            assert await waiting
            assert time.monotonic() - begun < 1
        assert not await follower.wait(0.1)
        await announcer.close()

    with_accelerator(config_of(server), use)


@service
def test_an_announcement_between_two_waits_is_not_lost(server, config_of) -> None:
    async def use(follower: InvalidationAccelerator) -> None:
        await follower.wait(5)
        await follower.announce(1)
        await asyncio.sleep(0.1)
        assert await follower.wait(1)
        assert not await follower.wait(0.1)

    with_accelerator(config_of(server), use)


@service
def test_another_model_is_not_woken(server, config_of) -> None:
    async def use(follower: InvalidationAccelerator) -> None:
        await follower.wait(5)
        other = InvalidationAccelerator(config_of(server), "taxi2")
        await other.announce(1)
        await other.close()
        assert not await follower.wait(0.2)

    with_accelerator(config_of(server), use)


@service
def test_a_flood_wakes_only_so_often(server, config_of) -> None:
    async def use(follower: InvalidationAccelerator) -> int:
        await follower.wait(5)
        end, woken = time.monotonic() + 0.5, 0
        while time.monotonic() < end:
            for _ in range(20):
                server.client.publish(follower.channel, b"\xff" * 100)
            woken += await follower.wait(1)
        return woken

    assert 1 <= with_accelerator(config_of(server), use, shortest_wait=0.1) <= 6


@service
def test_it_listens_again_after_a_restart_and_wakes_for_what_it_may_have_missed(
    start_server, config_of
) -> None:
    server = start_server()

    async def use(follower: InvalidationAccelerator) -> None:
        await follower.wait(5)
        server.kill()
        await until(lambda: not follower.listening)
        assert not await follower.announce(1)
        assert not await follower.wait(0.1)
        server.start()
        assert await follower.wait(10)
        await follower.announce(2)
        assert await follower.wait(5)

    with_accelerator(config_of(server), use)


def test_without_redis_waiting_is_only_a_pause() -> None:
    async def use(follower: InvalidationAccelerator) -> float:
        begun = time.monotonic()
        assert not await follower.wait(0.15)
        assert not await follower.announce(1)
        return time.monotonic() - begun

    assert 0.14 < with_accelerator(RedisConfig(url="redis://127.0.0.1:1"), use) < 2
