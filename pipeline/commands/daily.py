"""`encore daily`: what the cache saved on a day."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Optional
from urllib.parse import urlsplit

import click

from tfx_encore.metadata.night_store import NightStore
from tfx_encore.pipeline.commands.options import (
    json_option,
    open_project,
    print_json,
    project_option,
)
from tfx_encore.pipeline.daily import daily_summary, lines_of, summary_of_metrics
from tfx_encore.pipeline.run import Project
from tfx_encore.schemas.daily import DailySummary
from tfx_encore.schemas.errors import ConfigError, DataError
from tfx_encore.schemas.serial import to_json

_SECONDS = 10.0


@click.command("daily")
@project_option
@click.option("--date", metavar="DAY", help="The day, as 2016-01-12. Default: the newest night.")
@click.option(
    "--metrics",
    metavar="URL",
    help="Take the numbers since it started from a gateway's page instead, as "
    "http://localhost:8501/metrics.",
)
@json_option
def command(
    config_file: str, date: Optional[str], metrics: Optional[str], *, as_json: bool
) -> None:
    """Summarises a day: requests, hits, their times, and what the model did not have to compute.

    \b
    Examples:
      encore daily
      encore daily --date 2016-01-12 --json | jq .hit_rate
      encore daily --metrics http://localhost:8501/metrics
    """
    if metrics and date:
        raise click.UsageError("give --date or --metrics, not both")
    project = open_project(config_file)
    model = project.config.model
    if metrics:
        summary = summary_of_metrics(_fetch(metrics), model, metrics)
    else:
        summary = _of_night(project, date)
    if as_json:
        print_json(json.loads(to_json(summary)))
        return
    for line in lines_of(summary):
        click.echo(line)


def _of_night(project: Project, date: Optional[str]) -> DailySummary:
    store = NightStore(project.workspace.releases, project.config.model)
    dates = store.dates()
    if date is None and not dates:
        raise DataError(
            f"{store.model} has no night yet; `encore nightly` evaluates one, and --metrics URL "
            "takes the numbers from a running gateway"
        )
    return daily_summary(store.record(date or dates[-1]))


def _fetch(url: str) -> str:
    if urlsplit(url).scheme not in ("http", "https"):
        raise ConfigError(f"{url!r} is no address of a page", key="--metrics")
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as page:  # noqa: S310 - checked above
            content: bytes = page.read()
    except (urllib.error.URLError, OSError) as error:
        raise DataError(f"{url} cannot be read: {error}; is the gateway running?") from error
    return content.decode(errors="replace")
