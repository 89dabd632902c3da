"""`encore monitor`: nights, releases and records as metrics for Prometheus."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

import click

from tfx_encore.pipeline.commands.options import open_project
from tfx_encore.pipeline.config import FILE_NAME
from tfx_encore.pipeline.monitor import Monitor, monitor_of_project, monitor_of_releases
from tfx_encore.schemas.errors import ConfigError


@click.command("monitor")
@click.option(
    "--config",
    metavar="FILE",
    help=f"The project file. Default: $ENCORE_CONFIG or {FILE_NAME}.",
)
@click.option("--releases", metavar="PATH", help="Release directory, if it is not a project's.")
@click.option("--model", help="With --releases: only this model.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8502,
    show_default=True,
    help="Port to listen on; 0 chooses a free one.",
)
@click.option(
    "--due-hours",
    type=click.FloatRange(min=0.0),
    default=12.0,
    show_default=True,
    help="Hours after the end of a day (UTC) from which on its night counts as missed.",
)
@click.option("--once", is_flag=True, help="Print the page and end.")
@click.option(
    "--write-files",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write Prometheus's rules, Grafana's dashboards and examples into DIR, and end.",
)
@click.option(
    "--runbooks",
    metavar="URL",
    default="docs/runbooks",
    show_default=True,
    help="With --write-files: where alerts link to, as URL/<alert>.md.",
)
def command(
    *,
    config: Optional[str],
    releases: Optional[str],
    model: Optional[str],
    host: str,
    port: int,
    due_hours: float,
    once: bool,
    write_files: Optional[Path],
    runbooks: str,
) -> None:
    """Serves the last night's decisions, slices, drift, releases and records under /metrics.

    Loopback unless --host says otherwise; the page has no password, so put it on a network that
    only Prometheus reaches. /healthz answers as long as the process does.

    \b
    Examples:
      encore monitor
      encore monitor --releases /srv/releases --host 0.0.0.0 --port 8502
      encore monitor --once | grep encore_night_outcome
      encore monitor --write-files /etc/encore --runbooks https://wiki.example.com/runbooks
    """
    if write_files is not None:
        _write(write_files, runbooks)
        return
    monitor = _monitor(config, releases, model, due_hours)
    if once:
        from tfx_encore.monitoring.exporters import page_of

        click.echo(page_of(monitor.samples()).decode(), nl=False)
        return
    _serve(monitor, host, port)


def _monitor(
    config: Optional[str], releases: Optional[str], model: Optional[str], due_hours: float
) -> Monitor:
    if releases is None:
        if model is not None:
            raise ConfigError("is for --releases; a project has one model", key="--model")
        file = config or os.environ.get("ENCORE_CONFIG", FILE_NAME)
        return monitor_of_project(open_project(file), due_hours=due_hours)
    if config:
        raise ConfigError("--config and --releases both name the model; give one of them")
    return monitor_of_releases(Path(releases), model, due_hours=due_hours)


def _serve(monitor: Monitor, host: str, port: int) -> None:
    from tfx_encore.pipeline.monitor_server import listen, run

    listener = listen(host, port)
    bound = listener.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    click.echo(f"metrics  http://{shown}:{bound}/metrics; Ctrl-C ends it")
    run(monitor, listener)


def _write(target: Path, runbooks: str) -> None:
    from tfx_encore.pipeline.monitor_files import write_files

    written = write_files(target, runbooks)
    for file in written:
        click.echo(str(file))
