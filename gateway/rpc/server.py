"""The gRPC server: ports, limits, certificates, an orderly end. asyncio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio

from tfx_encore.gateway.rpc.health import Health
from tfx_encore.gateway.rpc.service import GrpcService, Handler
from tfx_encore.gateway.tls import ServerTls
from tfx_encore.schemas.errors import ConfigError

MAX_MESSAGE_BYTES = 2**31 - 1
"""What TensorFlow Serving allows (model_servers/server.cc)."""

ChannelArguments = Sequence[tuple[str, "int | str"]]


class GrpcListener:
    """A server that accepts calls.

    Attributes:
        port: where it listens; 0 if only on a Unix socket.
    """

    def __init__(self, server: grpc.aio.Server, port: int) -> None:
        self._server = server
        self.port = port

    async def close(self, grace_seconds: float) -> None:
        """Accepts no more calls, and lets those under way end.

        Args:
            grace_seconds: after which calls that are still under way are cancelled.
        """
        await self._server.stop(grace_seconds)


async def serve_grpc(
    service: GrpcService,
    host: str,
    port: int | None,
    *,
    tls: ServerTls | None = None,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    reuse_port: bool = False,
    channel_arguments: ChannelArguments = (),
    uds: str | None = None,
    health: Health | None = None,
) -> GrpcListener:
    """Starts a server on the running event loop.

    Args:
        service: what answers.
        host: address to listen on, as `127.0.0.1` or `::1`.
        port: 0 for any that is free; None for none, where `uds` is given.
        tls: certificate and who is let in; None for plain connections.
        max_message_bytes: a request or response at most; longer ones are RESOURCE_EXHAUSTED.
        reuse_port: whether other processes may listen on the same port.
        channel_arguments: passed on to gRPC; they win over the ones set here.
        uds: path of a Unix socket to listen on, too.
        health: answers health checks; None for none.

    Raises:
        ConfigError: the port or the socket is taken or not allowed, or there is neither.
    """
    if port is None and not uds:
        raise ConfigError("give a port or a path of a Unix socket", key="port")
    options: dict[str, int | str] = {
        "grpc.max_receive_message_length": max_message_bytes,
        "grpc.max_send_message_length": max_message_bytes,
        "grpc.so_reuseport": int(reuse_port),
        **dict(channel_arguments),
    }
    server = grpc.aio.server(options=list(options.items()))
    for name, handlers in service.handlers().items():
        methods = {method: _raw(handler) for method, handler in handlers.items()}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, methods),))
    if health is not None:
        server.add_generic_rpc_handlers((health.handler(),))
    bound = 0
    if port is not None:
        bound = _bind(server, f"[{host}]:{port}" if ":" in host else f"{host}:{port}", tls, "port")
    if uds:
        _bind(server, f"unix:{uds}", tls, "grpc_socket_path")
    await server.start()
    return GrpcListener(server, bound)


def parse_channel_arguments(text: str) -> list[tuple[str, int | str]]:
    """Reads `--grpc_channel_arguments`: `key=value` separated by commas.

    A value that is a number of 32 bits is passed on as one, any other as text.

    Raises:
        ConfigError: a part has no key or no value.
    """
    arguments: list[tuple[str, int | str]] = []
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not name.strip() or not equals:
            raise ConfigError(
                f"{part!r} is not key=value; write for instance grpc.max_connection_age_ms=2000",
                key="grpc_channel_arguments",
            )
        arguments.append((name.strip(), _number_or_text(value.strip())))
    return arguments


def _number_or_text(value: str) -> int | str:
    try:
        number = int(value)
    except ValueError:
        return value
    return number if -(2**31) <= number < 2**31 else value


def _raw(handler: Handler) -> Any:
    """A handler of bytes: neither requests nor responses go through a (de)serialiser."""
    return grpc.unary_unary_rpc_method_handler(handler)


def _bind(server: grpc.aio.Server, address: str, tls: ServerTls | None, key: str) -> int:
    try:
        if tls is None:
            return int(server.add_insecure_port(address))
        return int(server.add_secure_port(address, tls.grpc_credentials()))
    except RuntimeError as error:
        raise ConfigError(f"cannot listen on {address}: {error}", key=key) from error
