"""`encore init`: a working project for the user's own CSV."""

from __future__ import annotations

import pathlib
import shlex
from collections.abc import Iterator
from typing import Optional

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tfx_encore.pipeline.config import FILE_NAME
from tfx_encore.pipeline.init_project import InitRequest, NewProject, init_project


@click.command("init")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=pathlib.Path))
@click.option(
    "--csv",
    "csv_file",
    metavar="FILE",
    required=True,
    type=click.Path(path_type=pathlib.Path),
    help="The data: UTF-8, a header line, columns separated by commas.",
)
@click.option("--label", metavar="COLUMN", required=True, help="The column to predict.")
@click.option(
    "--positive",
    metavar="VALUE",
    help="Its value that counts as yes. Needless for 0 and 1, false and true.",
)
@click.option("--model", metavar="NAME", help="The model's name. Default: the CSV's.")
@click.option(
    "--span",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Number of the span that the data becomes.",
)
def command(
    *,
    folder: pathlib.Path,
    csv_file: pathlib.Path,
    label: str,
    positive: Optional[str],
    model: Optional[str],
    span: int,
) -> None:
    """Writes a working project for your own CSV into DIR.

    The schema is inferred once and saved for you to curate; model.py is yours to change. What you
    get runs as it is. Nothing is written if something is wrong.

    \b
    Examples:
      encore init churn --csv customers.csv --label churned
      encore init bank --csv bank.csv --label y --positive yes --model term-deposit
    """
    request = InitRequest(folder, csv_file, label, positive, model, span)
    console = Console(highlight=False)
    with Console(stderr=True).status("reading the data; inferring its schema with TFDV"):
        project = init_project(request)
    _print(console, project, folder)


def _print(console: Console, project: NewProject, folder: pathlib.Path) -> None:
    console.print(f"[bold]{project.model}[/]: a project in {folder}, from {project.rows:,} rows")
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _facts(project):
        table.add_row(f"  {name}", escape(text))
    console.print(table)
    console.print("\nLook through schema.pbtxt and model.py. Then:\n")
    console.print(f"  encore run --config {shlex.quote(str(folder / FILE_NAME))}", markup=False)


def _facts(project: NewProject) -> Iterator[tuple[str, str]]:
    roles, label = project.roles, project.roles.label
    yield "predicts", f"{label.column} = {label.positive!r} ({label.share:.1%} of the rows)"
    yield "numbers", ", ".join(roles.numbers) or "none"
    yield "categories", ", ".join(roles.categories) or "none"
    for column, reason in roles.left_out.items():
        yield "left out", f"{column}: {reason}"
    for note in roles.notes:
        yield "note", note
    yield "wrote", ", ".join(project.files)
