"""However the bytes of requests are cut, the answers are the same."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfx_encore.gateway.rest.http_message import HttpPolicy
from tfx_encore.gateway.rest.http_protocol import HttpConnection

Wire = Any

CHUNKED = (
    b"POST /v1/models/m:predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'5\r\n{"ins\r\n11;a=b\r\ntances": [1.0, 2]\r\n1\r\n}\r\n0\r\nT: x\r\n\r\n'
)
REQUESTS = [
    b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /v1/models/m HTTP/1.1\r\n\r\n",
    b"\r\nPUT /v1/models/m HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
    b"HEAD /healthz HTTP/1.1\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    CHUNKED,
]


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def can_write_eof(self) -> bool:
        return False

    def get_extra_info(self, name: str) -> None:
        return None

    def pause_reading(self) -> None:
        return None

    resume_reading = pause_reading


def requests(wire: Wire) -> st.SearchStrategy[list[bytes]]:
    post = [wire.post(wire.rows(1.0)), wire.post(wire.rows(2.0, 3.0)), wire.post(b"{")]
    post += [wire.post(wire.rows(1.0), Expect="100-continue", X_Request_Id="1")]
    return st.lists(st.sampled_from(post + REQUESTS), min_size=1, max_size=12)


async def said(wire: Wire, pieces: list[bytes]) -> tuple[bytes, bool]:
    gateway = wire.Gateway(headers=False)
    gateway.serve(1)
    transport = Transport()
    connection = HttpConnection(gateway.service, HttpPolicy(), set(), {})
    connection.connection_made(transport)  # type: ignore[arg-type]
    for piece in pieces:
        connection.data_received(piece)
        await asyncio.sleep(0)
    while not connection.is_idle and not transport.closed:
        await asyncio.sleep(0)
    await gateway.cache.close()
    gateway.service.close()
    # Whether a client is told to go on depends on what has come already.
    text = transport.written.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
    return re.sub(rb"Date: [^\r]*", b"Date", text), transport.closed


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_cut_of_the_stream_gives_the_same_answers(wire: Wire, data: st.DataObject) -> None:
    sent = data.draw(requests(wire))
    if data.draw(st.booleans()):
        sent.append(data.draw(st.sampled_from([b"garbage\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"])))
    stream = b"".join(sent)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=20)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True) if a < b]

    async def work() -> None:
        assert await said(wire, pieces) == await said(wire, sent)

    wire.run(work)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_bytes_that_mean_nothing_never_break_the_connection(
    wire: Wire, data: st.DataObject
) -> None:
    pieces = data.draw(st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=5))
    begin = data.draw(st.sampled_from([b"", wire.post(wire.rows(1.0)), CHUNKED[:90]]))

    async def work() -> bytes:
        gateway = wire.Gateway()
        gateway.serve(1)
        transport = Transport()
        connection = HttpConnection(gateway.service, HttpPolicy(), set(), {})
        connection.connection_made(transport)  # type: ignore[arg-type]
        for piece in [begin, *pieces]:
            connection.data_received(piece)
        for _ in range(200):
            await asyncio.sleep(0)
        connection.connection_lost(None)
        await gateway.cache.close()
        gateway.service.close()
        return transport.written

    written = wire.run(work)
    assert not written or written.startswith(b"HTTP/1.")
    assert b" 500 Internal" not in written
