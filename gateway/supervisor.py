"""Several worker processes behind the same ports: started, replaced, ended together.

Workers are fresh processes, never forks: TensorFlow's threads do not survive one. They share their
ports by SO_REUSEPORT, the LMDB and Redis tiers, and a routing board. The supervisor loads no model.

what happens                                     what the supervisor does
a worker fails before all were ready once        ends all; the failure is the gateway's
a worker dies later                              starts another after a pause that doubles
a worker's event loop stands still too long      kills it; then as above
a worker ends in order (`encore cache` drain)    ends all in order
a signal                                         passes SIGTERM on; kills who still loads at once,
                                                 and what is left in the end
a second signal                                  kills all
the supervisor itself is killed                  the kernel kills the workers
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tfx_encore.gateway.board_file import Board
from tfx_encore.gateway.ports import held_port
from tfx_encore.gateway.settings import GatewaySettings
from tfx_encore.gateway.worker_main import BOARD, SERVER, SIGNALS, Handover
from tfx_encore.schemas.errors import EncoreError

log = logging.getLogger("tfx_encore.gateway")

INTERRUPTED = 130
_LINE_BYTES = 2**20
_LOOK_SECONDS = 1.0
_KILL_AFTER_SECONDS = 10.0


class RestartPolicy(NamedTuple):
    """When a worker that died is started again.

    Attributes:
        first_seconds: pause after its first death.
        longest_seconds: pause after many.
        healthy_seconds: after a life of this length its deaths are counted anew.
    """

    first_seconds: float = 0.5
    longest_seconds: float = 30.0
    healthy_seconds: float = 60.0

    def pause(self, deaths: int) -> float:
        """Returns the pause in seconds after so many deaths in a row, from 1."""
        doubled = self.first_seconds * 2.0 ** min(deaths - 1, 30)
        return min(doubled, self.longest_seconds)


class WorkerFailedError(EncoreError):
    """A worker could not start to serve.

    Args:
        message: what it said of it.
        exit_code: its own.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        self.exit_code = exit_code
        super().__init__(message)


class _Worker:
    """One place for a worker, and the process that has it now."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: asyncio.subprocess.Process | None = None
        self.stats: dict[str, Any] | None = None
        self.failure: dict[str, Any] | None = None
        self.is_loading = False
        self.deaths = 0

    def send(self, number: signal.Signals) -> None:
        """Sends a signal, if there is a process."""
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)


class Supervisor:
    """Runs `settings.workers` processes.

    Args:
        settings: of all of them.
        folder: of the gateway's sockets and board; held by the caller.
        on_ready: told each worker's statistics once all of them are ready the first time.
        server: class of what each serves, `module:name`.
        restarts: when a worker that died is replaced.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        folder: Path,
        *,
        on_ready: Callable[[list[dict[str, Any]]], None] = lambda _stats: None,
        server: str = SERVER,
        restarts: RestartPolicy | None = None,
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._on_ready = on_ready
        self._server = server
        self._restarts = restarts or RestartPolicy()
        self._workers = [_Worker(number) for number in range(settings.workers)]
        self._was_ready = False
        self._failure: WorkerFailedError | None = None

    def run(self) -> int:
        """Serves until told to end; returns the exit code.

        Raises:
            WorkerFailedError: a worker could not start.
            ConfigError: a port cannot be listened on.
        """
        Board.create(self._folder / BOARD)
        with contextlib.ExitStack() as held:
            self._settings = self._hold_ports(held)
            return asyncio.run(self._run())

    def _hold_ports(self, held: contextlib.ExitStack) -> GatewaySettings:
        settings = self._settings
        ports = {
            flag: held.enter_context(held_port(settings.host, number, f"--{flag}"))
            for flag in ("port", "rest_api_port")
            if (number := getattr(settings, flag)) is not None
        }
        return settings.model_copy(update=ports)

    async def _run(self) -> int:
        self._stop, self._kill = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        for each in SIGNALS:
            loop.add_signal_handler(each, self._signalled, each)
        keepers = [asyncio.create_task(self._keep(worker)) for worker in self._workers]
        watch = asyncio.create_task(self._watch())
        try:
            await self._stop.wait()
            return await self._end(keepers)
        finally:
            watch.cancel()
            for worker in self._workers:
                worker.send(signal.SIGKILL)
            await asyncio.gather(*keepers, watch, return_exceptions=True)
            if self._failure is not None:
                raise self._failure

    def _signalled(self, received: signal.Signals) -> None:
        log.info("told to end signal=%s", received.name)
        if self._stop.is_set():
            self._kill.set()
        self._stop.set()

    async def _end(self, keepers: list[asyncio.Task[None]]) -> int:
        """Lets the workers drain; what is left in the end is killed by the caller."""
        for worker in self._workers:
            # One that is still loading has nothing to finish, and may not hear for a while.
            worker.send(signal.SIGKILL if worker.is_loading else signal.SIGTERM)
        settings = self._settings
        longest = settings.lame_duck_seconds + settings.drain_seconds + _KILL_AFTER_SECONDS
        ended = asyncio.ensure_future(asyncio.wait(keepers))
        killed = asyncio.ensure_future(self._kill.wait())
        both: set[asyncio.Future[Any]] = {ended, killed}
        await asyncio.wait(both, timeout=longest, return_when=asyncio.FIRST_COMPLETED)
        for each in both:
            each.cancel()
        return INTERRUPTED if self._kill.is_set() else 0

    # --- one worker ------------------------------------------------------------------------------

    async def _keep(self, worker: _Worker) -> None:
        """Keeps one place filled until the gateway ends."""
        while not self._stop.is_set():
            begun = time.monotonic()
            code = await self._live(worker)
            if self._stop.is_set():
                return
            if not self._was_ready:
                self._fail(worker, code)
                return
            if code == 0:
                log.info("a worker ended in order, so all do worker=%d", worker.number)
                self._stop.set()
                return
            await self._pause(worker, code, time.monotonic() - begun)

    async def _live(self, worker: _Worker) -> int:
        """Starts a process and hears it to its end; returns its exit code."""
        worker.stats = worker.failure = None
        worker.is_loading = True
        read_end, write_end = os.pipe()
        handover = self._hand_over(worker)
        try:
            worker.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tfx_encore.gateway.worker_main"),
                *(str(handover), str(write_end)),
                stdin=subprocess.DEVNULL,
                pass_fds=(handover, write_end),
                start_new_session=True,  # Ctrl-C reaches the supervisor only
            )
        finally:
            os.close(write_end)
            os.close(handover)
        if self._stop.is_set():  # told to end while it was started
            worker.send(signal.SIGKILL)
        await self._hear(worker, read_end)
        return await worker.process.wait()

    def _hand_over(self, worker: _Worker) -> int:
        """Returns a descriptor from which the worker reads its settings; they touch no disk."""
        handover = Handover(
            settings=self._settings,
            folder=str(self._folder),
            worker=worker.number,
            workers=len(self._workers),
            parent=os.getpid(),
            server=self._server,
        )
        descriptor = os.memfd_create("encore-settings")
        os.write(descriptor, handover.model_dump_json().encode())
        os.lseek(descriptor, 0, os.SEEK_SET)
        return descriptor

    async def _hear(self, worker: _Worker, read_end: int) -> None:
        reader = asyncio.StreamReader(limit=_LINE_BYTES)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb")
        )
        try:
            while line := await reader.readline():
                self._heard(worker, json.loads(line))
        finally:
            transport.close()

    def _heard(self, worker: _Worker, event: dict[str, Any]) -> None:
        kind = event.pop("kind")
        if kind == "ready":
            worker.stats, worker.is_loading = event, False
        elif kind == "failed":
            worker.failure = event
        elif kind == "draining":
            worker.stats = None
        stats = [each.stats for each in self._workers if each.stats is not None]
        if not self._was_ready and len(stats) == len(self._workers):
            self._was_ready = True
            self._on_ready(stats)

    def _fail(self, worker: _Worker, code: int) -> None:
        told = worker.failure or {}
        reason = told.get("error") or f"it {_how(code)} before it was ready"
        exit_code = told.get("exit_code") or 1
        if self._failure is None:
            self._failure = WorkerFailedError(f"worker {worker.number}: {reason}", exit_code)
        self._stop.set()

    async def _pause(self, worker: _Worker, code: int, lived: float) -> None:
        worker.deaths = 1 if lived > self._restarts.healthy_seconds else worker.deaths + 1
        seconds = self._restarts.pause(worker.deaths)
        log.error(
            "worker died worker=%d how=%r deaths=%d restart_in_seconds=%g",
            *(worker.number, _how(code), worker.deaths, seconds),
        )
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    async def _watch(self) -> None:
        """Kills workers whose event loop stands still: others may wait for what they hold."""
        board = Board(self._folder / BOARD)
        try:
            while True:
                await asyncio.sleep(min(_LOOK_SECONDS, self._settings.hang_seconds / 4))
                for worker in self._workers:
                    silent = time.monotonic() - board.heartbeats[worker.number]
                    if worker.stats is not None and silent > self._settings.hang_seconds:
                        log.error("worker hangs worker=%d seconds=%.0f", worker.number, silent)
                        worker.stats = None
                        worker.send(signal.SIGKILL)
        finally:
            board.close()


def _how(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    with contextlib.suppress(ValueError):
        return f"was killed by {signal.Signals(-code).name}"
    return f"was killed by signal {-code}"
