"""HTTP on real sockets: what is read, in which order it is answered, how a connection ends."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import struct
from typing import Any

import pytest

from tfx_encore.gateway.rest.http_message import HttpPolicy

Wire = Any
ANSWER = b'{\n    "predictions": [1.0\n    ]\n}'


def talk(wire: Wire, *sent: bytes, policy: HttpPolicy | None = None) -> bytes:
    """Everything that the server says until it closes the connection."""

    async def work() -> bytes:
        async with wire.serving(policy=policy) as gateway:
            client = await wire.connect(gateway)
            for data in sent:
                await client.send(data)
            return await asyncio.wait_for(client.reader.read(), 20)

    return wire.run(work)


def test_a_response_has_the_head_of_tensorflow_serving(wire: Wire) -> None:
    async def work() -> bytes:
        async with wire.serving(wire.Gateway(headers=False)) as gateway:
            client = await wire.connect(gateway)
            return (await client.ask(wire.rows(1.0))).head

    lines = wire.run(work).decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 200 OK"
    assert lines[1] == "Content-Type: application/json"
    assert lines[2].startswith("Date: ")
    assert lines[2].endswith(" GMT")
    assert lines[3:] == [f"Content-Length: {len(ANSWER)}", "", ""]


def test_headers_say_hit_or_miss_and_of_which_model(wire: Wire) -> None:
    async def work() -> list[dict[str, str]]:
        async with wire.serving() as gateway:
            client = await wire.connect(gateway)
            bodies = [wire.rows(1.0), wire.rows(1.0), wire.rows(1.0, 2.0)]
            off = wire.rows(1.0) | {"signature_name": "off"}
            return [(await client.ask(body)).headers for body in [*bodies, off]]

    answers = wire.run(work)
    assert [one["x-encore-cache"] for one in answers] == ["miss", "hit", "partial", "off"]
    assert {one["x-encore-version"] for one in answers} == {"1"}
    assert {one["x-encore-fingerprint"] for one in answers} == {f"sha256:{1:064x}"}


def test_a_body_in_chunks_is_read(wire: Wire) -> None:
    body = json.dumps(wire.rows(1.0)).encode()
    chunks = b"".join(b"1;x=y\r\n%c\r\n" % byte for byte in body) + b"0\r\nTrailer: t\r\n\r\n"
    head = f"POST {wire.path} HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    said = talk(wire, head.encode() + chunks)
    assert said.startswith(b"HTTP/1.1 200 OK")
    assert said.endswith(ANSWER)


@pytest.mark.parametrize("coding", ["gzip", "x-gzip, identity"])
def test_a_gzip_body_is_unpacked(wire: Wire, coding: str) -> None:
    packed = gzip.compress(json.dumps(wire.rows(1.0)).encode())

    async def work() -> list[tuple[int, bytes, str]]:
        async with wire.serving() as gateway:
            client = await wire.connect(gateway)
            asked = [await client.ask(packed, Content_Encoding=coding) for _ in range(5)]
            assert len(gateway.service.raw) == 1
            # The same bytes without the coding mean something else.
            asked.append(await client.ask(packed))
            return [(one.status, one.body, one.headers.get("x-encore-cache", "")) for one in asked]

    *good, plain = wire.run(work)
    assert {one[:2] for one in good} == {(200, ANSWER)}
    assert [one[2] for one in good] == ["miss", "hit", "hit", "hit", "hit"]
    assert plain[0] == 400


def test_what_is_no_gzip_reads_as_an_empty_body(wire: Wire) -> None:
    async def work() -> tuple[Any, Any]:
        async with wire.serving() as gateway:
            client = await wire.connect(gateway)
            broken = await client.ask(b"not gzip", Content_Encoding="gzip")
            return broken, await client.ask(b"")

    broken, empty = wire.run(work)
    assert broken.status == empty.status == 400
    assert broken.json == empty.json
    assert "The document is empty" in empty.json["error"]


def test_a_gzip_bomb_is_refused_with_413(wire: Wire) -> None:
    small, large = (gzip.compress(b" " * size) for size in (2_000_000, 60_000_000))
    assert len(small) < 16 * 1024 < len(large)

    async def work() -> list[Any]:
        async with wire.serving(wire.Gateway(max_body_bytes=1_000_000)) as gateway:
            client = await wire.connect(gateway)
            asked = [await client.ask(bomb, Content_Encoding="gzip") for bomb in (small, large)]
            good = await client.ask(wire.rows(1.0))
            assert good.status == 200
            return asked

    for answer in wire.run(work):
        assert answer.status == 413
        assert answer.json["error"] == "The request's body is larger than 1000000 bytes."


def test_a_body_beyond_the_limit_is_refused_before_it_is_sent(wire: Wire) -> None:
    async def work() -> list[bytes]:
        said = []
        async with wire.serving(wire.Gateway(max_body_bytes=1000)) as gateway:
            for sent in (
                f"POST {wire.path} HTTP/1.1\r\nContent-Length: 1001\r\n\r\n",
                f"POST {wire.path} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
                f"3e9\r\n{'1' * 1001}\r\n",
            ):
                client = await wire.connect(gateway)
                await client.send(sent.encode())
                said.append(await asyncio.wait_for(client.reader.read(), 20))
        return said

    for said in wire.run(work):
        assert said.startswith(b"HTTP/1.1 413 Request Entity Too Large\r\n")
        assert b"\r\nConnection: close\r\n" in said


def test_who_expects_100_is_told_to_go_on(wire: Wire) -> None:
    async def work() -> tuple[bytes, int]:
        async with wire.serving() as gateway:
            client = await wire.connect(gateway)
            data = wire.post(wire.rows(1.0), Expect="100-continue")
            end = data.index(b"\r\n\r\n") + 4
            await client.send(data[:end])
            said = await asyncio.wait_for(client.reader.readuntil(b"\r\n\r\n"), 20)
            await client.send(data[end:])
            return said, (await client.read()).status

    assert wire.run(work) == (b"HTTP/1.1 100 Continue\r\n\r\n", 200)


def test_who_sends_the_body_at_once_is_not_told_to_go_on(wire: Wire) -> None:
    data = wire.post(wire.rows(1.0), Expect="100-continue", Connection="close")
    assert talk(wire, data).startswith(b"HTTP/1.1 200 OK")


def test_another_expectation_fails(wire: Wire) -> None:
    said = talk(wire, wire.post(wire.rows(1.0), Expect="a-miracle"))
    assert said.startswith(b"HTTP/1.1 417 Expectation Failed\r\nContent-Type: text/html\r\n")


@pytest.mark.parametrize(
    ("connection", "keeps"), [("", False), ("Connection: keep-alive\r\n", True)]
)
def test_http_1_0_is_answered_as_such(wire: Wire, connection: str, keeps: bool) -> None:
    body = json.dumps(wire.rows(1.0))
    data = f"POST {wire.path} HTTP/1.0\r\n{connection}Content-Length: {len(body)}\r\n\r\n{body}"

    async def work() -> list[Any]:
        async with wire.serving() as gateway:
            client = await wire.connect(gateway)
            asked = []
            for _ in range(5 if keeps else 1):  # the last ones are repeated from their bytes
                await client.send(data.encode())
                asked.append(await client.read())
            if not keeps:
                assert await client.is_closed()
            return asked

    for answer in wire.run(work):
        assert answer.head.startswith(b"HTTP/1.0 200 OK\r\n")
        assert answer.headers["connection"] == ("keep-alive" if keeps else "close")
        assert answer.body == ANSWER


def test_connection_close_is_honoured_for_repeated_bodies_too(wire: Wire) -> None:
    async def work() -> None:
        async with wire.serving() as gateway:
            for _ in range(5):
                client = await wire.connect(gateway)
                answer = await client.ask(wire.rows(1.0), Connection="close")
                assert answer.headers["connection"] == "close"
                assert answer.body == ANSWER
                assert await client.is_closed()

    wire.run(work)


def test_head_gets_no_body(wire: Wire) -> None:
    async def work() -> tuple[Any, Any]:
        async with wire.serving() as gateway:
            client = await wire.connect(gateway)
            head = await client.get("/v1/models/m", "HEAD")
            return head, await client.get("/v1/models/m")

    head, after = wire.run(work)
    assert head.status == 400
    assert head.headers["content-type"] == "application/json"
    assert after.status == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_other_methods_are_malformed_requests(wire: Wire, method: str) -> None:
    async def work() -> Any:
        async with wire.serving() as gateway:
            return await (await wire.connect(gateway)).get("/v1/models/m", method)

    answer = wire.run(work)
    assert answer.status == 400
    assert answer.json == {"error": f"Malformed request: {method} /v1/models/m"}


@pytest.mark.parametrize("method", ["TRACE", "PROPFIND", "CONNECT"])
def test_methods_that_libevent_does_not_take_are_not_implemented(wire: Wire, method: str) -> None:
    target = "host:1" if method == "CONNECT" else "/v1/models/m"
    said = talk(wire, f"{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert said.startswith(b"HTTP/1.1 501 Not Implemented\r\n")


@pytest.mark.parametrize(
    ("path", "status", "page"),
    [
        (
            *("/statuspage", b"404 Not Found"),
            b"<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD><BODY>\n<H1>Not Found</H1>\n"
            b"</BODY></HTML>\n",
        ),
        (
            *('/v1/models/"m"', b"400 Bad Request"),
            b"<HTML><HEAD>\n<TITLE>400 Bad Request</TITLE>\n</HEAD><BODY>\n<H1>Bad Request</H1>\n"
            b"</BODY></HTML>\n",
        ),
    ],
)
def test_what_reaches_no_handler_gets_the_page_of_libevent(
    wire: Wire, path: str, status: bytes, page: bytes
) -> None:
    head, _, body = talk(wire, f"GET {path} HTTP/1.1\r\n\r\n".encode()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + status + b"\r\nContent-Type: text/html\r\nDate: ")
    assert b"\r\nConnection: close" in head
    assert body == page


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /v1/models/m:predict HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/models/m:predict HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n1",
        b"POST /v1/models/m:predict HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked"
        b"\r\n\r\n1",
        b"POST /v1/models/m:predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    ],
)
def test_what_is_no_http_gets_400_and_the_connection_ends(wire: Wire, sent: bytes) -> None:
    said = talk(wire, sent)
    assert said.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"\r\nConnection: close\r\n" in said
    assert said.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /" + b"a" * 2000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 2000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 400 + b"\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n" + b"T: a\r\n" * 400,
    ],
)
def test_a_head_beyond_its_limit_is_refused(wire: Wire, sent: bytes) -> None:
    said = talk(wire, sent, policy=HttpPolicy(head_bytes=1000))
    assert said.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")


@pytest.mark.parametrize(
    "begin",
    [
        b"GET / HTTP/1.1\r\nX: ",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nT: ",
    ],
)
def test_a_field_that_never_ends_is_refused(wire: Wire, begin: bytes) -> None:
    async def work() -> bytes:
        async with wire.serving(policy=HttpPolicy(head_bytes=1000)) as gateway:
            client = await wire.connect(gateway)
            await client.send(begin)
            for _ in range(20):
                await asyncio.sleep(0.005)
                await client.send(b"a" * 100)
            return await asyncio.wait_for(client.reader.read(), 20)

    assert wire.run(work).startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))


def test_a_request_to_upgrade_is_answered_and_what_follows_too(wire: Wire) -> None:
    upgrade = wire.post(wire.rows(1.0), Connection="Upgrade, HTTP2-Settings", Upgrade="h2c")
    get = b"GET /healthz HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"

    async def work() -> list[int]:
        async with wire.serving() as gateway:
            client = await wire.connect(gateway)
            await client.send(upgrade + get + get + wire.post(wire.rows(2.0)))
            return [(await client.read()).status for _ in range(4)]

    assert wire.run(work) == [200, 200, 200, 200]


def test_pipelined_requests_are_answered_in_order(wire: Wire) -> None:
    async def work() -> list[Any]:
        async with wire.serving() as gateway:
            gateway.publish(gateway.servable(1), gateway.servable(2))
            model = gateway.router.routes("m").versions[2].model
            client, other = await wire.connect(gateway), await wire.connect(gateway)
            hit = "/v1/models/m/versions/1:predict"
            for _ in range(4):
                await client.ask(wire.rows(1.0), hit)
            model.gate.clear()
            slow = wire.post(wire.rows(5.0), "/v1/models/m/versions/2:predict")
            fast = wire.post(wire.rows(1.0), hit)
            await client.send(fast + slow + fast + b"GET /v1/models/m HTTP/1.1\r\n\r\n" + fast)
            first = await client.read()
            await wire.until(lambda: model.calls == 1)
            # A slow model delays no hit of another connection.
            assert (await other.ask(wire.rows(1.0), hit)).body == ANSWER
            assert not client.reader._buffer  # type: ignore[attr-defined]
            model.gate.set()
            return [first, *[await client.read() for _ in range(4)]]

    first, slow, second, status, third = wire.run(work)
    assert first.body == second.body == third.body == ANSWER
    assert slow.json == {"predictions": [2.0]}
    assert status.json["model_version_status"][0]["state"] == "AVAILABLE"


def test_a_long_pipeline_stops_being_read_and_goes_on(wire: Wire) -> None:
    async def work() -> list[Any]:
        async with wire.serving(policy=HttpPolicy(max_waiting=4)) as gateway:
            model = gateway.serve(2)
            client = await wire.connect(gateway)
            model.gate.clear()
            count = 3000
            sending = asyncio.create_task(
                client.send(
                    b"".join(wire.post(wire.rows(float(n))) for n in range(100, 100 + count))
                )
            )
            await wire.until(lambda: model.calls == 1)
            connection = next(iter(gateway.listener.connections._open))
            await wire.until(lambda: not connection._reads)
            model.gate.set()
            answers = [await client.read() for _ in range(count)]
            await sending
            return answers

    assert {answer.status for answer in wire.run(work)} == {200}


def test_a_request_after_connection_close_is_not_answered(wire: Wire) -> None:
    first = wire.post(wire.rows(1.0), Connection="close")
    said = talk(wire, first + wire.post(wire.rows(1.0)))
    assert said.count(b"HTTP/1.1 200 OK") == 1


def test_what_is_malformed_is_refused_after_what_came_before_is_answered(wire: Wire) -> None:
    async def work() -> list[int]:
        async with wire.serving() as gateway:
            model = gateway.serve(2)
            model.gate.clear()
            client = await wire.connect(gateway)
            await client.send(wire.post(wire.rows(1.0)) + b"nonsense\r\n\r\n")
            await wire.until(lambda: model.calls == 1)
            model.gate.set()
            asked = [await client.read(), await client.read()]
            assert await client.is_closed()
            return [one.status for one in asked]

    assert wire.run(work) == [200, 400]


def test_a_client_that_sends_no_more_still_gets_its_answers(wire: Wire) -> None:
    async def work() -> list[int]:
        async with wire.serving() as gateway:
            model = gateway.serve(2)
            model.gate.clear()
            client = await wire.connect(gateway)
            await client.send(wire.post(wire.rows(1.0)) + wire.post(wire.rows(2.0)))
            client.writer.write_eof()
            await wire.until(lambda: model.calls == 1)
            await asyncio.sleep(0.02)
            model.gate.set()
            asked = [(await client.read()).status for _ in range(2)]
            assert await client.is_closed()
            return asked

    assert wire.run(work) == [200, 200]


def test_a_client_that_goes_while_it_is_answered_harms_nobody(wire: Wire) -> None:
    async def work() -> Any:
        async with wire.serving() as gateway:
            model = gateway.serve(2)
            model.gate.clear()
            client = await wire.connect(gateway)
            await client.send(wire.post(wire.rows(1.0)))
            await wire.until(lambda: model.calls == 1)
            linger = struct.pack("ii", 1, 0)  # reset, instead of sending no more
            client.writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, linger
            )
            client.writer.transport.abort()
            await wire.until(lambda: len(gateway.listener.connections) == 0)
            model.gate.set()
            other = await wire.connect(gateway)
            return await other.ask(wire.rows(1.0))

    # What was computed for the one that left is there for the other.
    assert wire.run(work).headers["x-encore-cache"] == "hit"


def test_a_unix_socket_is_served_and_removed(wire: Wire, tmp_path: Any) -> None:
    path = str(tmp_path / "rest.sock")
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(path)
    stale.close()

    async def work() -> int:
        async with wire.serving(uds=path):
            reader, writer = await asyncio.open_unix_connection(path)
            answer = await wire.Client(reader, writer).ask(wire.rows(1.0))
            writer.close()
            return answer.status

    assert wire.run(work) == 200
    assert not (tmp_path / "rest.sock").exists()


def test_two_listeners_may_share_a_port(wire: Wire) -> None:
    from tfx_encore.gateway.rest.listen import serve_rest

    async def work() -> bool:
        async with wire.serving(reuse_port=True) as gateway:
            second = await serve_rest(gateway.service, "127.0.0.1", gateway.port, reuse_port=True)
            same = second.port == gateway.port
            await second.close(0.0)
            return same

    assert wire.run(work)
