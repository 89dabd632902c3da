"""What a cache says of its tiers: entries, bytes, fingerprints, evictions, hits, samples."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tfx_encore.cache.breaker import BreakerState
from tfx_encore.cache.entry import Entry
from tfx_encore.cache.inference_cache import InferenceCache
from tfx_encore.cache.lmdb_store import LmdbStore
from tfx_encore.cache.memory_store import MemoryStore
from tfx_encore.cache.observer import CacheObserver
from tfx_encore.schemas.errors import StoreUnavailableError


class Evictions(CacheObserver):
    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()

    def evicted(self, tier: str, entries: int) -> None:
        self.seen[tier] += entries


@pytest.fixture
def make() -> Callable[..., InferenceCache]:
    def made(*local: Any, **given: Any) -> InferenceCache:
        return InferenceCache("taxi", local, **given)

    return made


def entry(number: int, fingerprint: str = "f1", size: int = 100) -> Entry:
    key = number.to_bytes(4, "big") * 8
    return Entry(key, b"r" * size, b"answer", fingerprint, "answer", 0, 1.0, 0.0, 1.0)


def scattered(count: int, fingerprint: str = "f1") -> list[Entry]:
    """Entries whose keys lie everywhere, as digests do."""
    return [entry(0, fingerprint)._replace(key=os.urandom(32)) for _ in range(count)]


def test_a_memory_tier_tells_what_it_holds_and_has_given(make, model, request_for):
    store = MemoryStore(2**20)
    cache, rows = make(store), [request_for("f1", a=1), request_for("f2", a=1)]

    async def ask() -> None:
        for _ in range(3):
            await cache.get_or_compute(rows, model)

    asyncio.run(ask())
    (told,) = cache.stats()
    assert (told.name, told.entries, told.fingerprints) == ("memory", 2, {"f1": 1, "f2": 1})
    assert (told.bytes_used, told.budget_bytes) == (store.bytes_used, 2**20)
    assert told.hits == 4
    assert told.hit_bytes == 2 * sum(len(model.says(row)) for row in rows)
    assert (told.evictions, told.breaker) == (0, BreakerState.CLOSED)


def test_a_remote_tier_tells_what_it_has_given_and_leaves_the_rest_to_its_server(
    make, model, request_for, remote
):
    async def ask() -> Any:
        warm = make(remote=remote)
        await warm.get_or_compute([request_for(a=1)], model)
        await warm.drain()
        cache = make(MemoryStore(2**20), remote=remote)
        await cache.get_or_compute([request_for(a=1)], model)
        return cache.stats()

    memory, told = asyncio.run(ask())
    assert (memory.hits, told.name, told.hits, told.entries) == (0, "remote", 1, None)


@pytest.mark.parametrize("eviction", ["lru", "s3fifo"])
@pytest.mark.parametrize("packed", [True, False])
def test_entries_of_each_fingerprint_are_counted_through_every_change(eviction, packed):
    store = MemoryStore(40_000, eviction=eviction, packed=packed, max_entry_bytes=5_000)
    for number in range(400):
        store.put(entry(number % 97, f"f{number % 3}"))
        if number % 7 == 0:
            store.get(entry(number % 50).key)
        if number % 11 == 0:
            store.remove([entry(number % 97).key])
        if number % 50 == 0:
            store.put_warm(entry(number % 97, "f9"))
            store.put(entry(number % 13, size=6_000))  # too large: what was there goes
    found = [store.get(entry(number).key) for number in range(97)]
    assert store.evictions > 0
    assert store.fingerprints() == Counter(item.fingerprint for item in found if item)
    store.clear("f9")
    assert "f9" not in store.fingerprints()
    store.clear()
    assert store.fingerprints() == {}


def test_an_observer_hears_of_every_eviction_of_a_memory_tier(make, model, request_for):
    seen = Evictions()
    store = MemoryStore(20_000)
    cache = make(store, observer=seen)

    async def ask() -> None:
        for number in range(100):
            await cache.get_or_compute([request_for(a=number)], model)

    asyncio.run(ask())
    assert seen.seen["memory"] == store.evictions == 100 - len(store) > 0
    assert cache.stats()[0].evictions == store.evictions


def test_an_observer_hears_of_the_evictions_of_a_file_when_it_is_looked_at(make, tmp_path):
    seen = Evictions()
    store = LmdbStore(tmp_path / "lmdb", 8 * 2**20)
    cache = make(store, observer=seen)
    for number in range(3_000):
        store.put(entry(number, size=4_000))
        if number % 50 == 0:
            store.flush()
    store.flush()
    assert store.evictions > 0
    (told,) = cache.stats()
    assert seen.seen["lmdb"] == told.evictions == store.evictions
    store.close()


@pytest.fixture(params=["memory", "packed", "lmdb"])
def store(request, tmp_path) -> Any:
    if request.param == "lmdb":
        made: Any = LmdbStore(tmp_path / "lmdb", 2**24)
    else:
        made = MemoryStore(2**24, packed=request.param == "packed")
    yield made
    made.close()


def test_fingerprints_are_counted(make, store):
    for item in [*scattered(700), *scattered(300, "f2")]:
        store.put(item)
    found = asyncio.run(make(store).fingerprints())
    assert found == {store.name: {"f1": 700, "f2": 300}}


@pytest.mark.parametrize("fingerprint", ["f1", "f2", None])
@pytest.mark.parametrize("count", [0, 1, 40, 5_000])
def test_a_sample_is_of_different_entries_of_the_fingerprint(make, store, fingerprint, count):
    put = [*scattered(700), *scattered(50, "f2")]
    for item in put:
        store.put(item)
    found = asyncio.run(make(store).sample(count, fingerprint))[store.name]
    fitting = {item.key: item for item in put if fingerprint in (None, item.fingerprint)}
    assert len(found) == len({item.key for item in found}) == min(count, len(fitting))
    assert all(fitting[item.key] == item for item in found)


def test_samples_differ_from_time_to_time(make, store):
    for item in scattered(300):
        store.put(item)
    cache = make(store)

    async def play() -> set[bytes]:
        drawn = [await cache.sample(5) for _ in range(40)]
        return {item.key for found in drawn for item in found[store.name]}

    assert len(asyncio.run(play())) > 60


@pytest.mark.parametrize("packed", [True, False])
def test_looking_does_not_count_as_asking(packed):
    store = MemoryStore(2**20, packed=packed)
    for number in range(3):
        store.put(entry(number))
    before = {key: node.asked for key, node in store._shelf._nodes.items()}
    store.sample(3)
    store.fingerprints()
    assert {key: node.asked for key, node in store._shelf._nodes.items()} == before


def test_a_store_that_cannot_tell_has_no_sample_and_one_that_fails_says_so(make):
    class Plain(MemoryStore):
        sample = None
        fingerprints = None

    class Failing(MemoryStore):
        def sample(self, count: int, fingerprint: str | None = None) -> list[Entry]:
            raise OSError("disk")

        def __len__(self) -> int:
            raise OSError("disk")

    plain = make(Plain(2**20))
    assert asyncio.run(plain.sample(3)) == {"memory": []}
    assert asyncio.run(plain.fingerprints()) == {"memory": {}}
    failing = make(Failing(2**20))
    with pytest.raises(StoreUnavailableError, match="disk"):
        asyncio.run(failing.sample(3))
    assert failing.stats()[0].entries is None


def test_a_file_can_be_looked_at_while_it_is_written_and_replaced(make, tmp_path):
    store = LmdbStore(tmp_path / "lmdb", 2**23, flush_seconds=0.001)
    cache = make(store)
    put = scattered(1_500)

    async def look() -> int:
        seen = 0
        for _ in range(15):
            found = (await cache.sample(200))["lmdb"]
            assert all(item.answer == b"answer" for item in found)
            seen += len(found)
            await cache.fingerprints()
        return seen

    async def change() -> None:
        for place, item in enumerate(put):
            store.put(item)
            assert store.get(item.key) is not None
            if place % 500 == 499:
                await asyncio.to_thread(store.erase, lambda held: held.key[0] < 64)
            await asyncio.sleep(0)

    async def play() -> int:
        return (await asyncio.gather(look(), change()))[0]

    assert asyncio.run(play()) > 0
    store.close()
