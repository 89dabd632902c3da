"""The shared tier against a healthy server: what it keeps, for how long, and under which names."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tfx_encore.cache.crypto import KeyRing
from tfx_encore.cache.entry import Entry, RemoteStore
from tfx_encore.cache.entry_codec import encode_entry
from tfx_encore.cache.redis_config import RedisConfig
from tfx_encore.cache.redis_store import RedisStore, tag_of
from tfx_encore.schemas.errors import StoreUnavailableError

pytestmark = pytest.mark.service("redis-server")

Use = Callable[[RedisStore], Awaitable[Any]]
OLD_KEY, NEW_KEY = b"1" * 32, b"2" * 32


def with_store(config: RedisConfig, use: Use, **options: Any) -> Any:
    async def run() -> Any:
        store = RedisStore(config, options.pop("model", "taxi"), **options)
        try:
            return await use(store)
        finally:
            await store.close()

    return asyncio.run(run())


def test_it_is_a_remote_store(server, config_of) -> None:
    async def use(store: RedisStore) -> None:
        assert isinstance(store, RemoteStore)

    with_store(config_of(server), use)


@pytest.mark.parametrize("ring", [None, KeyRing({1: OLD_KEY})], ids=["plain", "sealed"])
def test_entries_come_back_in_the_order_asked(server, config_of, entry_of, ring) -> None:
    entries = [entry_of(n, kind=["answer", "rejection"][n % 2]) for n in range(5)]

    async def use(store: RedisStore) -> None:
        assert await store.put_many(entries[:4]) == 4
        keys = [entries[n].key for n in (3, 4, 0, 3)]
        assert await store.get_many(keys) == [entries[3], None, entries[0], entries[3]]
        assert await store.get_many([]) == []
        assert await store.put_many([]) == 0

    with_store(config_of(server), use, cipher=ring)


def test_a_batch_of_thousands_comes_back_whole(server, config_of, entry_of) -> None:
    entries = [entry_of(n) for n in range(2_500)]

    async def use(store: RedisStore) -> None:
        assert await store.put_many(entries) == len(entries)
        assert await store.get_many([entry.key for entry in entries]) == entries
        assert await store.remove([entry.key for entry in entries]) == len(entries)

    with_store(config_of(server), use)


def test_many_callers_at_once_each_get_their_own(server, config_of, entry_of) -> None:
    entries = [entry_of(n) for n in range(300)]

    async def use(store: RedisStore) -> None:
        await store.put_many(entries)
        found = await asyncio.gather(*(store.get_many([entry.key]) for entry in entries))
        assert [item for (item,) in found] == entries
        assert store.link.under_way == 0

    with_store(config_of(server, pool_size=3), use)


def test_callers_of_one_moment_share_a_command(server, config_of, entry_of) -> None:
    entries = [entry_of(n) for n in range(300)]

    async def use(store: RedisStore) -> None:
        await store.put_many(entries)
        before = server.client.info("commandstats")["cmdstat_mget"]["calls"]
        asked = [entries[at : at + 9] for at in range(0, 300, 3)]
        found = await asyncio.gather(*(store.get_many([e.key for e in part]) for part in asked))
        assert found == asked
        assert server.client.info("commandstats")["cmdstat_mget"]["calls"] - before == 1

    server.client.mget("x")
    with_store(config_of(server), use)


def test_an_impatient_caller_and_a_cancelled_one_do_not_disturb_the_patient(
    server, config_of, entry_of
) -> None:
    async def use(store: RedisStore) -> None:
        await store.put_many([entry_of(1)])
        key = entry_of(1).key
        server.client.execute_command("CLIENT", "PAUSE", 150, "ALL")
        impatient, cancelled, patient = (
            asyncio.ensure_future(store.get_many([key], deadline_ms=ms)) for ms in (30, 2e3, 2e3)
        )
        await asyncio.sleep(0.01)
        cancelled.cancel()
        with pytest.raises(StoreUnavailableError, match="no answer in 30 ms"):
            await impatient
        assert await patient == [entry_of(1)]
        assert cancelled.cancelled()

    with_store(config_of(server), use)


def test_closing_ends_who_still_waits(server, config_of, entry_of) -> None:
    async def use(store: RedisStore) -> None:
        await store.ping()
        server.pause()
        reading = asyncio.ensure_future(store.get_many([entry_of(1).key]))
        writing = asyncio.ensure_future(store.put_many([entry_of(1)]))
        await asyncio.sleep(0.05)
        begun = time.perf_counter()
        await store.close()
        for task in (reading, writing):
            with pytest.raises(StoreUnavailableError, match="closed"):
                await task
        assert time.perf_counter() - begun < 1.0  # long before their deadlines

    try:
        with_store(config_of(server), use)
    finally:
        server.resume()


def test_the_newer_entry_of_a_key_replaces_the_older(server, config_of, entry_of) -> None:
    async def use(store: RedisStore) -> None:
        await store.put_many([entry_of(1), entry_of(1, generation=8)])
        assert await store.get_many([entry_of(1).key]) == [entry_of(1, generation=8)]

    with_store(config_of(server), use)


def test_removal_counts_what_was_there(server, config_of, entry_of) -> None:
    async def use(store: RedisStore) -> None:
        await store.put_many([entry_of(1), entry_of(2)])
        assert await store.remove([entry_of(n).key for n in (1, 2, 3)]) == 2
        assert await store.get_many([entry_of(1).key]) == [None]
        assert await store.remove([]) == 0

    with_store(config_of(server), use)


def test_an_entry_expires_at_its_time(server, config_of, entry_of) -> None:
    async def use(store: RedisStore) -> None:
        soon = entry_of(1, expires_at=time.time() + 0.2)
        gone = entry_of(2, expires_at=time.time() - 1)
        assert await store.put_many([soon, gone]) == 1
        assert await store.get_many([soon.key, gone.key]) == [soon, None]
        await asyncio.sleep(0.3)
        assert await store.get_many([soon.key]) == [None]

    with_store(config_of(server), use)


def test_nothing_outlives_the_longest_time(server, config_of, entry_of) -> None:
    async def use(store: RedisStore) -> None:
        await store.put_many([entry_of(1), entry_of(2, expires_at=time.time() + 9e9)])

    with_store(config_of(server, max_ttl_seconds=100.0), use)
    assert all(0 < server.client.pttl(name) <= 100_000 for name in server.client.scan_iter())


def test_names_are_prefix_model_and_key(server, config_of, entry_of) -> None:
    async def use(store: RedisStore) -> None:
        await store.put_many([entry_of(1)])

    with_store(config_of(server), use)
    with_store(config_of(server, key_prefix="e2"), use, model="a*{b}:c")
    key = entry_of(1).key.hex()
    assert {*server.client.keys()} == {
        f"encore:taxi:{key}".encode(),
        f"e2:a%2A%7Bb%7D%3Ac:{key}".encode(),
    }


def test_models_do_not_see_each_other(server, config_of, entry_of) -> None:
    async def put(store: RedisStore) -> None:
        await store.put_many([entry_of(1)])

    async def clear(store: RedisStore) -> None:
        assert await store.get_many([entry_of(1).key]) == [None]
        assert await store.clear() == 0

    with_store(config_of(server), put)
    for model in ("tax", "taxi2", "*", "tax[i]", "taxi:"):
        with_store(config_of(server), clear, model=model)
    assert server.client.dbsize() == 1


@pytest.mark.parametrize("ring", [None, KeyRing({1: OLD_KEY})], ids=["plain", "sealed"])
def test_a_fingerprint_is_cleared_and_the_others_stay(server, config_of, entry_of, ring) -> None:
    entries = [entry_of(n, fingerprint=f"f{n % 3}") for n in range(1_500)]
    server.client.lpush("encore:taxi:not-ours", "x")

    async def use(store: RedisStore) -> None:
        await store.put_many(entries)
        assert await store.clear("f1") == 500
        found = await store.get_many([entry.key for entry in entries])
        assert {entry.fingerprint for entry in found if entry} == {"f0", "f2"}
        assert await store.clear("f1") == 0
        assert await store.clear() >= 1_000

    with_store(config_of(server), use, cipher=ring)


@pytest.mark.parametrize("ring", [None, KeyRing({1: OLD_KEY})], ids=["plain", "sealed"])
def test_an_erasure_takes_what_it_covers_and_leaves_the_rest(
    server, config_of, entry_of, ring
) -> None:
    entries = [entry_of(n) for n in range(700)]

    async def use(store: RedisStore) -> None:
        await store.put_many(entries)
        assert await store.erase(lambda entry: entry.row.endswith(b"3")) == 70
        found = await store.get_many([entry.key for entry in entries])
        assert found == [None if e.row.endswith(b"3") else e for e in entries]
        assert await store.erase(lambda entry: entry.row.endswith(b"3")) == 0
        assert server.client.dbsize() == 630

    with_store(config_of(server), use, cipher=ring)


def test_an_erasure_takes_what_nobody_can_read_and_nothing_of_other_models(
    server, config_of, entry_of
) -> None:
    async def other(store: RedisStore) -> None:
        await store.put_many([entry_of(1)])

    async def use(store: RedisStore) -> None:
        await store.put_many([entry_of(n) for n in range(1, 4)])
        names = [f"encore:taxi:{entry_of(n).key.hex()}" for n in range(5)]
        server.client.set(names[2], b"damaged")
        server.client.rpush(names[4], "another type")
        server.client.set("encore:taxi:not-hexadecimal", b"foreign")
        assert await store.erase(lambda _: False) == 3
        assert await store.get_many([entry_of(n).key for n in (1, 2, 3)]) == [
            entry_of(1),
            None,
            entry_of(3),
        ]
        assert sorted(server.client.scan_iter()) == sorted(
            [names[1].encode(), names[3].encode(), names[1].replace("taxi", "taxi%3A").encode()]
        )

    with_store(config_of(server), other, model="taxi:")
    with_store(config_of(server), use)


def test_an_erasure_holds_few_values_at_once_and_counts_each_name_once(
    server, config_of, entry_of, monkeypatch
) -> None:
    entries = [entry_of(n) for n in range(1_000)]

    async def use(store: RedisStore) -> None:
        await store.put_many(entries)
        batch, sizes = store.link.batch, []

        async def counted(commands: Any, deadline_ms: float) -> list[Any]:
            sizes.append(len(commands))
            return await batch(commands, deadline_ms)

        monkeypatch.setattr(store.link, "batch", counted)
        assert await store.erase(lambda _: True) == len(entries)
        assert max(sizes) <= 64
        assert server.client.dbsize() == 0

    with_store(config_of(server), use)


def test_usage_counts_entries_and_bytes(server, config_of, entry_of) -> None:
    async def use(store: RedisStore) -> None:
        await store.put_many([entry_of(n) for n in range(700)])
        usage = await store.usage()
        assert usage.entries == 700
        assert 700 * 250 < usage.bytes < 700 * 600

    with_store(config_of(server), use)


def test_an_entry_too_large_is_not_kept(server, config_of, entry_of) -> None:
    async def use(store: RedisStore) -> None:
        assert await store.put_many([entry_of(1, answer=b"x" * 1000), entry_of(2)]) == 1
        assert store.counts.too_large == 1

    with_store(config_of(server, max_value_bytes=600), use)


def test_a_value_too_large_is_not_believed(server, config_of, entry_of) -> None:
    large = entry_of(1, answer=b"x" * 1000)

    async def put(store: RedisStore) -> None:
        await store.put_many([large])

    async def get(store: RedisStore) -> None:
        assert await store.get_many([large.key]) == [None]
        assert store.counts.damaged == 1

    with_store(config_of(server), put)
    with_store(config_of(server, max_value_bytes=600), get)


def test_values_of_a_removed_key_are_misses_and_the_rest_are_not(
    server, config_of, entry_of
) -> None:
    ring = KeyRing({1: OLD_KEY})

    async def use(store: RedisStore) -> None:
        await store.put_many([entry_of(1)])
        ring.replace({1: OLD_KEY, 2: NEW_KEY})
        await store.put_many([entry_of(2)])
        keys = [entry_of(1).key, entry_of(2).key]
        assert await store.get_many(keys) == [entry_of(1), entry_of(2)]
        ring.replace({2: NEW_KEY})
        assert await store.get_many(keys) == [None, entry_of(2)]

    with_store(config_of(server), use, cipher=ring)


def test_no_text_of_a_row_stands_in_a_sealed_value(server, config_of, entry_of) -> None:
    async def use(store: RedisStore) -> None:
        await store.put_many([entry_of(1, row=b"a secret row", answer=b"a secret answer")])

    with_store(config_of(server), use, cipher=KeyRing({1: OLD_KEY}))
    (name,) = server.client.keys()
    assert b"secret" not in server.client.get(name)


def test_plain_and_sealed_values_are_not_taken_for_each_other(server, config_of, entry_of) -> None:
    async def put(store: RedisStore) -> None:
        await store.put_many([entry_of(1)])

    async def get(store: RedisStore) -> None:
        assert await store.get_many([entry_of(1).key]) == [None]

    ring = KeyRing({1: OLD_KEY})
    with_store(config_of(server), put)
    with_store(config_of(server), get, cipher=ring)
    with_store(config_of(server), put, cipher=ring)
    with_store(config_of(server), get)


def test_a_key_that_has_sealed_its_share_keeps_nothing_more(server, config_of, entry_of) -> None:
    async def use(store: RedisStore) -> None:
        assert await store.put_many([entry_of(n) for n in range(3)]) == 2
        assert store.counts.not_sealed == 1

    with_store(config_of(server), use, cipher=KeyRing({1: OLD_KEY}, messages=2))


def _value(entry: Entry) -> bytes:
    return tag_of(entry.fingerprint) + encode_entry(entry)


def test_corrupted_values_are_misses_beside_good_ones(server, config_of, entry_of) -> None:
    good, name = _value(entry_of(1)), "encore:taxi:" + entry_of(1).key.hex()
    wrong = [
        good[:-1],
        good + b"\0",
        good[:40] + bytes([good[40] ^ 1]) + good[41:],
        b"",
        b"\xff" * 500,
        _value(entry_of(3)),
        tag_of("another") + good[8:],
        good[8:],
    ]

    async def use(store: RedisStore) -> None:
        await store.put_many([entry_of(2)])
        for value in wrong:
            server.client.set(name, value)
            keys = [entry_of(1).key, entry_of(2).key]
            assert await store.get_many(keys) == [None, entry_of(2)]
        assert store.counts.damaged == len(wrong)

    with_store(config_of(server), use)


def test_a_name_that_holds_another_type_is_a_miss_and_can_be_written(
    server, config_of, entry_of
) -> None:
    server.client.lpush("encore:taxi:" + entry_of(1).key.hex(), "x")

    async def use(store: RedisStore) -> None:
        assert await store.get_many([entry_of(1).key]) == [None]
        assert await store.clear("ab" * 32) == 0
        assert await store.put_many([entry_of(1)]) == 1
        assert await store.get_many([entry_of(1).key]) == [entry_of(1)]

    with_store(config_of(server), use)


def test_a_closed_store_is_unavailable_and_closes_twice(server, config_of, entry_of) -> None:
    async def use(store: RedisStore) -> None:
        await store.put_many([entry_of(1)])
        await store.close()
        with pytest.raises(StoreUnavailableError, match="closed"):
            await store.get_many([entry_of(1).key])

    with_store(config_of(server), use)


def test_a_socket_of_the_host_is_reached(start_server, entry_of, tmp_path) -> None:
    path = tmp_path / "s"
    start_server("--unixsocket", str(path))

    async def use(store: RedisStore) -> None:
        assert await store.put_many([entry_of(1)]) == 1
        assert await store.get_many([entry_of(1).key]) == [entry_of(1)]

    with_store(RedisConfig(url=f"unix://{path}"), use)
