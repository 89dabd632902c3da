"""Two gateways that share a tier."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import time

import pytest


@pytest.fixture
def redis(tmp_path):
    """Configuration of a Redis that is empty."""
    from tfx_encore.cache.redis_config import RedisConfig

    path = tmp_path / "redis.sock"
    command = [shutil.which("redis-server"), "--port", "0", "--unixsocket", str(path), "--save", ""]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=tmp_path)
    try:
        end = time.monotonic() + 20
        while not _answers(path) and time.monotonic() < end:
            time.sleep(0.02)
        yield RedisConfig(url=f"unix://{path}", read_deadline_ms=2000)
    finally:
        process.kill()
        process.wait()


def _answers(path):
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


@pytest.mark.service("redis-server")
@pytest.mark.parametrize("lease", [False, True])
def test_what_one_gateway_computed_is_a_hit_in_another(releases, serving, redis, lease):
    settings = {"releases": str(releases.root), "redis": redis, "redis_lease": lease}

    async def scenario():
        async with serving(**settings) as one, serving(**settings) as other:
            first = await one.predict(1.0, 2.0)
            await one.server.caches.find("m").cache.drain()
            return first, await other.predict(2.0, 1.0)

    first, second = asyncio.run(scenario())
    assert first == ([1002.0, 1004.0], "miss")
    assert second == ([1004.0, 1002.0], "hit")
