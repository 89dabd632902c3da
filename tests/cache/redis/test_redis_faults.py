"""A server that is dead, paused, full, restarted or lying costs misses, never a wrong answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tfx_encore.cache.entry import Entry
from tfx_encore.cache.redis_config import RedisConfig
from tfx_encore.cache.redis_store import RedisStore
from tfx_encore.schemas.errors import StoreUnavailableError

service = pytest.mark.service("redis-server")

Use = Callable[[RedisStore], Awaitable[Any]]
UNAVAILABLE = "unavailable"


def with_store(config: RedisConfig, use: Use) -> Any:
    async def run() -> Any:
        store = RedisStore(config, "taxi")
        try:
            return await use(store)
        finally:
            await store.close()

    return asyncio.run(run())


async def read(store: RedisStore, entries: list[Entry], **options: Any) -> list[Any] | str:
    try:
        return await store.get_many([entry.key for entry in entries], **options)
    except StoreUnavailableError:
        return UNAVAILABLE


def test_no_server_is_unavailable_and_the_message_says_where(config_of, entry_of) -> None:
    async def use(store: RedisStore) -> None:
        for call in (
            store.get_many([b"k"]),
            store.put_many([entry_of(1)]),
            store.remove([b"k"]),
            store.clear(),
            store.clear("f"),
            store.usage(),
            store.ping(),
        ):
            with pytest.raises(StoreUnavailableError, match=r"redis at redis://127\.0\.0\.1:1: "):
                await call

    with_store(RedisConfig(url="redis://127.0.0.1:1", read_deadline_ms=2_000), use)


@service
def test_killed_under_load_and_started_again_it_never_answers_wrongly(
    start_server, config_of, entry_of
) -> None:
    server = start_server()
    entries = [entry_of(n) for n in range(50)]
    seen: set[str] = set()

    async def reader(store: RedisStore, stop: asyncio.Event) -> None:
        while not stop.is_set():
            found = await read(store, entries)
            if found == UNAVAILABLE:
                seen.add(UNAVAILABLE)
            else:
                right = zip(found, entries, strict=True)
                assert all(item in (None, entry) for item, entry in right)
                seen.add("hit" if all(found) else "empty" if not any(found) else "some")
            await asyncio.sleep(0)

    async def use(store: RedisStore) -> None:
        stop = asyncio.Event()
        await store.put_many(entries)
        readers = [asyncio.ensure_future(reader(store, stop)) for _ in range(6)]
        await asyncio.sleep(0.2)
        server.kill()
        await asyncio.sleep(0.2)
        await asyncio.to_thread(server.start)
        await asyncio.sleep(0.2)
        await store.put_many(entries)
        stop.set()
        await asyncio.gather(*readers)
        assert await read(store, entries) == entries

    with_store(config_of(server, read_deadline_ms=500.0), use)
    assert seen >= {"hit", UNAVAILABLE, "empty"}


@service
def test_restarted_empty_the_first_read_is_a_miss_not_an_error(
    start_server, config_of, entry_of
) -> None:
    server = start_server()

    async def use(store: RedisStore) -> None:
        await store.put_many([entry_of(1)])
        # Several pooled connections, all of which die with the server.
        await asyncio.gather(*(read(store, [entry_of(1)]) for _ in range(8)))
        server.kill()
        server.start()
        found = await asyncio.gather(*(read(store, [entry_of(1)]) for _ in range(8)))
        assert found == [[None]] * 8
        await store.put_many([entry_of(1)])
        assert await read(store, [entry_of(1)]) == [entry_of(1)]

    with_store(config_of(server), use)


@service
def test_a_paused_server_holds_nobody_longer_than_the_deadline(
    start_server, config_of, entry_of
) -> None:
    server = start_server()
    entries = [entry_of(n) for n in range(10)]

    async def use(store: RedisStore) -> None:
        await store.put_many(entries)
        assert await read(store, entries, deadline_ms=2_000) == entries
        server.pause()
        waits = []
        for _ in range(5):
            begun = time.perf_counter()
            assert await read(store, entries) == UNAVAILABLE
            waits.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        with pytest.raises(StoreUnavailableError, match="no answer in 50 ms"):
            await store.put_many(entries, deadline_ms=50)
        waits.append(time.perf_counter() - begun)
        assert sorted(waits)[3] < 0.12, waits
        server.resume()
        # The answers to the abandoned reads come now; none of them is taken for a later one's.
        for _ in range(20):
            for entry in entries:
                assert await read(store, [entry], deadline_ms=2_000) == [entry]

    try:
        with_store(config_of(server, read_deadline_ms=50.0), use)
    finally:
        server.resume()


@service
def test_while_paused_calls_under_way_are_bounded_and_refused_at_once(
    start_server, config_of, entry_of
) -> None:
    server = start_server()

    async def use(store: RedisStore) -> None:
        await store.put_many([entry_of(1)])
        server.pause()
        waiting = []
        for _ in range(200):
            waiting.append(asyncio.ensure_future(read(store, [entry_of(1)])))
            await asyncio.sleep(0.0005)  # so that they are not joined into one
            assert store.link.under_way <= 10
        assert {await task for task in waiting} == {UNAVAILABLE}
        begun = time.perf_counter()
        while time.perf_counter() - begun < 3 and store.link.under_way:
            await asyncio.sleep(0.02)
        assert store.link.under_way == 0
        server.resume()
        assert await read(store, [entry_of(1)], deadline_ms=2_000) == [entry_of(1)]

    try:
        config = config_of(
            server, read_deadline_ms=30.0, max_waiting=10, pool_size=2, socket_timeout_ms=300.0
        )
        with_store(config, use)
    finally:
        server.resume()


@service
def test_a_full_server_that_evicts_nothing_still_answers(start_server, config_of, entry_of) -> None:
    server = start_server("--maxmemory", "3mb", "--maxmemory-policy", "noeviction")
    entries = [entry_of(n, answer=b"x" * 2_000) for n in range(2_000)]

    async def use(store: RedisStore) -> None:
        kept = await store.put_many(entries)
        assert 0 < kept < len(entries)
        assert store.counts.refused == len(entries) - kept
        assert "maxmemory" in store.counts.last_refusal
        found = await store.get_many([entry.key for entry in entries])
        assert [item for item in found if item] == [
            entry for entry, item in zip(entries, found, strict=True) if item
        ]
        assert sum(item is not None for item in found) == kept
        assert await store.put_many(entries[:1]) == 0
        assert await store.remove([entry.key for entry in entries]) == kept
        assert await store.put_many(entries[:1]) == 1

    with_store(config_of(server), use)


@service
def test_a_full_server_that_evicts_takes_the_new_and_drops_the_old(
    start_server, config_of, entry_of
) -> None:
    server = start_server("--maxmemory", "3mb", "--maxmemory-policy", "allkeys-lru")
    entries = [entry_of(n, answer=b"x" * 2_000) for n in range(2_000)]

    async def use(store: RedisStore) -> None:
        for at in range(0, len(entries), 200):
            assert await store.put_many(entries[at : at + 200]) == 200
        found = await store.get_many([entry.key for entry in entries])
        assert all(item in (None, entry) for item, entry in zip(found, entries, strict=True))
        assert 100 < sum(item is not None for item in found) < 1_500
        assert sum(item is not None for item in found[-100:]) > 50

    with_store(config_of(server), use)


@asynccontextmanager
async def lying(reply: bytes, times: int = 10**6):
    """A server that answers everything it is told with the same bytes."""
    held = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)
        while await reader.read(65_536):
            for _ in range(times):
                writer.write(reply)
                await writer.drain()
                if times > 1:
                    await asyncio.sleep(0)

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    finally:
        listener.close()
        for writer in held:
            writer.close()


LIES = {
    "silence": b"",
    "web page": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "noise": bytes(range(256)) * 4,
    "too few": b"*1\r\n$1\r\nx\r\n",
    "too many": b"*3\r\n$1\r\nx\r\n$-1\r\n$0\r\n\r\n",
    "numbers": b"*2\r\n:1\r\n:2\r\n",
    "lists": b"*2\r\n*1\r\n:1\r\n*0\r\n",
    "errors": b"*2\r\n-ERR no\r\n-ERR no\r\n",
    "an error": b"-ERR no\r\n",
    "moved": b"-MOVED 1 10.0.0.1:6379\r\n",
    "asked to log in": b"-NOAUTH Authentication required.\r\n",
    "loading": b"-LOADING Redis is loading the dataset in memory\r\n",
    "read only": b"-READONLY You can't write against a read only replica.\r\n",
    "not UTF-8": b"-\xff\xfe\r\n",
    "nothing": b"*-1\r\n",
    "a word": b"+OK\r\n",
    "a huge list": b"*5000000\r\n",
    "a huge value": b"*2\r\n$500000000\r\nabc",
    "negative": b"*-7\r\n",
    "deep": b"*1\r\n" * 5_000,
    "half a scan": b"*2\r\n$1\r\nx\r\n:5\r\n",
    "another protocol": b"%1\r\n+a\r\n:1\r\n",
    "push": b">2\r\n+invalidate\r\n*0\r\n",
    "damaged entries": b"*2\r\n$3\r\nabc\r\n$60\r\n" + b"EE\x01" * 20 + b"\r\n",
}


# What a cluster's client makes of them ends in other errors than those of redis.
CLUSTER_LIES = ["too few", "numbers", "lists", "a word", "damaged entries"]
SERVED = [(name, False) for name in LIES] + [(name, True) for name in CLUSTER_LIES]


@pytest.mark.parametrize(("name", "cluster"), SERVED)
def test_whatever_a_server_says_costs_a_miss(name: str, cluster: bool, entry_of) -> None:
    entries = [entry_of(1), entry_of(2)]

    async def run() -> None:
        async with lying(LIES[name], times=1) as url:
            config = RedisConfig(
                url=url,
                cluster=cluster,
                read_deadline_ms=150,
                socket_timeout_ms=150,
                scan_seconds=0.3,
            )
            store = RedisStore(config, "taxi")
            for _ in range(2):
                assert await read(store, entries) in ([None, None], UNAVAILABLE)
            try:
                assert await store.put_many(entries, deadline_ms=150) in range(3)
                assert isinstance(await store.remove([b"k"]), int)
                assert isinstance(await store.clear("f"), int)
            except StoreUnavailableError:
                pass
            await store.close()

    asyncio.run(run())


def test_an_endless_scan_of_a_lying_server_ends(entry_of) -> None:
    """A cursor that never comes back to 0."""

    async def run() -> None:
        async with lying(b"*2\r\n$1\r\n7\r\n*0\r\n", times=1) as url:
            store = RedisStore(RedisConfig(url=url, scan_seconds=0.2), "taxi")
            with pytest.raises(StoreUnavailableError, match="scan"):
                await store.clear()
            await store.close()

    asyncio.run(run())


def test_a_flood_is_cut_off(entry_of) -> None:
    async def run() -> None:
        async with lying(b"*1\r\n" + b"$100000\r\n" + b"x" * 100_000 + b"\r\n") as url:
            store = RedisStore(RedisConfig(url=url, read_deadline_ms=200), "taxi")
            for _ in range(3):
                assert await read(store, [entry_of(1)]) in ([None], UNAVAILABLE)
            await store.close()

    asyncio.run(run())


@service
def test_cancelling_a_caller_leaves_the_store_in_order(start_server, config_of, entry_of) -> None:
    server = start_server()

    async def use(store: RedisStore) -> None:
        await store.put_many([entry_of(n) for n in range(20)])
        for number in range(20):
            task = asyncio.ensure_future(store.get_many([entry_of(number).key]))
            await asyncio.sleep(0.0001 * number)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert await read(store, [entry_of(19 - number)]) == [entry_of(19 - number)]

    with_store(config_of(server, pool_size=2), use)
