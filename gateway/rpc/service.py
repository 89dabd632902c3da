"""The gRPC services: raw answers, codes and metadata around the methods. asyncio.

    raw answers -> method.open -> work.now -> work.finish, begun again if the route moved

A handler gets the request's bytes and gives the response's: messages are only read where they must
be. Nothing is awaited between the last look at the route and handing the response to grpc.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any

import grpc

from tfx_encore.gateway.errors import Code, ServingError
from tfx_encore.gateway.inference import MAX_MOVES, RouteMoved
from tfx_encore.gateway.observer import CacheStatus, GatewayObserver
from tfx_encore.gateway.prediction import Freshness
from tfx_encore.gateway.request_record import RequestLog
from tfx_encore.gateway.rest.raw_answers import MAX_BODY_BYTES, RawAnswer, RawAnswers
from tfx_encore.gateway.routing import Router
from tfx_encore.gateway.rpc.call import Call, Done, Method
from tfx_encore.gateway.rpc.examples import MultiInference, SingleTask
from tfx_encore.gateway.rpc.metadata import get_model_metadata, get_model_status, handle_reload
from tfx_encore.gateway.rpc.predict import Predict
from tfx_encore.gateway.rpc.quick_rows import RowMakers
from tfx_encore.gateway.rpc.recorder import Ending, Recorder
from tfx_encore.gateway.signature import CLASSIFY, REGRESS
from tfx_encore.gateway.status import Models

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"

_LOG = logging.getLogger("tfx_encore.gateway")
_STATUS = {code.value[0]: code for code in grpc.StatusCode}
_MAX_MESSAGE = 1024  # bytes; tensorflow_serving/model_servers/grpc_status_util.cc
_SWEEP_EVERY = 64  # answers kept

Context = Any  # grpc.aio.ServicerContext; grpc has no types
Handler = Callable[[bytes, Context], Awaitable[bytes]]
Trailers = tuple[tuple[str, str], ...]


class GrpcService:
    """PredictionService and ModelService.

    Args:
        router: knows which version answers.
        models: knows the state of every version, and changes what is served.
        observer: told of every call.
        log: where answered and failed calls may be logged.
        headers: whether answers bear `x-encore-cache`, `-fingerprint` and `-version`, in trailing
            metadata.
        raw_bytes: memory for whole responses at most; 0 keeps none.
        metric: value of a metric by name, for HandleReloadConfigRequest.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        router: Router,
        models: Models,
        observer: GatewayObserver,
        log: RequestLog | None = None,
        *,
        headers: bool = True,
        raw_bytes: int = 0,
        metric: Callable[[str], int] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        # That class keeps a third of its budget for what only REST has.
        self.raw = RawAnswers(raw_bytes * 3 // 2)
        self._router = router
        self._models = models
        self._recorder = Recorder(router, observer, log, clock)
        self._headers = headers
        self._metric = metric
        self._clock = clock
        self._unswept = 0

    def handlers(self) -> dict[str, dict[str, Handler]]:
        """Returns the handlers by service and method."""
        router, makers = self._router, RowMakers()
        methods: tuple[Method, ...] = (
            Predict(router, makers),
            SingleTask(router, makers, CLASSIFY),
            SingleTask(router, makers, REGRESS),
            MultiInference(router, makers),
        )
        prediction = {method.name: self._inference(method) for method in methods}
        return {
            PREDICTION_SERVICE: prediction
            | {"GetModelMetadata": self._plain("GetModelMetadata", self._get_metadata)},
            MODEL_SERVICE: {
                "GetModelStatus": self._plain("GetModelStatus", self._get_status),
                "HandleReloadConfigRequest": self._plain("HandleReloadConfigRequest", self._reload),
            },
        }

    def sweep(self) -> None:
        """Lets go of models that have been replaced; also for whoever retires them."""
        self._unswept = 0
        self.raw.sweep()

    # --- methods that run a model ----------------------------------------------------------------

    def _inference(self, method: Method) -> Handler:
        """Returns the handler of a method that runs a model."""
        name = method.name
        find, clock, sync = self.raw.get, self._clock, self._router.sync

        async def handle(request: bytes, context: Context) -> bytes:
            call = Call(name, request, context, time.perf_counter())
            try:
                sync()  # other workers may have agreed on a switch
                raw = find((name, request)) if len(request) <= MAX_BODY_BYTES else None
                if raw is not None:
                    if raw.is_fresh(clock()):
                        return self._repeated(call, raw)
                    self.raw.drop(raw)
                done = await _answer(method, call)
            except BaseException as error:
                await self._fail(call, error)
                raise
            return self._finished(call, done)

        return handle

    def _repeated(self, call: Call, raw: RawAnswer) -> bytes:
        """Answers a request that was answered before; awaits nothing."""
        raw.asked = True
        if self._headers:
            source = raw.source
            call.context.set_trailing_metadata(_trailers("hit", source.fingerprint, source.version))
        self._recorder.repeated(call, raw)
        return raw.tail

    def _finished(self, call: Call, done: Done) -> bytes:
        """Tells of a response and hands it over; awaits nothing."""
        servable = call.servable
        if self._headers and servable is not None:
            call.context.set_trailing_metadata(
                _trailers(done.status, servable.fingerprint, servable.version)
            )
        if done.status == "hit" and done.freshness is not None:
            self._keep(call, done, done.freshness)
        ending = Ending(Code.OK, done.status, done.body, hit_rows=done.hit_rows)
        self._recorder.ended(call, ending, done.hits, done.rows)
        return done.body

    def _keep(self, call: Call, done: Done, freshness: Freshness) -> None:
        """Keeps a response for equal requests.

        Only those whose every row was known come here: bodies seen once take no room.
        """
        if len(call.request) > MAX_BODY_BYTES:
            return
        method, signature = call.method, call.signature
        source = self.raw.source(
            freshness,
            method,
            signature,
            lambda: self._recorder.repeat_counter(method, freshness, signature),
        )
        key = (call.method, call.request)
        answer = RawAnswer(key, done.body, source, freshness.expires_at, done.rows)
        self.raw.put(answer, len(call.request))
        self._unswept += 1
        if self._unswept >= _SWEEP_EVERY:
            self.sweep()

    # --- methods that do not ---------------------------------------------------------------------

    def _plain(self, name: str, answer: Callable[[Call], Awaitable[bytes]]) -> Handler:
        """Returns the handler of a method that runs no model."""

        async def handle(request: bytes, context: Context) -> bytes:
            call = Call(name, request, context, time.perf_counter())
            try:
                self._router.sync()
                body = await answer(call)
            except BaseException as error:
                await self._fail(call, error)
                raise
            self._recorder.ended(call, Ending(Code.OK, "off", body))
            return body

        return handle

    async def _get_metadata(self, call: Call) -> bytes:
        return get_model_metadata(self._router, call)

    async def _get_status(self, call: Call) -> bytes:
        return get_model_status(self._models, call)

    async def _reload(self, call: Call) -> bytes:
        return await handle_reload(self._models, call, self._metric)

    # --- how calls fail --------------------------------------------------------------------------

    async def _fail(self, call: Call, error: BaseException) -> None:
        """Tells of a failure and ends the call with its code; returns if it was cancelled.

        Raises:
            AbortError: grpc's own, which ends the call.
        """
        code, message = _outcome(error, call.context)
        if code == Code.INTERNAL and not isinstance(error, ServingError):
            _LOG.error("call failed method=%s model=%s", call.method, call.model, exc_info=error)
        self._recorder.ended(call, Ending(code, "error", b"", message))
        if isinstance(error, Exception):
            servable = call.servable
            trailers: Trailers = ()
            if self._headers and servable is not None:
                trailers = _trailers("error", servable.fingerprint, servable.version)
            await call.context.abort(_STATUS[int(code)], _shortened(message), trailers)


async def _answer(method: Method, call: Call) -> Done:
    """Answers a call, beginning again where its route moves.

    Raises:
        ServingError: it is refused, or the route moved too often.
    """
    for _ in range(MAX_MOVES):
        try:
            work = method.open(call)
            done = work.now()
            return done if done is not None else await work.finish()
        except RouteMoved:  # noqa: PERF203 - it is what the loop is for
            continue
    raise ServingError(
        Code.UNAVAILABLE, f"The version of model {call.model} changed {MAX_MOVES} times meanwhile."
    )


def _outcome(error: BaseException, context: Context) -> tuple[Code, str]:
    """Returns the code and message of what a handler raised."""
    if isinstance(error, ServingError):
        return error.code, error.message
    if isinstance(error, asyncio.CancelledError):
        left = context.time_remaining()
        if left is not None and left <= 0:
            return Code.DEADLINE_EXCEEDED, "Deadline Exceeded"
        return Code.CANCELLED, "the client gave up"
    return Code.INTERNAL, f"{type(error).__name__} while the request was answered"


def _shortened(message: str) -> str:
    data = message.encode("utf-8", "replace")
    if len(data) <= _MAX_MESSAGE:
        return message
    return data[:_MAX_MESSAGE].decode("utf-8", "ignore") + "...TRUNCATED"


@lru_cache(maxsize=1024)
def _trailers(status: CacheStatus, fingerprint: str, version: int) -> Trailers:
    return (
        ("x-encore-cache", status),
        ("x-encore-fingerprint", fingerprint),
        ("x-encore-version", str(version)),
    )
