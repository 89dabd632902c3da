"""Real Redis servers on loopback, started for a test and stopped after it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from tfx_encore.cache.entry import Entry
from tfx_encore.cache.redis_config import RedisConfig

GUIDE = Path(__file__).parents[3] / "docs/redis.md"
START_SECONDS = 20.0


def _free_port() -> int:
    """A port that was free a moment ago, and whose cluster bus (10,000 above) fits too."""
    for _ in range(100):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = int(listener.getsockname()[1])
        if port < 55_000:
            return port
    raise RuntimeError("no free port below 55,000")


class RedisServer:
    """One redis-server process, its folder and its port."""

    def __init__(self, folder: Path, *options: str, sentinel: bool = False) -> None:
        self.port = _free_port()
        self.folder = folder
        self._options = options
        self._sentinel = sentinel
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def client(self) -> redis.Redis:
        """A client beside the one under test."""
        return redis.Redis(port=self.port, socket_timeout=5, protocol=2)

    def start(self, *options: str) -> RedisServer:
        program = shutil.which("redis-server") or "redis-server"
        command = [program, *(["sentinel.conf", "--sentinel"] if self._sentinel else [])]
        command += ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        if self._sentinel:
            (self.folder / "sentinel.conf").touch()  # Sentinels keep what they learn there
        else:
            command += ["--save", "", "--appendonly", "no"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *self._options, *options], cwd=self.folder, stdout=log, stderr=log
            )
        self._wait()
        return self

    def _wait(self) -> None:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            assert self._process is not None
            if self._process.poll() is not None:
                break
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                    return
            except OSError:
                time.sleep(0.01)
        raise RuntimeError(f"redis-server did not start: {(self.folder / 'log').read_text()}")

    def _signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Ends it as the kernel would; harmless when it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


StartServer = Callable[..., RedisServer]


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """Starts servers with options of redis.conf, as `start_server("--maxmemory", "2mb")`."""
    servers: list[RedisServer] = []

    def start(*options: str, sentinel: bool = False) -> RedisServer:
        folder = tmp_path / f"redis-{len(servers)}"
        servers.append(RedisServer(folder, *options, sentinel=sentinel))
        return servers[-1].start()

    yield start
    for server in servers:
        server.kill()


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server.start()
    server.kill()


@pytest.fixture
def server(shared_server: RedisServer) -> RedisServer:
    """A server that is empty, and that the test leaves as it found it."""
    shared_server.client.flushall()
    return shared_server


@pytest.fixture
def free_port() -> int:
    """A port that nothing listens on."""
    return _free_port()


@pytest.fixture
def guide_user() -> Callable[[str], list[str]]:
    """What follows ACL SETUSER in the guide, with a password filled in."""

    def words(password: str) -> list[str]:
        found = re.findall(r"^ACL SETUSER (.*)$", GUIDE.read_text(), re.MULTILINE)
        assert len(found) == 1
        return [word.replace("<password>", password) for word in found[0].split()]

    return words


@pytest.fixture
def config_of() -> Callable[..., RedisConfig]:
    """A configuration for a server; deadlines that a busy machine keeps."""

    def config(server: RedisServer, **changes: object) -> RedisConfig:
        plain = {"url": server.url, "read_deadline_ms": 2_000.0, "write_deadline_ms": 2_000.0}
        return RedisConfig.model_validate({**plain, **changes})

    return config


@pytest.fixture
def entry_of() -> Callable[..., Entry]:
    """The nth of some entries."""

    def entry(number: int, **changes: object) -> Entry:
        key = number.to_bytes(4, "big") * 8
        made = Entry(
            key, b"row %d" % number, b"answer %d" % number, "ab" * 32, "answer", 7, 1.5, 0.0, 250.0
        )
        return made._replace(**changes)

    return entry
