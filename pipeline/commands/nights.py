"""`encore nights`: the nights there are, with what was concluded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Optional

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tfx_encore.metadata.night_store import NightStore
from tfx_encore.pipeline.commands.options import (
    json_option,
    open_project,
    print_json,
    project_option,
)
from tfx_encore.pipeline.console import mark
from tfx_encore.pipeline.console_nights import alarm_line, overall_metric
from tfx_encore.pipeline.report import words
from tfx_encore.schemas.decisions import Outcome
from tfx_encore.schemas.nights import NightRecord
from tfx_encore.schemas.serial import to_json


@click.command("nights")
@project_option
@click.option("--last", type=click.IntRange(min=1), help="Only the last so many nights.")
@click.option("--from", "first", metavar="D", help="The first day, as 2016-01-12.")
@click.option("--to", "until", metavar="D", help="The last day.")
@json_option
def command(
    config_file: str,
    last: Optional[int],
    first: Optional[str],
    until: Optional[str],
    *,
    as_json: bool,
) -> None:
    """Lists the nights: what they ended in, what was read, what is wrong since when.

    \b
    Examples:
      encore nights --last 14
      encore nights --json | jq -r '.[] | .date as $d | .alarms[] | [$d, .since, .message] | @tsv'
    """
    project = open_project(config_file)
    store = NightStore(project.workspace.releases, project.config.model)
    dates = [d for d in store.dates() if (first or "") <= d and (until is None or d <= until)]
    records = [store.record(date) for date in (dates[-last:] if last else dates)]
    if as_json:
        print_json([json.loads(to_json(record)) for record in records])
    elif not records:
        click.echo(f"{project.config.model}: no nights yet; `encore nightly` evaluates yesterday")
    else:
        _print(Console(highlight=False), records)


def _print(console: Console, records: list[NightRecord]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("night", "outcome"):
        table.add_column(name, no_wrap=True)
    for name in ("rows", "hit rate", "labelled", "accuracy"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("alarms", overflow="fold")
    table.add_column("action", overflow="fold")
    for record in records:
        table.add_row(*_cells(record))
    console.print(table)
    for line in _since(records[-1]):
        console.print(line)


def _cells(record: NightRecord) -> Iterator[str]:
    log, accuracy = record.log, overall_metric(record)
    yield record.date
    yield mark(record.outcome)
    yield f"{log.rows:,}"
    yield words.percent(log.hit_rate)
    yield words.percent(log.labelled / log.rows) if log.rows else words.NOTHING
    yield f"{accuracy.value:.3f}" if accuracy else words.NOTHING
    yield escape(_alarms(record))
    yield escape(", ".join(_action(kind, state) for kind, state in _actions(record)))


def _alarms(record: NightRecord) -> str:
    """How many of each gate, those that block marked."""
    counts: dict[str, int] = {}
    for alarm in record.alarms:
        name = alarm.gate + ("!" if alarm.outcome is Outcome.BLOCK else "")
        counts[name] = counts.get(name, 0) + 1
    return ", ".join(f"{name} {n}" if n > 1 else name for name, n in sorted(counts.items()))


def _actions(record: NightRecord) -> Iterator[tuple[str, str]]:
    for kind in dict.fromkeys(a.kind for a in record.actions if a.kind != "nothing"):
        states = {a.state for a in record.actions if a.kind == kind}
        yield kind, states.pop() if len(states) == 1 else "partly done"


def _action(kind: str, state: str) -> str:
    name = kind.replace("_", " ")
    return name if state == "proposed" else f"{name} ({state})"


def _since(record: NightRecord) -> Iterator[str]:
    """What is wrong in the last night, with how long it has been so."""
    if record.alarms:
        yield f"\n[bold]{record.date}[/]: {escape(record.reason)}"
    for alarm in record.alarms:
        yield f"  {mark(alarm.outcome)} {escape(alarm_line(alarm))}"
