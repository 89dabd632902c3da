"""Serves a monitor's page: `/metrics` for Prometheus, `/healthz` for whoever restarts it."""

from __future__ import annotations

import contextlib
import socket

import uvicorn
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from tfx_encore.monitoring.exporters import registry_of
from tfx_encore.pipeline.monitor import Monitor
from tfx_encore.schemas.errors import ConfigError


def application(monitor: Monitor) -> Starlette:
    """The pages. Their functions run in threads, for they read files."""

    def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        content = encode(registry_of(monitor.samples()))
        return Response(content, headers={"Content-Type": content_type})

    def healthz(_request: Request) -> Response:
        """200 as long as it answers: what cannot be read is a metric, and no reason to restart."""
        problems = {f"{m} {part}".strip(): text for (m, part), text in monitor.problems.items()}
        return JSONResponse({"status": "ok", "problems": problems})

    def index(_request: Request) -> Response:
        return PlainTextResponse("encore monitor: /metrics, /healthz\n")

    routes = [Route("/", index), Route("/metrics", metrics), Route("/healthz", healthz)]
    return Starlette(routes=routes)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 chooses a free one.

    Raises:
        ConfigError: the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"{host}:{port} cannot be listened on: {error.strerror or error}; choose another with "
            "--host and --port"
        ) from error
    return listener


def run(monitor: Monitor, listener: socket.socket) -> None:
    """Answers until SIGINT or SIGTERM."""
    config = uvicorn.Config(
        application(monitor), log_level="warning", access_log=False, timeout_graceful_shutdown=5
    )
    # Being told to end is no failure; uvicorn sends itself the signal again once it has ended.
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])
