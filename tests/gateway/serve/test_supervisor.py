"""Real processes behind one port: what signals, deaths and switches do to them."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tfx_encore.gateway.admin import ask
from tfx_encore.gateway.supervisor import RestartPolicy


def _pids(gateway: Any, workers: int, until: Callable[..., Any]) -> set[int]:
    """The processes that answer; asks until so many have."""
    seen: set[int] = set()

    def all_seen() -> bool:
        try:
            seen.add(int(gateway.get().split()[1]))
        except (OSError, IndexError):
            return False  # a worker that is being replaced
        return len(seen) == workers

    until(all_seen)
    return seen


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_lets_what_is_under_way_finish_and_ends_with_zero(
    launch: Any, workers: int, number: int, until: Callable[..., Any]
) -> None:
    gateway = launch(workers=workers)
    with ThreadPoolExecutor(6) as pool:
        slow = [pool.submit(gateway.get, "/slow") for _ in range(6)]
        pids = _pids(gateway, workers, until)
        until(lambda: len(gateway.slow()) == 6)
        gateway.signal(number)
        assert {int(answer.result().split()[1]) for answer in slow} <= pids
    assert gateway.wait() == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_second_signal_ends_at_once(
    launch: Any, workers: int, is_alive: Callable[[int], bool], until: Callable[..., Any]
) -> None:
    gateway = launch(workers=workers, lame_duck_seconds=600)
    gateway.signal(signal.SIGINT)
    until(lambda: "draining" in (gateway.folder / "log").read_text())
    gateway.signal(signal.SIGINT)
    assert gateway.wait() in (130, -signal.SIGINT)
    until(lambda: not any(is_alive(each["pid"]) for each in gateway.ready))


def test_readiness_fails_before_the_listener_closes(launch: Any, until: Callable[..., Any]) -> None:
    gateway = launch(lame_duck_seconds=1.5)
    assert gateway.get("/readyz") == "ready"
    gateway.signal(signal.SIGTERM)
    until(lambda: gateway.get("/readyz") == "draining", seconds=1.4)
    assert gateway.wait() == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_signal_during_a_slow_start_ends_it(
    launch: Any, workers: int, until: Callable[..., Any]
) -> None:
    gateway = launch(workers=workers, trouble="slow-start", wait=False)
    # Python's own handler is in place until the gateway's is.
    until((gateway.run_folder / "gateway.lock").is_file)
    if workers == 2:
        until((gateway.run_folder / "routes.board").is_file)
    until(lambda: _catches(gateway.process.pid, signal.SIGTERM))
    gateway.signal(signal.SIGTERM)
    assert gateway.wait() == 0


def _catches(pid: int, number: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(next(line for line in status.splitlines() if line.startswith("SigCgt"))[7:], 16)
    return bool(caught & 1 << (number - 1))


def test_a_worker_that_dies_is_replaced_and_the_others_go_on(
    launch: Any, until: Callable[..., Any]
) -> None:
    gateway = launch(workers=2)
    before = _pids(gateway, 2, until)
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    after = until(lambda: (now := _now(gateway)) and victim not in now and len(now) == 2 and now)
    assert len(after & before) == 1
    assert _pids(gateway, 2, until) == after
    assert "was killed by SIGKILL" in (gateway.folder / "log").read_text()


def _now(gateway: Any) -> set[int]:
    return {each["pid"] for each in ask(gateway.run_folder, {"command": "stats"}, 20)}


def test_a_worker_whose_event_loop_stands_still_is_replaced(
    launch: Any, until: Callable[..., Any]
) -> None:
    gateway = launch(workers=2, hang_seconds=1.0)
    before = _pids(gateway, 2, until)
    with ThreadPoolExecutor(1) as pool:
        hung = pool.submit(gateway.get, "/hang")
        until(lambda: "worker hangs" in (gateway.folder / "log").read_text())
        with pytest.raises(OSError):
            hung.result()
    after = until(lambda: (now := _now(gateway)) != before and len(now) == 2 and now)
    assert len(after & before) == 1


def test_workers_do_not_outlive_a_supervisor_that_is_killed(
    launch: Any, is_alive: Callable[[int], bool], until: Callable[..., Any]
) -> None:
    gateway = launch(workers=3)
    gateway.signal(signal.SIGKILL)
    gateway.wait()
    until(lambda: not any(is_alive(each["pid"]) for each in gateway.ready))


def test_nobody_sees_the_old_version_after_somebody_saw_the_new_one(launch: Any) -> None:
    gateway = launch(workers=3)
    highest, seen, lock = [1], set(), threading.Lock()
    ended = threading.Event()

    def client() -> None:
        while not ended.is_set():
            with lock:
                floor = highest[0]
            version, pid = map(int, gateway.get().split())
            assert version >= floor
            with lock:
                highest[0] = max(highest[0], version)
                seen.add((version, pid))

    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(client) for _ in range(4)]
        try:
            for version in range(2, 12):
                gateway.push(version)
                while highest[0] < version and not any(each.done() for each in clients):
                    pass
        finally:
            ended.set()
        for each in clients:
            each.result()
    assert {version for version, _ in seen} >= set(range(2, 12))
    assert len({pid for _, pid in seen}) == 3


def test_a_worker_that_cannot_start_ends_the_gateway_with_its_reason(launch: Any) -> None:
    gateway = launch(workers=2, trouble="refuse-1", wait=False)
    assert gateway.wait() == 2
    said = (gateway.folder / "log").read_text()
    assert "worker 1: models.config: the model cannot be served" in said


def test_a_worker_that_is_killed_while_it_starts_ends_the_gateway(launch: Any) -> None:
    gateway = launch(workers=2, trouble="die-0", wait=False)
    assert gateway.wait() == 1
    assert "worker 0: it was killed by SIGKILL before" in (gateway.folder / "log").read_text()


def test_a_worker_alone_that_cannot_start_says_why(launch: Any) -> None:
    gateway = launch(trouble="refuse-0", wait=False)
    assert gateway.wait() == 2
    assert "the model cannot be served" in (gateway.folder / "log").read_text()


def test_draining_one_worker_over_its_socket_ends_all_in_order(launch: Any) -> None:
    gateway = launch(workers=2)
    ask(gateway.run_folder, {"command": "drain"}, 20)
    assert gateway.wait() == 0


def test_a_second_gateway_with_the_same_cache_directory_is_refused(launch: Any) -> None:
    first = launch()
    second = launch(wait=False)
    assert second.wait() == 4
    assert f"another gateway (process {first.process.pid})" in (first.folder / "log").read_text()


def test_a_port_that_is_taken_is_refused_before_a_worker_starts(launch: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        gateway = launch(workers=2, rest_api_port=port, wait=False)
        assert gateway.wait() == 2
    said = (gateway.folder / "log").read_text()
    assert f"--rest_api_port: 127.0.0.1:{port} cannot be listened on" in said


def test_nothing_is_left_in_the_folder_but_the_lock(launch: Any) -> None:
    gateway = launch(workers=2)
    assert len(list(gateway.run_folder.glob("worker-*.sock"))) == 2
    gateway.signal(signal.SIGTERM)
    gateway.wait()
    assert [path.name for path in gateway.run_folder.iterdir()] == ["gateway.lock"]


def test_pauses_between_restarts_double_up_to_a_bound() -> None:
    policy = RestartPolicy(first_seconds=0.5, longest_seconds=3.0)
    assert [policy.pause(deaths) for deaths in (1, 2, 3, 4, 99)] == [0.5, 1.0, 2.0, 3.0, 3.0]
