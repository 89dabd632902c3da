"""HTTP/1.x messages: a request as it was read, the head of a response. No IO here.

What a response looks like on the wire is what libevent 2.1 makes of it for TensorFlow Serving
(http.c, evhttp_make_header_response and evhttp_send_error): Content-Type, Date, Content-Length, in
this order; its reason phrases; a page of HTML for what never reaches a handler.
"""

from __future__ import annotations

import math
import time
import zlib
from email.utils import formatdate

from pydantic import BaseModel, ConfigDict, Field

from tfx_encore.gateway.errors import Code, ServingError

JSON = b"application/json"
TEXT = b"text/plain"
HTML = b"text/html"

MAX_INFLATED_BYTES = 100 * 1024 * 1024
"""Of a gzip body where nothing else is said (net_http/compression/gzip_zlib.h)."""

_REASONS = {
    200: b"OK",
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    409: b"Conflict",
    413: b"Request Entity Too Large",
    417: b"Expectation Failed",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    503: b"Service Unavailable",
    504: b"Gateway Time-out",
}


class HttpPolicy(BaseModel):
    """What a connection may cost, and how long it may take."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    head_bytes: int = Field(
        default=64 * 1024, ge=256, description="Request line and headers of a request at most."
    )
    head_seconds: float = Field(
        default=30.0, gt=0.0, description="Time for the request line and the headers."
    )
    body_seconds: float = Field(
        default=50.0, gt=0.0, description="Time for a body, beside what its size is given."
    )
    body_bytes_per_second: int = Field(
        default=4096, ge=1, description="A body is given a second more for so many bytes."
    )
    idle_seconds: float = Field(
        default=120.0, gt=0.0, description="How long a connection is kept between requests."
    )
    write_seconds: float = Field(
        default=50.0, gt=0.0, description="A client that reads nothing for so long is let go."
    )
    max_waiting: int = Field(
        default=64,
        ge=1,
        le=65_536,
        description="Requests of one connection that wait their turn; beyond it nothing more is "
        "read from it.",
    )
    linger_seconds: float = Field(
        default=2.0,
        gt=0.0,
        description="How long what a refused client still sends is read and thrown away, so that "
        "it gets to see the refusal.",
    )


class HttpRequest:
    """One request.

    Attributes:
        method: as `POST`.
        url: as it was sent.
        body: as it was sent, without chunks.
        is_1_1: False for HTTP/1.0.
        keep_alive: False if the connection is closed after the answer.
        encoding: Content-Encoding, empty if there is none.
        request_id: x-request-id, empty if there is none.
        origin: Origin, empty if there is none.
        is_plain: True for a POST by HTTP/1.1 that keeps the connection, without any of these.
        refusal: status with which it is refused unseen; 0 if it is not.
        read_at: `time.perf_counter()` when its last byte was read.
        is_seen: True if an equal body came before, not long ago.
        kept: what the answer was repeated from; None if it was made.
    """

    is_1_1 = True
    keep_alive = True
    encoding = b""
    request_id = b""
    origin = b""
    is_plain = True
    refusal = 0
    read_at = 0.0
    is_seen = False
    kept: object = None

    def __init__(self, method: str, url: bytes, body: bytes = b"") -> None:
        self.method = method
        self.url = url
        self.body = body

    def close_after(self) -> None:
        """Has the answer be the last one of its connection."""
        self.keep_alive = self.is_plain = False


class ResponseHeads:
    """Begins responses: status line, Content-Type and Date, each made once a second."""

    def __init__(self) -> None:
        self._since = self._until = 0.0
        self._date = b""
        self._starts: dict[tuple[int, bytes], bytes] = {}
        self._ok = b""

    def start_ok(self, now: float) -> bytes:
        """The same as `start` of a JSON answer of status 200; quicker."""
        if not self._since <= now < self._until:
            self._renew(now)
        return self._ok

    def start(self, status: int, content_type: bytes, now: float) -> bytes:
        """Returns what a response begins with, up to the end of the Date.

        Args:
            status: of HTTP.
            content_type: empty for none.
            now: seconds since 1970.
        """
        if not self._since <= now < self._until:
            self._renew(now)
        wanted = (status, content_type)
        found = self._starts.get(wanted)
        if found is None:
            kind = b"\r\nContent-Type: " + content_type if content_type else b""
            found = b"HTTP/1.1 %d %b%b\r\nDate: %b" % (status, reason(status), kind, self._date)
            self._starts[wanted] = found
        return found

    def response(
        self,
        request: HttpRequest,
        status: int,
        content_type: bytes,
        body: bytes,
        fields: bytes = b"",
    ) -> bytes:
        """Returns a whole response.

        Args:
            request: that is answered.
            status: of HTTP.
            content_type: empty for none.
            body: of the response.
            fields: further header lines, each after its line break.
        """
        start = self.start(status, content_type, time.time())
        return finished(request, start, tail_of(body, fields))

    def _renew(self, now: float) -> None:
        self._date = formatdate(math.floor(now), usegmt=True).encode()
        self._starts.clear()
        self._since = math.floor(now)
        self._until = self._since + 1.0
        self._ok = self.start(200, JSON, now)


def reason(status: int) -> bytes:
    """Returns the phrase of a status; that of its class for what libevent does not know."""
    return _REASONS.get(status) or (b"Server Error" if status >= 500 else b"Client Error")


def tail_of(body: bytes, fields: bytes = b"") -> bytes:
    """Returns what follows the Date and Connection: Content-Length, further fields and the body."""
    return b"\r\nContent-Length: %d%b\r\n\r\n%b" % (len(body), fields, body)


def finished(request: HttpRequest, start: bytes, tail: bytes) -> bytes:
    """Puts a response together as the request's version, method and connection want it."""
    if request.keep_alive and request.is_1_1 and request.method != "HEAD":
        return start + tail
    connection = b""
    if not request.keep_alive:
        connection = b"\r\nConnection: close"
    elif not request.is_1_1:
        connection = b"\r\nConnection: keep-alive"
    if not request.is_1_1:
        start = b"HTTP/1.0" + start[8:]
    if request.method == "HEAD":
        tail = tail[: tail.index(b"\r\n\r\n") + 4]
    return start + connection + tail


def error_page(status: int) -> bytes:
    """Returns the page that libevent sends for what no handler takes."""
    phrase = reason(status)
    title = b"<TITLE>%d %b</TITLE>" % (status, phrase)
    head = b"<HTML><HEAD>\n%b\n</HEAD>" % title
    return b"%b<BODY>\n<H1>%b</H1>\n</BODY></HTML>\n" % (head, phrase)


class BodyTooLargeError(ServingError):
    """A body is larger than the server takes."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            Code.RESOURCE_EXHAUSTED, f"The request's body is larger than {limit} bytes."
        )

    @property
    def http_status(self) -> int:
        """413, as libevent answers a body beyond its limit."""
        return 413


def inflate(data: bytes, limit: int) -> bytes:
    """Returns a gzip body unpacked; empty if it is none, as TensorFlow Serving has it.

    Args:
        data: one or several gzip members.
        limit: bytes that it may unpack to; 0 for TensorFlow Serving's default.

    Raises:
        ServingError: it unpacks to more.
    """
    most = limit or MAX_INFLATED_BYTES
    parts: list[bytes] = []
    size = 0
    while data:
        member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        try:
            part = member.decompress(data, most - size + 1)
        except zlib.error:
            return b""
        size += len(part)
        if size > most:
            raise BodyTooLargeError(most)
        if not member.eof:
            return b""
        parts.append(part)
        data = member.unused_data.lstrip(b"\0")
    return b"".join(parts)
