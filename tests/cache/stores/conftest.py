"""Every store behind one face, so that one suite of tests states the contract for all of them."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tfx_encore.cache.entry import Entry, LocalStore, RemoteStore
from tfx_encore.cache.lmdb_store import LmdbStore
from tfx_encore.cache.memory_store import MemoryStore

BUDGET = 8 * 2**20


class Local:
    """A LocalStore under test."""

    def __init__(self, store: LocalStore) -> None:
        self.store = store

    def get(self, key: bytes) -> Entry | None:
        return self.store.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[Entry | None]:
        return [self.store.get(key) for key in keys]

    def put(self, *entries: Entry) -> int:
        return sum(self.store.put(entry) for entry in entries)

    def remove(self, keys: Sequence[bytes]) -> int:
        return self.store.remove(keys)

    def clear(self, fingerprint: str | None = None) -> int:
        return self.store.clear(fingerprint)

    def close(self) -> None:
        self.store.close()


class Remote:
    """A RemoteStore under test, on an event loop of its own."""

    def __init__(self, make: Callable[[], RemoteStore]) -> None:
        self._loop = asyncio.new_event_loop()
        self.store: RemoteStore = self._run(self._made(make))

    @staticmethod
    async def _made(make: Callable[[], RemoteStore]) -> RemoteStore:
        return make()

    def _run(self, call: Any) -> Any:
        return self._loop.run_until_complete(call)

    def get(self, key: bytes) -> Entry | None:
        return self.get_many([key])[0]

    def get_many(self, keys: Sequence[bytes]) -> list[Entry | None]:
        return self._run(self.store.get_many(keys))

    def put(self, *entries: Entry) -> int:
        return self._run(self.store.put_many(entries))

    def remove(self, keys: Sequence[bytes]) -> int:
        return self._run(self.store.remove(keys))

    def clear(self, fingerprint: str | None = None) -> int:
        return self._run(self.store.clear(fingerprint))

    def close(self) -> None:
        self._run(self.store.close())
        self._loop.close()


class DictRemote:
    """The shortest RemoteStore: for tests of this suite itself."""

    name = "dict"

    def __init__(self) -> None:
        self._entries: dict[bytes, Entry] = {}

    async def get_many(self, keys: Sequence[bytes]) -> list[Entry | None]:
        return [self._entries.get(key) for key in keys]

    async def put_many(self, entries: Sequence[Entry]) -> int:
        self._entries |= {entry.key: entry for entry in entries}
        return len(entries)

    async def remove(self, keys: Sequence[bytes]) -> int:
        return sum(self._entries.pop(key, None) is not None for key in keys)

    async def clear(self, fingerprint: str | None = None) -> int:
        return await self.remove(
            [key for key, e in self._entries.items() if fingerprint in (None, e.fingerprint)]
        )

    async def close(self) -> None:
        self._entries.clear()


# --- BEGIN Redis: edited only by whoever keeps cache/redis_store.py -----------------------------
# Return a Remote(lambda: RedisStore(...)) on a server of the test's own, and stop that server in
# `request.addfinalizer`. Add the names of the parameters to REDIS; mark them with
# pytest.param("redis", marks=pytest.mark.service("redis-server")).
REDIS: list[Any] = [
    pytest.param(name, marks=pytest.mark.service("redis-server"))
    for name in ("redis", "redis-sealed")
]


def _listens(path: Path) -> bool:
    """Whether a server answers there; the file is there a moment before it does."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def make_redis(name: str, request: pytest.FixtureRequest, folder: Path) -> Remote:
    from tfx_encore.cache.crypto import KeyRing
    from tfx_encore.cache.redis_config import RedisConfig
    from tfx_encore.cache.redis_store import RedisStore

    path = folder / "redis.sock"
    command = ["redis-server", "--port", "0", "--unixsocket", str(path), "--save", ""]
    with (folder / "redis.log").open("wb") as log:
        server = subprocess.Popen([*command, "--dir", str(folder)], stdout=log, stderr=log)
    request.addfinalizer(lambda: (server.kill(), server.wait()))
    end = time.monotonic() + 20
    while not _listens(path):
        assert server.poll() is None, (folder / "redis.log").read_text()
        assert time.monotonic() < end, "redis-server did not start within 20 s"
        time.sleep(0.005)
    config = RedisConfig(url=f"unix://{path}", read_deadline_ms=5_000, write_deadline_ms=5_000)
    ring = KeyRing({1: b"1" * 32}) if name == "redis-sealed" else None
    return Remote(lambda: RedisStore(config, "taxi", cipher=ring))


# --- END Redis -----------------------------------------------------------------------------------

LOCAL = ["memory-lru", "memory-s3fifo", "memory-lru-packed", "memory-s3fifo-packed", "lmdb"]


def make_local(name: str, folder: Path) -> LocalStore:
    if name == "lmdb":
        return LmdbStore(folder / "lmdb", BUDGET)
    _, eviction, *packed = name.split("-")
    return MemoryStore(BUDGET, eviction=eviction, packed=bool(packed))  # type: ignore[arg-type]


@pytest.fixture(params=LOCAL)
def local(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalStore]:
    """Each local store, empty, with a budget of BUDGET bytes."""
    store = make_local(request.param, tmp_path)
    yield store
    store.close()


@pytest.fixture(params=[*LOCAL, "dict", *REDIS])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Local | Remote]:
    """Each store, empty."""
    if request.param in LOCAL:
        made: Local | Remote = Local(make_local(request.param, tmp_path))
    elif request.param == "dict":
        made = Remote(DictRemote)
    else:
        made = make_redis(request.param, request, tmp_path)
    yield made
    made.close()


@pytest.fixture
def entry() -> Callable[..., Entry]:
    """Makes an entry by number; any field may be given."""

    def make(number: int = 0, **fields: Any) -> Entry:
        values: dict[str, Any] = {
            "key": number.to_bytes(32, "big"),
            "row": b"row %d" % number,
            "answer": b"answer %d" % number,
            "fingerprint": "f1",
            "kind": "answer",
            "generation": 3,
            "computed_at": 1.7e9 + number,
            "expires_at": 0.0,
            "cost_us": 12.5,
        }
        return Entry(**(values | fields))

    return make


@pytest.fixture
def budget() -> int:
    """Of each local store, in bytes."""
    return BUDGET


@pytest.fixture
def noise() -> Callable[[int], bytes]:
    """Makes bytes that do not compress."""
    return os.urandom
