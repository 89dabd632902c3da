"""Who hears how calls end: metrics, and the request log if it wants them. No IO here."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from tfx_encore.gateway.errors import Code
from tfx_encore.gateway.observer import CacheStatus, GatewayObserver
from tfx_encore.gateway.prediction import Freshness
from tfx_encore.gateway.request_record import RequestLog, RequestRecord
from tfx_encore.gateway.rest.raw_answers import RawAnswer
from tfx_encore.gateway.routing import Router
from tfx_encore.gateway.rpc.call import Call

_LOGGED = frozenset({"Predict", "Classify", "Regress", "MultiInference"})


class Ending(NamedTuple):
    """How a call ended.

    Attributes:
        code: OK, or of the error.
        status: where its rows came from.
        body: the serialised response; empty for an error.
        message: of the error; empty if there was none.
        hit_rows: as in `RequestRecord`.
    """

    code: Code
    status: CacheStatus
    body: bytes = b""
    message: str = ""
    hit_rows: bytes = b""


class Recorder:
    """Tells of every call.

    Args:
        router: knows which models there are: names that clients make up are told to nobody.
        observer: told of every call.
        log: may want its messages.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        router: Router,
        observer: GatewayObserver,
        log: RequestLog | None,
        clock: Callable[[], float],
    ) -> None:
        self._router = router
        self._observer = observer
        self._log = log
        self._clock = clock

    def ended(self, call: Call, ending: Ending, hits: int = 0, rows: int = 0) -> None:
        """A call ended."""
        servable = call.servable
        known = servable is not None or bool(self._router.routes(call.model).versions)
        if rows:
            self._observer.rows(call.model, hits, rows)
        self._observer.request(
            protocol="grpc",
            method=call.method,
            model=call.model if known else "",
            version=servable.version if servable else 0,
            signature=call.signature if servable else "",
            code=ending.code,
            status=ending.status,
            seconds=time.perf_counter() - call.begun,
        )
        log = self._log
        if log is not None and call.method in _LOGGED and log.wants(call.model, ending.code):
            log.offer(self._record(call, ending))

    def repeated(self, call: Call, answer: RawAnswer) -> None:
        """A call was answered as an equal one before."""
        source = answer.source
        source.count(time.perf_counter() - call.begun, answer.rows)
        log = self._log
        if log is not None and log.wants(source.model, Code.OK):
            call.model, call.label, call.signature = source.model, source.label, source.signature
            call.servable = source.freshness.servable if source.freshness else None
            log.offer(self._record(call, Ending(Code.OK, "hit", answer.tail)))

    def repeat_counter(
        self, method: str, freshness: Freshness, signature: str
    ) -> Callable[[float, int], None]:
        """Returns what is told the seconds and the rows of each repetition of an answer."""
        observer = self._observer
        model = freshness.pointer.name.model
        told: dict[str, Any] = {
            "protocol": "grpc",
            "method": method,
            "model": model,
            "version": freshness.servable.version,
            "signature": signature,
            "code": Code.OK,
            "status": "hit",
        }
        prepare = getattr(observer, "handle", None)
        if prepare is not None:
            counter: Callable[[float, int], None] = prepare(**told).count
            return counter

        def count(seconds: float, rows: int) -> None:
            observer.rows(model, rows, rows)
            observer.request(**told, seconds=seconds)

        return count

    def _record(self, call: Call, ending: Ending) -> RequestRecord:
        servable = call.servable
        seconds = time.perf_counter() - call.begun
        return RequestRecord(
            protocol="grpc",
            method=call.method,
            model=call.model,
            version=servable.version if servable else 0,
            label=call.label,
            signature=call.signature,
            fingerprint=servable.fingerprint if servable else "",
            request=call.request,
            response=ending.body,
            code=ending.code,
            message=ending.message,
            status=ending.status,
            request_id=call.request_id(),
            received_at=self._clock() - seconds,
            seconds=seconds,
            hit_rows=ending.hit_rows,
        )
