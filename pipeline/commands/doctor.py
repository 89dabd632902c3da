"""`encore doctor`: what is installed, what is missing, how to get it."""

from __future__ import annotations

import dataclasses
import os
import pathlib

import click
from click.core import ParameterSource
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tfx_encore.pipeline.commands.options import json_option, print_json, project_option
from tfx_encore.pipeline.doctor import Check, Diagnosis, diagnose

_MARKS = {"ok": "[green]✓[/]", "problem": "[bold red]✗[/]", "missing": "[bold red]✗[/]"}
_OPTIONAL = "[yellow]-[/]"


@click.command("doctor")
@project_option
@click.option(
    "--runner",
    metavar="NAME",
    help="Look at what this Beam runner needs: flink, spark, dataflow, portable, ... Without it, "
    "at the project's, where that is not in this process.",
)
@json_option
@click.pass_context
def command(ctx: click.Context, config_file: str, runner: str | None, *, as_json: bool) -> None:
    """Says what is installed, what is missing and how to get it.

    Looks at the machine and the packages; inside a project also at its file, data, workspace,
    metadata store and releases, and at what its Beam runner needs. Ends with 1 if something that is
    required is missing or wrong.

    \b
    Examples:
      encore doctor
      encore doctor --runner flink
      encore doctor --json | jq '.checks[] | select(.state != "ok")'
    """
    diagnosis = diagnose(_project_file(ctx, config_file), runner)
    if as_json:
        checks = [dataclasses.asdict(check) for check in diagnosis.checks]
        print_json({"ok": diagnosis.well, "project": diagnosis.project, "checks": checks})
    else:
        _print(Console(highlight=False), diagnosis)
    ctx.exit(0 if diagnosis.well else 1)


def _project_file(ctx: click.Context, config_file: str) -> pathlib.Path | None:
    """The project file; None if none was named and there is none here."""
    file = pathlib.Path(config_file)
    by_default = ctx.get_parameter_source("config_file") is ParameterSource.DEFAULT
    if by_default and "ENCORE_CONFIG" not in os.environ and not file.exists():
        return None
    return file


def _print(console: Console, diagnosis: Diagnosis) -> None:
    for area in ("machine", "packages", "project", "runner", "programs"):
        checks = [check for check in diagnosis.checks if check.area == area]
        if area == "project" and diagnosis.project is None:
            console.print(
                "[bold]project[/]\n  none here (no encore.yaml); `encore init` writes one"
            )
        elif checks:
            note = "  [dim]optional[/]" if area == "programs" else ""
            console.print(f"[bold]{area}[/]{note}")
            console.print(_table(checks))
    wrong = [check.name for check in diagnosis.checks if check.required and check.state != "ok"]
    verdict = f"[bold red]to mend: {', '.join(wrong)}[/]" if wrong else "[bold green]all well[/]"
    console.print(f"\n{verdict}")


def _table(checks: list[Check]) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, min_width=26)
    table.add_column(overflow="fold")
    for check in checks:
        mark = _MARKS[check.state] if check.required or check.state == "ok" else _OPTIONAL
        advice = f"\n[yellow]{escape(check.advice)}[/]" if check.advice else ""
        table.add_row(f"  {mark}", escape(check.name), escape(check.found) + advice)
    return table
