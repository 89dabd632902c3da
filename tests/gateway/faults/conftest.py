"""The real command, real SavedModels, real Redis, and a client that judges every answer.

The answer of row r by version v is r + v * STEP, so that an answer says itself whether it is right
and which version computed it.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families
from typing_extensions import Self

from tfx_encore.metadata.release_push import PushRequest
from tfx_encore.metadata.releases import ReleaseDirectory
from tfx_encore.schemas.release import Certificate

STEP = 1_000_000
VERSIONS = 21
LONGEST_SECONDS = 90.0  # that anything may take; far more than it does

_SAVE = """
import sys, tensorflow as tf
folder, versions, step = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

class Model(tf.Module):
    def __init__(self, version):
        super().__init__()
        self.offset = tf.Variable(tf.fill([1000], tf.constant(version * step, tf.int64)))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, name="row")])
    def serve(self, row):
        return {"answer": row + self.offset[0]}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, name="row")])
    def slow(self, row):
        turns = tf.while_loop(
            lambda turn, _: turn < 60_000, lambda turn, sum: (turn + 1, sum + 1), (0, 0)
        )[1]
        return {"answer": row + self.offset[0] + tf.cast(turns - 60_000, tf.int64)}

for version in range(1, versions + 1):
    model = Model(version)
    tf.saved_model.save(model, f"{folder}/{version}", {"serving_default": model.serve})
model = Model(1)
signatures = {"serving_default": model.serve, "slow": model.slow}
tf.saved_model.save(model, f"{folder}/slow", signatures)
"""


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of SavedModels: `1` to `21`, and `slow`: version 1 with a signature that is slow."""
    folder = tmp_path_factory.mktemp("models")
    command = [sys.executable, "-c", _SAVE, str(folder), str(VERSIONS), str(STEP)]
    subprocess.run(command, check=True, timeout=300, capture_output=True)
    return folder


def wait_for(condition: Callable[[], Any], what: str, seconds: float = LONGEST_SECONDS) -> Any:
    """Returns what the condition returns once that is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what}: not in {seconds:g} s")


@pytest.fixture(scope="session")
def wait() -> Callable[..., Any]:
    """As `wait_for`."""
    return wait_for


# --- releases ------------------------------------------------------------------------------------


class Releases:
    """Release directories below one root, filled with the SavedModels by their number."""

    def __init__(self, root: Path, models: Path) -> None:
        self.root = root
        self._models = models

    def directory(self, model: str = "row") -> ReleaseDirectory:
        return ReleaseDirectory(self.root, model)

    def push(self, version: int, model: str = "row", *, saved_model: Path | None = None) -> None:
        """Makes a version live; it must be the next one."""
        certificate = Certificate("serving_default", True, True, 256, "integers", ("row",))
        source = saved_model or self._models / str(version)
        request = PushRequest(source, certificate=certificate, keep=50)
        assert self.directory(model).push(request).version == version


@pytest.fixture(scope="module")
def make_releases(
    models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Releases]:
    """Makes a root of releases, with version 1 of each model named."""

    def make(*names: str) -> Releases:
        releases = Releases(tmp_path_factory.mktemp("releases"), models)
        for name in names or ("row",):
            releases.push(1, name)
        return releases

    return make


# --- the gateway ---------------------------------------------------------------------------------


class Reply(NamedTuple):
    """An answer over HTTP."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def cache(self) -> str:
        """hit, miss, partial or off."""
        return self.headers.get("x-encore-cache", "")

    def json(self) -> Any:
        return json.loads(self.body)


class Gateway:
    """`encore serve` as a process of its own."""

    def __init__(self, folder: Path, flags: Sequence[str]) -> None:
        self.log = folder / "log"
        self.flags = list(flags)
        self.port = self.grpc_port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Gateway:
        """Returns once it listens; on other ports than before."""
        command = [sys.executable, "-m", "tfx_encore.pipeline.cli", "serve", "--host=127.0.0.1"]
        command += ["--rest_api_port=auto", "--port=auto", *self.flags]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.log.parent,
                start_new_session=True,
            )
        wait_for(self._announced, f"start of {self.flags}; see {self.log}")
        return self

    def _announced(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()[-5000:]
        lines = self.log.read_text().splitlines()
        for line in lines:
            if line.startswith("REST "):
                self.port = int(line.rpartition("127.0.0.1:")[2].partition("/")[0])
            elif line.startswith("gRPC "):
                self.grpc_port = int(line.rpartition(":")[2])
        return any(line.endswith("Ctrl-C ends it") for line in lines)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def kill(self) -> None:
        """Ends it as the kernel would, without warning."""
        self.process.kill()
        self.process.wait(LONGEST_SECONDS)

    def terminate(self) -> int:
        """Asks it to end; returns its exit code."""
        self.process.terminate()
        return self.process.wait(LONGEST_SECONDS)

    def stop(self) -> None:
        """Ends it, whatever it does."""
        if self._process is None or self._process.poll() is not None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.terminate()
            self._process.wait(15)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(15)

    def workers(self) -> list[int]:
        """The numbers of its processes below the first."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        pids = [int(pid) for pid in children.read_text().split()]
        return [pid for pid in pids if b"worker_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def ask(self, path: str, body: bytes | None = None, seconds: float = 60.0) -> Reply:
        """Sends a GET, or a POST of a body, on a connection of its own."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body)
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:
                return Reply(answer.status, _lower(answer.headers), answer.read())
        except urllib.error.HTTPError as error:
            return Reply(error.code, _lower(error.headers), error.read())

    def predict(self, *rows: int, model: str = "row") -> Reply:
        """Asks for rows."""
        body = json.dumps({"instances": list(rows)}).encode()
        return self.ask(f"/v1/models/{model}:predict", body)

    def states(self, model: str = "row") -> dict[int, tuple[str, str, str]]:
        """Version -> state, code and message, as its status says."""
        found = self.ask(f"/v1/models/{model}").json()["model_version_status"]
        return {
            int(each["version"]): (
                each["state"],
                each["status"]["error_code"],
                each["status"]["error_message"],
            )
            for each in found
        }

    def count(self, name: str, **labels: str) -> float:
        """The sum of a metric over the samples that have these labels."""
        text = self.ask("/metrics").body.decode()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


@contextlib.contextmanager
def _gateways(factory: pytest.TempPathFactory) -> Iterator[Callable[..., Gateway]]:
    gateways: list[Gateway] = []

    def start(*flags: str, **default: Any) -> Gateway:
        folder = factory.mktemp("gateway")
        config = folder / "cache.json"
        config.write_text(json.dumps({"default": default}))
        gateways.append(Gateway(folder, [*flags, f"--cache_config={config}"]))
        return gateways[-1].start()

    try:
        yield start
    finally:
        for gateway in gateways:
            gateway.stop()


@pytest.fixture(scope="module")
def start_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Gateway]]:
    """Starts gateways with flags, and a `default` of --cache_config; stopped after the module."""
    with _gateways(tmp_path_factory) as start:
        yield start


class Shared(NamedTuple):
    """One gateway for the tests that leave it as it was, with a model for each subject."""

    gateway: Gateway
    releases: Releases
    request_log: Path
    cache_dir: Path


@pytest.fixture(scope="session")
def shared(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    releases = Releases(tmp_path_factory.mktemp("releases"), models)
    for model in ("row", "ledger", "journal", "purged", "counted", "swapped", "rolled", "damaged"):
        releases.push(1, model)
    log, cache_dir = tmp_path_factory.mktemp("log"), tmp_path_factory.mktemp("cache")
    flags = [f"--releases={releases.root}", f"--cache_dir={cache_dir}", f"--request_log_dir={log}"]
    flags += ["--request_log_rate=1", "--request_log_max_per_minute=0", "--consumer=shared"]
    with _gateways(tmp_path_factory) as start:
        yield Shared(start(*flags, policy={"max_ledger_age_seconds": 3}), releases, log, cache_dir)


# --- load ----------------------------------------------------------------------------------------


class Load:
    """Threads with connections that are kept, asking for rows until the block ends.

    Args:
        gateway: is asked; it may come back on another port.
        model: its name.
        threads: how many.
        rows: how many distinct ones.
        retry: a connection that breaks is no failure: it is made anew, and the request sent again.
        only_newer: an answer of a lower version than one that had been received by anybody before
            the request was sent is stale.
        pause_seconds: between two requests of a thread.
    """

    def __init__(
        self,
        gateway: Gateway,
        *,
        model: str = "row",
        threads: int = 4,
        rows: int = 300,
        retry: bool = False,
        only_newer: bool = True,
        pause_seconds: float = 0.0,
    ) -> None:
        self._gateway = gateway
        self._path = f"/v1/models/{model}:predict".encode()
        self._rows = rows
        self._retry = retry
        self._only_newer = only_newer
        self._pause = pause_seconds
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(at,)) for at in range(threads)]
        self.requests = self.broken = 0
        self.highest = 0
        self.problems: list[str] = []
        self.statuses: Counter[str] = Counter()
        self.versions: Counter[int] = Counter()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(LONGEST_SECONDS)

    @property
    def hits(self) -> int:
        """Requests that were answered from the cache alone."""
        return self.statuses["hit"]

    def go_on(self, requests: int) -> None:
        """Returns once so many more requests have been answered."""
        end = self.requests + requests
        wait_for(lambda: self.requests >= end or not self._is_alive(), f"{requests} answers")

    def check(self) -> None:
        """Fails unless every answer was right."""
        assert self.problems == []
        assert self.requests > 0

    def _is_alive(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def _run(self, seed: int) -> None:
        chance = random.Random(seed)
        connection: socket.socket | None = None
        while not self._stop.is_set():
            # Many ask for the same few; now and then for several at once.
            rows = [int(self._rows * chance.random() ** 2) for _ in range(chance.choice((1, 1, 3)))]
            try:
                connection = self._exchange(connection, rows)
            except OSError as error:
                if connection is not None:
                    connection.close()
                connection = None
                self.broken += 1
                if not self._retry:
                    self._problem(f"connection: {error!r}")
                    return
                time.sleep(0.02)
            if self._pause:
                time.sleep(self._pause)
        if connection is not None:
            connection.close()

    def _exchange(self, connection: socket.socket | None, rows: list[int]) -> socket.socket:
        if connection is None:
            connection = socket.create_connection(("127.0.0.1", self._gateway.port), 30)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        floor = self.highest
        body = json.dumps({"instances": rows}, separators=(",", ":")).encode()
        try:
            connection.sendall(
                b"POST %b HTTP/1.1\r\nHost: encore\r\nContent-Length: %d\r\n\r\n%b"
                % (self._path, len(body), body)
            )
            reply = read_reply(connection)
        except BaseException:
            connection.close()
            raise
        self._judge(rows, floor, reply)
        return connection

    def _judge(self, rows: list[int], floor: int, reply: Reply) -> None:
        with self._lock:
            self.requests += 1
            self.statuses[reply.cache] += 1
        if reply.status != 200:
            self._problem(f"rows {rows}: {reply.status} {reply.body[:200]!r}")
            return
        version = int(reply.headers["x-encore-version"])
        if reply.json()["predictions"] != [row + version * STEP for row in rows]:
            self._problem(f"rows {rows}, version {version}: {reply.body[:200]!r}")
        if self._only_newer and version < floor:
            self._problem(f"rows {rows}: version {version} after version {floor} had answered")
        with self._lock:
            self.versions[version] += 1
            self.highest = max(self.highest, version)

    def _problem(self, text: str) -> None:
        if len(self.problems) < 5:
            self.problems.append(text)


def read_reply(connection: socket.socket) -> Reply:
    """Reads one answer from a connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _some(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    while len(body) < int(headers["content-length"]):
        body += _some(connection)
    return Reply(int(first.split()[1]), headers, body)


def _some(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise ConnectionError("closed by the server")
    return data


@pytest.fixture(scope="session")
def load() -> type[Load]:
    """The client; see `Load`."""
    return Load


@pytest.fixture(scope="session")
def reply_of() -> Callable[[socket.socket], Reply]:
    """As `read_reply`."""
    return read_reply


# --- Redis ---------------------------------------------------------------------------------------


class Redis:
    """A redis-server on loopback."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def client(self) -> redis.Redis:
        """A client beside the gateway's."""
        return redis.Redis(port=self.port, socket_timeout=10, protocol=2)

    def start(self) -> None:
        """Starts it, empty, on the same port as before."""
        program = shutil.which("redis-server")
        assert program is not None
        command = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--dir", str(self._folder)], stdout=log, stderr=log
            )
        wait_for(self._answers, "start of redis-server", 20)

    def _answers(self) -> bool:
        with contextlib.suppress(redis.RedisError):
            return bool(self.client.ping())
        return False

    def kill(self) -> None:
        """Ends it as the kernel would; harmless when it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(20)
            self._process = None

    def pause(self) -> None:
        """Stops it without closing a connection."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    server = Redis(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()
