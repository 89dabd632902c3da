"""One Redis behind deadlines: standalone, Sentinel or cluster, by redis.asyncio.

A call that misses its deadline is not cancelled but left to end by itself, within the socket's
timeout: a connection cut off in the middle of a reply would have to be made anew, and one that
takes longer to make than a deadline would never be made. Calls under way are bounded in number.

Commands needed at the server are listed in docs/redis.md. RESP 2 without client information keeps
that list short.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from tfx_encore.cache.redis_cluster import ClusterBatches, Command, cluster_client
from tfx_encore.cache.redis_config import RedisConfig, host_and_port
from tfx_encore.schemas.errors import ConfigError, StoreUnavailableError

T = TypeVar("T")


class RedisLink:
    """A pool of connections to one Redis, used from one event loop.

    Args:
        config: where, how, how long.
        environ: holds the passwords that `config` names.

    Raises:
        ConfigError: a variable or a file that `config` names is missing.
    """

    def __init__(self, config: RedisConfig, environ: Mapping[str, str] = os.environ) -> None:
        self.config = config
        self.client = make_client(config, environ)
        self._cluster = (
            ClusterBatches(self.client) if isinstance(self.client, RedisCluster) else None
        )
        self._slots = asyncio.Semaphore(config.pool_size)
        self._under_way: set[asyncio.Task[Any]] = set()
        self._closed = False

    @property
    def under_way(self) -> int:
        """Calls that have not ended, those whose callers gave up included."""
        return len(self._under_way)

    async def command(self, command: Command, deadline_ms: float) -> Any:
        """Returns the reply to one command.

        Raises:
            StoreUnavailableError: no reply in time, or an error as reply.
        """
        return await self._within(deadline_ms, lambda: self.client.execute_command(*command))

    async def batch(self, commands: Sequence[Command], deadline_ms: float) -> list[Any]:
        """Returns the replies to commands sent in one go; in a cluster, one go for each node.

        A command that the server refuses has its `redis.exceptions.RedisError` as reply.

        Raises:
            StoreUnavailableError: no reply in time, or no server behind any of the commands.
        """
        if not commands:
            return []
        return self._answered(await self._within(deadline_ms, lambda: self._pipeline(commands)))

    async def strings(self, names: Sequence[str], deadline_ms: float) -> list[Any]:
        """Returns what the server says of each name: bytes, None, an error, or anything.

        For a task of its own, which may outlive those who wait for it: the deadline only bounds
        the wait for a connection, the socket's timeout the rest.

        Raises:
            StoreUnavailableError: no reply, or an error as reply.
        """
        self._refuse_too_many()
        task = asyncio.current_task()
        assert task is not None
        self._under_way.add(task)
        deadline = asyncio.get_running_loop().time() + deadline_ms / 1000
        try:
            if self._cluster is None:
                command = ("MGET", *names)
                replies = await self._in_slot(
                    deadline, lambda: self.client.execute_command(*command)
                )
            else:
                commands = [("GET", name) for name in names]
                replies = self._answered(
                    await self._in_slot(deadline, lambda: self._pipeline(commands))
                )
        finally:
            self._under_way.discard(task)
        if not isinstance(replies, list) or len(replies) != len(names):
            return [b""] * len(names)  # a reply to something else; no value of ours is empty
        if all(isinstance(reply, RedisError) for reply in replies):
            self.refuse_errors(replies)
        return replies

    async def nodes(self) -> list[Any]:
        """Returns the masters of a cluster; [None] where there is one server.

        Raises:
            StoreUnavailableError: the cluster cannot be asked.
        """
        client = self.client
        if not isinstance(client, RedisCluster):
            return [None]
        await self._within(self.config.connect_timeout_ms, client.initialize)
        return list(client.get_primaries())

    async def command_at(self, node: Any, command: Command) -> Any:
        """Returns the reply of one of `nodes()`, waiting as long as the socket does.

        Raises:
            StoreUnavailableError: no reply, or an error as reply.
        """
        options = {} if node is None else {"target_nodes": node}
        return await self._within(
            self.config.socket_timeout_ms,
            lambda: self.client.execute_command(*command, **options),
        )

    async def close(self) -> None:
        """Ends calls under way and closes the connections; harmless the second time."""
        self._closed = True
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        if self._cluster is not None:
            await self._cluster.close()
        with contextlib.suppress(RedisError, OSError):  # the server may be gone before us
            await self.client.aclose()

    def refuse_errors(self, replies: Sequence[Any]) -> None:
        """Lets replies pass that are no error, or say that a name holds something not ours.

        Raises:
            StoreUnavailableError: any other error among them.
        """
        for reply in replies:
            if isinstance(reply, RedisError) and not is_wrong_type(reply):
                raise self.unavailable(reply)

    async def _pipeline(self, commands: Sequence[Command]) -> list[Any]:
        if self._cluster is not None:
            return await self._cluster.run(commands)
        pipe = self.client.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)
        replies = await pipe.execute(raise_on_error=False)
        if not isinstance(replies, list) or len(replies) != len(commands):
            raise RedisConnectionError(
                f"{len(commands)} commands brought another number of replies"
            )
        return replies

    def _answered(self, replies: list[Any]) -> list[Any]:
        failed = [reply for reply in replies if isinstance(reply, RedisError)]
        if len(failed) == len(replies) and not isinstance(failed[0], ResponseError):
            raise self.unavailable(failed[0])
        return replies

    def _refuse_too_many(self) -> None:
        if self._closed or len(self._under_way) >= self.config.max_waiting:
            why = "closed" if self._closed else f"{len(self._under_way)} calls are under way"
            raise StoreUnavailableError(f"redis at {self.config.place}: {why}")

    async def _within(self, deadline_ms: float, work: Callable[[], Awaitable[T]]) -> T:
        self._refuse_too_many()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + deadline_ms / 1000
        task = loop.create_task(self._in_slot(deadline, work))
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        done, _ = await asyncio.wait({task}, timeout=deadline_ms / 1000)
        if not done:
            raise StoreUnavailableError(
                f"redis at {self.config.place}: no answer in {deadline_ms:.3g} ms"
            )
        if task.cancelled():
            raise StoreUnavailableError(f"redis at {self.config.place}: closed")
        return task.result()

    async def _in_slot(self, deadline: float, work: Callable[[], Awaitable[T]]) -> T:
        async with self._slots:
            if asyncio.get_running_loop().time() > deadline:
                raise StoreUnavailableError(f"redis at {self.config.place}: no connection was free")
            try:
                return await work()
            # A lying server makes the client library fail in any way, not only as a RedisError.
            except Exception as error:
                raise self.unavailable(error) from error

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # seen; the caller may be gone

    def unavailable(self, error: BaseException) -> StoreUnavailableError:
        """Returns what callers get for an error of the client or the server."""
        text = str(error).splitlines()
        return StoreUnavailableError(
            f"redis at {self.config.place}: {type(error).__name__}: {text[0][:200] if text else ''}"
        )


def is_wrong_type(error: RedisError) -> bool:
    """True if the server says that a name holds something else than a string."""
    return isinstance(error, ResponseError) and str(error).startswith("WRONGTYPE")


def make_client(config: RedisConfig, environ: Mapping[str, str]) -> Redis | RedisCluster:
    """Returns a client of redis.asyncio that has not connected yet.

    Raises:
        ConfigError: a variable or a file that `config` names is missing.
    """
    options = {
        **_common_options(config),
        "username": config.username,
        "password": password(config.password_env, environ),
    }
    if config.sentinel:
        return _by_sentinel(config, options, environ)
    address = config.address
    if config.cluster:
        return cluster_client(address, options)
    return single_client(config, options)


def single_client(config: RedisConfig, options: Mapping[str, Any]) -> Redis:
    """Returns a client of the one server that `url` names."""
    address = config.address
    if address.path:
        return Redis(unix_socket_path=address.path, **options)
    return Redis(host=address.host, port=address.port, db=config.database, **options)


def password(name: str | None, environ: Mapping[str, str]) -> str | None:
    """Returns the password in a variable; None if no variable is named.

    Raises:
        ConfigError: the variable is not set, or empty.
    """
    if name is None:
        return None
    found = environ.get(name)
    if not found:
        raise ConfigError(f"environment variable {name} is not set; it must hold Redis's password")
    return found


def _by_sentinel(
    config: RedisConfig, options: Mapping[str, Any], environ: Mapping[str, str]
) -> Redis:
    assert config.sentinel is not None
    sentinel = config.sentinel
    own = {
        **_common_options(config),
        "username": sentinel.username,
        "password": password(sentinel.password_env, environ),
    }
    nodes = [host_and_port(node)[:2] for node in sentinel.nodes]
    manager = Sentinel(nodes, sentinel_kwargs=own, **options)  # type: ignore[no-untyped-call]
    client: Redis = manager.master_for(sentinel.service, db=sentinel.database)
    return client


def _common_options(config: RedisConfig) -> dict[str, Any]:
    """What every connection has, to servers and Sentinels alike."""
    return {
        "socket_timeout": config.socket_timeout_ms / 1000,
        "socket_connect_timeout": config.connect_timeout_ms / 1000,
        "max_connections": config.pool_size,
        # The deadline leaves no time; a pooled connection is looked at before it is used.
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "driver_info": None,
        **(_tls_options(config) if config.uses_tls else {}),
    }


def _tls_options(config: RedisConfig) -> dict[str, Any]:
    tls = config.tls
    for path in (tls.ca_file, tls.cert_file, tls.key_file):
        if path is not None and not os.access(path, os.R_OK):
            raise ConfigError(f"redis: tls: {path} is not there, or may not be read")
    return {
        "ssl": True,
        "ssl_cert_reqs": "required",
        "ssl_ca_certs": tls.ca_file,
        "ssl_certfile": tls.cert_file,
        "ssl_keyfile": tls.key_file,
        "ssl_check_hostname": tls.verify_hostname,
        "ssl_min_version": ssl.TLSVersion.TLSv1_2,
    }
