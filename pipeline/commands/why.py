"""`encore why`: everything known about a version, or about a night, on one page."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tfx_encore.pipeline.commands.options import (
    json_option,
    open_project,
    print_json,
    project_option,
)
from tfx_encore.pipeline.console_nights import print_night
from tfx_encore.pipeline.report import words
from tfx_encore.pipeline.why import explain, explain_night
from tfx_encore.schemas.nights import NightRecord
from tfx_encore.schemas.serial import from_json

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_WORST = 8  # findings shown for each gate; --json has all


@click.command("why")
@project_option
@click.argument("what", metavar="VERSION|DATE")
@json_option
def command(config_file: str, what: str, *, as_json: bool) -> None:
    """Shows where VERSION comes from, what was decided about it, and what it withdrew.

    Of a night (a DATE), what was read, what was found, and by what it was judged.

    \b
    Examples:
      encore why 2
      encore why 2 --json | jq '.spans[].digest'
      encore why 2016-01-12
    """
    project = open_project(config_file)
    if _DAY.fullmatch(what):
        night = explain_night(project, what)
        print_json(night) if as_json else _print_night(night)
        return
    if not what.isdigit() or int(what) < 1:
        raise click.UsageError(f"{what!r} is neither a version, as 2, nor a night, as 2016-01-12")
    page = explain(project, int(what))
    if as_json:
        print_json(page)
    else:
        _print_version(page)


def _print_version(page: dict[str, Any]) -> None:
    console = Console(highlight=False)
    state = ", ".join(page["labels"]) or ("kept" if page["on_disk"] else "removed by retention")
    console.print(f"[bold]{page['model']} version {page['version']}[/]  ({state})")
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in _facts(page):
        facts.add_row(f"  {name}", value)
    console.print(facts)
    for decision in page["manifest"]["decisions"]:
        _print_decision(console, decision)
    _print_records(console, page["records"])


def _print_night(page: dict[str, Any]) -> None:
    console = Console(highlight=False)
    record = from_json(NightRecord, json.dumps(page["record"]), source=page["folder"])
    print_night(console, record)
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in _night_facts(page):
        facts.add_row(f"  {name}", escape(value))
    console.print(facts)
    for decision in page["record"]["decisions"]:
        _print_decision(console, decision)
    for finding in record.findings:
        place = ", ".join(f"{name} {value}" for name, value in finding.features.items())
        console.print(
            f"\n[bold]Slice found[/]: {escape(place)}: accuracy {finding.value:.3f} on "
            f"{finding.rows:,} rows, {finding.rest:.3f} elsewhere"
        )
    _print_records(console, [{**r, "acknowledgements": []} for r in page["records"]])


def _night_facts(page: dict[str, Any]) -> Iterator[tuple[str, str]]:
    record, inputs = page["record"], page["inputs"] or {}
    yield "written", f"{words.moment(record['created_at'])}, revision {record['revision']}"
    yield "fingerprint", record["fingerprint"] or "not known"
    for name, what in (("log", "request log"), ("labels", "labels")):
        files = inputs.get(name) or []
        size = sum(file["size"] for file in files)
        yield what, f"{_files(len(files))}, {size:,} bytes" if files else "none"
    looked = page["looked_at"]
    yield "drift against", _span(looked["drift"])
    yield "trend over", _span(looked["trend"])
    yield "folder", page["folder"]


def _span(days: list[str]) -> str:
    if not days:
        return "no earlier nights"
    return f"{len(days)} nights, {days[0]} to {days[-1]}" if len(days) > 1 else days[0]


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


def _files(count: int) -> str:
    return f"{count:,} file{'' if count == 1 else 's'}"


def _print_records(console: Console, records: list[dict[str, Any]]) -> None:
    console.print(f"\n[bold]Invalidation records[/]: {len(records) or 'none'}")
    for record in records:
        consumers = ", ".join(ack["consumer"] for ack in record["acknowledgements"]) or "nobody yet"
        console.print(
            f"  {record['model']}/{record['sequence']:06d} {record['cause']}: {record['reason']} "
            f"(acknowledged by {consumers})"
        )
