"""The `encore` command. Each subcommand lives in `pipeline/commands/` and is loaded when used.

Exit codes: 0 done; 1 an error; 2 wrong usage or configuration; 3 a gate refused the release;
4 another run holds the workspace; 130 interrupted.
"""

from __future__ import annotations

import importlib
import signal
import sys
from importlib.metadata import EntryPoint, entry_points
from typing import Optional

import click

from tfx_encore.schemas.errors import ConfigError, EncoreError

# command -> one-line help, shown without loading the command
COMMANDS = {
    "run": "Run the release pipeline on a span of data.",
    "nightly": "Evaluate a day of real traffic, slice by slice.",
    "nights": "List the nights: outcome, rows, hit rate, alarms, actions.",
    "versions": "List the versions that were pushed, and the labels.",
    "records": "List or follow invalidation records.",
    "invalidate": "Withdraw cached answers by hand.",
    "label": "Point a label at a version (roll back, roll forward).",
    "why": "Show everything known about a version, or a night, on one page.",
    "report": "Write the HTML report of a version.",
    "serve": "Serve models, answering repeats from the cache.",
    "cache": "Look at a gateway's cache, warm it, withdraw from it, verify it.",
    "monitor": "Serve nights, releases and records as metrics for Prometheus.",
    "daily": "Summarise a day: what the cache saved.",
    "ui": "Show releases, nights, slices, drift and cache as a web page.",
    "init": "Write a working project for your own CSV.",
    "doctor": "Say what is installed, what is missing, how to get it.",
    "schema": "Print a JSON Schema, for editors and scripts.",
}


# Commands of folders above this one, and of other distributions, are found by this name.
ENTRY_POINTS = "tfx_encore.commands"


def added_commands() -> dict[str, EntryPoint]:
    """Commands that are installed beside those above: name -> where it is; nothing is loaded."""
    found = entry_points(group=ENTRY_POINTS)
    return {point.name: point for point in found if point.name not in COMMANDS}


class _LazyGroup(click.Group):
    """Loads a subcommand's module when it is asked for, so that `--help` is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return [*COMMANDS, *added_commands()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> Optional[click.Command]:
        del ctx
        if cmd_name not in COMMANDS:
            point = added_commands().get(cmd_name)
            return None if point is None else _load(point)
        module = importlib.import_module(f"tfx_encore.pipeline.commands.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        added = {
            name: _load(point).get_short_help_str() for name, point in added_commands().items()
        }
        with formatter.section("Commands"):
            formatter.write_dl([*COMMANDS.items(), *added.items()])


def _load(point: EntryPoint) -> click.Command:
    """Loads an added command.

    Raises:
        ConfigError: what is installed under that name is no command; names the distribution.
    """
    try:
        command = point.load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"`encore {point.name}` comes from {point.value}, which cannot be loaded: {error}; "
            "install its distribution again, or remove it"
        ) from error
    if not isinstance(command, click.Command):
        raise ConfigError(f"`encore {point.name}`: {point.value} is no click command")
    return command


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="tfx-encore", prog_name="encore")
def cli() -> None:
    """TFX Encore: a served TensorFlow model stays fast and right.

    \b
    Examples:
      encore init my-project --csv trips.csv --label tipped
      encore run --span 2
      encore why 2
      encore label set stable 1
    """


def main() -> None:
    """Runs the command; errors of ours are one line on standard error."""
    # As Ctrl-C: workers end too. As process 1 of a container we would otherwise not even notice.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = cli.main(standalone_mode=False)
    except EncoreError as error:
        click.echo(f"encore: {error}", err=True)
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("encore: interrupted; nothing half-written is left", err=True)
        code = 130
    except BrokenPipeError:
        code = 0
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
