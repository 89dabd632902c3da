"""Leases in Redis, so that of several processes one computes a row. Optional: only saves work.

A lease is `SET <prefix>-lease:<model>:<row key> <token> NX PX <time>`. It is released by comparing
the token and deleting in one step, so that a holder that was late does not release another's. A
holder that dies costs the others at most the lease time; a holder that outlives its lease costs a
row computed twice. Answers are the same whoever computes them, so that nothing else can go wrong.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tfx_encore.cache.entry import Entry, SharedEntries
from tfx_encore.cache.redis_client import RedisLink
from tfx_encore.cache.redis_config import safe_name
from tfx_encore.schemas.errors import StoreUnavailableError

_RELEASE = (
    "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"
)
_TOKEN_BYTES = 16

Compute = Callable[[Sequence[bytes]], Awaitable[Sequence[Entry]]]
"""Computes the entries of row keys, in their order."""


class LeasePolicy(BaseModel):
    """The `lease` section of a cache configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lease_ms: int = Field(
        default=1_000,
        ge=1,
        le=600_000,
        description="What the holder has for computing and writing; longer than a slow batch.",
    )
    wait_ms: float = Field(
        default=500.0,
        gt=0.0,
        le=600_000.0,
        description="How long others wait before they compute the row themselves.",
    )
    poll_ms: float = Field(
        default=2.0, gt=0.0, le=10_000.0, description="First pause between looks; then doubled."
    )
    longest_poll_ms: float = Field(
        default=25.0, gt=0.0, le=10_000.0, description="Longest pause between looks."
    )

    @model_validator(mode="after")
    def _no_longer_than_the_lease(self) -> LeasePolicy:
        if self.wait_ms > self.lease_ms:
            raise ValueError("wait_ms above lease_ms: the holder has no lease by then")
        return self


class Held(NamedTuple):
    """A lease held by this process.

    Attributes:
        key: the row key.
        token: what proves that the lease is ours.
    """

    key: bytes
    token: str


class RedisLease:
    """Leases of the rows of one model.

    Args:
        link: to the Redis that the entries are in (`RedisStore.link`).
        model: the model's name.
        policy: times.
    """

    def __init__(self, link: RedisLink, model: str, policy: LeasePolicy | None = None) -> None:
        self.policy = policy or LeasePolicy()
        self._link = link
        self._prefix = f"{link.config.key_prefix}-lease:{safe_name(model)}:"

    async def acquire(self, keys: Sequence[bytes]) -> list[Held | None]:
        """Takes leases, each key once; None where another process holds it.

        Raises:
            StoreUnavailableError: nobody can say who holds what; compute without a lease.
        """
        asked = [Held(key, secrets.token_hex(_TOKEN_BYTES)) for key in keys]
        commands = [
            ("SET", self._name(key), token, "NX", "PX", self.policy.lease_ms)
            for key, token in asked
        ]
        # Somebody waits for this before anything is computed: no longer than for a read.
        replies = await self._link.batch(commands, self._link.config.read_deadline_ms)
        # A full or failing server refuses some: to compute those without a lease is right too.
        return [None if reply is None else held for held, reply in zip(asked, replies, strict=True)]

    async def release(self, held: Sequence[Held]) -> int:
        """Gives leases back; returns how many were still ours.

        Raises:
            StoreUnavailableError: no answer in time; they end by themselves.
        """
        commands = [("EVAL", _RELEASE, 1, self._name(key), token) for key, token in held]
        replies = await self._link.batch(commands, self._link.config.write_deadline_ms)
        return sum(1 for reply in replies if reply == 1)

    async def compute_once(
        self, keys: Sequence[bytes], store: SharedEntries, compute: Compute
    ) -> list[Entry]:
        """As the function `compute_once`, under this lease."""
        return await compute_once(keys, self, store, compute)

    async def wait(self, keys: Sequence[bytes], store: SharedEntries) -> list[Entry | None]:
        """Waits for what others compute; None where the holder failed, died or took too long.

        Args:
            keys: row keys, each once, whose leases others hold.
            store: where the holders put the entries.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + self.policy.wait_ms / 1000
        pause = self.policy.poll_ms / 1000
        found: dict[bytes, Entry] = {}
        waiting = list(keys)
        while waiting:
            try:
                # In this order: a holder writes the entry first and releases then.
                leased = await self._leased(waiting)
                entries = await store.get_many(waiting)
            except StoreUnavailableError:
                break
            found.update((entry.key, entry) for entry in entries if entry is not None)
            waiting = [key for key in waiting if key in leased and key not in found]
            if loop.time() + pause > end:
                break
            if waiting:
                await asyncio.sleep(pause)
            pause = min(pause * 2, self.policy.longest_poll_ms / 1000)
        return [found.get(key) for key in keys]

    async def _leased(self, keys: Sequence[bytes]) -> set[bytes]:
        commands = [("EXISTS", self._name(key)) for key in keys]
        replies = await self._link.batch(commands, self._link.config.read_deadline_ms)
        return {key for key, reply in zip(keys, replies, strict=True) if reply == 1}

    def _name(self, key: bytes) -> str:
        return self._prefix + key.hex()


async def compute_once(
    keys: Sequence[bytes], lease: RedisLease, store: SharedEntries, compute: Compute
) -> list[Entry]:
    """Returns the entries of rows that were missed, computing those that no other process does.

    Redis in trouble costs computing, never an error; what `compute` raises is raised.

    Args:
        keys: row keys, each once.
        lease: who computes what.
        store: where entries are left for the others.
        compute: called at most twice: for our share, then for what others left undone.
    """
    try:
        held = await lease.acquire(keys)
    except StoreUnavailableError:
        return list(await compute(keys))
    mine = [item for item in held if item is not None]
    found = await _compute_mine(mine, lease, store, compute)
    others = [key for key in keys if key not in found]
    waited = await lease.wait(others, store)
    found.update((entry.key, entry) for entry in waited if entry is not None)
    undone = [key for key in others if key not in found]
    if undone:
        found.update(zip(undone, await compute(undone), strict=True))
    return [found[key] for key in keys]


async def _compute_mine(
    mine: Sequence[Held], lease: RedisLease, store: SharedEntries, compute: Compute
) -> dict[bytes, Entry]:
    found: dict[bytes, Entry] = {}
    try:
        # Another process may have finished between our miss and our lease.
        found = await _look([held.key for held in mine], store)
        missing = [held.key for held in mine if held.key not in found]
        if missing:
            computed = await compute(missing)
            found.update(zip(missing, computed, strict=True))
            await _quietly(store.put_many(computed))
    finally:
        if mine:
            await _quietly(lease.release(mine))
    return found


async def _look(keys: Sequence[bytes], store: SharedEntries) -> dict[bytes, Entry]:
    try:
        entries = await store.get_many(keys)
    except StoreUnavailableError:
        return {}
    return {entry.key: entry for entry in entries if entry is not None}


async def _quietly(work: Awaitable[int]) -> None:
    try:
        await work
    except StoreUnavailableError:
        return  # the others compute for themselves; the leases end by themselves
