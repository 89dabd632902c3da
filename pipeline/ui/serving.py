"""The server of the pages: one socket, one process, until it is interrupted."""

from __future__ import annotations

import socket

import uvicorn
from starlette.types import ASGIApp

from tfx_encore.schemas.errors import ConfigError


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        ConfigError: the address cannot be had.
    """
    bare = host.strip("[]")
    try:
        family, _, _, _, address = socket.getaddrinfo(
            bare, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(128)
    except OSError as error:
        raise ConfigError(
            f"cannot listen at {host}:{port}: {error.strerror or error}; `--port 0` takes a free "
            "port",
            key="--port",
        ) from error
    return bound


def address_of(bound: socket.socket, host: str) -> str:
    """The address to open, as `http://127.0.0.1:8600/`."""
    bare = host.strip("[]")
    shown = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(bare, bare)  # noqa: S104
    name = f"[{shown}]" if ":" in shown else shown
    return f"http://{name}:{bound.getsockname()[1]}/"


def make_server(app: ASGIApp) -> uvicorn.Server:
    """The server; `run(sockets=[...])` serves until it is told to end."""
    config = uvicorn.Config(
        app,
        access_log=False,
        date_header=True,
        lifespan="off",
        log_level="error",
        server_header=False,
        timeout_graceful_shutdown=1,
        timeout_keep_alive=5,
        ws="none",
    )
    return uvicorn.Server(config)
