"""Listening for HTTP: TCP, TLS, unix sockets. asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl as tls
from pathlib import Path

from tfx_encore.gateway.rest.connections import Connections
from tfx_encore.gateway.rest.http_message import HttpPolicy
from tfx_encore.gateway.rest.http_protocol import HttpService

_BACKLOG = 4096


class Listener:
    """A socket that is listened to, and its connections; made by `serve_rest`.

    Attributes:
        port: of TCP; 0 for a unix socket.
        connections: those that are open.
    """

    def __init__(
        self, server: asyncio.AbstractServer, connections: Connections, port: int, uds: str | None
    ) -> None:
        self.port = port
        self.connections = connections
        self._server = server
        self._uds = uds
        self._care = asyncio.get_running_loop().create_task(connections.look_after())

    async def close(self, grace_seconds: float = 0.0) -> None:
        """Stops listening, lets what is under way be answered, closes every connection.

        Args:
            grace_seconds: time for what is under way; then it is cut off.
        """
        self._server.close()
        await self.connections.drain(grace_seconds)
        self._care.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._care
        await self._server.wait_closed()
        if self._uds is not None:
            Path(self._uds).unlink(missing_ok=True)


async def serve_rest(
    service: HttpService,
    host: str,
    port: int,
    *,
    reuse_port: bool = False,
    ssl: tls.SSLContext | None = None,
    uds: str | None = None,
    policy: HttpPolicy | None = None,
) -> Listener:
    """Listens for HTTP and answers it.

    Args:
        service: answers the requests.
        host: address to listen on.
        port: to listen on; 0 for any that is free.
        reuse_port: let other processes listen on the same port.
        ssl: for TLS.
        uds: path of a unix socket, instead of host and port; a socket left there is removed.
        policy: what a connection may cost.

    Raises:
        OSError: the address cannot be listened on.
    """
    connections = Connections(service, policy or HttpPolicy())
    loop = asyncio.get_running_loop()
    server: asyncio.AbstractServer
    if uds is not None:
        path = Path(uds)
        if path.is_socket():
            path.unlink()
        server = await loop.create_unix_server(connections.connect, uds, backlog=_BACKLOG, ssl=ssl)
        return Listener(server, connections, 0, uds)
    server = await loop.create_server(
        connections.connect,
        host,
        port,
        family=socket.AF_UNSPEC,
        backlog=_BACKLOG,
        reuse_port=reuse_port or None,
        ssl=ssl,
    )
    # Without a host there is a socket for each family, of one port if one was asked for.
    bound = server.sockets[0].getsockname()[1]
    return Listener(server, connections, bound, None)
