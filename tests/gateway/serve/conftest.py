"""A gateway without TensorFlow: what a worker serves is a small HTTP server of the test's own."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tfx_encore.gateway.settings import GatewaySettings

_FAKE = '''
import asyncio, os, signal, time
from types import SimpleNamespace

from tfx_encore.gateway.errors import ServingError
from tfx_encore.gateway.routing import Router, Routes, Target
from tfx_encore.schemas.errors import ConfigError


class FakeServer:
    """Serves the version that a file names: GET / says `version pid`; /slow takes a while."""

    def __init__(self, settings, *, board, worker):
        self.settings, self.board, self.worker = settings, board, worker
        self.rest_port = self.grpc_port = 0
        self.ready, self.under_way, self.polls = True, set(), None
        self.router = Router(board.behind, board.catch_up) if board else Router()
        if board:
            board.attach(self.router.publish)

    async def start(self):
        trouble = os.environ.get("FAKE_TROUBLE", "")
        if trouble == f"refuse-{self.worker}":
            raise ConfigError("the model cannot be served", file="models.config")
        if trouble == f"die-{self.worker}":
            os.kill(os.getpid(), signal.SIGKILL)
        if trouble == "slow-start":
            await asyncio.sleep(60)
        self.served = None
        if self.board:
            self.agreeing = asyncio.create_task(self.board.run())
        await self.look()
        if self.board:
            await self.board.admitted()
        self.polls = asyncio.create_task(self.poll())
        self.listener = await asyncio.start_server(
            self.answer, "127.0.0.1", self.settings.rest_api_port, reuse_port=True
        )
        self.rest_port = self.listener.sockets[0].getsockname()[1]

    async def look(self):
        version = int(open(os.path.join(self.settings.releases, "version")).read())
        if version != self.served:
            self.served = version
            loaded = SimpleNamespace(version=version, fingerprint=str(version))
            routes = Routes({version: loaded}, {"stable": version})
            if self.board:
                await self.board.agree("taxi", routes)
            self.router.publish("taxi", routes)

    async def poll(self):
        while True:
            await asyncio.sleep(0.02 * (1 + self.worker))
            await self.look()

    async def answer(self, reader, writer):
        task = asyncio.current_task()
        self.under_way.add(task)
        try:
            path = (await reader.readuntil(b"\\r\\n\\r\\n")).split()[1]
            if path == b"/slow":
                with open(os.path.join(self.settings.releases, "slow"), "a") as slow:
                    slow.write("1")
                await asyncio.sleep(1.0)
            if path == b"/hang":
                time.sleep(600)
            if path == b"/readyz":
                body = b"ready" if self.ready else b"draining"
            else:
                version = self.router.pointer(Target("taxi", label="stable")).target.version
                body = f"{version} {os.getpid()}".encode()
            head = b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n"
            writer.write(head % len(body) + body)
            await writer.drain()
        except (ServingError, asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()
            self.under_way.discard(task)

    async def stop(self, grace_seconds):
        self.ready = False
        await asyncio.sleep(self.settings.lame_duck_seconds)
        if self.polls:
            self.polls.cancel()
            self.listener.close()
        if self.under_way:
            await asyncio.wait(self.under_way, timeout=grace_seconds)
        if self.board:
            self.agreeing.cancel()
            self.board.close()

    async def admin(self, command):
        if command["command"] == "reload":
            raise ConfigError("nothing to reload")
        return {
            "worker": self.worker, "pid": os.getpid(), "is_ready": self.ready,
            "rest_port": self.rest_port, "grpc_port": None, "consumer": "gateway@here",
            "models": [{"model": "taxi", "hits": {"raw": 2}, "misses": 1, "generation": 3,
                        "versions": [{"version": self.served, "fingerprint": "sha256:" + "0" * 64,
                                      "labels": ["stable"], "warmed": 7,
                                      "caching": {"serving_default": "rows: certified"}}],
                        "tiers": [{"tier": "memory", "entries": 5, "bytes": 500}]}],
        }
'''

_RUN = """
import json, sys
from pathlib import Path
from tfx_encore.gateway import serve_log
from tfx_encore.gateway.runtime_folder import held_folder
from tfx_encore.gateway.settings import GatewaySettings
from tfx_encore.gateway.supervisor import RestartPolicy, Supervisor
from tfx_encore.gateway.worker_main import Handover, run_worker
from tfx_encore.schemas.errors import EncoreError

settings = GatewaySettings.model_validate_json(sys.argv[1])
serve_log.configure("info")
say = lambda stats: print(json.dumps(stats), flush=True)
server = "fake_gateway:FakeServer"
try:
    with held_folder(settings.cache_dir) as folder:
        if settings.workers > 1:
            restarts = RestartPolicy(first_seconds=0.05, longest_seconds=0.2)
            code = Supervisor(
                settings, folder, on_ready=say, server=server, restarts=restarts
            ).run()
        else:
            handover = Handover(settings=settings, folder=str(folder), server=server)
            code = run_worker(handover, lambda kind, body: kind == "ready" and say([body]))
except EncoreError as error:
    print(error, file=sys.stderr)
    code = error.exit_code
sys.exit(code)
"""


@dataclass
class Running:
    """A gateway in a process of its own."""

    process: subprocess.Popen[str]
    folder: Path
    ready: list[dict[str, Any]]

    @property
    def port(self) -> int:
        return int(self.ready[0]["rest_port"])

    @property
    def run_folder(self) -> Path:
        return self.folder / "cache" / "run"

    def get(self, path: str = "/") -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def slow(self) -> str:
        """As many characters as slow requests have arrived."""
        file = self.folder / "slow"
        return file.read_text() if file.exists() else ""

    def push(self, version: int) -> None:
        beside = self.folder / "version.next"
        beside.write_text(str(version))
        beside.replace(self.folder / "version")

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        return self.process.wait(timeout=40)


def until(what: Callable[[], Any], seconds: float = 30.0) -> Any:
    """Waits until something holds, and returns it."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it did not come to hold"
        time.sleep(0.02)
    return found


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.fixture(name="until")
def until_fixture() -> Callable[..., Any]:
    return until


@pytest.fixture(name="is_alive")
def is_alive_fixture() -> Callable[[int], bool]:
    return is_alive


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose name leaves room for a socket's."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def fake_folder(tmp_path: Path) -> Path:
    (tmp_path / "fake_gateway.py").write_text(_FAKE)
    (tmp_path / "version").write_text("1")
    return tmp_path


@pytest.fixture
def launch(fake_folder: Path) -> Iterator[Callable[..., Running]]:
    """Starts a gateway; with `wait=False` it does not wait until it is ready."""
    started: list[subprocess.Popen[str]] = []
    pids: set[int] = set()

    def start(*, wait: bool = True, trouble: str = "", **settings: Any) -> Running:
        given = {"releases": str(fake_folder), "port": None, "rest_api_port": 0}
        given |= {"cache_dir": str(fake_folder / "cache"), "host": "127.0.0.1", **settings}
        process = subprocess.Popen(
            [sys.executable, "-c", _RUN, GatewaySettings(**given).model_dump_json()],
            stdout=subprocess.PIPE,
            stderr=(fake_folder / "log").open("w"),
            text=True,
            cwd=fake_folder,
            env={
                **os.environ,
                "FAKE_TROUBLE": trouble,
                "PYTHONPATH": f"{fake_folder}:{os.environ.get('PYTHONPATH', '')}",
            },
        )
        started.append(process)
        line = process.stdout.readline() if wait else ""
        assert line or not wait, (fake_folder / "log").read_text()
        running = Running(process, fake_folder, json.loads(line) if line else [])
        pids.update(each["pid"] for each in running.ready)
        return running

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()
    for pid in pids:
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)
