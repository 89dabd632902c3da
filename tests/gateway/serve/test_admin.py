"""The socket of `encore cache`: what it takes, what it refuses, who may ask; adding workers up."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tfx_encore.gateway import serve_log
from tfx_encore.gateway.admin import MAX_REQUEST_BYTES, AdminServer, NotRunningError, ask
from tfx_encore.gateway.admin_messages import (
    ModelStats,
    TierStats,
    VersionStats,
    WorkerStats,
    merge_models,
)
from tfx_encore.gateway.ports import check_port, check_socket_path, held_port
from tfx_encore.gateway.runtime_folder import held_folder, runtime_folder, sockets
from tfx_encore.schemas.errors import ConfigError, EncoreError, WorkspaceBusyError


async def _echo(request: dict[str, Any]) -> dict[str, Any]:
    return request


def _with_servers(folder: Path, handlers: list[Any], work: Callable[[], Any]) -> Any:
    """Runs blocking work beside a server for each handler."""

    async def scenario() -> Any:
        servers = [AdminServer(folder, n, each, seconds=0.5) for n, each in enumerate(handlers)]
        for server in servers:
            await server.start()
        try:
            return await asyncio.to_thread(work)
        finally:
            for server in servers:
                await server.stop()

    return asyncio.run(scenario())


def _raw(folder: Path, message: bytes) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(str(folder / "worker-0.sock"))
        with contextlib.suppress(BrokenPipeError):  # it has read enough
            connection.sendall(message)
        return json.loads(connection.makefile("rb").readline())


def test_any_worker_replies_for_all(tmp_path: Path) -> None:
    def named(name: str) -> Any:
        async def handle(_: dict[str, Any]) -> dict[str, Any]:
            return {"worker": name}

        return handle

    handlers = [named(name) for name in "abc"]
    replies = _with_servers(tmp_path, handlers, lambda: ask(tmp_path, {"command": "stats"}, 20))
    assert sorted(reply["worker"] for reply in replies) == ["a", "b", "c"]


def test_a_worker_that_is_gone_is_passed_over(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "worker-7.sock"))
    replies = _with_servers(tmp_path, [_echo], lambda: ask(tmp_path, {"command": "stats"}, 20))
    assert replies == [{"command": "stats"}]


def test_requests_get_their_defaults_before_they_are_handled(tmp_path: Path) -> None:
    replies = _with_servers(tmp_path, [_echo], lambda: ask(tmp_path, {"command": "verify"}, 20))
    assert replies == [{"command": "verify", "model": None, "rows": 100}]


@pytest.mark.parametrize(
    "message",
    [
        b"\n",
        b"[]\n",
        b"null\n",
        b"{}\n",
        b'{"command": "shutdown"}\n',
        b'{"command": "stats", "more": 1}\n',
        b'{"command": "verify", "rows": 0}\n',
        b'{"command": "verify", "rows": 1e9}\n',
        b"\xff\xfe\n",
        b"[" * 50_000 + b"\n",
    ],
)
def test_what_is_no_request_is_refused_in_one_line(tmp_path: Path, message: bytes) -> None:
    reply = _with_servers(tmp_path, [_echo], lambda: _raw(tmp_path, message))
    assert reply["ok"] is False
    assert reply["error"].startswith("not a request: ")
    assert "\n" not in reply["error"]


def test_a_request_has_a_bound(tmp_path: Path) -> None:
    message = b'{"command": "' + b"x" * 2 * MAX_REQUEST_BYTES + b'"}\n'
    reply = _with_servers(tmp_path, [_echo], lambda: _raw(tmp_path, message))
    assert reply == {"ok": False, "error": f"the request is longer than {MAX_REQUEST_BYTES} bytes"}


def _failing(error: Exception) -> Any:
    async def handle(_: dict[str, Any]) -> dict[str, Any]:
        raise error

    return handle


async def _forever(_: dict[str, Any]) -> dict[str, Any]:
    await asyncio.sleep(600)
    return {}


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (_failing(EncoreError("no model wine")), "the gateway: no model wine"),
        (_failing(KeyError("x")), "the gateway: KeyError: 'x'"),
        (_forever, "the gateway: not done within 0.5 s"),
    ],
)
def test_what_a_worker_cannot_do_is_an_error_for_the_caller(
    tmp_path: Path, handler: Any, message: str
) -> None:
    def work() -> None:
        with pytest.raises(EncoreError, match=message):
            ask(tmp_path, {"command": "stats"}, 20)

    _with_servers(tmp_path, [handler], work)


def test_the_socket_is_for_its_user_only_and_goes_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "worker-0.sock"
    mode = _with_servers(tmp_path, [_echo], lambda: path.stat().st_mode & 0o777)
    assert mode == 0o600
    assert not path.exists()


def test_no_gateway_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(NotRunningError, match="no gateway runs in"):
        ask(tmp_path, {"command": "stats"}, 1)


# --- adding up -----------------------------------------------------------------------------------


def _worker(number: int, **values: Any) -> WorkerStats:
    model = ModelStats(model="taxi", **values)
    return WorkerStats(worker=number, pid=number, is_ready=True, models=(model,))


def test_counts_are_summed_and_what_is_shared_is_counted_once() -> None:
    def tiers(entries: int, breaker: str) -> tuple[TierStats, ...]:
        return (
            TierStats(tier="memory", entries=entries, bytes=10 * entries),
            TierStats(tier="lmdb", is_shared=True, entries=100 + entries, breaker=breaker),
        )

    (model,) = merge_models(
        [
            _worker(0, hits={"raw": 1}, misses=2, tiers=tiers(5, "closed")),
            _worker(1, hits={"raw": 3, "negative": 1}, misses=4, tiers=tiers(7, "open")),
        ]
    )
    assert (model.hits, model.misses) == ({"raw": 4, "negative": 1}, 6)
    memory, lmdb = model.tiers
    assert (memory.entries, memory.bytes, memory.breaker) == (12, 120, "closed")
    assert (lmdb.entries, lmdb.bytes, lmdb.breaker) == (107, None, "open")


@pytest.mark.parametrize(
    ("generations", "expected"), [((3, 4), 3), ((4, None), None), ((None, None), None)]
)
def test_the_lowest_generation_counts(generations: tuple[Any, Any], expected: int | None) -> None:
    (model,) = merge_models([_worker(n, generation=each) for n, each in enumerate(generations)])
    assert model.generation == expected


@pytest.mark.parametrize(("ages", "expected"), [((0.5, 2.0), 2.0), ((0.5, None), None)])
def test_the_oldest_ledger_counts(ages: tuple[Any, Any], expected: float | None) -> None:
    (model,) = merge_models([_worker(n, ledger_age_seconds=age) for n, age in enumerate(ages)])
    assert model.ledger_age_seconds == expected


def test_versions_of_all_workers_are_listed_once() -> None:
    def version(number: int, warmed: int) -> VersionStats:
        return VersionStats(version=number, fingerprint="f", warmed=warmed, entries=warmed)

    (model,) = merge_models(
        [
            _worker(0, versions=(version(2, 10), version(1, 5))),
            _worker(1, versions=(version(2, 8),), problem="version 3: broken"),
        ]
    )
    assert [(v.version, v.warmed, v.entries) for v in model.versions] == [(1, 5, 5), (2, 10, 18)]
    assert model.problem == "version 3: broken"


# --- ports, folders, the log ---------------------------------------------------------------------


def test_a_port_that_somebody_shares_is_taken_too() -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=r"--port: .* another process listens there"):
            check_port("127.0.0.1", port, "--port")
    check_port("127.0.0.1", port, "--port")


def test_a_port_is_held_for_workers_and_gets_no_connection_itself() -> None:
    with held_port("127.0.0.1", 0, "--port") as port:
        with socket.socket() as worker:
            worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            worker.bind(("127.0.0.1", port))
            worker.listen()
            for _ in range(20):
                with socket.create_connection(("127.0.0.1", port), timeout=5):
                    worker.accept()[0].close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)


def test_a_host_that_is_not_ours_is_named() -> None:
    with pytest.raises(ConfigError, match=r"203\.0\.113\.1:1 cannot be listened on"):
        check_port("203.0.113.1", 1, "--port")
    with pytest.raises(ConfigError, match="--host"):
        check_port("no such host", 1, "--port")


def test_a_socket_that_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "grpc"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
        left.listen()
        with pytest.raises(ConfigError, match="another process listens on"):
            check_socket_path(str(path), "--grpc_socket_path")
    check_socket_path(str(path), "--grpc_socket_path")
    assert not path.exists()
    path.write_text("mine")
    with pytest.raises(ConfigError, match="is no socket"):
        check_socket_path(str(path), "--grpc_socket_path")
    assert path.read_text() == "mine"
    with pytest.raises(ConfigError, match="is no directory"):
        check_socket_path(str(tmp_path / "a" / "b"), "--grpc_socket_path")


def test_a_folder_is_one_gateways_at_a_time(tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    with held_folder(cache) as folder:
        (folder / "worker-3.sock").write_text("left behind")
        busy = pytest.raises(WorkspaceBusyError, match=f"process {os.getpid()}")
        with busy, held_folder(cache):
            pass
    with held_folder(cache) as folder:
        assert sockets(folder) == []


def test_a_long_folder_name_leaves_room_for_sockets(
    tmp_path: Path, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_folder))
    deep = tmp_path / ("d" * 90) / "cache"
    folder = runtime_folder(str(deep))
    assert folder == runtime_folder(str(deep))
    assert folder != runtime_folder(str(deep / "other"))
    assert len(str(folder / "worker-63.sock")) < 108


def test_a_long_runtime_directory_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("d" * 90)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    assert not runtime_folder(None).is_relative_to(long)


def test_without_a_cache_directory_nothing_is_left(
    short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_folder))
    with held_folder(None) as folder:
        assert folder.is_relative_to(short_folder)
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()


def test_an_event_is_one_line_whatever_a_client_put_into_it() -> None:
    stream = io.StringIO()
    serve_log.configure("info", worker=3, stream=stream)
    log = logging.getLogger("tfx_encore.gateway")
    try:
        log.info("asked model=%s", "a\nb\r")
        log.debug("not shown")
    finally:
        log.handlers.clear()
        log.propagate = True
        log.setLevel(logging.NOTSET)
    (line,) = stream.getvalue().splitlines()
    assert line.endswith("Z INFO    worker=3 asked model=a\\nb\\r")
