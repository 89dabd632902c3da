"""The shared tier: a RemoteStore over Redis 7, standalone, by Sentinel or a cluster.

An entry is one string, named `<prefix>:<model>:<row key in hexadecimal>`, that expires by itself:

    tag: BLAKE2b-64 of the fingerprint (8 bytes), then the entry (`cache.entry_codec`), sealed by a
    `cache.crypto.ValueCipher` where there is one

The tag lets entries of one fingerprint be found without opening all of them. Whatever the server
says, only a whole, undamaged entry of the key asked for is believed; anything else is a miss.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from redis.asyncio import RedisCluster
from redis.exceptions import RedisError

from tfx_encore.cache.crypto import ValueCipher
from tfx_encore.cache.entry import Entry
from tfx_encore.cache.entry_codec import decode_entry, encode_entry
from tfx_encore.cache.redis_client import RedisLink, is_wrong_type
from tfx_encore.cache.redis_config import RedisConfig, safe_name
from tfx_encore.cache.redis_reads import READ_AT_ONCE, JoinedReads

TAG_BYTES = 8
_SCAN_COUNT = 512  # names that the server looks at in one step, about 0.3 ms of its time


_READ_TO_ERASE = 64  # values in memory at once


@dataclass
class RedisCounts:
    """What happened since the store was made.

    Attributes:
        damaged: values read that were no entry of their key (a key of encryption that is not at
            hand included).
        refused: entries that the server would not take, as when it is full.
        too_large: entries above `max_value_bytes`, not sent.
        not_sealed: entries not sent because the newest key of encryption has sealed its share.
        last_refusal: what the server said last.
    """

    damaged: int = 0
    refused: int = 0
    too_large: int = 0
    not_sealed: int = 0
    last_refusal: str = ""


@dataclass(frozen=True)
class RedisUsage:
    """Entries of one model in Redis, and the bytes that the server says they take."""

    entries: int
    bytes: int


class RedisStore:
    """Entries of one model in Redis. To be used from one event loop.

    Args:
        config: where and how.
        model: the model's name; models share a server without seeing each other's entries.
        cipher: seals values; None to keep them as they are.
        environ: holds the passwords that `config` names.
        clock: seconds since 1970, for expiry.

    Attributes:
        read_seconds: no reading takes longer; said so that nobody else need see to it.
        write_seconds: no writing does.

    Raises:
        ConfigError: a variable or a file that `config` names is missing.
    """

    def __init__(
        self,
        config: RedisConfig,
        model: str,
        *,
        cipher: ValueCipher | None = None,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = "redis"
        self.read_seconds = config.read_deadline_ms / 1000
        self.write_seconds = config.write_deadline_ms / 1000
        self.counts = RedisCounts()
        self.link = RedisLink(config, environ)
        self._reads = JoinedReads(self.link)
        self._config = config
        self._prefix = f"{config.key_prefix}:{safe_name(model)}:"
        self._cipher = cipher
        self._clock = clock
        self._is_cluster = isinstance(self.link.client, RedisCluster)

    async def get_many(
        self, keys: Sequence[bytes], deadline_ms: float | None = None
    ) -> list[Entry | None]:
        """Returns the entries under `keys`, in their order; None where there is none.

        Args:
            keys: row keys.
            deadline_ms: milliseconds for all of them; the configuration's if left out.

        Raises:
            StoreUnavailableError: not all read in time.
        """
        deadline = self._config.read_deadline_ms if deadline_ms is None else deadline_ms
        end = time.monotonic() + deadline / 1000
        found: list[Entry | None] = []
        for at in range(0, len(keys), READ_AT_ONCE):
            part = keys[at : at + READ_AT_ONCE]
            left = max((end - time.monotonic()) * 1000, 0.0)
            values = await self._reads.read([self._name(key) for key in part], left)
            found += [
                None if value is None else self._decode(value, key)
                for key, value in zip(part, values, strict=True)
            ]
        return found

    async def put_many(self, entries: Sequence[Entry], deadline_ms: float | None = None) -> int:
        """Keeps entries; returns how many.

        Not kept, and counted in `counts`: what is too large, has expired, or the server refuses.

        Raises:
            StoreUnavailableError: no answer in time; some may have been kept.
        """
        deadline = self._config.write_deadline_ms if deadline_ms is None else deadline_ms
        commands = [command for entry in entries if (command := self._set_command(entry))]
        replies = await self.link.batch(commands, deadline)
        refusals = [reply for reply in replies if isinstance(reply, Exception)]
        if refusals:
            self.counts.refused += len(refusals)
            self.counts.last_refusal = str(refusals[-1])[:200]
        return len(replies) - len(refusals)

    async def remove(self, keys: Sequence[bytes]) -> int:
        """Removes entries; returns how many were there.

        Raises:
            StoreUnavailableError: not all removed in time.
        """
        removed = 0
        for at in range(0, len(keys), READ_AT_ONCE):
            names = [self._name(key) for key in keys[at : at + READ_AT_ONCE]]
            removed += await self._unlink(names, self._config.write_deadline_ms)
        return removed

    async def clear(self, fingerprint: str | None = None) -> int:
        """Removes all entries of the model, or those of one fingerprint; returns how many.

        Walks over all names of the database in small steps. What others put meanwhile may stay.

        Raises:
            StoreUnavailableError: the server was lost on the way; clear again.
        """
        removed = 0
        async for names in self._scan():
            mine = names if fingerprint is None else await self._tagged(names, tag_of(fingerprint))
            removed += await self._unlink(mine, self._config.socket_timeout_ms)
        return removed

    async def erase(self, covered: Callable[[Entry], bool]) -> int:
        """Removes the entries for which `covered` is true; returns how many names it removed.

        What cannot be read as an entry is removed too: nobody can say that it is not covered. Walks
        over all names as `clear` does, and reads the model's values, some at a time. What was
        removed stays so if the server is lost on the way; what others put meanwhile may stay.

        Raises:
            StoreUnavailableError: the server was lost on the way; erase again.
        """
        removed = 0
        async for names in self._scan():
            for at in range(0, len(names), _READ_TO_ERASE):
                doomed = await self._covered(names[at : at + _READ_TO_ERASE], covered)
                removed += await self._unlink(doomed, self._config.socket_timeout_ms)
        return removed

    async def usage(self) -> RedisUsage:
        """Counts the model's entries and their bytes; walks over all names, so not for each call.

        Raises:
            StoreUnavailableError: the server was lost on the way.
        """
        entries = size = 0
        async for names in self._scan():
            commands = [("MEMORY USAGE", name, "SAMPLES", 0) for name in names]
            replies = await self.link.batch(commands, self._config.socket_timeout_ms)
            self.link.refuse_errors(replies)
            sizes = [reply for reply in replies if isinstance(reply, int)]
            entries += len(sizes)
            size += sum(sizes)
        return RedisUsage(entries, size)

    async def ping(self) -> None:
        """Connects, if that has not been done, within the connection's timeout.

        Raises:
            StoreUnavailableError: it cannot be reached; says why.
        """
        await self.link.command(("PING",), self._config.connect_timeout_ms)

    async def close(self) -> None:
        """Closes the connections."""
        await self.link.close()

    def _name(self, key: bytes) -> str:
        return self._prefix + key.hex()

    def _key(self, name: bytes) -> bytes:
        """The row key that a name stands for; empty, which is no entry's, if it is none of ours."""
        try:
            return bytes.fromhex(name[len(self._prefix) :].decode("ascii"))
        except ValueError:
            return b""

    def _decode(self, value: Any, key: bytes) -> Entry | None:
        entry = self._open(value, key) if isinstance(value, bytes) else None
        if entry is None and (not isinstance(value, RedisError) or is_wrong_type(value)):
            self.counts.damaged += 1
        return entry

    def _open(self, value: bytes, key: bytes) -> Entry | None:
        if len(value) > self._config.max_value_bytes:
            return None
        data: bytes | None = value[TAG_BYTES:]
        if self._cipher is not None:
            data = self._cipher.open(value[TAG_BYTES:], key)
        entry = None if data is None else decode_entry(data, key)
        if entry is None or value[:TAG_BYTES] != tag_of(entry.fingerprint):
            return None
        return entry

    def _set_command(self, entry: Entry) -> tuple[Any, ...] | None:
        """SET with expiry; None for an entry that is not to be kept."""
        left = entry.expires_at - self._clock() if entry.expires_at else float("inf")
        milliseconds = int(min(left, self._config.max_ttl_seconds) * 1000)
        if milliseconds <= 0:
            return None
        data: bytes | None = encode_entry(entry)
        if self._cipher is not None and data is not None:
            data = self._cipher.seal(data, entry.key)
        if data is None:
            self.counts.not_sealed += 1
            return None
        if TAG_BYTES + len(data) > self._config.max_value_bytes:
            self.counts.too_large += 1
            return None
        value = tag_of(entry.fingerprint) + data
        return ("SET", self._name(entry.key), value, "PX", milliseconds)

    async def _unlink(self, names: Sequence[Any], deadline_ms: float) -> int:
        if not names:
            return 0
        if self._is_cluster:
            replies = await self.link.batch([("UNLINK", name) for name in names], deadline_ms)
            self.link.refuse_errors(replies)
        else:
            replies = [await self.link.command(("UNLINK", *names), deadline_ms)]
        return sum(reply for reply in replies if isinstance(reply, int))

    async def _tagged(self, names: list[bytes], tag: bytes) -> list[bytes]:
        commands = [("GETRANGE", name, 0, TAG_BYTES - 1) for name in names]
        replies = await self.link.batch(commands, self._config.socket_timeout_ms)
        self.link.refuse_errors(replies)
        return [name for name, reply in zip(names, replies, strict=True) if reply == tag]

    async def _covered(
        self, names: Sequence[bytes], covered: Callable[[Entry], bool]
    ) -> list[bytes]:
        commands = [("GET", name) for name in names]
        values = await self.link.batch(commands, self._config.socket_timeout_ms)
        self.link.refuse_errors(values)
        doomed = []
        for name, value in zip(names, values, strict=True):
            entry = self._open(value, self._key(name)) if isinstance(value, bytes) else None
            if value is not None and (entry is None or covered(entry)):
                doomed.append(name)
        return doomed

    async def _scan(self) -> AsyncIterator[list[bytes]]:
        """Yields the names of the model's entries, some at a time; a name may come twice."""
        end = time.monotonic() + self._config.scan_seconds
        for node in await self.link.nodes():
            cursor: Any = 0
            while True:
                command = ("SCAN", cursor, "MATCH", self._prefix + "*", "COUNT", _SCAN_COUNT)
                reply = await self.link.command_at(node, command)
                cursor, names = self._scanned(reply)
                if names:
                    yield names
                if not cursor:
                    break
                if time.monotonic() > end:
                    raise self.link.unavailable(
                        TimeoutError(f"a scan did not end in {self._config.scan_seconds:g} s")
                    )

    def _scanned(self, reply: Any) -> tuple[int, list[bytes]]:
        try:
            cursor, names = reply
            if isinstance(cursor, dict):  # of a cluster: node -> cursor
                (cursor,) = cursor.values()
            return int(cursor), [bytes(name) for name in names]
        except (TypeError, ValueError) as error:
            raise self.link.unavailable(error) from error


@lru_cache(maxsize=256)
def tag_of(fingerprint: str) -> bytes:
    """Returns what a value begins with, so that the entries of a fingerprint can be found."""
    return hashlib.blake2b(fingerprint.encode("utf-8"), digest_size=TAG_BYTES).digest()
