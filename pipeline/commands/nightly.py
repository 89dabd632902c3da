"""`encore nightly`: evaluating days of real traffic."""

from __future__ import annotations

import json
from typing import Optional

import click
from rich.console import Console

from tfx_encore.pipeline.commands.options import (
    json_option,
    open_project,
    print_json,
    project_option,
)
from tfx_encore.pipeline.console_nights import NightsProgress, print_nights
from tfx_encore.pipeline.metrics_export import export
from tfx_encore.pipeline.night_plan import NightsResult
from tfx_encore.schemas.decisions import Outcome
from tfx_encore.schemas.errors import ConfigError, PushRefusedError, StepFailedError
from tfx_encore.schemas.nights import days_between
from tfx_encore.schemas.serial import to_json

_FAIL_ON = {
    "never": (),
    Outcome.BLOCK.value: (Outcome.BLOCK,),
    Outcome.WARN.value: (Outcome.BLOCK, Outcome.WARN),
}


@click.command("nightly")
@project_option
@click.option("--date", "day", metavar="D", help="The day (UTC), as 2016-01-12.")
@click.option("--from", "first", metavar="D", help="The first day of a range.")
@click.option("--to", "last", metavar="D", help="The last day of a range, included.")
@click.option("--model", help="The model; must be the project's. Default: the project's.")
@click.option("--act", is_flag=True, help="Carry out the proposals that are safe.")
@click.option(
    "--force", is_flag=True, help="Evaluate the days given (else yesterday) even if nothing is new."
)
@click.option(
    "--fail-on",
    type=click.Choice(list(_FAIL_ON)),
    default="never",
    show_default=True,
    help="End with exit code 3 if a night's outcome is this bad or worse.",
)
@json_option
def command(  # noqa: PLR0917 - one for each option
    config_file: str,
    day: Optional[str],
    first: Optional[str],
    last: Optional[str],
    model: Optional[str],
    fail_on: str,
    *,
    act: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Evaluates a day of the traffic that was logged, slice by slice, and says what to do.

    Without a day: yesterday, days that were missed, and days whose labels have come since. A day
    for which nothing is new is left alone, so cron may run it as often as it likes.

    Ends with 0 whatever was found, unless --fail-on says otherwise; 4 if another is under way.

    \b
    Examples:
      encore nightly
      encore nightly --date 2016-01-12 --act
      encore nightly --from 2016-01-01 --to 2016-01-30 --fail-on BLOCK
    """
    from tfx_encore.pipeline.nightly import run_nights

    dates = _dates(day, first, last)
    project = open_project(config_file)
    if model not in (None, project.config.model):
        raise ConfigError(f"--model {model}: this project's model is {project.config.model}")
    console = Console(quiet=as_json, highlight=False)
    with NightsProgress(console).running() as progress:
        result = run_nights(project, dates, progress, act=act, force=force)
    print_nights(console, project, result)
    for problem in export(project, result.records):
        click.echo(f"encore: {problem}", err=True)
    if as_json:
        print_json(json.loads(to_json(result)))
    _end(result, _FAIL_ON[fail_on])


def _dates(
    day: Optional[str], first: Optional[str], last: Optional[str]
) -> Optional[tuple[str, ...]]:
    if day and (first or last):
        raise click.UsageError("give --date, or --from and --to, not both")
    if bool(first) != bool(last):
        raise click.UsageError("give --from and --to together")
    if day:
        return (day,)
    if not (first and last):
        return None
    try:
        days = days_between(first, last)
    except ValueError as error:
        raise click.UsageError(f"{error}; write a day as 2016-01-12") from error
    if not days:
        raise click.UsageError(f"--to {last} is before --from {first}")
    return days


def _end(result: NightsResult, fail_on: tuple[Outcome, ...]) -> None:
    if result.failures:
        failure = result.failures[0]
        more = len(result.failures) - 1
        others = f" (and {more} more nights failed)" if more else ""
        raise StepFailedError(
            f"night {failure.date}: {failure.step}", failure.cause + others, result.log
        )
    bad = [record for record in result.records if record.outcome in fail_on]
    if bad:
        raise PushRefusedError(f"night {bad[-1].date} is {bad[-1].outcome.value}: {bad[-1].reason}")
