"""`encore serve`: the TF-Serving-compatible server that answers from the cache."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from tfx_encore.gateway import serve_log
from tfx_encore.gateway.admin_messages import ModelStats, WorkerStats, merge_models
from tfx_encore.gateway.runtime_folder import held_folder
from tfx_encore.gateway.settings import GatewaySettings
from tfx_encore.pipeline.quiet import hush
from tfx_encore.pipeline.serve_flags import ServeCommand, options
from tfx_encore.pipeline.serve_settings import check, settings_of


def serve(**given: Any) -> int:
    """Serves models to any client of TensorFlow Serving, and answers repeats from the cache.

    In a project it serves the project's releases: REST on port 8501, gRPC on 8500. Ctrl-C or
    SIGTERM lets the requests under way finish; a second one ends it at once.

    \b
    Examples:
      encore serve
      encore serve --releases=/srv/releases --rest_api_port=8501 --workers=4
      encore serve --port=8500 --rest_api_port=8501 --model_config_file=models.config
      encore serve --model_name=taxi --model_base_path=/models/taxi --upstream=tfs:8500
    """
    if given["version"]:
        _print_versions()
        return 0
    if given["log_level"] is None and sys.stderr.isatty():
        given["log_level"] = "warning"  # a person reads the few lines below instead
    wanted = settings_of(given)
    settings = wanted.settings
    serve_log.configure(settings.log_level)
    notes = [*wanted.notes, *check(settings)]
    for note in notes if not given["quiet"] else ():
        click.echo(f"encore: {note}", err=True)
    hush()
    with held_folder(settings.cache_dir) as folder:
        return _run(settings, folder, quiet=bool(given["quiet"]))


command = ServeCommand(
    "serve",
    callback=serve,
    params=options(),
    help=serve.__doc__,
    short_help="Serve models, answering repeats from the cache.",
)


def _run(settings: GatewaySettings, folder: Path, *, quiet: bool) -> int:
    def announce(stats: Sequence[dict[str, Any]]) -> None:
        if not quiet:
            for line in banner(settings, [WorkerStats.model_validate(each) for each in stats]):
                click.echo(line)

    if not quiet:
        click.echo("loading; what is served is said here once it is ready")
    if settings.workers > 1:
        from tfx_encore.gateway.supervisor import Supervisor

        return Supervisor(settings, folder, on_ready=announce).run()
    from tfx_encore.gateway.worker_main import Handover, run_worker

    def tell(kind: str, body: dict[str, Any]) -> None:
        if kind == "ready":
            announce([body])

    return run_worker(Handover(settings=settings, folder=str(folder)), tell)


def banner(settings: GatewaySettings, workers: Sequence[WorkerStats]) -> Iterator[str]:
    """What is served where, in a few lines.

    Args:
        settings: of the gateway.
        workers: what each worker says of itself.
    """
    first = workers[0]
    host = "localhost" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104
    models = merge_models(workers)
    if first.rest_port:
        name = models[0].model if models else "MODEL"
        yield f"REST  http://{host}:{first.rest_port}/v1/models/{name}:predict"
    if first.grpc_port:
        secured = " (TLS)" if settings.ssl_config_file else ""
        yield f"gRPC  {host}:{first.grpc_port}{secured}"
    if settings.grpc_socket_path:
        yield f"gRPC  unix:{settings.grpc_socket_path}"
    for model in models:
        yield from _model_lines(model)
    tiers = [name for name, has in _tiers(settings) if has]
    count = f"{len(workers)} workers, " if len(workers) > 1 else ""
    yield f"{count}answers kept in {', '.join(tiers)}; Ctrl-C ends it"


def _tiers(settings: GatewaySettings) -> list[tuple[str, Any]]:
    redis = settings.redis
    return [
        ("memory", True),
        (str(settings.cache_dir), settings.cache_dir),
        (redis.place if redis else "", redis),
    ]


def _model_lines(model: ModelStats) -> Iterator[str]:
    if not model.versions:
        yield f"{model.model}  no version answers yet: {model.problem or 'none is there'}"
    for version in model.versions:
        names = [*version.labels, *(["default"] if version.is_default else [])]
        named = f" ({', '.join(names)})" if names else ""
        warmed = f", {version.warmed:,} answers warm" if version.warmed else ""
        yield f"{model.model}  version {version.version}{named}{warmed}"
        for signature, caching in sorted(version.caching.items()):
            mode, _, why = caching.partition(": ")
            how = "not cached" if mode == "off" else f"cached by {mode}"
            short = why.partition(";")[0]  # `encore cache stats --json` has the rest
            yield f"    {signature} {how}" + (f": {short}" if short else "")
    if model.versions and model.problem:
        yield f"    {model.problem}"


def _print_versions() -> None:
    click.echo(f"TFX Encore gateway: {importlib.metadata.version('tfx-encore')}")
    for package in ("tensorflow", "tensorflow-cpu"):
        try:
            click.echo(f"TensorFlow Library: {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
        return
