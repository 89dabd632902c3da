"""grpc.health.v1.Health, for load balancers and probes (`--enable_grpc_healthcheck_service`).

The messages are so small (grpc/health/v1/health.proto) that they are read and written here: a
request is a name in field 1, a response a status in field 1.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

SERVICE = "grpc.health.v1.Health"
_SERVING, _NOT_SERVING, _SERVICE_UNKNOWN = b"\x08\x01", b"\x08\x02", b"\x08\x03"
_KNOWN = frozenset(
    {b"", b"tensorflow.serving.PredictionService", b"tensorflow.serving.ModelService"}
)
_WATCH_SECONDS = 1.0


class Health:
    """Answers health checks.

    Args:
        ready: True if requests should come here.
    """

    def __init__(self, ready: Callable[[], bool]) -> None:
        self._ready = ready

    async def check(self, request: bytes, context: Any) -> bytes:
        """Returns the status of a service, or of the server for an empty name."""
        if service_of(request) not in _KNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return self._status()

    async def watch(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        """Yields the status now and whenever it changes."""
        del context
        is_known = service_of(request) in _KNOWN
        last = b""
        while True:
            status = self._status() if is_known else _SERVICE_UNKNOWN
            if status != last:
                yield status
                last = status
            await asyncio.sleep(_WATCH_SECONDS)

    def handler(self) -> Any:
        """Returns what grpc calls."""
        methods = {
            "Check": grpc.unary_unary_rpc_method_handler(self.check),
            "Watch": grpc.unary_stream_rpc_method_handler(self.watch),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    def _status(self) -> bytes:
        return _SERVING if self._ready() else _NOT_SERVING


def service_of(request: bytes) -> bytes | None:
    """Returns the name in a HealthCheckRequest; None for bytes that are none."""
    if not request:
        return b""
    if request[0] != 0x0A or len(request) < 2 or request[1] > 127:
        return None
    name = request[2:]
    return name if len(name) == request[1] else None
