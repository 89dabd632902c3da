"""Two processes behind the same ports: one is killed, both switch, both withdraw, both drain."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from tfx_encore.metadata.journal_ledger import JournalLedger
from tfx_encore.schemas.records import Cause, RecordDraft, SelectAll

STEP = 1_000_000
PATH = "/v1/models/{model}:predict"


@pytest.fixture(scope="module")
def releases(make_releases: Any) -> Any:
    return make_releases("row", "swapped")


@pytest.fixture(scope="module")
def gateway(releases: Any, start_gateway: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    cache_dir = tmp_path_factory.mktemp("cache")
    flags = [f"--releases={releases.root}", f"--cache_dir={cache_dir}", "--consumer=two"]
    return start_gateway(*flags, "--workers=2")


def test_both_workers_switch_together_under_load(gateway, releases, load) -> None:
    client = load(gateway, model="swapped", threads=6)
    with client:
        for version in range(2, 5):
            client.go_on(500)
            releases.push(version, "swapped")
        client.go_on(1000)
        for _ in range(100):
            if client.highest == 4:
                break
            client.go_on(200)
    client.check()
    assert client.highest == 4


def test_a_record_is_acknowledged_by_each_worker_and_then_no_worker_has_the_answer(
    gateway, releases, load, wait
) -> None:
    rows = list(range(5))
    wait(lambda: all(gateway.predict(*rows).cache == "hit" for _ in range(20)), "hits by both")
    draft = RecordDraft("row", Cause.MANUAL, SelectAll(), "a test", "a test")
    record = releases.directory("row").append_record(draft)
    ledger = JournalLedger(releases.root)

    def done() -> bool:
        found = ledger.acknowledgements("row", sequence=record.sequence)
        return {each.consumer for each in found} == {"two/0", "two/1"}

    wait(done, "acknowledgements")
    assert gateway.predict(*rows).cache == "miss"


def test_the_page_of_metrics_counts_what_both_workers_answered(gateway, load, wait) -> None:
    labels = {"model": "row", "method": "Predict", "code": "OK"}
    before = gateway.count("encore_requests_total", **labels)
    with load(gateway, model="row", threads=8) as client:
        client.go_on(500)
    client.check()
    after = before + client.requests
    wait(lambda: gateway.count("encore_requests_total", **labels) == after, "the sum", 10)
    assert gateway.count("encore_workers") == 2


def test_a_worker_that_is_killed_under_load_is_replaced_and_nobody_gets_a_wrong_answer(
    gateway, releases, load, wait
) -> None:
    before = gateway.workers()
    assert len(before) == 2
    # So many that each worker has connections: the kernel deals them out by chance.
    with load(gateway, model="swapped", threads=16, retry=True, pause_seconds=0.02) as client:
        client.go_on(1000)
        os.kill(before[0], signal.SIGKILL)
        client.go_on(500)
        releases.push(5, "swapped")  # while one of two is there
        wait(lambda: client.highest == 5, "the new version")
        wait(lambda: len(gateway.workers()) == 2, "another worker")
        wait(lambda: gateway.log.read_text().count(" serving rest_port=") == 3, "it serves")
        client.go_on(1000)
    client.check()
    assert client.broken > 0
    assert set(before) & set(gateway.workers()) == {before[1]}


def test_told_to_end_both_workers_answer_what_is_under_way(gateway, load) -> None:
    """The last test of this gateway."""
    with load(gateway, model="swapped", threads=4, rows=100_000, retry=True) as client:
        client.go_on(200)
        assert gateway.terminate() == 0
    client.check()


def test_told_to_end_no_request_under_way_is_lost(
    models: Path, start_gateway, reply_of, wait
) -> None:
    """Requests that compute when SIGTERM comes, and those half sent, are answered."""
    base = models / "slow-base"
    base.mkdir(exist_ok=True)
    if not (base / "1").exists():
        (base / "1").symlink_to(models / "slow")
    gateway = start_gateway(f"--model_base_path={base}", "--model_name=slow", mode="off")
    late = _connect(gateway)
    body = _body([77])
    late.sendall(_head("slow", len(body)) + body[:10])
    replies: list[Any] = []
    connections = [_connect(gateway) for _ in range(8)]
    threads = [
        threading.Thread(target=lambda c=c: replies.append(reply_of(c))) for c in connections
    ]
    for row, connection in enumerate(connections):
        slow = _body([row], "slow")
        connection.sendall(_head("slow", len(slow)) + slow)
    for thread in threads:
        thread.start()
    wait(lambda: gateway.ask("/healthz").status == 200, "that the requests have been read")
    gateway.process.terminate()
    wait(lambda: not _listens(gateway), "that it listens no more")
    assert len(replies) < len(connections)
    late.sendall(body[10:])
    assert reply_of(late).json() == {"predictions": [77 + STEP]}
    for thread in threads:
        thread.join(60)
    assert gateway.process.wait(60) == 0
    assert sorted(reply.json()["predictions"][0] for reply in replies) == [
        row + STEP for row in range(8)
    ]


def _body(rows: list[int], signature: str = "serving_default") -> bytes:
    return json.dumps({"signature_name": signature, "instances": rows}).encode()


def _head(model: str, length: int) -> bytes:
    path = PATH.format(model=model)
    return f"POST {path} HTTP/1.1\r\nHost: encore\r\nContent-Length: {length}\r\n\r\n".encode()


def _connect(gateway: Any) -> socket.socket:
    return socket.create_connection(("127.0.0.1", gateway.port), 60)


def _listens(gateway: Any) -> bool:
    try:
        _connect(gateway).close()
    except ConnectionRefusedError:
        return False
    return True
