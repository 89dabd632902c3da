"""The LMDB tier: restarts, damage, other versions, several processes."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import pytest

from tfx_encore.cache.crypto import KeyRing
from tfx_encore.cache.entry import Entry
from tfx_encore.cache.lmdb_store import LmdbStore
from tfx_encore.schemas.errors import StoreUnavailableError

MIB = 2**20


def entry(number: int, **fields: Any) -> Entry:
    values: dict[str, Any] = {
        "key": number.to_bytes(32, "big"),
        "row": b"row %d " % number * 20,
        "answer": b"answer %d" % number,
        "fingerprint": "f1",
        "kind": "answer",
        "generation": 1,
        "computed_at": 1.0,
        "expires_at": 0.0,
        "cost_us": 1.0,
    }
    return Entry(**(values | fields))


@pytest.fixture
def opened(tmp_path) -> Any:
    """Opens the store of a folder; closes what was opened."""
    made: list[LmdbStore] = []

    def open_store(**given: Any) -> LmdbStore:
        store = LmdbStore(tmp_path / "lmdb", given.pop("budget", 8 * MIB), **given)
        made.append(store)
        return store

    yield open_store
    for store in made:
        store.close()


def data_file(folder: Path) -> Path:
    (found,) = folder.glob("lmdb/entries-*.lmdb")
    return found


def fill(opened: Callable[..., LmdbStore], count: int = 200) -> None:
    store = opened()
    for number in range(count):
        store.put(entry(number))
    store.close()


def test_entries_survive_a_restart(opened):
    fill(opened)
    again = opened()
    assert len(again) == 200
    assert again.get(entry(7).key) == entry(7)
    assert again.rebuilds == 0


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 8192, 20_000, -4096, -1])
def test_a_file_cut_short_is_begun_anew(opened, tmp_path, size):
    fill(opened)
    path = data_file(tmp_path)
    os.truncate(path, size if size >= 0 else path.stat().st_size + size)
    store = opened()
    assert store.rebuilds == 1
    assert all(store.get(entry(number).key) is None for number in range(200))
    store.put(entry(1))
    store.flush()
    assert store.get(entry(1).key) == entry(1)


@pytest.mark.parametrize("content", [b"", b"not lmdb", b"\0" * 50_000, b"\xff" * 50_000])
def test_a_file_of_something_else_is_begun_anew(opened, tmp_path, content):
    (tmp_path / "lmdb").mkdir()
    (tmp_path / "lmdb/entries-000001.lmdb").write_bytes(content)
    store = opened()
    store.put(entry(1))
    assert store.get(entry(1).key) == entry(1)
    assert store.rebuilds == 1


def test_a_file_of_another_version_is_begun_anew(opened, tmp_path):
    fill(opened)
    with lmdb.open(str(data_file(tmp_path)), subdir=False, max_dbs=3, map_size=8 * MIB) as env:
        about = env.open_db(b"about")
        with env.begin(db=about, write=True) as txn:
            txn.put(b"format", b"2")
    store = opened()
    assert store.rebuilds == 1
    assert len(store) == 0


def test_a_file_beyond_the_budget_is_begun_anew(opened):
    big = opened(budget=32 * MIB)
    for number in range(8000):
        big.put(entry(number, row=bytes(2000)))
        if number % 500 == 0:
            big.flush()
    big.close()
    assert opened().rebuilds == 1


def test_a_damaged_entry_is_dropped_and_the_others_stay(opened, tmp_path):
    fill(opened)
    path = data_file(tmp_path)
    data = path.read_bytes().replace(b"answer 77", b"answer 78")
    path.write_bytes(data)
    store = opened()
    assert store.get(entry(77).key) is None
    assert store.get(entry(76).key) == entry(76)
    store.flush()
    assert len(store) == 199


def test_no_file_is_left_of_what_was_replaced(opened, tmp_path):
    fill(opened)
    os.truncate(data_file(tmp_path), 5000)
    opened().close()
    names = sorted(path.name for path in (tmp_path / "lmdb").iterdir())
    assert names == ["entries-000002.lmdb", "entries-000002.lmdb-lock", "opening"]


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreUnavailableError, match="file"):
        LmdbStore(tmp_path / "file", MIB)


def test_what_expires_first_is_evicted_first_and_what_never_does_last(opened):
    store = opened()
    kinds = {0: 0.0, 1: 5e9, 2: 4e9}
    keys = [hashlib.blake2b(b"%d" % number, digest_size=32).digest() for number in range(4500)]
    for number, key in enumerate(keys):
        store.put(entry(number, key=key, row=bytes(1000), expires_at=kinds[number % 3]))
        if number % 100 == 0:
            store.flush()
    store.flush()
    left = [number for number, key in enumerate(keys) if store.get(key)]
    share = {kind: sum(number % 3 == kind for number in left) / 1500 for kind in kinds}
    assert store.dropped == 0
    assert share[0] == 1.0
    assert share[2] < share[1] <= 1.0


def test_erased_bytes_are_nowhere_in_the_files(opened, tmp_path):
    store = opened()
    for number in range(50):
        store.put(entry(number, row=b"the secret of %d;" % number))
    store.flush()
    store.remove([entry(3).key])
    assert store.erase(lambda item: item.row == b"the secret of 7;") == 1
    assert store.get(entry(8).key) is not None
    data = b"".join(path.read_bytes() for path in (tmp_path / "lmdb").iterdir())
    assert b"the secret of 7;" not in data
    assert b"the secret of 3;" not in data
    assert b"the secret of 8;" in data


def test_a_put_after_an_erasure_is_kept(opened):
    store = opened()
    store.put(entry(1))
    store.erase(lambda _: True)
    store.put(entry(2))
    store.close()
    again = opened()
    assert again.get(entry(2).key) == entry(2)
    assert again.get(entry(1).key) is None


def test_entries_are_sealed_where_there_is_a_cipher(opened, tmp_path):
    ring = KeyRing({1: bytes(range(32))})
    store = opened(cipher=ring)
    store.put(entry(1, row=b"the secret"))
    store.close()
    assert b"the secret" not in data_file(tmp_path).read_bytes()
    assert opened(cipher=ring).get(entry(1).key).row == b"the secret"


def test_entries_sealed_with_a_lost_key_are_misses(opened):
    first = opened(cipher=KeyRing({1: bytes(32)}))
    first.put(entry(1))
    first.close()
    second = opened(cipher=KeyRing({2: bytes([9] * 32)}))
    assert second.get(entry(1).key) is None


def test_puts_are_dropped_rather_than_waited_for_while_another_holds_the_lock(opened):
    store = opened(flush_seconds=0.0)
    store.put(entry(0))
    store.flush()
    with store._writing:  # as a stopped process that holds LMDB's lock would
        kept = [store.put(entry(number)) for number in range(1, 5000)]
        assert store.get(entry(1).key) == entry(1)
        assert store.get(entry(0).key) == entry(0)
    assert sum(kept) == 4096
    assert store.dropped == 4999 - 4096


def test_readers_and_the_writer_do_not_disturb_each_other(opened):
    store = opened(flush_seconds=0.0)
    wrong = []
    for number in range(3000):
        store.put(entry(number))
        for asked in (number, number // 2, number + 1):
            found = store.get(entry(asked).key)
            if found is not None and found != entry(asked):
                wrong.append(asked)
    store.flush()
    assert wrong == []
    assert len(store) == 3000


_PROCESS = """
import sys
from tfx_encore.cache.entry import Entry
from tfx_encore.cache.lmdb_store import LmdbStore
folder, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
store = LmdbStore(folder, 8 * 2**20, flush_seconds=0.0)
number = first
while count < 0 or number < first + count:
    key = number.to_bytes(32, "big")
    row, answer = b"row %d " % number * 20, b"answer %d" % number
    store.put(Entry(key, row, answer, "f1", "answer", 1, 1.0, 0.0, 1.0))
    if number % 50 == 0:
        store.flush()
        print(number, flush=True)
    number += 1
store.close()
"""


def start(folder: Path, first: int, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _PROCESS, str(folder / "lmdb"), str(first), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_processes_share_a_file(opened, tmp_path):
    store = opened()
    processes = [start(tmp_path, 1000 * n, 300) for n in (1, 2)]
    assert [process.wait(30) for process in processes] == [0, 0]
    assert store.get(entry(1234).key) == entry(1234)
    assert len(store) == 600


def test_an_erasure_reaches_a_process_that_has_the_old_file_open(opened, tmp_path):
    store = opened(flush_seconds=0.0)
    store.put(entry(1))
    store.flush()
    code = (
        "import sys\nfrom tfx_encore.cache.lmdb_store import LmdbStore\n"
        "s = LmdbStore(sys.argv[1], 8 * 2**20)\ns.erase(lambda e: True)\ns.close()"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "lmdb")], check=True, timeout=30)
    # It goes on with the old file until it next writes, then with the new one.
    store.put(entry(2))
    store.flush()
    for _ in range(200):
        if store.get(entry(1).key) is None:
            break
        store.put(entry(3))
        threading.Event().wait(0.01)
    assert store.get(entry(1).key) is None


def test_a_writer_killed_at_any_moment_leaves_a_good_file(opened, tmp_path):
    for round_ in range(3):
        process = start(tmp_path, 0, -1)
        assert process.stdout is not None
        for _ in range(3 + round_):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        store = opened()
        assert store.rebuilds == 0
        found = [store.get(entry(number).key) for number in range(100)]
        assert found == [entry(number) for number in range(100)]
        store.put(entry(5000))
        store.flush()
        store.close()
