"""One gateway process: `python -m tfx_encore.gateway.worker_main SETTINGS EVENTS`.

Both arguments are file descriptors: a `Handover` as JSON is read from the first, and what happens
is told as JSON lines on the second. A gateway of one process is `run_worker` in the command itself.

    SIGTERM, SIGINT, SIGHUP   /readyz fails, the listeners close, what is under way finishes
    the same again            the process ends at once
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import importlib
import json
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import uvloop
from pydantic import BaseModel, ConfigDict

from tfx_encore.gateway import serve_log
from tfx_encore.gateway.admin import AdminServer
from tfx_encore.gateway.routing_board import RoutingBoard
from tfx_encore.gateway.settings import GatewaySettings
from tfx_encore.schemas.errors import EncoreError

log = logging.getLogger("tfx_encore.gateway")

SERVER = "tfx_encore.gateway.server:GatewayServer"
BOARD = "routes.board"
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

# What closing takes beyond the requests under way.
_FEW_FILES = 4096
_CLOSING_SECONDS = 5.0
_PR_SET_PDEATHSIG = 1

Tell = Callable[[str, dict[str, Any]], None]


class Server(Protocol):
    """What a process serves; see `gateway.server.GatewayServer`."""

    rest_port: int
    grpc_port: int

    async def start(self) -> None:
        """Returns once requests are answered."""
        ...

    async def stop(self, grace_seconds: float) -> None:
        """Fails /readyz, closes the listeners, answers what is under way for so long at most."""
        ...

    async def admin(self, command: dict[str, Any]) -> dict[str, Any]:
        """Answers an `admin_messages.Request`."""
        ...


class Handover(BaseModel):
    """What a gateway process is given.

    Attributes:
        settings: how it is set up; with ports that are numbers if there are several workers.
        folder: of the gateway's sockets and its board.
        worker: its number, from 0.
        workers: how many there are; more than one agree by the board in the folder.
        parent: process without which it must not live on; 0 for none.
        server: class of what is served, `module:name`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    settings: GatewaySettings
    folder: str
    worker: int = 0
    workers: int = 1
    parent: int = 0
    server: str = SERVER


def run_worker(handover: Handover, tell: Tell) -> int:
    """Serves until a signal comes; returns the exit code.

    Args:
        handover: what to serve.
        tell: hears of `ready`, with the first statistics, and of `draining`.

    Raises:
        EncoreError: it cannot be served.
    """
    _allow_connections()
    loop = uvloop.new_event_loop()
    try:
        asyncio.set_event_loop(loop)
        is_clean = loop.run_until_complete(_serve(handover, tell))
        if not is_clean:
            _leave_now(0)
        loop.run_until_complete(loop.shutdown_asyncgens())
        return 0
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def _allow_connections() -> None:
    """Takes as many open files as this user may have: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < _FEW_FILES:
        log.warning("few connections possible open_files=%d (raise it by ulimit -Hn)", hard)


async def _serve(handover: Handover, tell: Tell) -> bool:
    """Serves; False if something is still under way that must not keep the process."""
    stop = asyncio.Event()
    folder, settings = Path(handover.folder), handover.settings
    with _signals(stop):
        server = _make(handover)
        if not await _started(server, stop):
            return False

        async def handle(request: dict[str, Any]) -> dict[str, Any]:
            if request["command"] == "drain":
                stop.set()
                return {"worker": handover.worker}
            return await server.admin(request)

        admin = AdminServer(folder, handover.worker, handle)
        try:
            await _listen(admin)
            tell("ready", await server.admin({"command": "stats"}))
            await stop.wait()
        finally:
            tell("draining", {})
            is_clean = await _drain(server, settings)
            await admin.stop()
        return is_clean


def _make(handover: Handover) -> Server:
    board = None
    if handover.workers > 1:
        board = RoutingBoard(Path(handover.folder) / BOARD, handover.worker)
    module, _, name = handover.server.partition(":")
    kind = getattr(importlib.import_module(module), name)
    server: Server = kind(handover.settings, board=board, worker=handover.worker)
    return server


async def _started(server: Server, stop: asyncio.Event) -> bool:
    """Starts; False if a signal came first."""
    starting = asyncio.ensure_future(server.start())
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            log.info("ended before it was ready")
            starting.cancel()
            return False
        if starting.exception() is not None:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(server.stop(0.0), _CLOSING_SECONDS)
        starting.result()
        return True
    finally:
        stopping.cancel()


async def _listen(admin: AdminServer) -> None:
    """A gateway that `encore cache` cannot reach serves all the same."""
    try:
        await admin.start()
    except OSError as error:
        log.warning("no admin socket path=%s reason=%r", admin.path, str(error))


async def _drain(server: Server, settings: GatewaySettings) -> bool:
    """Ends in the order that loses no request; False if it takes too long."""
    log.info("draining seconds=%g", settings.drain_seconds)
    longest = settings.lame_duck_seconds + settings.drain_seconds + _CLOSING_SECONDS
    try:
        await asyncio.wait_for(server.stop(settings.drain_seconds), longest)
    except asyncio.TimeoutError:
        log.warning("not closed in time seconds=%g", longest)
        return False
    log.info("drained")
    return True


@contextlib.contextmanager
def _signals(stop: asyncio.Event) -> Any:
    """The first signal sets `stop`; the next one ends the process as if nobody listened."""
    loop = asyncio.get_running_loop()

    def first(received: signal.Signals) -> None:
        log.info("told to end signal=%s", received.name)
        for each in SIGNALS:
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)
        stop.set()

    before = {each: signal.getsignal(each) for each in SIGNALS}
    for each in SIGNALS:
        loop.add_signal_handler(each, first, each)
    try:
        yield
    finally:
        for each, handler in before.items():
            loop.remove_signal_handler(each)
            signal.signal(each, handler)


def _leave_now(code: int) -> None:
    """Ends without waiting for threads that load or run models."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _die_with(parent: int) -> None:
    """Has the kernel end this process when its supervisor ends, however that ends."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        log.warning("prctl failed errno=%d", ctypes.get_errno())
    if os.getppid() != parent:
        os._exit(1)  # it ended before we asked


def main(arguments: list[str]) -> int:
    """Reads the handover and serves; returns the exit code."""
    with os.fdopen(int(arguments[0]), "rb") as source:
        handover = Handover.model_validate_json(source.read())
    if handover.parent:
        _die_with(handover.parent)
    serve_log.configure(handover.settings.log_level, worker=handover.worker)
    with os.fdopen(int(arguments[1]), "w", encoding="utf-8", buffering=1) as events:

        def tell(kind: str, body: dict[str, Any]) -> None:
            # A supervisor that is gone hears nothing, and the kernel ends this process.
            with contextlib.suppress(BrokenPipeError):
                events.write(json.dumps({"kind": kind, **body}) + "\n")

        try:
            return run_worker(handover, tell)
        except EncoreError as error:
            tell("failed", {"error": str(error), "exit_code": error.exit_code})
            return error.exit_code
        except Exception as error:
            log.exception("worker failed")
            tell("failed", {"error": f"{type(error).__name__}: {error}", "exit_code": 1})
            return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
