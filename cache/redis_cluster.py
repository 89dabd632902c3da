"""A batch of commands across the nodes of a Redis cluster, one round trip for each node.

redis-py's own cluster pipeline gives up the whole batch when one node is lost, and closes every
connection to read the topology anew. Here a lost node costs the rows that lie on it, and the
topology is read in the background.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    RedisError,
    SlotNotCoveredError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tfx_encore.cache.redis_config import Address

_REFRESH_SECONDS = 1.0  # between two looks at the topology, at least
_STALE = (RedisConnectionError, RedisTimeoutError, ClusterDownError, SlotNotCoveredError)

Command = Sequence[Any]
"""A command and its arguments, as `("GET", name)`."""


def cluster_client(address: Address, options: Mapping[str, Any]) -> RedisCluster:
    """Returns a client that neither retries nor reads the topology in the middle of a call."""
    return RedisCluster(
        startup_nodes=[ClusterNode(address.host, address.port)],
        require_full_coverage=False,
        reinitialize_steps=0,
        **options,
    )


class ClusterBatches:
    """Sends batches through a cluster client.

    Args:
        client: see `cluster_client`.
    """

    def __init__(self, client: RedisCluster) -> None:
        self._client = client
        self._refresh: asyncio.Task[None] | None = None
        self._refreshed = float("-inf")

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """Returns the replies in order; a command that failed has its error as reply.

        Raises:
            redis.exceptions.RedisError: the topology is not known.
        """
        await self._client.initialize()
        replies: list[Any] = [None] * len(commands)
        groups: dict[str, tuple[ClusterNode, list[int]]] = {}
        for place, command in enumerate(commands):
            try:
                node = self._client.get_node_from_key(key_of(command))
            except RedisError as error:
                replies[place] = error
                self._look_again()
                continue
            assert node is not None
            groups.setdefault(node.name, (node, []))[1].append(place)
        parts = await asyncio.gather(
            *(
                self._at_node(node, [commands[place] for place in places])
                for node, places in groups.values()
            )
        )
        for (_, places), part in zip(groups.values(), parts, strict=True):
            for place, reply in zip(places, part, strict=True):
                replies[place] = reply
        return replies

    async def close(self) -> None:
        """Ends a look at the topology that is under way."""
        if self._refresh is not None:
            self._refresh.cancel()
            await asyncio.gather(self._refresh, return_exceptions=True)

    async def _at_node(self, node: ClusterNode, commands: Sequence[Command]) -> list[Any]:
        replies = await self._send(node, commands)
        if all(isinstance(reply, RedisConnectionError) for reply in replies):
            # Pooled connections die with a node that was restarted; a new one does not.
            node.update_active_connections_for_reconnect()
            await node.disconnect_free_connections()
            replies = await self._send(node, commands)
        if any(isinstance(reply, (*_STALE, MovedError, AskError)) for reply in replies):
            self._look_again()
        return [
            await self._follow(command, reply)
            if isinstance(reply, (MovedError, AskError))
            else reply
            for command, reply in zip(commands, replies, strict=True)
        ]

    async def _send(self, node: ClusterNode, commands: Sequence[Command]) -> list[Any]:
        pipe = self._client.pipeline()
        for command in commands:
            pipe.execute_command(*command, target_nodes=node)
        try:
            return await pipe.execute(raise_on_error=False, allow_redirections=False)
        except (RedisError, OSError) as error:
            lost = error if isinstance(error, RedisError) else RedisConnectionError(str(error))
            return [lost] * len(commands)

    async def _follow(self, command: Command, moved: RedisError) -> Any:
        """Sends one command to where its slot has gone, which the client remembers."""
        try:
            return await self._client.execute_command(*command)
        except RedisError:
            return moved

    def _look_again(self) -> None:
        now = time.monotonic()
        busy = self._refresh is not None and not self._refresh.done()
        if not busy and now - self._refreshed >= _REFRESH_SECONDS:
            self._refreshed = now
            self._refresh = asyncio.get_running_loop().create_task(self._read_topology())

    async def _read_topology(self) -> None:
        with contextlib.suppress(RedisError, OSError):  # the next failure tries again
            await self._client.nodes_manager.initialize()


def key_of(command: Command) -> Any:
    """Returns the name by which a command's node is found."""
    return command[3] if command[0] == "EVAL" else command[1]
