"""The memory tier: what it really takes, and what it evicts."""

from __future__ import annotations

import gc
import random
import tracemalloc

import pytest

from tfx_encore.cache.entry import Entry
from tfx_encore.cache.eviction import make_shelf
from tfx_encore.cache.memory_store import MemoryStore
from tfx_encore.cache.trace_replay import choose, replay
from tfx_encore.schemas.errors import ConfigError


def make_entry(rng: random.Random, number: int) -> Entry:
    row, answer = rng.randbytes(rng.randint(100, 600)), rng.randbytes(60)
    times = (1e9 + rng.random(), 2e9 + rng.random(), rng.random())
    return Entry(rng.randbytes(32), row, answer, "f" * 64, "answer", 1000 + number, *times)


@pytest.mark.parametrize("eviction", ["lru", "s3fifo"])
@pytest.mark.parametrize("packed", [False, True])
def test_what_it_takes_is_about_what_it_says_and_no_more_than_a_tenth_above(eviction, packed):
    rng = random.Random(1)
    store = MemoryStore(6_000_000, eviction=eviction, packed=packed)
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(20_000):
            store.put(make_entry(rng, number))
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert store.evictions > 5000
    assert 0.75 < taken / store.bytes_used < 1.1


def test_packed_entries_take_less():
    rng = random.Random(1)
    entries = [make_entry(rng, number) for number in range(500)]
    plain, packed = MemoryStore(2**24), MemoryStore(2**24, packed=True)
    for entry in entries:
        plain.put(entry)
        packed.put(entry)
    assert packed.bytes_used < 0.85 * plain.bytes_used


def test_lru_evicts_what_was_not_asked_for_longest():
    shelf = make_shelf("lru", 30)
    for key in (b"a", b"b", b"c"):
        shelf.put(key, key, 10)
    shelf.get(b"a")
    shelf.put(b"d", b"d", 10)
    assert [key for key in (b"a", b"b", b"c", b"d") if shelf.get(key)] == [b"a", b"c", b"d"]


def test_s3fifo_keeps_what_was_asked_for_again_through_a_scan():
    shelf = make_shelf("s3fifo", 1000)
    head = [b"head%04d" % n for n in range(50)]
    for key in head * 3:
        if shelf.get(key) is None:
            shelf.put(key, key, 10)
    for number in range(5000):
        shelf.put(b"scan%04d" % number, b"x", 10)
    assert sum(shelf.get(key) is not None for key in head) == 50


def test_a_warm_value_outlives_a_scan_without_having_been_asked_for():
    kept = {}
    for warm in (False, True):
        shelf = make_shelf("s3fifo", 1000)
        for number in range(200):
            shelf.put(b"fill%04d" % number, b"x", 10)
        (shelf.put_warm if warm else shelf.put)(b"snapshot", b"x", 10)
        for number in range(20):
            shelf.put(b"scan%04d" % number, b"x", 10)
        kept[warm] = shelf.get(b"snapshot") is not None
    assert kept == {False: False, True: True}


@pytest.mark.parametrize("rule", ["lru", "s3fifo"])
def test_a_shelf_counts_right_whatever_is_done_to_it(rule):
    rng = random.Random(3)
    gone = []
    shelf = make_shelf(rule, 500, gone.append)
    sizes: dict[bytes, int] = {}
    for step in range(20_000):
        key = b"%08d" % rng.randint(0, 80)
        action = rng.random()
        if action < 0.5:
            size = rng.randint(1, 60) if rng.random() > 0.01 else 501
            assert shelf.put(key, (key, step), size) is (size <= 500)
            sizes[key] = size
        elif action < 0.8:
            shelf.get(key)
        else:
            shelf.pop(key)
        held = dict(shelf.items())
        assert shelf.used == sum(sizes[key] for key in held) <= 500
        assert len(shelf) == len(held)
        assert all(value[0] == key for key, value in held.items())
    assert len(gone) > 1000


def test_an_unknown_rule_is_refused():
    with pytest.raises(ConfigError, match="choose `lru` or `s3fifo`"):
        make_shelf("lfu", 1)


def trace_of(scan_share: float) -> list[tuple[bytes, int]]:
    rng = random.Random(5)
    weights = [1 / (n + 1) ** 0.9 for n in range(2000)]
    head = rng.choices(range(2000), weights, k=20_000)
    return [
        (b"o%07d" % at if rng.random() < scan_share else b"%08d" % number, 100)
        for at, number in enumerate(head)
    ]


def test_replaying_a_trace_with_scans_chooses_the_scan_resistant_rule():
    best, worst = choose(trace_of(0.4), 20_000)
    assert (best.rule, worst.rule) == ("s3fifo", "lru")
    assert best.hit_rate > worst.hit_rate + 0.02


def test_a_replay_counts_requests_hits_and_bytes():
    result = replay([(b"aaaaaaaa", 10), (b"aaaaaaaa", 10), (b"bbbbbbbb", 30)], 100, "lru")
    assert (result.requests, result.hits, result.bytes_asked, result.bytes_hit) == (3, 1, 50, 10)
    assert result.hit_rate == pytest.approx(1 / 3)
    assert replay([], 100, "lru").hit_rate == 0.0
