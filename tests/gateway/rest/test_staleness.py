"""After a switch no answer of the old model leaves.

Each version answers with its number. Whatever a connection was answered before a request was sent
bounds the answer from below: the version at the moment of sending is noted, and an answer below it
was made by a model that was switched away from before the request even came. The other bound: while
the response is written the version is looked at again, in the same step of the event loop.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

Wire = Any


class Watch:
    """A transport that judges every response in the step in which it is written."""

    def __init__(self, transport: Any, now: Any, seen: dict[str, int]) -> None:
        self._transport = transport
        self._now = now
        self._seen = seen
        self.stale: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if f"x-encore-version: {self._now()}\r\n".encode() not in data:
            self.stale.append(data)
        status = data.partition(b"x-encore-cache: ")[2].partition(b"\r\n")[0].decode()
        self._seen[status] = self._seen.get(status, 0) + 1
        self._transport.write(data)


@pytest.mark.parametrize("seed", range(4))
def test_no_answer_is_older_than_the_route_at_the_moment_it_is_written(  # noqa: C901 - one story
    wire: Wire, seed: int
) -> None:
    rng = random.Random(seed)
    watches: list[Watch] = []
    kinds: dict[str, int] = {}
    ways = {"whole": 0, "body": 0}

    async def switch(gateway: Any, servables: list[Any], stop: asyncio.Event) -> None:
        while not stop.is_set():
            # Backwards too: what was kept of a version may be right again.
            gateway.publish(rng.choice(servables))
            for servable in servables:
                model = servable.model
                (model.gate.set if rng.random() < 0.8 else model.gate.clear)()
            await asyncio.sleep(rng.choice([0, 0, 0.0005, 0.002]))

    async def ask(gateway: Any, client: Any, count: int) -> None:
        for _ in range(count):
            body = wire.rows(float(rng.randrange(12)) + 20.5)
            if rng.random() < 0.2:
                body = wire.rows(rng.random() + 100)
            if rng.random() < 0.2:
                body = body | {"signature_name": "off"}
            batch = [wire.post(body)] * rng.choice([1, 1, 1, 3])
            await client.send(b"".join(batch))
            for _ in batch:
                answer = await client.read()
                assert answer.status == 200, answer
                version = int(answer.headers["x-encore-version"])
                assert answer.json == {"predictions": [float(version)]}

    async def work() -> None:
        async with wire.serving() as gateway:
            servables = [gateway.servable(number) for number in range(2, 6)]
            gateway.publish(servables[0])
            count_ways(gateway.service, ways)
            now = lambda: gateway.router.routes("m").target(None, None).version  # noqa: E731
            clients = [await wire.connect(gateway) for _ in range(6)]
            await wire.until(lambda: len(gateway.listener.connections) == 6)
            for connection in gateway.listener.connections._open:
                watch = Watch(connection._transport, now, kinds)
                watches.append(watch)
                connection._transport = watch
                connection._write = watch.write
            stop = asyncio.Event()
            switching = asyncio.create_task(switch(gateway, servables, stop))
            asking = asyncio.gather(*(ask(gateway, client, 250) for client in clients))
            opening = asyncio.create_task(open_gates(servables, stop))
            await asking
            stop.set()
            await asyncio.gather(switching, opening)

    wire.run(work)
    assert [data for watch in watches for data in watch.stale] == []
    # The test is worth something only if every way of answering was gone.
    assert {"hit", "miss", "off"} <= set(kinds)
    assert ways["whole"] > 0
    assert ways["body"] > 0


async def open_gates(servables: list[Any], stop: asyncio.Event) -> None:
    """Lets models that were told to wait answer, some time later."""
    while not stop.is_set():
        await asyncio.sleep(0.003)
        for servable in servables:
            servable.model.gate.set()


def count_ways(service: Any, ways: dict[str, int]) -> None:
    """Counts the responses that were repeated, by everything received and by their bodies."""
    again = service._again

    def counted_again(request: Any, kept: Any) -> Any:
        found = again(request, kept)
        ways["body"] += found is not None
        return found

    service._again = counted_again
    get = service._get_whole

    def counted_whole(data: bytes) -> Any:
        found = get(data)
        ways["whole"] += found is not None
        return found

    service._get_whole = counted_whole


def test_what_is_kept_is_forgotten_when_something_is_withdrawn(wire: Wire) -> None:
    async def work() -> list[str]:
        async with wire.serving() as gateway:
            client = await wire.connect(gateway)
            for _ in range(6):
                await client.ask(wire.rows(1.0))
            assert len(gateway.service.raw) == 1
            gateway.cache.state.reset()  # the ledger is unknown: nothing may be served
            gateway.cache.state.confirm(0.0)
            await gateway.cache.forget()
            return [(await client.ask(wire.rows(1.0))).headers["x-encore-cache"] for _ in range(2)]

    assert wire.run(work) == ["miss", "hit"]


def test_an_answer_is_not_repeated_beyond_its_end(wire: Wire) -> None:
    from tfx_encore.cache.cache_policy import CachePolicy
    from tfx_encore.cache.inference_cache import InferenceCache
    from tfx_encore.cache.memory_store import MemoryStore

    async def work() -> list[str]:
        gateway = wire.Gateway()
        policy = CachePolicy(early_refresh=0.0, lifetime_seconds=0.3, lifetime_jitter=0.0)
        gateway.cache = InferenceCache("m", [MemoryStore(2**20)], policy=policy)
        async with wire.serving(gateway):
            client = await wire.connect(gateway)
            model = gateway.serve(2)
            for _ in range(5):
                await client.ask(wire.rows(1.0))
            kept = next(iter(gateway.service.raw._requests.answers.values()))
            assert kept.expires_at > 0
            assert kept.is_fresh(kept.expires_at - 0.001)
            assert not kept.is_fresh(kept.expires_at)
            await asyncio.sleep(0.35)
            said = (await client.ask(wire.rows(1.0))).headers["x-encore-cache"]
            assert model.calls == 2
            return [said]

    assert wire.run(work) == ["miss"]


def test_workers_that_agree_elsewhere_are_asked_before_every_answer(wire: Wire) -> None:
    behind = []

    async def work() -> list[float]:
        gateway = wire.Gateway()
        old, new = gateway.servable(1), gateway.servable(2)

        def catch_up() -> None:
            behind.clear()
            gateway.publish(new)

        gateway.router._behind = lambda: bool(behind)
        gateway.router._catch_up = catch_up
        gateway.publish(old)
        found = []
        async with wire.serving(gateway):
            client = await wire.connect(gateway)
            for repeats in (0, 1, 3, 6):  # a row that is new; known; its body; all that is sent
                gateway.publish(old)
                for _ in range(repeats):
                    await client.ask(wire.rows(1.0 + repeats))
                behind.append(1)
                found += (await client.ask(wire.rows(1.0 + repeats))).json["predictions"]
            # And while a model computes.
            gateway.publish(old)
            old.model.gate.clear()
            await client.send(wire.post(wire.rows(99.0)))
            calls = old.model.calls
            await wire.until(lambda: old.model.calls > calls or calls > 4)
            behind.append(1)
            old.model.gate.set()
            found += (await client.read()).json["predictions"]
        return found

    assert wire.run(work) == [2.0] * 5
