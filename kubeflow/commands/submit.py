"""`encore kubeflow submit`: one run of a compiled pipeline."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timezone
from typing import Any, Optional

import click

from tfx_encore.kubeflow.commands.access import (
    access_of,
    access_options,
    open_package,
    run_options,
    version_name,
)
from tfx_encore.kubeflow.commands.options import kind_argument, set_option
from tfx_encore.kubeflow.run_parameters import run_parameters
from tfx_encore.pipeline.commands.options import json_option, print_json, project_option

_DAY_SECONDS = 86_400.0


@click.command("submit")
@kind_argument
@project_option
@run_options
@set_option
@access_options
@click.option("--run-name", metavar="NAME", help="Default: the pipeline's name and the time.")
@click.option("--no-cache", is_flag=True, help="Answer no task from Kubeflow's cache.")
@click.option("--wait", is_flag=True, help="Follow the run, task by task; end with its outcome.")
@click.option("--timeout", default=_DAY_SECONDS, metavar="SECONDS", help="Of --wait.")
@click.option("--poll", default=5.0, metavar="SECONDS", help="How often --wait asks.")
@json_option
def command(
    kind: Optional[str],
    config_file: str,
    *,
    package: Optional[str],
    parameters: tuple[str, ...],
    settings: tuple[str, ...],
    experiment: str,
    pipeline_root: str,
    service_account: str,
    run_name: Optional[str],
    timeout: float,
    poll: float,
    no_cache: bool,
    wait: bool,
    as_json: bool,
    **access: Any,
) -> None:
    """Uploads a compiled pipeline, unless it is there, and starts a run of it.

    Thresholds are given as in encore.yaml, with --set; they are validated before anything is sent.

    \b
    Examples:
      encore kubeflow submit release --param span=2 --wait
      encore kubeflow submit nightly --param date=2016-01-12 --set nightly.trend.reference=release
    """
    compiled = open_package(kind, package, config_file)
    values = run_parameters(compiled, parameters, settings)
    place = access_of(**access)
    from tfx_encore.kubeflow.server import Server

    server = Server(place)
    ids = server.upload(compiled, version_name(compiled))
    found = server.experiment(experiment, create=True)
    name = run_name or f"{compiled.name} {datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
    run = server.submit(
        ids,
        str(found),
        name,
        values,
        pipeline_root=pipeline_root,
        service_account=service_account,
        cache=False if no_cache else None,
    )
    state = ""
    if not as_json:
        click.echo(f"{run.name}: {run.link or run.run_id}")
    if wait:
        state = _follow(server, compiled, run, timeout, poll, quiet=as_json)
    if as_json:
        print_json({**dataclasses.asdict(run), "state": state, "parameters": values})


def _follow(
    server: Any, package: Any, run: Any, timeout: float, poll: float, *, quiet: bool
) -> str:
    from tfx_encore.kubeflow.waiting import Timing, check_succeeded, wait

    tasks = frozenset(package.pipeline["root"]["dag"]["tasks"])

    def told(task: str, state: str) -> None:
        if not quiet:
            click.echo(f"  {state.lower():<10} {task}")

    ended = wait(lambda: server.state(run.run_id), tasks, told, Timing(timeout, poll))
    check_succeeded(ended, run.link or run.run_id)
    return ended.state
