"""`encore why`: everything known about a version, on one page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from tfx_encore.pipeline.commands.options import (
    json_option,
    open_project,
    print_json,
    project_option,
)
from tfx_encore.pipeline.report import words
from tfx_encore.pipeline.why import explain

_WORST = 8  # findings shown for each gate; --json has all


@click.command("why")
@project_option
@click.argument("version", type=click.IntRange(min=1))
@json_option
def command(config_file: str, version: int, *, as_json: bool) -> None:
    """Shows where VERSION comes from, what was decided about it, and what it withdrew.

    \b
    Examples:
      encore why 2
      encore why 2 --json | jq '.spans[].digest'
    """
    page = explain(open_project(config_file), version)
    if as_json:
        print_json(page)
        return
    console = Console(highlight=False)
    state = ", ".join(page["labels"]) or ("kept" if page["on_disk"] else "removed by retention")
    console.print(f"[bold]{page['model']} version {version}[/]  ({state})")
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in _facts(page):
        facts.add_row(f"  {name}", value)
    console.print(facts)
    for decision in page["manifest"]["decisions"]:
        _print_decision(console, decision)
    _print_records(console, page["records"])


def _facts(page: dict[str, Any]) -> Iterator[tuple[str, str]]:
    manifest = page["manifest"]
    yield "pushed", f"{words.moment(manifest['created_at'])} by {manifest['created_by']}"
    yield "fingerprint", manifest["fingerprint"]
    for span in page["spans"]:
        rows = f"{sum(span['examples'].values()):,} rows" if span["examples"] else ""
        yield (
            f"span {span['span']}",
            f"{span['role']}; {rows} from {span['source']}\n{span['digest']}",
        )
    baseline = manifest["baseline_version"]
    yield "baseline", f"version {baseline}" if baseline else "none: nothing was live"
    yield "schema", manifest["schema_digest"] or "not recorded"
    hyperparameters = manifest["hyperparameters"].items()
    yield "training", ", ".join(f"{name} {value}" for name, value in sorted(hyperparameters))
    if manifest["certificate"]:
        yield "cacheable", manifest["certificate"]["message"]
    yield "software", ", ".join(f"{k} {v}" for k, v in sorted(manifest["versions_of"].items()))
    lineage = sorted(manifest["lineage"].items())
    yield "ML Metadata", ", ".join(f"{name} #{id_}" for name, id_ in lineage)


def _print_decision(console: Console, decision: dict[str, Any]) -> None:
    against = f" against {decision['baseline']}" if decision["baseline"] else ""
    console.print(
        f"\n[bold]{words.gate(decision['gate'])}[/]{against}: {decision['outcome']}, "
        f"{decision['reason']}"
    )
    for evidence in _worst(decision):
        console.print(f"  {evidence['outcome']:<6} {_said(evidence)}")
    hidden = len(decision["evidence"]) - len(_worst(decision))
    if hidden > 0:
        console.print(f"  [dim]... {hidden} more checks; --json has all[/]")


def _worst(decision: dict[str, Any]) -> list[dict[str, Any]]:
    """The first checks worth reading: those that were made, worst first."""
    return [e for e in decision["evidence"] if e["outcome"] != "INSUFFICIENT_DATA"][:_WORST]


def _said(evidence: dict[str, Any]) -> str:
    """The check's message, with its subject before it where the message does not name it."""
    subject = words.subject(evidence["subject"])
    message: str = evidence["message"]
    return message if subject in message else f"{subject}: {message}"


def _print_records(console: Console, records: list[dict[str, Any]]) -> None:
    console.print(f"\n[bold]Invalidation records[/]: {len(records) or 'none'}")
    for record in records:
        consumers = ", ".join(ack["consumer"] for ack in record["acknowledgements"]) or "nobody yet"
        console.print(
            f"  {record['model']}/{record['sequence']:06d} {record['cause']}: {record['reason']} "
            f"(acknowledged by {consumers})"
        )
