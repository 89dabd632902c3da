"""The socket by which `encore cache` talks to a gateway: one for each worker, for its user only.

One line of JSON each way, one request a connection. `{"scope": "all"}` beside the request makes a
worker ask the others too, over their sockets, and reply for all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tfx_encore.gateway.admin_messages import REQUEST
from tfx_encore.gateway.runtime_folder import socket_path, sockets
from tfx_encore.schemas.errors import EncoreError

log = logging.getLogger("tfx_encore.gateway")

MAX_REQUEST_BYTES = 64 * 1024
MAX_REPLY_BYTES = 16 * 2**20
_MAX_AT_ONCE = 8
_READ_SECONDS = 10.0
_LAST_REPLY_SECONDS = 2.0

Handler = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class NotRunningError(EncoreError):
    """No gateway answers where one was looked for."""


class AdminServer:
    """Answers requests on one worker's socket.

    Args:
        folder: of the gateway's sockets.
        worker: number of this worker.
        handle: answers a valid request; raises EncoreError if it cannot.
        seconds: longest that a request may take.
    """

    def __init__(
        self, folder: Path, worker: int, handle: Handler, *, seconds: float = 600.0
    ) -> None:
        self.path = socket_path(folder, worker)
        self._folder = folder
        self._worker = worker
        self._handle = handle
        self._seconds = seconds
        self._server: asyncio.AbstractServer | None = None
        self._at_once = asyncio.Semaphore(_MAX_AT_ONCE)
        self._conversations: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listens."""
        self.path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        # The socket has its mode before anybody can reach it.
        before = os.umask(0o177)
        try:
            listener.bind(str(self.path))
        finally:
            os.umask(before)
        self._server = await asyncio.start_unix_server(
            self._connected, sock=listener, limit=MAX_REQUEST_BYTES
        )

    async def stop(self) -> None:
        """Listens no longer; gives replies under way a moment to leave."""
        if self._server is not None:
            self._server.close()
        if self._conversations:
            await asyncio.wait(self._conversations, timeout=_LAST_REPLY_SECONDS)
        self.path.unlink(missing_ok=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if _is_ours(writer):
                async with self._at_once:
                    await self._tracked(self._converse(reader, writer))
        except (OSError, asyncio.TimeoutError) as error:
            log.debug("admin connection lost reason=%r", str(error))
        finally:
            writer.close()

    async def _tracked(self, conversation: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(conversation)
        self._conversations.add(task)
        task.add_done_callback(self._conversations.discard)
        await task

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await asyncio.wait_for(reader.readline(), _READ_SECONDS)
        except ValueError:  # what StreamReader makes of a line beyond its limit
            reply = _failure(f"the request is longer than {MAX_REQUEST_BYTES} bytes")
        else:
            reply = await self._reply(line)
        body = json.dumps(reply).encode()
        if len(body) >= MAX_REPLY_BYTES:
            body = json.dumps(_failure("the reply is too long; ask for less")).encode()
        writer.write(body + b"\n")
        await writer.drain()

    async def _reply(self, line: bytes) -> dict[str, Any]:
        try:
            message = json.loads(line)
            is_for_all = isinstance(message, dict) and message.pop("scope", "one") == "all"
            request = REQUEST.validate_python(message).model_dump()
        except (ValueError, RecursionError, ValidationError) as error:
            return _failure(f"not a request: {_first_line(error)}")
        try:
            asked = [self._mine(request)]
            if is_for_all:
                asked.append(ask_others(self._folder, self._worker, request, self._seconds))
            replies = [each for some in await asyncio.gather(*asked) for each in some]
        except asyncio.TimeoutError:
            return _failure(f"not done within {self._seconds:g} s")
        except EncoreError as error:
            return _failure(str(error))
        except Exception as error:
            log.exception("admin request failed command=%s", request["command"])
            return _failure(f"{type(error).__name__}: {error}")
        return {"ok": True, "replies": replies}

    async def _mine(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        return [await asyncio.wait_for(self._handle(request), self._seconds)]


def ask(folder: Path, request: dict[str, Any], seconds: float = 600.0) -> list[dict[str, Any]]:
    """Asks the gateway whose sockets are in a folder; returns each worker's reply. Blocking.

    Raises:
        NotRunningError: no worker answers there.
        EncoreError: the gateway refused the request, or could not do it.
    """
    for path in sockets(folder):
        with contextlib.suppress(NotRunningError):
            return _ask(path, {**request, "scope": "all"}, seconds)
    raise NotRunningError(f"no gateway runs in {folder}")


async def ask_others(
    folder: Path, worker: int, request: dict[str, Any], seconds: float
) -> list[dict[str, Any]]:
    """Returns what every worker but this one replies; those that are gone are left out.

    Raises:
        EncoreError: one of them could not do it, or not in time.
    """
    mine = socket_path(folder, worker)
    paths = [path for path in sockets(folder) if path != mine]
    asked = [asyncio.to_thread(ask_worker, path, request, seconds) for path in paths]
    return [reply for replies in await asyncio.gather(*asked) for reply in replies]


def ask_worker(path: Path, request: dict[str, Any], seconds: float) -> list[dict[str, Any]]:
    """Asks one worker over its socket. Blocking.

    A worker that has just died is passed over: its successor has nothing to say yet.

    Raises:
        EncoreError: it refused the request, or could not do it.
    """
    try:
        return _ask(path, request, seconds)
    except NotRunningError:
        return []


def _ask(path: Path, request: dict[str, Any], seconds: float) -> list[dict[str, Any]]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(seconds)
        try:
            connection.connect(str(path))
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as reader:
                line = reader.readline(MAX_REPLY_BYTES)
        except TimeoutError:
            raise EncoreError(f"the gateway at {path} gave no answer in {seconds:g} s") from None
        except OSError as error:
            raise NotRunningError(f"no gateway answers at {path}: {error.strerror}") from None
    if not line.endswith(b"\n"):
        raise NotRunningError(f"the gateway at {path} ended before it answered")
    reply = json.loads(line)
    if not reply.get("ok"):
        raise EncoreError(f"the gateway: {reply.get('error', 'no reason given')}")
    replies: list[dict[str, Any]] = reply["replies"]
    return replies


def _is_ours(writer: asyncio.StreamWriter) -> bool:
    """Whether the same user, or root, is at the other end (the mode of the socket says so too)."""
    peer = writer.get_extra_info("socket")
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return uid in (0, os.getuid())


def _failure(message: str) -> dict[str, Any]:
    return {"ok": False, "error": message}


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        return f"{place}: {first['msg']}" if place else str(first["msg"])
    return str(error).splitlines()[0]
