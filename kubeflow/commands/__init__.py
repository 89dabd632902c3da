"""`encore kubeflow`: compiling, submitting and scheduling. Found through its entry point.

Each subcommand lives in a file of this folder and is loaded when used.
"""

from __future__ import annotations

import importlib
from typing import Optional

import click

# subcommand -> one-line help, shown without loading it
COMMANDS = {
    "compile": "Write the pipelines as Kubeflow Pipelines v2 specifications.",
    "submit": "Run a compiled pipeline on Kubeflow once.",
    "schedule": "Run a compiled pipeline on Kubeflow again and again.",
}


class _LazyGroup(click.Group):
    """Loads a subcommand's module when it is asked for, so that `--help` is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> Optional[click.Command]:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"{__name__}.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group("kubeflow", cls=_LazyGroup, short_help="Compile, submit and schedule on Kubeflow.")
def kubeflow() -> None:
    """Runs the release and the nightly pipeline on Kubeflow Pipelines v2.

    \b
    Examples:
      encore kubeflow compile --image registry.example/encore:1.4 --releases-claim encore
      encore kubeflow submit release --host http://localhost:8888 --param span=2
      encore kubeflow schedule nightly --cron "0 3 * * *"
    """
