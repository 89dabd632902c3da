"""The REST API of TensorFlow Serving: requests in, responses out. asyncio.

    known byte for byte -> every row known -> all else by a task

The first two are answered in the step of the event loop in which they are read. A task looks at the
route again when it has the answer, and begins again, from the bytes, if it was switched meanwhile;
between that look and the writing nothing is awaited. So no answer of a version leaves after the
switch away from it.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar, Union

from tfx_encore.gateway.errors import Code, ServingError
from tfx_encore.gateway.inference import MAX_MOVES, RouteMoved
from tfx_encore.gateway.observer import CacheStatus, GatewayObserver
from tfx_encore.gateway.prediction import Prediction
from tfx_encore.gateway.request_record import RequestLog
from tfx_encore.gateway.rest.exchange import Counter, Exchange, Reporter
from tfx_encore.gateway.rest.http_message import (
    HTML,
    JSON,
    TEXT,
    HttpRequest,
    ResponseHeads,
    error_page,
    finished,
    inflate,
    tail_of,
)
from tfx_encore.gateway.rest.json_response import AnswerWriter, error_json
from tfx_encore.gateway.rest.methods import Examples, PointerOf, Predict, Work
from tfx_encore.gateway.rest.model_info import metadata_json, status_json
from tfx_encore.gateway.rest.quick_predict import QuickPredict, RowsRead
from tfx_encore.gateway.rest.raw_answers import (
    MAX_BODY_BYTES,
    MAX_WHOLE_BYTES,
    RawAnswer,
    RawAnswers,
)
from tfx_encore.gateway.rest.routes import Route, is_api, path_of, route_of
from tfx_encore.gateway.routing import Pointer, Router, Target
from tfx_encore.gateway.servable import Servable
from tfx_encore.gateway.status import Models

log = logging.getLogger("tfx_encore.gateway")

P = ParamSpec("P")
T = TypeVar("T")

Page = tuple[str, bytes]
"""Content type and body."""
Metrics = Callable[[], Union[Page, Awaitable[Page]]]

_BIG = 256 * 1024
"""Bodies of more bytes are read, and their answers written, in a thread."""
_BIG_PACKED = 16 * 1024
_MAX_ROUTES = 1024
_MAX_ROUTE_BYTES = 256
_CORS = (
    b"\r\nAccess-Control-Allow-Origin: *"
    b"\r\nAccess-Control-Allow-Methods: POST, GET"
    b"\r\nAccess-Control-Allow-Headers: Content-Type"
)
_METHOD_NAMES = {"status": "GetModelStatus", "metadata": "GetModelMetadata"}


class RestService:
    """Answers HTTP requests.

    Args:
        router: knows which version answers.
        models: knows the state of each version.
        observer: told of every request.
        log: the request log; None for none.
        headers: say in each answer whether it was a hit, and of which model.
        metrics: makes the page of metrics; None for none.
        ready: True if the models that are to answer are warm; None for always.
        max_body_bytes: of a request, unpacked; 0 for no limit but that of gzip bodies.
        raw_bytes: for whole responses kept for equal requests; 0 for none.
        metrics_paths: paths of the page of metrics.
        timeout_seconds: a request that takes longer fails; 0.0 for never.
        cors: send CORS headers.
    """

    def __init__(
        self,
        router: Router,
        models: Models,
        observer: GatewayObserver,
        log: RequestLog | None,
        *,
        headers: bool = True,
        metrics: Metrics | None = None,
        ready: Callable[[], bool] | None = None,
        max_body_bytes: int = 0,
        raw_bytes: int = 64 * 2**20,
        metrics_paths: Sequence[str] = ("/metrics",),
        timeout_seconds: float = 0.0,
        cors: bool = False,
    ) -> None:
        self.heads = ResponseHeads()
        self.max_body_bytes = max_body_bytes
        self.raw = RawAnswers(raw_bytes, self._forget_texts)
        self._router = router
        self._sync = router.sync
        self._models = models
        self._reporter = Reporter(
            observer, log, lambda name: bool(router.routes(name).versions), max_body_bytes
        )
        self._repeated = None if log is None else self._reporter.repeated
        self._wants = None if log is None else log.wants
        self._headers = headers
        self._metrics = metrics
        self._ready = ready
        self._metrics_paths = frozenset(metrics_paths) if metrics else frozenset()
        self._timeout = timeout_seconds
        self._fields = _CORS if cors else b""
        self._writer = AnswerWriter()
        self._quick = QuickPredict(router, self._prepare)
        self._predict = Predict(self._writer)
        self._methods: dict[str, Predict | Examples] = {
            "predict": self._predict,
            "classify": Examples("Classify"),
            "regress": Examples("Regress"),
        }
        self._thread_methods = self._methods | {"predict": Predict()}
        self._routes: dict[bytes, Route] = {}
        self._knows, self._read = self._quick.knows, self._quick.read
        self._said: dict[tuple[str, int, str], bytes] = {}
        self._get_whole = self.raw.get_whole
        self._get = self.raw.get
        self._keeps_raw = raw_bytes > 0
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="rest-body")

    # --- what the connections call ---------------------------------------------------------------

    def repeat(self, data: bytes) -> bytes | None:
        """Returns the response to everything that was received, if it is known; see `learn`."""
        kept = self._get_whole(data)
        if kept is None:
            return None
        begun = time.perf_counter()
        now = time.time()
        if not self._is_synced() or not kept.is_fresh(now):
            self.raw.drop(kept)
            return None
        response = self.heads.start_ok(now) + kept.tail
        kept.asked = True
        if self._repeated is not None:
            self._repeated(kept, begun)
        kept.source.count(time.perf_counter() - begun, kept.rows)
        return response

    def learn(self, data: bytes, request: HttpRequest) -> None:
        """Notes that a request, whose answer was repeated, was all of what was received.

        Args:
            data: what was received.
            request: it is plain: one with an id, or a coding, is not answered by its bytes alone.
        """
        if len(data) <= MAX_WHOLE_BYTES:
            kept = request.kept
            assert isinstance(kept, RawAnswer)  # the caller has seen that it is there
            self.raw.learn(data, kept)

    def answer(self, request: HttpRequest) -> bytes | Coroutine[Any, Any, bytes]:
        """Returns the response, or what makes it; neither raises."""
        if request.method == "POST" and len(request.body) <= MAX_BODY_BYTES:
            response = self._answer_post(request)
            if response is not None:
                return response
        try:
            return self._answer(request)
        except Exception:  # noqa: BLE001 - whatever it is, it is answered and logged
            return self._broken(Exchange(request))

    def tick(self) -> None:
        """Lets go of models that have been replaced; called now and then."""
        self.raw.sweep()
        self._reporter.forget()
        self._quick.forget()

    def clear(self) -> None:
        """Gives up every response and text that is kept, as an erasure demands."""
        self.raw.clear()

    def close(self) -> None:
        """Lets go of threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _forget_texts(self) -> None:
        """Gives up the texts of answers and of features."""
        self._writer = AnswerWriter()
        self._predict.writer = self._writer
        self._quick.clear()

    # --- by the bytes ----------------------------------------------------------------------------

    def _is_synced(self) -> bool:
        """Takes over what other workers agreed on; False if this one may not answer now."""
        try:
            self._sync()
        except ServingError:
            return False  # the full way says why
        return True

    def _again(self, request: HttpRequest, kept: RawAnswer) -> bytes | None:
        now = time.time()
        if not self._is_synced() or not kept.is_fresh(now):
            self.raw.drop(kept)
            return None
        kept.asked = True
        request.kept = kept
        start = self.heads.start_ok(now)
        response = start + kept.tail if request.is_plain else finished(request, start, kept.tail)
        if self._repeated is not None:
            self._repeated(kept, request.read_at, request.request_id, request.encoding)
        kept.source.count(time.perf_counter() - request.read_at, kept.rows)
        return response

    def _answer_post(self, request: HttpRequest) -> bytes | Coroutine[Any, Any, bytes] | None:
        """By the bytes or by the rows; None if the request has to be looked at otherwise."""
        if self._keeps_raw:
            kept = self._get(_key(request))
            if kept is not None:
                response = self._again(request, kept)
                if response is not None:
                    return response
            request.is_seen = self.raw.is_known(request.body)
        if request.encoding or not self._knows(request.url):
            return None
        try:
            read = self._read(request.body, request.url)
            if read is None:
                return None
            # A response that is to be kept needs to know until when.
            answers = None if request.is_seen else read.ready.find(read.rows)
            if answers is not None:
                return self._hit(request, read, self._writer.write(answers))
        except Exception:  # noqa: BLE001 - the full way says better what is wrong
            return None
        return self._go_on(request, read)

    def _hit(self, request: HttpRequest, read: RowsRead, body: bytes) -> bytes:
        ready, rows = read.ready, len(read.rows)
        start, tail = self.heads.start_ok(time.time()), ready.tails[len(body)]
        plain = request.is_plain
        response = start + tail + body if plain else finished(request, start, tail + body)
        ready.count(time.perf_counter() - request.read_at, rows)
        if self._wants is not None and self._wants(read.pointer.name.model, Code.OK):
            exchange = self._exchange(request, read.pointer.name, "Predict")
            exchange.servable, exchange.signature = ready.servable, ready.name
            self._reporter.log_answer(exchange, "hit", body)
        return response

    def _prepare(self, servable: Servable, signature: str) -> tuple[bytes, Counter]:
        said = self._said_of(servable, "hit") + self._fields
        name, version = servable.name, servable.version
        return said, self._reporter.counter("Predict", name, version, signature, "hit")

    def _keep(self, exchange: Exchange, prediction: Prediction, body: bytes) -> None:
        """Keeps a response whose every row was a hit, as a repetition's would be."""
        request, freshness = exchange.request, prediction.freshness
        if freshness is None or prediction.status != "hit":
            return
        name, model = exchange.method, exchange.target.model
        version, signature = freshness.servable.version, exchange.signature
        source = self.raw.source(
            freshness,
            name,
            signature,
            lambda: self._reporter.counter(name, model, version, signature, "hit"),
        )
        tail = tail_of(body, self._said_of(prediction.servable, prediction.status) + self._fields)
        kept = RawAnswer(_key(request), tail, source, freshness.expires_at, prediction.rows)
        kept.request = request.body
        self.raw.put(kept, len(request.url) + len(request.body) + len(request.encoding))

    # --- by what is asked ------------------------------------------------------------------------

    def _answer(self, request: HttpRequest) -> bytes | Coroutine[Any, Any, bytes]:
        exchange = Exchange(request)
        route = self._routes.get(request.url) if request.method == "POST" else None
        if route is None:
            path = path_of(request.url)
            if path is None:
                return self._page(request, 400)
            if not is_api(path):
                return self._beside(request, path.partition("?")[0])
            try:
                route = self._route(request, path)
            except ServingError as error:
                return self._failed(exchange, error)
        exchange.target = route.target
        method = self._methods.get(route.kind)
        if method is not None:
            exchange.method = method.name
            return self._infer(exchange, method)
        if route.kind == "preflight":
            return self.heads.response(request, 200, b"", b"", self._fields)
        exchange.method = _METHOD_NAMES[route.kind]
        return self._inform(exchange, route)

    def _route(self, request: HttpRequest, path: str) -> Route:
        route = route_of(request.method, path, request.origin)
        if request.method == "POST" and len(request.url) <= _MAX_ROUTE_BYTES:
            if len(self._routes) >= _MAX_ROUTES:
                self._routes.clear()
            self._routes[request.url] = route
            if route.kind == "predict":
                self._quick.learn(request.url, route.target)
        return route

    def _beside(self, request: HttpRequest, path: str) -> bytes | Coroutine[Any, Any, bytes]:
        """What is not of the REST API."""
        if path == "/healthz":
            return self.heads.response(request, 200, TEXT, b"ok\n")
        if path == "/readyz":
            is_ready = self._ready is None or self._ready()
            text = b"ready\n" if is_ready else b"not ready\n"
            return self.heads.response(request, 200 if is_ready else 503, TEXT, text)
        if path in self._metrics_paths and self._metrics is not None:
            page = self._metrics()
            if inspect.isawaitable(page):
                return self._metrics_page(request, page)
            return self.heads.response(request, 200, page[0].encode(), page[1])
        return self._page(request, 404)

    async def _metrics_page(self, request: HttpRequest, page: Awaitable[Page]) -> bytes:
        try:
            kind, text = await page
        except Exception:
            log.exception("metrics failed")
            return self.heads.response(request, 500, TEXT, b"the metrics cannot be had now\n")
        return self.heads.response(request, 200, kind.encode(), text)

    def _inform(self, exchange: Exchange, route: Route) -> bytes:
        target = route.target
        try:
            if route.kind == "status":
                # A label is not looked at, as in TensorFlow Serving.
                body = status_json(self._models.status(target.model, target.version))
            else:
                servable = exchange.servable = self._router.pointer(target).target
                assert servable is not None  # `pointer` raises where there is none
                body = metadata_json(servable)
        except ServingError as error:
            return self._failed(exchange, error)
        self._reporter.answered(exchange, "off", body)
        return self.heads.response(exchange.request, 200, JSON, body, self._fields)

    # --- inference -------------------------------------------------------------------------------

    def _infer(
        self, exchange: Exchange, method: Predict | Examples
    ) -> bytes | Coroutine[Any, Any, bytes]:
        request = exchange.request
        is_packed = b"gzip" in request.encoding
        if len(request.body) > (_BIG_PACKED if is_packed else _BIG):
            method = self._thread_methods[method.name.lower()]
            return self._in_time(exchange, self._finish_big(exchange, method, is_packed))
        try:
            if is_packed:
                exchange.body = inflate(request.body, self.max_body_bytes)
        except ServingError as error:
            return self._failed(exchange, error)
        return self._begin(
            exchange,
            method,
            lambda: method.open(exchange, lambda: self._router.pointer(exchange.target)),
        )

    def _go_on(self, request: HttpRequest, read: RowsRead) -> bytes | Coroutine[Any, Any, bytes]:
        """Answers a request that was read by its rows, and of which some may be missing."""
        exchange = self._exchange(request, read.pointer.name, "Predict")
        predict = self._predict
        return self._begin(exchange, predict, lambda: predict.open_rows(exchange, read))

    def _begin(
        self, exchange: Exchange, method: Predict | Examples, opened: Callable[[], Work]
    ) -> bytes | Coroutine[Any, Any, bytes]:
        work = None
        try:
            work = opened()
            prediction = work.attempt.now()
            if prediction is not None:
                return self._done(exchange, prediction, work.body(prediction))
        except ServingError as error:
            return self._failed(exchange, error)
        except RouteMoved:
            work = None
        except Exception:  # noqa: BLE001 - as in `answer`
            return self._broken(exchange)
        return self._in_time(exchange, self._finish(exchange, method, work))

    async def _finish(
        self, exchange: Exchange, method: Predict | Examples, work: Work | None
    ) -> bytes:
        """Answers a request that has to wait."""
        for _ in range(MAX_MOVES):
            try:
                if work is None:
                    work = method.open(exchange, lambda: self._router.pointer(exchange.target))
                prediction = await work.attempt.finish()
                self._check_route(work)
                return self._done(exchange, prediction, work.body(prediction))
            except ServingError as error:
                if work is None or not self._is_moved(work):
                    return self._failed(exchange, error)
            except RouteMoved:
                pass
            except Exception:  # noqa: BLE001 - as in `answer`
                return self._broken(exchange)
            work = None
        return self._failed(exchange, _MOVED)

    async def _finish_big(
        self, exchange: Exchange, method: Predict | Examples, is_packed: bool
    ) -> bytes:
        """The same for a large body: what takes long is done in a thread."""
        request, work = exchange.request, None
        for _ in range(MAX_MOVES):
            try:
                if is_packed:
                    exchange.body = await self._in_thread(
                        inflate, request.body, self.max_body_bytes
                    )
                    is_packed = False
                work = await self._in_thread(method.open, exchange, self._resolved(exchange))
                prediction = work.attempt.now() or await work.attempt.finish()
                body = await self._in_thread(work.body, prediction)
                self._check_route(work)
                return self._done(exchange, prediction, body)
            except ServingError as error:
                if work is None or not self._is_moved(work):
                    return self._failed(exchange, error)
            except RouteMoved:
                pass
            except Exception:  # noqa: BLE001 - as in `answer`
                return self._broken(exchange)
            work = None
        return self._failed(exchange, _MOVED)

    async def _in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        call = functools.partial(function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def _resolved(self, exchange: Exchange) -> PointerOf:
        """What the request names, looked up here and now for use in a thread."""
        try:
            pointer = self._router.pointer(exchange.target)
        except ServingError as error:
            missing = error

            def nothing() -> Pointer:
                raise missing

            return nothing
        return lambda: pointer

    def _exchange(self, request: HttpRequest, target: Target, method: str) -> Exchange:
        exchange = Exchange(request)
        exchange.target, exchange.method = target, method
        return exchange

    def _is_moved(self, work: Work) -> bool:
        self._is_synced()
        return work.attempt.pointer.target is not work.attempt.servable

    def _check_route(self, work: Work) -> None:
        self._sync()  # raises where this worker may not answer now
        if self._is_moved(work):
            raise RouteMoved

    async def _in_time(self, exchange: Exchange, work: Coroutine[Any, Any, bytes]) -> bytes:
        """Answers within the timeout, or says that it was not to be had."""
        if not self._timeout:
            return await work
        task = asyncio.current_task()
        assert task is not None  # a coroutine of ours is always run by one
        is_late = []

        def stop() -> None:
            is_late.append(True)
            task.cancel()

        timer = asyncio.get_running_loop().call_later(self._timeout, stop)
        try:
            return await work
        except asyncio.CancelledError:
            if not is_late:
                raise
            return self._failed(exchange, _LATE)
        finally:
            timer.cancel()

    # --- responses -------------------------------------------------------------------------------

    def _done(self, exchange: Exchange, prediction: Prediction, body: bytes) -> bytes:
        exchange.servable = prediction.servable
        exchange.rows, exchange.hits = prediction.rows, prediction.hits
        exchange.hit_rows = prediction.hit_rows()
        fields = self._said_of(prediction.servable, prediction.status) + self._fields
        response = self.heads.response(exchange.request, 200, JSON, body, fields)
        if exchange.request.is_seen:
            self._keep(exchange, prediction, body)
        self._reporter.answered(exchange, prediction.status, body)
        return response

    def _said_of(self, servable: Servable, status: CacheStatus) -> bytes:
        """The header lines that say whether it was a hit, and of which model."""
        if not self._headers:
            return b""
        wanted = (servable.fingerprint, servable.version, status)
        said = self._said.get(wanted)
        if said is None:
            if len(self._said) >= _MAX_ROUTES:
                self._said.clear()
            lines = (
                f"\r\nx-encore-cache: {status}"
                f"\r\nx-encore-fingerprint: {servable.fingerprint}"
                f"\r\nx-encore-version: {servable.version}"
            )
            said = self._said[wanted] = lines.encode("ascii", errors="replace")
        return said

    def _failed(self, exchange: Exchange, error: ServingError) -> bytes:
        self._reporter.failed(exchange, error.code, error.message)
        body = error_json(error.message)
        request = exchange.request
        return self.heads.response(request, error.http_status, JSON, body, self._fields)

    def _broken(self, exchange: Exchange) -> bytes:
        """Answers a request that met an error of ours. Called while it is being handled."""
        log.exception("request failed url=%r", exchange.request.url[:_MAX_ROUTE_BYTES])
        return self._failed(exchange, ServingError(Code.INTERNAL, "Internal error."))

    def _page(self, request: HttpRequest, status: int) -> bytes:
        """As libevent refuses what no handler takes: it closes the connection, too."""
        request.close_after()
        return self.heads.response(request, status, HTML, error_page(status))


def _key(request: HttpRequest) -> tuple[bytes, ...] | None:
    if len(request.body) > MAX_BODY_BYTES:
        return None
    if request.encoding:
        return (request.url, request.body, request.encoding)
    return (request.url, request.body)


_MOVED = ServingError(
    Code.UNAVAILABLE, "The model was switched again and again while the request was answered."
)
# The words of a session whose time is up (tensorflow/core/common_runtime/direct_session.cc).
_LATE = ServingError(Code.DEADLINE_EXCEEDED, "Timed out waiting for notification")
