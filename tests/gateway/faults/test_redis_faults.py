"""Redis dies, hangs, is full, lies, forgets, while the gateway answers: misses, and nothing else.

No other tier keeps anything here, so that every row is asked of Redis.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytestmark = pytest.mark.service("redis-server")

POLICY = {
    "memory_bytes": 0,
    "lmdb_bytes": 0,
    "breaker": {"open_seconds": 0.2, "max_open_seconds": 0.4},
}
HITS = {"tier": "redis", "kind": "raw"}


@pytest.fixture(scope="module")
def gateway(make_releases: Any, start_gateway: Any, redis_server: Any) -> Any:
    flags = [f"--releases={make_releases().root}", f"--redis={redis_server.url}"]
    return start_gateway(*flags, "--raw_cache_bytes=0", policy=POLICY)


@pytest.fixture
def sound(gateway: Any, redis_server: Any, wait: Any) -> Iterator[Callable[[], None]]:
    """Waits until Redis answers rows again; before the test it does."""

    def sound() -> None:
        wait(lambda: gateway.predict(999).cache == "hit", "hits from Redis")

    sound()
    yield sound
    redis_server.client.flushall()


def test_redis_answers_repeats_while_nothing_is_wrong(gateway, load, sound) -> None:
    before = gateway.count("encore_cache_hits_total", **HITS)
    with load(gateway) as client:
        client.go_on(1500)
    client.check()
    assert client.hits > 0
    assert gateway.count("encore_cache_hits_total", **HITS) > before


def test_a_redis_that_is_killed_and_comes_back_empty_costs_misses_only(
    gateway, load, redis_server, sound
) -> None:
    with load(gateway) as client:
        client.go_on(500)
        redis_server.kill()
        client.go_on(500)
        hits = client.hits
        client.go_on(300)
        assert client.hits == hits
        redis_server.start()
        assert redis_server.client.dbsize() < 300
        sound()
        client.go_on(500)
    client.check()
    assert client.hits > hits


def test_a_redis_that_hangs_costs_misses_only(gateway, load, redis_server, sound) -> None:
    with load(gateway) as client:
        client.go_on(500)
        redis_server.pause()
        try:
            client.go_on(500)
        finally:
            redis_server.resume()
        sound()
        client.go_on(500)
    client.check()


def test_a_redis_that_is_full_costs_misses_only(gateway, load, redis_server, sound) -> None:
    admin = redis_server.client
    admin.flushall()
    admin.config_set("maxmemory-policy", "noeviction")
    admin.config_set("maxmemory", 1)
    try:
        with load(gateway) as client:
            client.go_on(1000)
        assert admin.dbsize() == 0
    finally:
        admin.config_set("maxmemory", 0)
    client.check()
    assert client.hits == 0
    sound()


def test_garbage_in_redis_is_never_an_answer(gateway, load, redis_server, sound) -> None:
    admin = redis_server.client
    with load(gateway) as client:
        client.go_on(500)
        for _ in range(5):
            for name in admin.keys("encore:*"):
                value = admin.get(name)
                if value:
                    admin.set(name, _damaged(value))
            client.go_on(200)
    client.check()


def _damaged(value: bytes) -> bytes:
    kind, at = os.urandom(2)
    if kind < 64:
        return os.urandom(len(value))
    if kind < 128:
        return value[: at % len(value)]
    place = (kind << 8 | at) % len(value)
    return value[:place] + bytes([value[place] ^ (1 + at % 255)]) + value[place + 1 :]


def test_the_answer_of_another_row_in_redis_is_never_given(
    gateway, load, redis_server, sound
) -> None:
    admin = redis_server.client
    with load(gateway) as client:
        client.go_on(500)
        for _ in range(5):
            names = sorted(admin.keys("encore:*"))
            values = admin.mget(names)
            # Each name gets the whole, undamaged value of its neighbour.
            admin.mset(dict(zip(names, [*values[1:], values[0]], strict=True)))
            client.go_on(200)
    client.check()


def test_values_of_another_kind_in_redis_are_misses(gateway, load, redis_server, sound) -> None:
    admin = redis_server.client
    with load(gateway) as client:
        client.go_on(500)
        for name in admin.keys("encore:*"):
            admin.delete(name)
            admin.rpush(name, "a list")
        client.go_on(300)
    client.check()
