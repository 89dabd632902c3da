"""One request on its way through the REST service, and who is told how it ended. No IO here."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tfx_encore.gateway.errors import Code
from tfx_encore.gateway.observer import CacheStatus, GatewayObserver
from tfx_encore.gateway.request_record import RequestLog, RequestRecord
from tfx_encore.gateway.rest.http_message import HttpRequest, inflate
from tfx_encore.gateway.rest.raw_answers import RawAnswer
from tfx_encore.gateway.routing import Target
from tfx_encore.gateway.servable import Servable

Counter = Callable[[float, int], None]
"""Told the seconds of a request, and how many of its rows were hits if all were."""

_MAX_COUNTERS = 4096


class Exchange:
    """What is known of a request so far.

    Attributes:
        request: as it was read.
        body: of the request, unpacked.
        method: as `Predict`; empty while it is not known.
        target: what it names.
        signature: that is to answer; empty while it is not known.
        servable: that is to answer; None while it is not known.
        rows: of the request, once it is answered.
        hits: of these, answered without the model.
    """

    __slots__ = (
        *("body", "hit_rows", "hits", "method", "request", "rows", "servable", "signature"),
        "target",
    )

    def __init__(self, request: HttpRequest) -> None:
        self.request = request
        self.body = request.body
        self.method = ""
        self.target = _NOTHING
        self.signature = ""
        self.servable: Servable | None = None
        self.rows = 0
        self.hits = 0
        self.hit_rows = b""


class Reporter:
    """Tells observer and request log of requests that were answered.

    Args:
        observer: for metrics.
        log: the request log, if there is one.
        is_model: True for a name that is a model's.
        max_body_bytes: of a request, unpacked; 0 for no limit.
    """

    def __init__(
        self,
        observer: GatewayObserver,
        log: RequestLog | None,
        is_model: Callable[[str], bool],
        max_body_bytes: int,
    ) -> None:
        self._observer = observer
        self._log = log
        self._is_model = is_model
        self._max_body_bytes = max_body_bytes
        self._counters: dict[tuple[str, str, int, str, CacheStatus], Counter] = {}

    def answered(self, exchange: Exchange, status: CacheStatus, response: bytes) -> None:
        """A request was answered well.

        Args:
            exchange: the request; its servable is known.
            status: where its rows came from.
            response: the body of the response.
        """
        servable = exchange.servable
        name, version = exchange.target.model, servable.version if servable else 0
        count = self.counter(exchange.method, name, version, exchange.signature, status)
        seconds = time.perf_counter() - exchange.request.read_at
        if status == "hit":
            count(seconds, exchange.rows)
        else:
            count(seconds, 0)
            if exchange.rows:
                self._observer.rows(name, exchange.hits, exchange.rows)
        if exchange.rows and self._log is not None and self._log.wants(name, Code.OK):
            self.log_answer(exchange, status, response)

    def log_answer(self, exchange: Exchange, status: CacheStatus, response: bytes) -> None:
        """Hands an answer over that the request log wants."""
        self._offer(exchange, status, response, Code.OK, "")

    def failed(self, exchange: Exchange, code: Code, message: str) -> None:
        """A request was refused, or could not be answered."""
        servable = exchange.servable
        name = exchange.target.model
        known = name if servable is not None or self._is_model(name) else ""
        self._observer.request(
            protocol="rest",
            method=exchange.method,
            model=known,
            version=servable.version if servable else 0,
            signature=exchange.signature,
            code=code,
            status="error",
            seconds=time.perf_counter() - exchange.request.read_at,
        )
        loggable = exchange.method in _INFERENCE and known
        if loggable and self._log is not None and self._log.wants(known, code):
            self._offer(exchange, "error", b"", code, message)

    def repeated(
        self, kept: RawAnswer, read_at: float, request_id: bytes = b"", encoding: bytes = b""
    ) -> None:
        """A whole response was sent again; its source has counted it."""
        source = kept.source
        if self._log is None or not self._log.wants(source.model, Code.OK):
            return
        seconds = time.perf_counter() - read_at
        is_packed = b"gzip" in encoding
        body = inflate(kept.request, self._max_body_bytes) if is_packed else kept.request
        record = RequestRecord(
            protocol="rest",
            method=source.method,
            model=source.model,
            version=source.version,
            label=source.label,
            signature=source.signature,
            fingerprint=source.fingerprint,
            request=body,
            response=kept.tail[kept.tail.index(b"\r\n\r\n") + 4 :],
            code=Code.OK,
            message="",
            status="hit",
            request_id=request_id.decode("latin-1"),
            received_at=time.time() - seconds,
            seconds=seconds,
        )
        self._log.offer(record)

    def counter(
        self, method: str, model: str, version: int, signature: str, status: CacheStatus
    ) -> Counter:
        """Returns what counts requests that are answered well and alike."""
        wanted = (method, model, version, signature, status)
        found = self._counters.get(wanted)
        if found is None:
            if len(self._counters) >= _MAX_COUNTERS:
                self._counters.clear()
            found = self._counters[wanted] = self._make_counter(*wanted)
        return found

    def forget(self) -> None:
        """Lets go of counters, which may be of versions that are gone."""
        self._counters.clear()

    def _make_counter(
        self, method: str, model: str, version: int, signature: str, status: CacheStatus
    ) -> Counter:
        told: dict[str, Any] = {
            "protocol": "rest",
            "method": method,
            "model": model,
            "version": version,
            "signature": signature,
            "code": Code.OK,
            "status": status,
        }
        prepare = getattr(self._observer, "handle", None)
        if prepare is not None:
            count: Counter = prepare(**told).count
            return count
        request, rows_answered = self._observer.request, self._observer.rows

        def count_both(seconds: float, hits: int) -> None:
            request(**told, seconds=seconds)
            if hits:
                rows_answered(model, hits, hits)

        return count_both

    def _offer(
        self, exchange: Exchange, status: CacheStatus, response: bytes, code: Code, message: str
    ) -> None:
        servable, target = exchange.servable, exchange.target
        seconds = time.perf_counter() - exchange.request.read_at
        record = RequestRecord(
            protocol="rest",
            method=exchange.method,
            model=target.model,
            version=servable.version if servable else 0,
            label=target.label or "",
            signature=exchange.signature,
            fingerprint=servable.fingerprint if servable else "",
            request=exchange.body,
            response=response,
            code=code,
            message=message,
            status=status,
            request_id=exchange.request.request_id.decode("latin-1"),
            received_at=time.time() - seconds,
            seconds=seconds,
            hit_rows=exchange.hit_rows,
        )
        assert self._log is not None  # its callers have asked it
        self._log.offer(record)


_NOTHING = Target("")
_INFERENCE = frozenset(("Predict", "Classify", "Regress"))
