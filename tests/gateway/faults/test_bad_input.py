"""Bodies and clients that no client library would make: each gets its error, the others answers.

The messages are TensorFlow Serving's (tensorflow_serving/util/json_tensor.cc), or begin as its do.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

MIB = 2**20
STEP = 1_000_000
PATH = "/v1/models/row:predict"
DEEP = 100_000
CONNECTIONS = 2_000


@pytest.fixture
def gateway(shared: Any, load: Any) -> Iterator[Any]:
    """The gateway, while an ordinary client asks; it must get every answer."""
    pid = shared.gateway.process.pid
    with load(shared.gateway, threads=1, rows=50, pause_seconds=0.005) as client:
        yield shared.gateway
        client.go_on(20)
    client.check()
    assert shared.gateway.process.pid == pid
    assert shared.gateway.process.poll() is None


def _deep(opening: bytes, closing: bytes = b"") -> bytes:
    return opening * DEEP + closing * DEEP


BAD: dict[str, tuple[bytes, int, str]] = {
    "nothing": (b"", 400, "JSON Parse error: The document is empty"),
    "no JSON": (b"\x01\x02\x03", 400, "JSON Parse error: Invalid value. at offset: 0"),
    "no object": (b"[1, 2]", 400, "JSON Value: "),
    "no instances": (b"{}", 400, "Missing 'inputs' or 'instances' key"),
    "deep lists": (b'{"instances": [' + _deep(b"[", b"]") + b"]}", 400, ""),
    "deep lists, open": (_deep(b"["), 400, "JSON Parse error: "),
    "deep objects, open": (_deep(b'{"a":'), 400, "JSON Parse error: "),
    "deep objects": (b'{"instances": [' + _deep(b'{"a":') + b"1" + b"}" * DEEP + b"]}", 400, ""),
    "invalid UTF-8": (b'{"instances": ["\xff\xfe"]}', 400, ""),
    "half a surrogate": (b'{"instances": ["\\ud800"]}', 400, ""),
    "a huge integer": (b'{"instances": [' + b"9" * 30 + b"]}", 400, ""),
    "an integer of a megabyte": (b'{"instances": [' + b"9" * MIB + b"]}", 400, ""),
    "an exponent": (b'{"instances": [1e999999999]}', 400, ""),
    "a float": (b'{"instances": [1.5]}', 400, "is not of expected type: int64"),
    "a string": (b'{"instances": ["1"]}', 400, "is not of expected type: int64"),
    "true": (b'{"instances": [true]}', 400, "is not of expected type: int64"),
    "null": (b'{"instances": [null]}', 400, ""),
    "lists of two lengths": (
        b'{"instances": [[1], [1, 2]]}',
        400,
        "Expecting tensor size: 1 but got: 2",
    ),
    "another input": (b'{"instances": [{"col": 1}]}', 400, ""),
    "rows and columns": (b'{"instances": [1], "inputs": [1]}', 400, ""),
    "another signature": (b'{"signature_name": "no", "instances": [1]}', 400, ""),
}


@pytest.mark.parametrize("name", BAD)
def test_a_body_that_is_no_request_gets_its_error(gateway, name: str) -> None:
    body, status, message = BAD[name]
    for _ in range(2):  # the second time it may be remembered
        reply = gateway.ask(PATH, body)
        assert reply.status == status, reply.body[:300]
        assert message in reply.json()["error"]
        assert len(reply.body) < 10_000


def test_rows_of_another_rank_go_to_the_model_as_they_are(gateway) -> None:
    """TensorFlow Serving compares no shapes: what the graph can compute it answers."""
    reply = gateway.ask(PATH, b'{"instances": [[1], [2]]}')
    assert reply.json() == {"predictions": [[1 + STEP], [2 + STEP]]}


LARGE: dict[str, tuple[Callable[[], bytes], int]] = {
    "spaces": (lambda: b" " * (100 * MIB) + b'{"instances": [7]}', 200),
    "a string": (lambda: b'{"instances": ["' + b"a" * (100 * MIB) + b'"]}', 400),
    "digits": (lambda: b'{"instances": [' + b"7" * (100 * MIB) + b"]}", 400),
    "brackets": (lambda: b"[" * (100 * MIB), 400),
    "zeros": (lambda: bytes(100 * MIB), 400),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_a_body_of_100_mb_is_answered_and_holds_up_nobody(gateway, name: str) -> None:
    make, status = LARGE[name]
    reply = gateway.ask(PATH, make(), 240)
    assert reply.status == status, reply.body[:300]
    if status == 200:
        assert reply.json() == {"predictions": [7 + STEP]}


def test_a_body_of_100_mb_of_nothing_is_answered(gateway) -> None:
    reply = gateway.ask(PATH, LARGE["spaces"][0](), 240)
    assert (reply.status, reply.json()) == (200, {"predictions": [7 + STEP]})


def test_a_million_rows_in_one_request_are_all_answered(gateway) -> None:
    rows = range(1_000_000)
    body = b'{"instances": [' + b",".join(b"%d" % row for row in rows) + b"]}"
    reply = gateway.ask(PATH, body, 240)
    assert reply.status == 200
    assert reply.json()["predictions"] == [row + STEP for row in rows]


def test_a_body_larger_than_is_taken_is_refused_before_it_is_sent(gateway) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port), 60) as connection:
        head = f"POST {PATH} HTTP/1.1\r\nHost: e\r\nContent-Length: {10**15}\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_slow_clients_get_their_answers_and_hold_up_nobody(gateway, reply_of) -> None:
    body = json.dumps({"instances": [3]}).encode()
    wire = f"POST {PATH} HTTP/1.1\r\nHost: e\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    with ExitStack() as stack:
        slow = [
            stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port), 60))
            for _ in range(20)
        ]
        for at in range(len(wire)):  # a byte each, and a quick client between
            for connection in slow:
                connection.sendall(wire[at : at + 1])
            assert gateway.predict(at).json() == {"predictions": [at + STEP]}
        for connection in slow:
            assert reply_of(connection).json() == {"predictions": [3 + STEP]}


def test_clients_that_leave_in_the_middle_harm_nobody(gateway) -> None:
    body = json.dumps({"instances": list(range(1000))}).encode()
    wire = f"POST {PATH} HTTP/1.1\r\nHost: e\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    for at in range(0, len(wire) + 1, 97):
        with socket.create_connection(("127.0.0.1", gateway.port), 60) as connection:
            connection.sendall(wire[:at])
    assert gateway.predict(1).json() == {"predictions": [1 + STEP]}


def test_2000_connections_are_kept_and_answered(gateway, reply_of, many_files) -> None:
    body = json.dumps({"instances": [9]}).encode()
    wire = f"POST {PATH} HTTP/1.1\r\nHost: e\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    with ExitStack() as stack:
        connections = [
            stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port), 60))
            for _ in range(CONNECTIONS)
        ]
        for _ in range(2):
            for connection in connections:
                connection.sendall(wire)
            for connection in connections:
                assert reply_of(connection).json() == {"predictions": [9 + STEP]}


@pytest.fixture
def many_files() -> Iterator[None]:
    """This process may have a socket for each connection; the gateway's own limit stays."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS + 1000
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(wanted, hard)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
