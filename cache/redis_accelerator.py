"""Publish/subscribe in Redis that wakes those who follow invalidations. Never the truth.

A message says "look at the ledger now"; what it holds is not read. Lost, late, doubled, forged or
damaged messages are therefore harmless: a follower looks at the ledger every so often anyway, and
`wait` only shortens that pause. After each new connection it wakes once, as messages may have been
missed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import Mapping
from typing import Any

from redis.asyncio import RedisCluster
from redis.exceptions import RedisError

from tfx_encore.cache.redis_client import RedisLink, make_client
from tfx_encore.cache.redis_config import RedisConfig, safe_name
from tfx_encore.schemas.errors import StoreUnavailableError

_SILENCE_SECONDS = 15.0  # then the connection is tried with a PING
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0


class InvalidationAccelerator:
    """Announces invalidation records of one model, and is woken by announcements.

    To be used from one event loop. In a cluster it talks to the node that the url names, which
    passes messages on to all others.

    Args:
        config: where and how.
        model: the model's name.
        environ: holds the passwords that `config` names.
        shortest_wait: seconds between two wake-ups at least, whatever comes in.

    Raises:
        ConfigError: a variable or a file that `config` names is missing.
    """

    def __init__(
        self,
        config: RedisConfig,
        model: str,
        *,
        environ: Mapping[str, str] = os.environ,
        shortest_wait: float = 0.05,
    ) -> None:
        one_node = config.model_copy(update={"cluster": False})
        self.channel = f"{config.key_prefix}:{safe_name(model)}:invalidations"
        self._link = RedisLink(one_node, environ)
        self._listener = make_client(one_node, environ)
        self._shortest_wait = shortest_wait
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._listening = False

    @property
    def listening(self) -> bool:
        """Whether announcements would be heard now."""
        return self._listening

    async def announce(self, sequence: int) -> bool:
        """Wakes all who wait; False if Redis could not be told. Never raises for Redis.

        Args:
            sequence: of the record, for people who look at the channel.
        """
        command = ("PUBLISH", self.channel, str(sequence))
        try:
            await self._link.command(command, self._link.config.write_deadline_ms)
        except StoreUnavailableError:
            return False
        return True

    async def wait(self, seconds: float) -> bool:
        """Returns True once something was announced, False after `seconds` without.

        Announcements since the last call count. The first call begins to listen.
        """
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._listen())
        quiet = min(self._shortest_wait, seconds)
        await asyncio.sleep(quiet)
        try:
            await asyncio.wait_for(self._news.wait(), seconds - quiet)
        except asyncio.TimeoutError:
            return False
        self._news.clear()
        return True

    async def close(self) -> None:
        """Stops listening and closes the connections."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self._link.close()
        with contextlib.suppress(RedisError, OSError):
            await self._listener.aclose()

    async def _listen(self) -> None:
        assert not isinstance(self._listener, RedisCluster)
        pause = _FIRST_PAUSE
        while True:
            pubsub = self._listener.pubsub()
            try:
                await pubsub.subscribe(self.channel)
                await self._hear(pubsub)
            # As in RedisLink: a lying server makes the client library fail in any way.
            except Exception:  # noqa: BLE001
                pause = _FIRST_PAUSE if self._listening else min(pause * 2, _LONGEST_PAUSE)
            finally:
                self._listening = False
                with contextlib.suppress(Exception):
                    await pubsub.aclose()  # type: ignore[no-untyped-call]
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads reconnects

    async def _hear(self, pubsub: Any) -> None:
        """Wakes for each message, until the connection fails or stays silent."""
        pinged = False
        while True:
            message = await pubsub.get_message(timeout=_SILENCE_SECONDS)
            if message is None:
                if pinged:
                    raise ConnectionError("no answer to PING")
                await pubsub.ping()
                pinged = True
                continue
            pinged = False
            if message["type"] in ("subscribe", "message"):
                self._listening = True
                self._news.set()
