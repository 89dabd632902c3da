"""A cluster of three, and a master that Sentinels replace."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from tfx_encore.cache.redis_accelerator import InvalidationAccelerator
from tfx_encore.cache.redis_config import RedisConfig
from tfx_encore.cache.redis_lease import RedisLease
from tfx_encore.cache.redis_store import RedisStore
from tfx_encore.schemas.errors import StoreUnavailableError

pytestmark = pytest.mark.service("redis-server")

Use = Callable[[RedisStore], Awaitable[Any]]
SLOTS = 16_384
NODES = 3
FAILOVER_SECONDS = 20.0


def with_store(config: RedisConfig, use: Use, **options: Any) -> Any:
    async def run() -> Any:
        store = RedisStore(config, "taxi", **options)
        try:
            return await use(store)
        finally:
            await store.close()

    return asyncio.run(run())


@pytest.fixture
def cluster(start_server) -> list[Any]:
    """Three masters that share the slots evenly."""
    options = ["--cluster-enabled", "yes", "--cluster-require-full-coverage", "no"]
    nodes = [start_server(*options) for _ in range(NODES)]
    for index, node in enumerate(nodes):
        first, last = index * SLOTS // NODES, (index + 1) * SLOTS // NODES - 1
        node.client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
        node.client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
        node.client.execute_command("CLUSTER", "MEET", "127.0.0.1", nodes[0].port)
    _until(lambda: all(_sees_all(node) for node in nodes), 20)
    return nodes


def _sees_all(node: Any) -> bool:
    info = node.client.execute_command("CLUSTER", "INFO")
    text = info.decode() if isinstance(info, bytes) else str(info)
    slots = node.client.execute_command("CLUSTER", "SLOTS")
    return "cluster_state:ok" in text and len(slots) == NODES


def _until(true: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.05)


def cluster_config(nodes: list[Any], **changes: Any) -> RedisConfig:
    plain = {"url": nodes[0].url, "cluster": True}
    deadlines = {"read_deadline_ms": 5_000, "write_deadline_ms": 5_000}
    return RedisConfig.model_validate({**plain, **deadlines, **changes})


def test_a_cluster_keeps_a_batch_across_its_nodes_for_the_user_of_the_guide(
    cluster, entry_of, guide_user
) -> None:
    environ = {"REDIS_PASSWORD": "pass"}
    for node in cluster:
        node.client.execute_command("ACL", "SETUSER", *guide_user("pass"))
    config = cluster_config(cluster, username="encore", password_env="REDIS_PASSWORD")
    entries = [entry_of(n, fingerprint=f"f{n % 2}") for n in range(300)]

    async def use(store: RedisStore) -> None:
        assert await store.put_many(entries) == len(entries)
        keys = [entry.key for entry in entries]
        assert await store.get_many([*keys, entry_of(999).key]) == [*entries, None]
        assert all(50 < node.client.dbsize() < 200 for node in cluster)
        assert (await store.usage()).entries == len(entries)
        assert await store.erase(lambda entry: entry.row.endswith(b"3")) == 30
        assert await store.get_many(keys) == [
            None if entry.row.endswith(b"3") else entry for entry in entries
        ]
        assert await store.clear("f1") == 120
        assert await store.remove(keys) == 150
        await _leases_and_wake_up(store, config, environ=environ)

    with_store(config, use, environ=environ)


async def _leases_and_wake_up(store: RedisStore, config: RedisConfig, **options: Any) -> None:
    lease = RedisLease(store.link, "taxi")
    held = await lease.acquire([bytes([n]) * 32 for n in range(20)])
    assert await lease.acquire([b"\0" * 32]) == [None]
    assert await lease.release([item for item in held if item]) == 20
    accelerator = InvalidationAccelerator(config, "taxi", **options)
    assert await accelerator.wait(5)
    assert await accelerator.announce(3)
    assert await accelerator.wait(5)
    await accelerator.close()


def test_a_moved_slot_is_found(cluster, entry_of) -> None:
    entries = [entry_of(n) for n in range(60)]

    async def use(store: RedisStore) -> None:
        await store.put_many(entries)
        old, moved = cluster[0].client, range(2_000)
        for name in old.scan_iter():
            if old.execute_command("CLUSTER", "KEYSLOT", name) in moved:
                old.delete(name)
        _take_over(cluster[1], cluster, moved)
        found = await store.get_many([entry.key for entry in entries])
        assert all(item in (None, entry) for item, entry in zip(found, entries, strict=True))
        assert sum(item is not None for item in found) > 30
        assert await store.put_many(entries) == len(entries)
        assert await store.get_many([entry.key for entry in entries]) == entries

    with_store(cluster_config(cluster), use)


def test_a_dead_node_of_a_cluster_costs_its_own_rows(cluster, entry_of) -> None:
    entries = [entry_of(n) for n in range(60)]

    async def use(store: RedisStore) -> None:
        await store.put_many(entries)
        cluster[2].kill()
        for _ in range(3):
            found = await store.get_many([entry.key for entry in entries])
            assert all(item in (None, entry) for item, entry in zip(found, entries, strict=True))
            assert 20 < sum(item is not None for item in found) < 60
        assert 20 < await store.put_many(entries) < 60
        with pytest.raises(StoreUnavailableError):
            await store.remove([entry.key for entry in entries])
        _take_over(cluster[1], cluster[:2], range(2 * SLOTS // NODES, SLOTS))
        begun = time.monotonic()
        while (kept := await store.put_many(entries)) < len(entries):
            assert time.monotonic() - begun < 20, kept
            await asyncio.sleep(0.1)
        assert await store.get_many([entry.key for entry in entries]) == entries

    with_store(cluster_config(cluster, socket_timeout_ms=300, connect_timeout_ms=300), use)


def _take_over(owner: Any, nodes: list[Any], slots: range) -> None:
    """Gives slots to a node, as a promoted replica takes them."""
    name = owner.client.execute_command("CLUSTER", "MYID")
    for node in (owner, *nodes):
        with node.client.pipeline(transaction=False) as pipe:
            for slot in slots:
                pipe.execute_command("CLUSTER", "SETSLOT", slot, "NODE", name)
            pipe.execute()


def test_an_erasure_that_misses_a_node_is_told_and_ends_when_it_is_back(cluster, entry_of) -> None:
    entries = [entry_of(n) for n in range(60)]

    async def use(store: RedisStore) -> None:
        await store.put_many(entries)
        held = cluster[2].client.dbsize()
        cluster[2].pause()
        with pytest.raises(StoreUnavailableError):
            await store.erase(lambda _: True)
        cluster[2].resume()
        await asyncio.sleep(0.2)
        removed = await store.erase(lambda _: True)
        assert removed >= held
        assert [node.client.dbsize() for node in cluster] == [0, 0, 0]

    with_store(cluster_config(cluster, socket_timeout_ms=500), use)


def test_a_restarted_node_of_a_cluster_is_a_miss_at_the_first_read(cluster, entry_of) -> None:
    entries = [entry_of(n) for n in range(60)]
    keys = [entry.key for entry in entries]

    async def use(store: RedisStore) -> None:
        await store.put_many(entries)
        await asyncio.gather(*(store.link.batch([("GET", "x")] * 9, 5_000) for _ in range(8)))
        cluster[2].kill()
        with pytest.raises(StoreUnavailableError):  # and not a number that leaves some out
            await store.clear()
        cluster[2].start()
        _until(lambda: _sees_all(cluster[2]), 20)
        assert await store.put_many(entries) == len(entries)
        assert await store.get_many(keys) == entries

    with_store(cluster_config(cluster), use)


@pytest.fixture
def watched(start_server) -> Iterator[tuple[Any, Any, list[Any]]]:
    """A master, its replica and three Sentinels that watch it."""
    quick = ["--repl-diskless-sync-delay", "0"]
    master = start_server(*quick)
    replica = start_server(*quick, "--replicaof", "127.0.0.1", str(master.port))
    _until(lambda: replica.client.info("replication")["master_link_status"] == "up", 20)
    sentinels = [start_server(sentinel=True) for _ in range(3)]
    for sentinel in sentinels:
        command = sentinel.client.execute_command
        command("SENTINEL", "MONITOR", "taxi-cache", "127.0.0.1", str(master.port), "2")
        command("SENTINEL", "SET", "taxi-cache", "down-after-milliseconds", "500")
        command("SENTINEL", "SET", "taxi-cache", "failover-timeout", "3000")
    _until(lambda: all(_knows_others(sentinel) for sentinel in sentinels), 20)
    return master, replica, sentinels


def _knows_others(sentinel: Any) -> bool:
    flat = sentinel.client.execute_command("SENTINEL", "MASTER", "taxi-cache")
    state = flat if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True))
    plain = {str(_text(key)): _text(value) for key, value in state.items()}
    replicas, others = plain["num-slaves"], plain["num-other-sentinels"]
    return (int(replicas), int(others)) == (1, 2)


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def test_when_the_master_dies_the_replica_serves_on(watched, entry_of) -> None:
    master, replica, sentinels = watched
    entries = [entry_of(n) for n in range(20)]
    nodes = [f"127.0.0.1:{sentinel.port}" for sentinel in sentinels]
    sentinel = {"service": "taxi-cache", "nodes": nodes}
    config = RedisConfig.model_validate(
        {"sentinel": sentinel, "read_deadline_ms": 1_000, "write_deadline_ms": 1_000}
    )

    async def use(store: RedisStore) -> float:
        assert await store.put_many(entries) == len(entries)
        _until(lambda: replica.client.dbsize() == len(entries), 10)
        master.kill()
        begun = time.monotonic()
        while time.monotonic() - begun < FAILOVER_SECONDS:
            try:
                assert await store.get_many([entry.key for entry in entries]) == entries
                if await store.put_many([entry_of(99)]):
                    break
            except StoreUnavailableError:
                await asyncio.sleep(0.05)
        assert await store.get_many([entry_of(99).key]) == [entry_of(99)]
        return time.monotonic() - begun

    assert with_store(config, use) < FAILOVER_SECONDS
    assert replica.client.role()[0] in (b"master", "master")


def test_no_sentinel_is_unavailable(free_port) -> None:
    sentinel = {"service": "s", "nodes": [f"127.0.0.1:{free_port}"]}
    config = RedisConfig.model_validate({"sentinel": sentinel, "read_deadline_ms": 3_000})

    async def use(store: RedisStore) -> None:
        with pytest.raises(StoreUnavailableError, match="sentinel s"):
            await store.get_many([b"k"])

    with_store(config, use)
