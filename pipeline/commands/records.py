"""`encore records`: invalidation records, listed or followed."""

from __future__ import annotations

import json
from typing import Optional

import click

from tfx_encore.metadata.ledger import follow
from tfx_encore.pipeline.commands.options import (
    json_option,
    open_project,
    print_json,
    project_option,
)
from tfx_encore.pipeline.mlmd import open_ledger
from tfx_encore.pipeline.report import words
from tfx_encore.schemas.records import InvalidationRecord
from tfx_encore.schemas.serial import to_json


@click.command("records")
@project_option
@click.option("--after", type=click.IntRange(min=0), default=0, help="Only sequences above this.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many.")
@click.option("--follow", "following", is_flag=True, help="Wait for new ones; end with Ctrl-C.")
@click.option(
    "--poll-seconds", type=click.FloatRange(min=0.05), default=1.0, help="Pause between looks."
)
@json_option
def command(
    config_file: str,
    after: int,
    limit: Optional[int],
    poll_seconds: float,
    *,
    following: bool,
    as_json: bool,
) -> None:
    """Lists the records in ML Metadata, oldest first, with who acknowledged each.

    With --follow --json, each record is one line of JSON.

    \b
    Examples:
      encore records
      encore records --after 3 --json
      encore records --follow
    """
    project = open_project(config_file)
    with open_ledger(project) as ledger:
        model = project.config.model
        if following:
            for count, record in enumerate(
                follow(ledger, model, after=after, poll_seconds=poll_seconds), start=1
            ):
                click.echo(to_json(record) if as_json else _line(record))
                if count == limit:
                    return
        records = ledger.records(model, after=after, limit=limit)
        consumers = _consumers(ledger.acknowledgements(model))
    if as_json:
        print_json(
            [
                {
                    **json.loads(to_json(record)),
                    "acknowledged_by": consumers.get(record.sequence, []),
                }
                for record in records
            ]
        )
    elif not records:
        click.echo(f"{model}: no records; a push that replaces a live version writes the first")
    else:
        _print(records, consumers)


def _consumers(acknowledgements: tuple) -> dict[int, list[str]]:  # type: ignore[type-arg]
    consumers: dict[int, list[str]] = {}
    for acknowledgement in acknowledgements:
        consumers.setdefault(acknowledgement.sequence, []).append(acknowledgement.consumer)
    return {sequence: sorted(names) for sequence, names in consumers.items()}


def _line(record: InvalidationRecord) -> str:
    return (
        f"{record.created_at}  {record.record_id}  {record.cause.value}  "
        f"{words.selector(record.selector)}  {record.reason}"
    )


def _print(records: tuple[InvalidationRecord, ...], consumers: dict[int, list[str]]) -> None:
    """Two lines for each record: what happened, and what it withdraws."""
    for record in records:
        versions = (
            f"  version {record.version_before} -> {record.version_after}"
            if record.version_after
            else ""
        )
        by = ", ".join(consumers.get(record.sequence, [])) or "nobody yet"
        click.echo(
            f"{record.record_id}  {record.cause.value}{versions}  "
            f"{words.moment(record.created_at)}  by {record.created_by}"
        )
        click.echo(f"    withdraws {words.selector(record.selector)}; acknowledged by {by}")
        click.echo(f"    {record.reason}")
