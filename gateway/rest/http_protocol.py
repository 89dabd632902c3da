"""HTTP/1.x on one connection: reading requests, answering them in order. asyncio.

    received -> known as a whole  -> written at once
             -> known head, and body -> request -> answered at once, or by a task, or it waits
             -> parser               -> request -> likewise

At most one request of a connection is being answered by a task; those behind it wait in a queue,
and once that is long nothing more is read. Nothing is read either while the client does not read
what it was sent.

Connections keep no timers: `Connections.tick` looks at all of them now and then, so that a request
costs no clock.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, Protocol, Union, cast

import httptools

from tfx_encore.gateway.rest.http_message import (
    HTML,
    HttpPolicy,
    HttpRequest,
    ResponseHeads,
    error_page,
)

log = logging.getLogger("tfx_encore.gateway")

# Those that libevent is told to take; the others are not implemented.
_METHODS = {
    name.encode(): name for name in ("GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH")
}
_MAX_WAITING_BYTES = 1024 * 1024
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_WANTED = frozenset(
    (
        *(b"content-encoding", b"content-length", b"expect", b"origin", b"transfer-encoding"),
        b"x-request-id",
    )
)
_PLAIN = frozenset((b"content-length",))
_VERSIONS = frozenset(("1.0", "1.1"))
_EMPTY_LINE = b"\r\n\r\n"
_MAX_KNOWN = 1024
_MAX_KNOWN_BYTES = 4096

Work = Union[bytes, Coroutine[Any, Any, bytes]]


class HttpService(Protocol):
    """Whoever answers requests."""

    heads: ResponseHeads

    @property
    def max_body_bytes(self) -> int:
        """Largest body as it is sent; 0 for no limit."""
        ...

    def repeat(self, data: bytes) -> bytes | None:
        """Returns the response to everything that was received, if it is known."""
        ...

    def learn(self, data: bytes, request: HttpRequest) -> None:
        """Notes that a request, whose answer was repeated, was all of what was received."""
        ...

    def answer(self, request: HttpRequest) -> Work:
        """Returns the response, or what makes it; neither raises."""
        ...

    def tick(self) -> None:
        """Called now and then."""
        ...


class _Refused(Exception):  # noqa: N818 - ends the parsing, and is caught at once
    """A request is refused before it was read to its end."""

    def __init__(self, status: int) -> None:
        self.status = status


class KnownHead(NamedTuple):
    """What the parser made of the head of a request, with nothing unusual in it.

    Attributes:
        url: of the request.
        length: of its body.
    """

    url: bytes
    length: int


KnownHeads = dict[bytes, KnownHead]
"""Heads by their bytes, up to the empty line: equal ones mean the same, and need no parser."""


class HttpConnection(asyncio.Protocol):
    """One connection.

    Args:
        service: answers the requests.
        policy: what the connection may cost.
        connections: all of them; this one is among them while it is open.
        heads: of plain POST requests of all connections.
    """

    def __init__(
        self,
        service: HttpService,
        policy: HttpPolicy,
        connections: set[HttpConnection],
        heads: KnownHeads,
    ) -> None:
        self._heads = heads
        self._service = service
        self._repeat = service.repeat
        self._policy = policy
        self._connections = connections
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._write: Callable[[bytes], None] = _lost
        self._parser = httptools.HttpRequestParser(self)
        # Quick: between two requests, none waits, and nothing hinders the next.
        self._quick = False
        self._task: asyncio.Task[None] | None = None
        self._queue: deque[HttpRequest] = deque()
        self._being_answered: HttpRequest | None = None
        self._client_reads = True
        self._reads = True
        self._client_is_done = False
        self._is_refused = False
        self._is_ending = False
        self._is_draining = False
        # What is being read.
        self._begun = 0
        self._finished = 0
        self._last: HttpRequest | None = None
        self._in_head = False
        self._in_body = False
        self._head_size = 0
        self._fields_size = 0
        self._body_size = 0
        self._url = b""
        self._fields: dict[bytes, bytes] = {}
        self._pieces: list[bytes] = []
        self._again = b""
        self._wants_continue = False
        # For `look_after`.
        self._is_active = True
        self._phase: tuple[str, int] = ("idle", 0)
        self._since = 0.0

    # --- called by the loop ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client is connected."""
        self._transport = cast(asyncio.Transport, transport)
        self._write = self._transport.write
        self._connections.add(self)
        self._settle()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone. What is computed for it is finished, for others may want it."""
        del exc
        self._connections.discard(self)
        self._is_ending = True
        self._quick = False
        self._write = _lost
        self._queue.clear()

    def data_received(self, data: bytes) -> None:
        """The client has sent something."""
        self._is_active = True
        if self._quick:
            answer = self._repeat(data)
            if answer is not None:
                self._write(answer)
                return
            end = data.find(_EMPTY_LINE) + 4
            head = self._heads.get(data[:end])
            if head is not None and len(data) - end == head.length:
                self._take(data, head.url, data[end:])
                return
        self._read(data)

    def eof_received(self) -> bool:
        """The client sends no more, but may still read; it gets its answers."""
        self._client_is_done = True
        if self._is_refused or not (self._task or self._queue):
            return False
        # TLS has no half-closed connections: the transport closes it.
        return self._transport.get_extra_info("sslcontext") is None

    def pause_writing(self) -> None:
        """The client does not read what it is sent."""
        self._client_reads = False
        self._settle()

    def resume_writing(self) -> None:
        """It does."""
        self._client_reads = True
        self._answer_waiting()

    # --- reading ---------------------------------------------------------------------------------

    def _take(self, data: bytes, url: bytes, body: bytes) -> None:
        """Answers a request whose head is known, while nothing else is under way."""
        request = HttpRequest("POST", url, body)
        request.read_at = time.perf_counter()
        work = self._service.answer(request)
        if isinstance(work, bytes):
            self._send(request, work)
        else:
            self._wait(request, work)
            self._settle()
        if request.kept is not None:
            self._service.learn(data, request)

    def _read(self, data: bytes) -> None:
        if self._is_ending or self._is_refused:
            return
        was_quick, finished = self._quick, self._finished
        begun, body_size = self._begun, self._body_size
        if not self._parse(data):
            return
        if begun == self._begun and (self._in_head or body_size == self._body_size):
            # A head, a trailer or a chunk's extension that does not end is kept by the parser.
            self._head_size += len(data)
            if self._head_size > self._policy.head_bytes and not self._is_between:
                self._refuse(431)
                return
        self._continue()
        self._settle()
        last = self._last
        if last is not None and was_quick and self._finished == finished + 1 and self._is_between:
            self._learn(data, last)

    def _learn(self, data: bytes, request: HttpRequest) -> None:
        """Remembers a request that was all of what was received."""
        if not request.is_plain:
            return
        if request.kept is not None:
            self._service.learn(data, request)
        end = data.find(_EMPTY_LINE) + 4
        # Chunks make what was sent longer than the body; so does what stands before the request.
        if end <= _MAX_KNOWN_BYTES and data[end:] == request.body:
            if len(self._heads) >= _MAX_KNOWN:
                self._heads.clear()
            self._heads[data[:end]] = KnownHead(request.url, len(request.body))

    def _parse(self, data: bytes) -> bool:
        """Has the parser call back for what is in the data; False if that is refused."""
        self._last = None
        try:
            while data:
                data = self._feed(data)
        except httptools.HttpParserCallbackError as error:
            self._stop_reading(error)
            return False
        except httptools.HttpParserError:
            self._refuse(400)
            return False
        return True

    def _feed(self, data: bytes) -> bytes:
        """Returns what the parser leaves: what follows a head that asks for another protocol.

        None is spoken here. The parser takes it that one is, and that there is no body; so the head
        is read again without asking.
        """
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            head, self._again = self._again, b""
            self._parser = httptools.HttpRequestParser(self)
            return head + data[upgrade.args[0] :]
        return b""

    def _stop_reading(self, error: httptools.HttpParserCallbackError) -> None:
        cause = error.__context__
        if isinstance(cause, _Refused):
            self._refuse(cause.status)
        else:
            log.error("request failed", exc_info=cause)
            self._refuse(500)

    def _refuse(self, status: int) -> None:
        """Refuses what is being read, once what came before it is answered."""
        if self._is_refused or self._is_ending:
            return
        self._is_refused = True
        refused = HttpRequest("GET", b"")
        refused.close_after()
        refused.refusal = status
        self._queue.append(refused)
        self._in_head = self._in_body = False
        self._answer_waiting()

    # --- called by the parser --------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins."""
        self._begun += 1
        self._in_head = True
        self._head_size = self._fields_size = 0
        self._url = b""
        self._body_size = 0
        if self._fields:
            self._fields = {}

    def on_url(self, url: bytes) -> None:
        """A part of the URL."""
        self._url += url
        if len(self._url) > self._policy.head_bytes:
            raise _Refused(431)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer."""
        self._fields_size += len(name) + len(value) + 4
        if self._fields_size > self._policy.head_bytes:
            raise _Refused(431)
        if self._in_head:
            name = name.lower()
            if name in _WANTED and name not in self._fields:
                self._fields[name] = value

    def on_headers_complete(self) -> None:
        """The body follows."""
        self._in_head = False
        self._in_body = True
        fields = self._fields
        if not fields:
            return
        limit = self._service.max_body_bytes
        if limit and _number(fields.get(b"content-length", b"")) > limit:
            raise _Refused(413)
        expect = fields.get(b"expect")
        if expect is not None and self._parser.get_http_version() == "1.1":
            if expect.lower() != b"100-continue":
                raise _Refused(417)
            self._wants_continue = True

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._wants_continue = False
        self._pieces.append(body)
        self._body_size += len(body)
        limit = self._service.max_body_bytes
        if limit and self._body_size > limit:
            raise _Refused(413)

    def on_message_complete(self) -> None:
        """The request is there."""
        if self._parser.should_upgrade() and self._parser.get_method() != b"CONNECT":
            self._again = self._plain_head()
            self._begun -= 1
            return
        request = self._request()
        self._finished += 1
        self._last = request
        if self._task or self._queue or not self._client_reads:
            self._queue.append(request)
        elif not self._is_ending:
            self._answer(request)

    def _plain_head(self) -> bytes:
        """The head that was read, without what asks for another protocol."""
        parser = self._parser
        fields = dict(self._fields)
        if not parser.should_keep_alive():
            fields[b"connection"] = b"close"
        lines = b"".join(b"%b: %b\r\n" % field for field in fields.items())
        version = parser.get_http_version().encode()
        return b"%b %b HTTP/%b\r\n%b\r\n" % (parser.get_method(), self._url, version, lines)

    def _request(self) -> HttpRequest:
        parser, pieces, fields = self._parser, self._pieces, self._fields
        self._in_body = self._wants_continue = False
        method = _METHODS.get(parser.get_method())
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        request = HttpRequest(method or "", self._url, body)
        pieces.clear()
        version = parser.get_http_version()
        request.is_1_1 = version == "1.1"
        request.keep_alive = parser.should_keep_alive()
        if fields:
            request.encoding = fields.get(b"content-encoding", b"")
            request.request_id = fields.get(b"x-request-id", b"")
            request.origin = fields.get(b"origin", b"")
        request.is_plain = (
            method == "POST" and request.is_1_1 and request.keep_alive and fields.keys() <= _PLAIN
        )
        if method is None or version not in _VERSIONS:
            request.refusal = 501 if version in _VERSIONS else 400
            request.close_after()
        request.read_at = time.perf_counter()
        return request

    # --- answering -------------------------------------------------------------------------------

    def _answer(self, request: HttpRequest) -> None:
        """Answers a request that is the first of all that wait."""
        if self._is_draining and not self._begun - self._finished and not self._queue:
            request.close_after()
        if request.refusal:
            self._send(request, self._refusal(request))
            return
        work = self._service.answer(request)
        if isinstance(work, bytes):
            self._send(request, work)
        else:
            self._wait(request, work)

    def _wait(self, request: HttpRequest, work: Coroutine[Any, Any, bytes]) -> None:
        self._being_answered = request
        self._task = asyncio.get_running_loop().create_task(self._finish(request, work))

    async def _finish(self, request: HttpRequest, work: Coroutine[Any, Any, bytes]) -> None:
        try:
            response = await work
        except Exception:
            log.exception("request failed url=%r", request.url[:200])
            self._transport.abort()
            return
        finally:
            self._task = self._being_answered = None
        # Nothing is awaited between here and the last look at the route.
        self._send(request, response)
        self._answer_waiting()

    def _send(self, request: HttpRequest, response: bytes) -> None:
        self._is_active = True
        self._write(response)
        if not request.keep_alive:
            self._end(linger=request.refusal != 0)

    def _answer_waiting(self) -> None:
        queue = self._queue
        while queue and self._client_reads and not self._task and not self._is_ending:
            self._answer(queue.popleft())
        self._continue()
        self._settle()

    def _refusal(self, request: HttpRequest) -> bytes:
        page = error_page(request.refusal)
        return self._service.heads.response(request, request.refusal, HTML, page)

    def _continue(self) -> None:
        """Tells a client that waits for it to go on, once everything before is answered."""
        if self._wants_continue and not self._task and not self._queue and not self._is_ending:
            self._wants_continue = False
            self._write(_CONTINUE)

    def _settle(self) -> None:
        """Reads on or not, and ends the connection if nothing is left to do, as things are now."""
        waiting = bool(self._task or self._queue)
        if self._is_ending:
            self._quick = False
            return
        if self._client_is_done and not waiting:
            self._end()
            return
        hinders = waiting or self._is_refused or self._is_draining or not self._client_reads
        self._quick = self._is_between and not hinders
        reads = self._client_reads and not (waiting and self._is_queue_full())
        if reads != self._reads and not self._transport.is_closing():
            self._reads = reads
            if reads:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def _is_queue_full(self) -> bool:
        queue = self._queue
        full = len(queue) >= self._policy.max_waiting
        return full or sum(len(request.body) for request in queue) > _MAX_WAITING_BYTES

    @property
    def _is_between(self) -> bool:
        """True between two requests."""
        return not (self._in_head or self._in_body)

    # --- ending ----------------------------------------------------------------------------------

    def _end(self, *, linger: bool = False) -> None:
        """Closes the connection once what was written is sent.

        Args:
            linger: go on reading for a while. Closing with something unread resets the connection,
                and the client would not get to see the answer.
        """
        self._is_ending = True
        self._quick = False
        self._queue.clear()
        is_open = not (self._client_is_done or self._transport.is_closing())
        if linger and is_open and self._transport.can_write_eof():
            if not self._reads:
                self._reads = True
                self._transport.resume_reading()
            self._transport.write_eof()
        else:
            self._transport.close()

    def drain(self) -> None:
        """From now on the last answer that is under way closes the connection."""
        self._is_draining = True
        self._quick = False
        answered = self._being_answered
        if answered is not None and self._begun == self._finished and not self._queue:
            answered.close_after()

    @property
    def is_idle(self) -> bool:
        """True if no request is being read or answered."""
        return self._is_between and not (self._task or self._queue)

    def close(self) -> None:
        """Ends the connection now, as soon as what was written is sent."""
        if not self._is_ending:
            self._end()

    def abort(self) -> None:
        """Ends the connection at once, whatever is under way."""
        if self._task is not None:
            self._task.cancel()
        self._transport.abort()

    def look_after(self, now: float) -> None:
        """Ends the connection if its client takes too long.

        Args:
            now: seconds, never going back.
        """
        phase = self._present_phase()
        if phase != self._phase or (phase[0] == "idle" and self._is_active):
            self._phase, self._since = phase, now
        self._is_active = False
        limit = self._limit(phase[0])
        if limit is None or now - self._since <= limit:
            return
        if phase[0] == "idle":
            self._end()
        else:
            self._transport.abort()

    def _present_phase(self) -> tuple[str, int]:
        """What the connection waits for, and a number that changes as it gets on."""
        if self._is_ending:
            return ("ending", 0)
        if not self._client_reads:
            return ("writing", self._transport.get_write_buffer_size())
        if self._task or self._queue:
            return ("answering", 0)
        if self._in_head:
            return ("head", self._begun)
        if self._in_body:
            return ("body", self._begun)
        return ("idle", 0)

    def _limit(self, phase: str) -> float | None:
        """Seconds that a phase may take."""
        policy = self._policy
        if phase == "body":
            return policy.body_seconds + self._body_size / policy.body_bytes_per_second
        if phase == "ending":
            return policy.linger_seconds if self._is_refused else policy.write_seconds
        limits = {
            "writing": policy.write_seconds,
            "head": policy.head_seconds,
            "idle": policy.idle_seconds,
        }
        return limits.get(phase)


def _number(digits: bytes) -> int:
    return int(digits) if digits.isdigit() and len(digits) < 20 else 0


def _lost(_: bytes) -> None:
    """The connection is lost, and what is written to it with it."""
