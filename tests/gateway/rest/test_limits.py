"""Clients that are slow, many, large, or do not read; and how the server ends."""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import ssl
import time
from typing import Any

import pytest
import trustme

from tfx_encore.gateway.rest.http_message import HttpPolicy

Wire = Any
QUICK = {"head_seconds": 0.2, "body_seconds": 0.2, "idle_seconds": 0.2, "write_seconds": 0.2}


@pytest.mark.parametrize(
    "begin",
    [
        b"",
        b"POST /v1/models/m:predict HTTP/1.1\r\nX: ",
        b"POST /v1/models/m:predict HTTP/1.1\r\nContent-Length: 100\r\n\r\n{",
        b"GET /healthz HTTP/1.1\r\n\r\n",
    ],
)
def test_a_client_that_sends_nothing_more_is_let_go(wire: Wire, begin: bytes) -> None:
    async def work() -> bytes:
        async with wire.serving(policy=HttpPolicy(**QUICK)) as gateway:
            client = await wire.connect(gateway)
            if begin:
                await client.send(begin)
            try:
                return await asyncio.wait_for(client.reader.read(), 20)
            except ConnectionResetError:
                return b""

    assert wire.run(work).endswith(b"ok\n" if b"healthz" in begin else b"")


def test_a_client_that_trickles_its_head_is_let_go(wire: Wire) -> None:
    async def work() -> int:
        async with wire.serving(policy=HttpPolicy(**QUICK)) as gateway:
            client = await wire.connect(gateway)
            sent = 0
            try:
                await client.send(b"GET / HTTP/1.1\r\nX: ")
                while len(gateway.listener.connections):
                    await client.send(b"a")
                    sent += 1
                    await asyncio.sleep(0.01)
            except (ConnectionResetError, BrokenPipeError):
                pass
            await wire.until(lambda: len(gateway.listener.connections) == 0)
            return sent

    assert wire.run(work) > 3


def test_a_body_that_comes_fast_enough_may_take_longer(wire: Wire) -> None:
    body = json.dumps(wire.rows(1.0)).encode().ljust(4000)
    policy = HttpPolicy(**QUICK | {"body_bytes_per_second": 1000})

    async def work() -> int:
        async with wire.serving(policy=policy) as gateway:
            client = await wire.connect(gateway)
            data = wire.post(body)
            end = data.index(b"\r\n\r\n") + 4
            await client.send(data[:end])
            for place in range(end, len(data), 400):
                await client.send(data[place : place + 400])
                await asyncio.sleep(0.06)
            return (await client.read()).status

    assert wire.run(work) == 200


def test_a_client_that_does_not_read_is_cut_off_and_costs_little(wire: Wire) -> None:
    async def work() -> int:
        policy = HttpPolicy(**QUICK | {"idle_seconds": 60.0})
        async with wire.serving(policy=policy) as gateway:
            body = {"inputs": [1.0] * 20_000}  # some 100 KB in each answer
            client = await wire.connect(gateway)
            for _ in range(3):
                await client.ask(body)
            connection = next(iter(gateway.listener.connections._open))
            client.reader._transport.pause_reading()  # type: ignore[attr-defined]
            most = 0
            data = wire.post(body) * 20
            try:
                while len(gateway.listener.connections):
                    client.writer.write(data)
                    most = max(most, connection._transport.get_write_buffer_size())
                    await asyncio.sleep(0.02)
                    if client.writer.transport.get_write_buffer_size() > 50_000_000:
                        data = b""
            except (ConnectionResetError, BrokenPipeError):
                pass
            other = await wire.connect(gateway)
            assert (await other.ask(wire.rows(1.0))).status == 200
            return most

    assert wire.run(work) < 3_000_000


def test_two_thousand_connections_are_served(wire: Wire) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))

    async def work() -> set[bytes]:
        async with wire.serving() as gateway:
            clients = []
            for _ in range(20):
                clients += await asyncio.gather(*(wire.connect(gateway) for _ in range(100)))
            await wire.until(lambda: len(gateway.listener.connections) == 2000)
            answers = set()
            for round_ in range(2):
                for number, client in enumerate(clients):
                    await client.send(wire.post(wire.rows(1.0 + number % 5)))
                for client in clients:
                    answers.add((await client.read()).body)
                assert round_ < 2
            for client in clients:
                client.close()
            await wire.until(lambda: len(gateway.listener.connections) == 0)
            return answers

    assert wire.run(work) == {b'{\n    "predictions": [1.0\n    ]\n}'}


@pytest.mark.slow
def test_a_body_of_100_mb_is_answered_and_delays_no_hit(wire: Wire) -> None:
    count = 4_000_000
    body = b'{"inputs":[' + b"1.2500000000000000000000," * (count - 1) + b"1.25]}"

    async def work() -> tuple[Any, list[float]]:
        async with wire.serving() as gateway:
            large, other = await wire.connect(gateway, limit=2**26), await wire.connect(gateway)
            for _ in range(5):
                await other.ask(wire.rows(1.0))
            signature = body[:-1] + b',"signature_name":"off"}'
            sending = asyncio.create_task(large.send(wire.post(signature)))
            waits = []
            reading = asyncio.create_task(large.read(seconds=100))
            while not reading.done() and len(waits) < 2000:
                begun = time.perf_counter()
                await other.ask(wire.rows(1.0))
                waits.append(time.perf_counter() - begun)
                await asyncio.sleep(0.02)
            await sending
            return await reading, waits

    answer, waits = wire.run(work)
    assert answer.status == 200
    assert answer.body.count(b"1.0") == count
    # Many hits were answered while the body was read and the answer written.
    assert len(waits) > 10


def test_a_body_of_ten_megabytes_is_answered(wire: Wire) -> None:
    body = b'{"signature_name":"off","inputs":[' + b"1.25," * 1_999_999 + b"1.25]}"

    async def work() -> Any:
        async with wire.serving() as gateway:
            client = await wire.connect(gateway)
            return await client.ask(body)

    answer = wire.run(work)
    assert answer.status == 200
    assert answer.body.count(b"1.0") == 2_000_000


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'{"instances":' + b"[" * 100_000, b'{"a":' * 100_000]
)
def test_a_depth_of_100_000_is_an_error_and_no_more(wire: Wire, body: bytes) -> None:
    async def work() -> tuple[int, int]:
        async with wire.serving() as gateway:
            client = await wire.connect(gateway)
            deep = (await client.ask(body)).status
            return deep, (await client.ask(wire.rows(1.0))).status

    assert wire.run(work) == (400, 200)


def test_a_refused_client_that_goes_on_sending_sees_the_refusal(wire: Wire) -> None:
    async def work() -> bytes:
        async with wire.serving(wire.Gateway(max_body_bytes=1000)) as gateway:
            client = await wire.connect(gateway)
            sending = asyncio.create_task(client.send(wire.post(b" " * 3_000_000)))
            said = await asyncio.wait_for(client.reader.read(), 20)
            await asyncio.gather(sending, return_exceptions=True)
            return said

    assert wire.run(work).startswith(b"HTTP/1.1 413 ")


# --- ending -------------------------------------------------------------------------------------


def test_closing_finishes_what_is_under_way_and_says_that_it_was_the_last(wire: Wire) -> None:
    async def work() -> tuple[Any, Any, bool]:
        async with wire.serving() as gateway:
            model = gateway.serve(2)
            busy, partial = await wire.connect(gateway), await wire.connect(gateway)
            idle = await wire.connect(gateway)
            model.gate.clear()
            await busy.send(wire.post(wire.rows(1.0)))
            data = wire.post(wire.rows(2.0))
            await partial.send(data[:40])
            await wire.until(lambda: model.calls == 1 and len(gateway.listener.connections) == 3)
            closing = asyncio.create_task(gateway.listener.close(20.0))
            await asyncio.sleep(0.05)
            with pytest.raises(OSError):
                await wire.connect(gateway)
            model.gate.set()
            await partial.send(data[40:])
            answers = await busy.read(), await partial.read()
            assert await busy.is_closed()
            assert await partial.is_closed()
            was_closed = await idle.is_closed()
            await closing
            return (*answers, was_closed)

    first, second, was_closed = wire.run(work)
    assert first.json == second.json == {"predictions": [2.0]}
    assert first.headers["connection"] == second.headers["connection"] == "close"
    assert was_closed


def test_what_takes_longer_than_the_grace_is_cut_off(wire: Wire) -> None:
    async def work() -> bool:
        async with wire.serving() as gateway:
            model = gateway.serve(2)
            model.gate.clear()
            client = await wire.connect(gateway)
            await client.send(wire.post(wire.rows(1.0)))
            await wire.until(lambda: model.calls == 1)
            await gateway.listener.close(0.1)
            model.gate.set()
            return await client.is_closed()

    assert wire.run(work)


def test_a_request_that_comes_while_the_server_ends_is_still_answered(wire: Wire) -> None:
    async def work() -> Any:
        async with wire.serving() as gateway:
            client = await wire.connect(gateway)
            for _ in range(5):
                await client.ask(wire.rows(1.0))
            closing = asyncio.create_task(gateway.listener.close(5.0))
            await asyncio.sleep(0.02)
            answer = await client.ask(wire.rows(1.0))
            assert await client.is_closed()
            await closing
            return answer

    answer = wire.run(work)
    assert answer.status == 200
    assert answer.headers["connection"] == "close"


def test_tls_is_spoken(wire: Wire) -> None:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    client_side = ssl.create_default_context()
    authority.configure_trust(client_side)

    async def work() -> list[Any]:
        async with wire.serving(wire.Gateway(max_body_bytes=1000), ssl=server) as gateway:
            how = {"ssl": client_side, "server_hostname": "localhost"}
            client = await wire.connect(gateway, **how)
            answers = [await client.ask(wire.rows(1.0)) for _ in range(6)]
            answers.append(await client.ask(b" " * 1001))
            return answers

    *good, refused = wire.run(work)
    assert {one.status for one in good} == {200}
    assert refused.status == 413


def test_a_port_that_is_taken_is_an_error(wire: Wire) -> None:
    from tfx_encore.gateway.rest.listen import serve_rest

    taken = socket.create_server(("127.0.0.1", 0))

    async def work() -> None:
        gateway = wire.Gateway()
        await serve_rest(gateway.service, "127.0.0.1", taken.getsockname()[1])

    with taken, pytest.raises(OSError):
        wire.run(work)
