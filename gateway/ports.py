"""Ports that a gateway listens on: checked before anything slow is loaded, held for workers."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from tfx_encore.schemas.errors import ConfigError

_TAKEN = {errno.EADDRINUSE: "another process listens there", errno.EACCES: "this user may not"}


def check_port(host: str, port: int, flag: str) -> None:
    """Checks that a port can be listened on.

    gRPC would share a port that another process of the same user has, and answer every other
    request.

    Raises:
        ConfigError: it cannot; names the flag.
    """
    with _bound(host, port, flag, shared=False):
        return


def check_socket_path(path: str, flag: str) -> None:
    """Checks that nobody listens on a Unix socket, and removes what a killed process left there.

    Raises:
        ConfigError: somebody does, or it is a file of another kind.
    """
    file = Path(path)
    try:
        is_socket = stat.S_ISSOCK(file.lstat().st_mode)
    except FileNotFoundError:
        if not file.parent.is_dir():
            raise ConfigError(f"{file.parent} is no directory", key=flag) from None
        return
    if not is_socket:
        raise ConfigError(f"{path} is there and is no socket; remove it", key=flag)
    with socket.socket(socket.AF_UNIX) as probe:
        if probe.connect_ex(path) == 0:
            raise ConfigError(f"another process listens on {path}", key=flag)
    file.unlink()


@contextlib.contextmanager
def held_port(host: str, port: int, flag: str) -> Iterator[int]:
    """Holds a port for processes that listen on it together (SO_REUSEPORT); gives its number.

    It stays ours while a worker is replaced. The socket never listens, so that the kernel gives it
    no connection.

    Raises:
        ConfigError: the port cannot be listened on.
    """
    if port:
        check_port(host, port, flag)
    with _bound(host, port, flag, shared=True) as number:
        yield number


@contextlib.contextmanager
def _bound(host: str, port: int, flag: str, *, shared: bool) -> Iterator[int]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"{host!r} is no address of this machine: {error}", key="--host"
        ) from None
    family, kind, protocol, _, address = found[0]
    with socket.socket(family, kind, protocol) as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            held.bind(address)
            if not shared:
                held.listen(1)
        except OSError as error:
            reason = _TAKEN.get(error.errno or 0, os.strerror(error.errno or 0))
            raise ConfigError(
                f"{host}:{port} cannot be listened on: {reason}; choose another port", key=flag
            ) from None
        yield int(held.getsockname()[1])
