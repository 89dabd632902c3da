"""Loading CacheWarmer's snapshots."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tfx_encore.cache.answers import encode_answer
from tfx_encore.cache.cache_policy import CachePolicy
from tfx_encore.cache.inference_cache import InferenceCache
from tfx_encore.cache.invalidation import InvalidationState
from tfx_encore.cache.keys import KeyMaker, row_key
from tfx_encore.cache.lmdb_store import LmdbStore
from tfx_encore.cache.memory_store import MemoryStore
from tfx_encore.cache.row_request import RowRequest, transformed_row
from tfx_encore.cache.row_spec import SignatureSpec
from tfx_encore.cache.rows import cell, decode_row, encode_row, to_array
from tfx_encore.cache.snapshot import SnapshotWriter
from tfx_encore.cache.snapshot_block import Entry, block_of
from tfx_encore.cache.snapshot_loader import load_snapshot
from tfx_encore.schemas.errors import SnapshotError

COUNT = 600


def request(number: int) -> RowRequest:
    row = encode_row({"n": cell(number)})
    return RowRequest(row_key("f2", "serving_default", row), row, "f2", "serving_default")


def answer(number: int) -> bytes:
    return encode_answer({"y": cell(float(number))})


@pytest.fixture
def snapshot(tmp_path) -> Path:
    """COUNT answers of model f2, the most frequent first."""
    return written(tmp_path / "snapshot")


def written(folder: Path, generation: int = 0) -> Path:
    folder.mkdir()
    writer = SnapshotWriter(str(folder))
    asked = [request(number) for number in range(COUNT)]
    writer.write(
        block_of([Entry(r.key, 0, COUNT - n, r.row, 3.0, answer(n)) for n, r in enumerate(asked)])
    )
    writer.close("f2", [SignatureSpec("serving_default", "tensors")], generation=generation)
    return folder


@pytest.fixture
def make(clock) -> Callable[..., InferenceCache]:
    def made(*local: Any, remote: Any = None, **policy: Any) -> InferenceCache:
        state = InvalidationState("taxi", 60.0, clock)
        state.confirm(clock())
        return InferenceCache(
            "taxi",
            local,
            remote,
            policy=CachePolicy(**policy),
            state=state,
            wall_clock=clock,
            steady_clock=clock,
        )

    return made


def load(cache: InferenceCache, folder: Path, clock: Any, **given: Any) -> Any:
    return asyncio.run(
        load_snapshot(cache, str(folder), given.pop("fingerprint", "f2"), wall_clock=clock, **given)
    )


def test_its_answers_are_found_in_every_tier(make, snapshot, clock, remote, tmp_path):
    memory, lmdb = MemoryStore(2**22), LmdbStore(tmp_path / "lmdb", 2**24)
    cache = make(memory, lmdb, remote=remote)
    report = load(cache, snapshot, clock)
    assert report.loaded == {"memory": COUNT, "lmdb": COUNT, "remote": COUNT}
    assert (report.entries, report.withdrawn) == (COUNT, 0)
    found = cache.find(request(7))
    assert (found.data, found.entry.cost_us) == (answer(7), 3.0)
    assert lmdb.get(request(8).key).answer == remote.entries[request(8).key].answer == answer(8)
    lmdb.close()


def test_a_small_store_gets_the_head_and_keeps_the_release_before(make, snapshot, clock):
    memory = MemoryStore(200_000)
    cache = make(memory, snapshot_share=0.5)
    old = [request(number)._replace(fingerprint="f1") for number in range(10_000, 10_100)]
    for item in old:
        entry = load_entry(item)
        memory.put(entry)
    report = load(cache, snapshot, clock)
    assert 50 < report.loaded["memory"] < COUNT
    assert cache.find(request(0)) is not None
    assert cache.find(request(COUNT - 1)) is None
    assert all(cache.find(item) is not None for item in old)


def load_entry(item: RowRequest) -> Any:
    from tfx_encore.cache.entry import Entry as CacheEntry

    return CacheEntry(item.key, item.row, b"old", item.fingerprint, "answer", 0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize("where", [30, 5000, -1])
def test_nothing_is_loaded_from_a_damaged_snapshot(make, snapshot, clock, where):
    path = snapshot / "entries-00000.bin"
    data = bytearray(path.read_bytes())
    data[where] ^= 1
    path.write_bytes(data)
    memory = MemoryStore(2**22)
    with pytest.raises(SnapshotError):
        load(make(memory), snapshot, clock)
    assert len(memory) == 0


def test_answers_of_another_model_are_refused(make, snapshot, clock):
    memory = MemoryStore(2**22)
    with pytest.raises(SnapshotError, match="holds answers of f2, not of f3"):
        load(make(memory), snapshot, clock, fingerprint="f3")
    assert len(memory) == 0


def test_a_snapshot_does_not_bring_back_what_was_withdrawn(make, snapshot, clock, record):
    cache = make(MemoryStore(2**22))
    cache.state.apply(record(1, "ERASURE", slice_of={"n": "7"}))
    report = load(cache, snapshot, clock)
    assert report.withdrawn == 1
    assert cache.find(request(7)) is None
    assert cache.find(request(8)) is not None


def test_a_withdrawal_that_the_snapshot_had_seen_does_not_count(make, snapshot, clock, record):
    cache = make(MemoryStore(2**22))
    cache.state.apply(record(1))
    assert load(cache, snapshot, clock).withdrawn == COUNT
    assert load(cache, snapshot, clock, generation=1).withdrawn == 0


def test_a_snapshot_that_says_its_generation_is_kept_out_only_by_later_records(
    make, tmp_path, clock, record
):
    folder = written(tmp_path / "snapshot", generation=2)
    cache = make(MemoryStore(2**22))
    for sequence in (1, 2):
        cache.state.apply(record(sequence))
    assert load(cache, folder, clock).withdrawn == 0
    assert cache.find(request(7)).entry.generation == 2
    assert load(cache, folder, clock, generation=1).withdrawn == COUNT
    cache.state.apply(record(3, "ERASURE", slice_of={"n": "7"}))
    assert cache.find(request(7)) is None
    assert load(cache, folder, clock).withdrawn == 1
    assert cache.find(request(7)) is None


def test_a_snapshot_from_ahead_of_the_ledger_that_is_followed_is_not_believed(
    make, tmp_path, clock, record
):
    folder = written(tmp_path / "snapshot", generation=2)
    cache = make(MemoryStore(2**22))
    cache.state.apply(record(1))
    assert load(cache, folder, clock).withdrawn == COUNT


def test_loaded_answers_expire_at_different_times(make, snapshot, clock):
    cache = make(MemoryStore(2**22), lifetime_seconds=100.0, lifetime_jitter=0.5)
    load(cache, snapshot, clock)
    ends = {cache.find(request(n)).entry.expires_at - clock.now for n in range(50)}
    assert len(ends) > 40
    assert 50.0 <= min(ends) <= max(ends) <= 100.0


def test_each_answer_is_kept_under_its_transformed_row_too(make, snapshot, clock):
    """Rows 0 and 1 are one to the model, and so on; every other signature has no such rows."""

    def transformed(signature: str, row: bytes) -> bytes | None:
        assert signature == "serving_default"
        number = int(to_array(decode_row(row)["n"]))
        return None if number >= COUNT - 10 else b"%d" % (number // 2)

    store = MemoryStore(2**20)
    report = load(make(store), snapshot, clock, transformed=transformed)
    assert (report.entries, len(store)) == (COUNT, COUNT + (COUNT - 10) // 2)
    shared = transformed_row(KeyMaker("f2", "serving_default"), b"3")
    assert store.get(shared.key).row == shared.row
    assert store.get(shared.key).answer == answer(6)
