"""`encore kubeflow schedule`: recurring runs of a compiled pipeline."""

from __future__ import annotations

import dataclasses
from typing import Any, Optional

import click
from rich.console import Console
from rich.table import Table

from tfx_encore.kubeflow.commands.access import (
    access_of,
    access_options,
    open_package,
    run_options,
    version_name,
)
from tfx_encore.kubeflow.commands.options import kind_argument, set_option
from tfx_encore.kubeflow.cron import kubeflow_cron
from tfx_encore.kubeflow.run_parameters import run_parameters
from tfx_encore.kubeflow.schedule_plan import Existing, Schedule, steps_to
from tfx_encore.kubeflow.spec_package import Package
from tfx_encore.kubeflow.times import rfc3339
from tfx_encore.pipeline.commands.options import json_option, print_json, project_option
from tfx_encore.schemas.errors import KubeflowError


@click.command("schedule")
@kind_argument
@project_option
@click.option(
    "--cron", metavar="EXPRESSION", help="Five fields, as '0 3 * * *'; or six, second first. UTC."
)
@click.option("--name", metavar="NAME", help="Of the recurring run. Default: the pipeline's.")
@click.option("--start", default="", metavar="TIME", help="Catch up from here. Default: now.")
@click.option("--end", default="", metavar="TIME", help="No run after this. Default: never.")
@click.option("--no-catchup", is_flag=True, help="Leave out runs that were missed.")
@run_options
@set_option
@access_options
@click.option("--list", "action", flag_value="list", help="Show the recurring runs.")
@click.option("--disable", "action", flag_value="disable", help="Stop, but keep it.")
@click.option("--enable", "action", flag_value="enable", help="Go on.")
@click.option("--delete", "action", flag_value="delete", help="Remove it.")
@json_option
def command(
    kind: Optional[str],
    config_file: str,
    cron: Optional[str],
    name: Optional[str],
    action: Optional[str],
    *,
    as_json: bool,
    **options: Any,
) -> None:
    """Runs a compiled pipeline again and again: one at a time, making up for runs that were missed.

    Called again with the same name it replaces what has changed and never makes a second. Times
    are UTC, unless the backend was told otherwise (CRON_SCHEDULE_TIMEZONE).

    \b
    Examples:
      encore kubeflow schedule nightly --cron "0 3 * * *"
      encore kubeflow schedule release --cron "0 6 * * 1" --param span=7
      encore kubeflow schedule --list
      encore kubeflow schedule --disable --name taxi-nightly
    """
    access = access_of(
        *(options.pop(key) for key in ("host", "namespace", "token_file", "ca_file"))
    )
    if action is not None and cron:
        raise click.UsageError(f"--cron and --{action} do not go together")
    if action is None:
        if not cron:
            raise click.UsageError("say when: --cron '0 3 * * *'")
        package = open_package(kind, options["package"], config_file)
        shown = _apply(package, cron, name or package.name, access, options)
    elif action == "list":
        _show(_list(access, name or ""), as_json=as_json)
        return
    else:
        shown = _change(access, action, _named(kind, config_file, name, options))
    if as_json:
        print_json(shown)
    else:
        click.echo(f"{shown['name']}: {shown['did']}")


def _apply(
    package: Package, cron: str, name: str, access: Any, options: dict[str, Any]
) -> dict[str, Any]:
    values = run_parameters(package, options["parameters"], options["settings"])
    wanted = Schedule(
        name=name,
        ids=("", ""),
        cron=kubeflow_cron(cron),
        values=values,
        start=rfc3339(options["start"], "--start"),
        end=rfc3339(options["end"], "--end"),
        pipeline_root=options["pipeline_root"],
        service_account=options["service_account"],
        no_catchup=options["no_catchup"],
    )
    from tfx_encore.kubeflow.server import Server

    server = Server(access)
    ids = server.upload(package, version_name(package))
    experiment = str(server.experiment(options["experiment"], create=True))
    wanted = dataclasses.replace(wanted, ids=ids, experiment_id=experiment)
    steps = steps_to(wanted, server.schedules(wanted.name))
    identity = steps.keep or server.create_schedule(wanted, experiment)
    if steps.enable:
        server.enable_schedule(steps.enable, enabled=True)
    for old in steps.delete:
        server.delete_schedule(old)
    did = (
        "replaced" if steps.create and steps.delete else "created" if steps.create else "unchanged"
    )
    did = "enabled" if steps.enable else did
    return {"name": wanted.name, "id": identity, "did": did, "cron": wanted.cron}


def _named(
    kind: Optional[str], config_file: str, name: Optional[str], options: dict[str, Any]
) -> str:
    return name or open_package(kind, options["package"], config_file).name


def _list(access: Any, name: str) -> list[dict[str, Any]]:
    from tfx_encore.kubeflow.server import Server

    return [dataclasses.asdict(found) for found in Server(access).schedules(name)]


def _change(access: Any, action: str, name: str) -> dict[str, Any]:
    from tfx_encore.kubeflow.server import Server

    server = Server(access)
    found = server.schedules(name)
    if not found:
        known = ", ".join(sorted({other.name for other in server.schedules()})) or "none"
        raise KubeflowError(f"no recurring run is called {name!r}; there are: {known}")
    for each in found:
        if action == "delete":
            server.delete_schedule(each.id)
        else:
            server.enable_schedule(each.id, enabled=action == "enable")
    return {"name": name, "did": f"{action}d", "ids": [each.id for each in found]}


def _show(found: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    table = Table(box=None)
    for heading in ("name", "cron", "enabled", "at once", "catch-up", "id"):
        table.add_column(heading)
    for each in (Existing(**row) for row in found):
        table.add_row(
            each.name,
            each.cron,
            "yes" if each.enabled else "no",
            str(each.max_concurrency),
            "no" if each.no_catchup else "yes",
            each.id,
        )
    Console(highlight=False).print(table if found else "no recurring runs")
