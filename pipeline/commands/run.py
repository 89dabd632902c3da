"""`encore run`: the release pipeline on one span or several."""

from __future__ import annotations

import json

import click
from rich.console import Console

from tfx_encore.pipeline.commands.options import (
    json_option,
    open_project,
    print_json,
    project_option,
)
from tfx_encore.pipeline.console import TerminalProgress, print_result
from tfx_encore.pipeline.metrics_export import export, failed_run
from tfx_encore.pipeline.plan import RunResult
from tfx_encore.pipeline.publish import finish_run, reconcile_project
from tfx_encore.pipeline.run import Project, run_release
from tfx_encore.pipeline.spans import available_spans
from tfx_encore.schemas.errors import DataError, EncoreError, PushRefusedError
from tfx_encore.schemas.serial import to_json


@click.command("run")
@project_option
@click.option("--span", "spans", type=int, multiple=True, help="Span to release; may be repeated.")
@click.option("--all-spans", is_flag=True, help="Release every span that has data, in order.")
@click.option("--force", is_flag=True, help="Run even if nothing has changed since a release.")
@json_option
def command(
    config_file: str, spans: tuple[int, ...], *, all_spans: bool, force: bool, as_json: bool
) -> None:
    """Runs the release pipeline on a span of data (by default the newest).

    Ends with exit code 3 if a gate refused the release; the live version is then untouched.

    \b
    Examples:
      encore run
      encore run --span 1 --span 2
      encore run --span 2 --force --json
    """
    project = open_project(config_file)
    results = []
    for span in _spans(project, spans, all_spans=all_spans):
        results.append(_release(project, span, force=force, quiet=as_json))
        if results[-1].state == "refused":
            break
    if as_json:
        print_json([json.loads(to_json(result)) for result in results])
    if results[-1].state == "refused":
        raise PushRefusedError(f"span {results[-1].span} was not released: {results[-1].reason}")


def _spans(project: Project, spans: tuple[int, ...], *, all_spans: bool) -> tuple[int, ...]:
    if spans and all_spans:
        raise click.UsageError("give --span or --all-spans, not both")
    if spans:
        return spans
    pattern = project.config.data.spans
    found = available_spans(pattern, project.workspace.project)
    if not found:
        raise DataError(f"no span has data: nothing matches {pattern}")
    return found if all_spans else found[-1:]


def _release(project: Project, span: int, *, force: bool, quiet: bool) -> RunResult:
    console = Console(quiet=quiet, highlight=False)
    console.print(f"[bold]{project.config.model}[/]: release pipeline on span {span}")
    reconcile_project(project)
    try:
        with TerminalProgress(console).running() as progress:
            result = run_release(project, span, progress, force=force)
        result = finish_run(project, result)
    except EncoreError as error:
        _export(project, failed_run(project, span, error))
        raise
    print_result(console, result)
    _export(project, result)
    return result


def _export(project: Project, result: RunResult) -> None:
    for problem in export(project, [result]):
        click.echo(f"encore: {problem}", err=True)
