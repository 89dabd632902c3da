"""A million requests from 16 threads while 20 versions are pushed: how many are stale, or fail.

How a stale answer is found: the model's answer is its row plus its version, so that each answer
says which version computed it. Before a thread sends a request it notes the highest version that
any thread of any client has received so far (shared memory). An answer of a lower version was given
after a later version had answered somebody, so it is stale. Labels and versions in the answer's
headers must agree with the answer itself.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

from gateway_process import Gateway, gateway

CLIENTS = 2
THREADS = 8
ROWS = 2_000
STEP = 1_000_000  # the answer of row r by version v is r + v * STEP

_MODEL = """
import sys, tensorflow as tf
folder, versions = sys.argv[1], int(sys.argv[2])
for version in range(1, versions + 1):
    class Model(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, name="row")])
        def serve(self, row):
            return {"answer": row + version * int(sys.argv[3])}
    model = Model()
    tf.saved_model.save(model, f"{folder}/{version}", signatures={"serving_default": model.serve})
"""


class _Tally:
    """What one client process has seen."""

    def __init__(self) -> None:
        self.requests = self.stale = self.failed = self.torn = self.hits = 0
        self.versions: set[int] = set()
        self.problems: list[str] = []

    def problem(self, text: str) -> None:
        """Keeps the first few."""
        if len(self.problems) < 5:
            self.problems.append(text)


def run(quick: bool) -> dict[str, Any]:
    """Measures with one worker and with two."""
    requests = 40_000 if quick else 1_000_000
    pushes = 5 if quick else 20
    rows = [_measure(workers, requests, pushes) for workers in (1, 2)]
    return {
        "title": "Requests while versions are pushed",
        "rows": rows,
        "notes": [
            f"{CLIENTS * THREADS} threads in {CLIENTS} processes, keep-alive, REST, {ROWS:,} "
            "distinct rows; a push whenever an equal share of the requests has been answered.",
            "Stale: an answer of a version lower than one that any thread had received before the "
            "request was sent. Torn: an answer of another version than its own header says.",
        ],
    }


def _measure(workers: int, requests: int, pushes: int) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="encore-swaps-"))
    try:
        _save_models(folder / "models", pushes + 1)
        push = _pusher(folder)
        push(1)
        flags = [f"--releases={folder / 'releases'}", f"--workers={workers}", "--raw_cache_bytes"]
        flags[-1] += "=67108864"
        with gateway([*flags, f"--cache_dir={folder / 'cache'}"], folder / "log") as server:
            return _load(server, workers, requests, pushes, push)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _save_models(folder: Path, versions: int) -> None:
    environ = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", _MODEL, str(folder), str(versions), str(STEP)]
    subprocess.run(command, check=True, env=environ, capture_output=True)


def _pusher(folder: Path) -> Any:
    from tfx_encore.metadata.release_push import PushRequest
    from tfx_encore.metadata.releases import ReleaseDirectory
    from tfx_encore.schemas.release import Certificate

    releases = ReleaseDirectory(folder / "releases", "swap")
    certificate = Certificate("serving_default", True, True, 256, "integers", ("row",))

    def push(version: int) -> None:
        source = folder / "models" / str(version)
        request = PushRequest(source, certificate=certificate, keep=50)
        assert releases.push(request).version == version

    return push


def _load(server: Gateway, workers: int, requests: int, pushes: int, push: Any) -> dict[str, Any]:
    context = multiprocessing.get_context("fork")
    highest, done = context.Value("q", 1), context.Value("q", 0)
    results = context.Queue()
    begun = time.monotonic()
    share = requests // (CLIENTS * THREADS)
    clients = [
        context.Process(target=_client, args=(server.port, share, highest, done, results, seed))
        for seed in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    for number in range(pushes):
        while done.value < requests * (number + 0.5) / pushes and _alive(clients):
            time.sleep(0.002)
        push(number + 2)
    tallies = [results.get(timeout=1200) for _ in clients]
    for client in clients:
        client.join(60)
    seconds = time.monotonic() - begun
    seen = set().union(*(tally["versions"] for tally in tallies))
    problems = [problem for tally in tallies for problem in tally["problems"]]
    row = {
        "workers": workers,
        "pushes": pushes,
        "versions seen in answers": len(seen),
        **{
            name: sum(tally[name] for tally in tallies)
            for name in ("requests", "stale", "failed", "torn")
        },
        "hit rate": f"{sum(t['hits'] for t in tallies) / requests:.1%}",
        "requests a second": round(requests / seconds),
    }
    return row | ({"problems": "; ".join(problems)} if problems else {})


def _alive(clients: list[Any]) -> bool:
    return any(client.is_alive() for client in clients)


def _client(
    port: int, share: int, highest: Synchronized, done: Synchronized, results: Any, seed: int
) -> None:
    tally = _Tally()
    threads = [
        threading.Thread(target=_thread, args=(port, share, highest, done, tally, seed * 100 + at))
        for at in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put(vars(tally))


def _thread(
    port: int, share: int, highest: Synchronized, done: Synchronized, tally: _Tally, seed: int
) -> None:
    chance = random.Random(seed)
    bodies = [
        json.dumps({"instances": [row]}, separators=(",", ":")).encode() for row in range(ROWS)
    ]
    head = b"POST /v1/models/swap:predict HTTP/1.1\r\nHost: encore\r\nContent-Length: %d\r\n\r\n"
    wire = [head % len(body) + body for body in bodies]
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number in range(share):
            row = min(int(ROWS * chance.random() ** 3), ROWS - 1)
            floor = highest.value
            connection.sendall(wire[row])
            status, headers, body = _answer(connection)
            _judge(tally, row, floor, highest, status, headers, body)
            if number % 64 == 63:
                with done.get_lock():
                    done.value += 64


def _answer(connection: socket.socket) -> tuple[int, dict[bytes, bytes], bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            raise ConnectionError("closed by the server")
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    headers = {
        name.lower(): value.strip()
        for name, _, value in (line.partition(b":") for line in lines[1:])
    }
    while len(body) < int(headers[b"content-length"]):
        body += connection.recv(65536)
    return int(lines[0].split()[1]), headers, body


def _judge(
    tally: _Tally,
    row: int,
    floor: int,
    highest: Synchronized,
    status: int,
    headers: dict[bytes, bytes],
    body: bytes,
) -> None:
    tally.requests += 1
    if status != 200:
        tally.failed += 1
        tally.problem(f"{status} {body[:100]!r}")
        return
    version, answered = divmod(json.loads(body)["predictions"][0], STEP)
    if answered != row or int(headers[b"x-encore-version"]) != version:
        tally.torn += 1
        tally.problem(f"row {row}: {body!r} with header {headers[b'x-encore-version']!r}")
    if version < floor:
        tally.stale += 1
        tally.problem(f"version {version} after version {floor} had answered")
    tally.hits += headers[b"x-encore-cache"] == b"hit"
    tally.versions.add(version)
    if version > highest.value:
        with highest.get_lock():
            highest.value = max(highest.value, version)


if __name__ == "__main__":
    print(json.dumps(run("--quick" in sys.argv), indent=1))
