"""`encore cache`: what a running gateway has in its caches; warming, withdrawing, verifying."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Optional

import click
from rich.console import Console
from rich.table import Table

from tfx_encore.gateway.admin_messages import (
    ModelStats,
    VerifyReply,
    WarmReply,
    WorkerStats,
    merge_models,
)
from tfx_encore.metadata.release_push import whoami
from tfx_encore.pipeline.commands.options import json_option, print_json
from tfx_encore.pipeline.gateway_place import place_of, place_options
from tfx_encore.pipeline.purging import acknowledged, consumers, place_if_any, subject_of
from tfx_encore.pipeline.report import words
from tfx_encore.pipeline.selectors import parse_selector
from tfx_encore.schemas.errors import EncoreError
from tfx_encore.schemas.records import Cause, RecordDraft
from tfx_encore.schemas.serial import to_json

_CAUSES = [Cause.MANUAL.value, Cause.DATA_DRIFT.value, Cause.ERASURE.value]


class NotVerifiedError(EncoreError):
    """A cached answer is not what the model says, or none could be compared."""


@click.group("cache")
def command() -> None:
    """Looks at a running gateway's cache, warms it, withdraws from it, verifies it.

    \b
    Examples:
      encore cache stats
      encore cache verify --rows 1000
      encore cache purge --selector slice:payment_type=Cash --reason "fares were in cents"
    """


@command.command("stats")
@place_options
@json_option
def stats(config: Optional[str], cache_dir: Optional[str], *, as_json: bool) -> None:
    """Shows what is served and how the caches of all workers do."""
    replies = place_of(config, cache_dir).ask({"command": "stats"}, 30.0)
    workers = [WorkerStats.model_validate(reply) for reply in replies]
    models = merge_models(workers)
    if as_json:
        print_json(
            {
                "models": [model.model_dump() for model in models],
                "workers": [worker.model_dump() for worker in workers],
            }
        )
        return
    for line in _head(workers):
        click.echo(line)
    for model in models:
        _print_model(model)


@command.command("warm")
@place_options
@click.option("--model", help="Only this model.")
@click.option(
    "--snapshot",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Directory of a snapshot. Default: that of each release that is served.",
)
@json_option
def warm(
    config: Optional[str],
    cache_dir: Optional[str],
    model: Optional[str],
    snapshot: Optional[Path],
    *,
    as_json: bool,
) -> None:
    """Loads the answers of a snapshot into the caches again."""
    request = {"command": "warm", "model": model}
    request["snapshot"] = str(snapshot.resolve()) if snapshot else None
    replies = [WarmReply.model_validate(r) for r in place_of(config, cache_dir).ask(request)]
    loaded = _summed(reply.loaded for reply in replies)
    problems = sorted({problem for reply in replies for problem in reply.problems})
    if as_json:
        print_json({"loaded": loaded, "problems": problems})
    for name, count in sorted(loaded.items()) if not as_json else ():
        click.echo(f"{name}: {count:,} answers loaded by {len(replies)} worker(s)")
    if problems:
        raise EncoreError("; ".join(problems))
    if not loaded and not as_json:
        click.echo("nothing to load: no release that is served has a snapshot")


@command.command("verify")
@place_options
@click.option("--model", help="Only this model.")
@click.option(
    "--rows",
    type=click.IntRange(1, 100_000),
    default=100,
    show_default=True,
    help="Entries of each model that each worker recomputes.",
)
@json_option
def verify(
    config: Optional[str],
    cache_dir: Optional[str],
    model: Optional[str],
    rows: int,
    *,
    as_json: bool,
) -> None:
    """Recomputes a sample of cached answers and compares; exit code 1 if any differs."""
    request = {"command": "verify", "model": model, "rows": rows}
    replies = [VerifyReply.model_validate(r) for r in place_of(config, cache_dir).ask(request)]
    checked = _summed(reply.checked for reply in replies)
    different = sum(reply.different for reply in replies)
    found = [difference for reply in replies for difference in reply.differences]
    problems = sorted({problem for reply in replies for problem in reply.problems})
    if as_json:
        print_json(
            {
                "checked": checked,
                "different": different,
                "differences": [each.model_dump() for each in found],
                "problems": problems,
            }
        )
    else:
        for name, count in sorted(checked.items()):
            click.echo(f"{name}: {count:,} cached answers recomputed")
        for each in found:
            click.echo(f"  {each.model} {each.signature} {words.digest(each.fingerprint)}")
            click.echo(f"    key      {each.key}\n    cached   {each.cached}")
            click.echo(f"    computed {each.computed}")
    if different or problems:
        told = [f"{different:,} cached answers differ from the model's"] if different else []
        raise NotVerifiedError("; ".join([*told, *problems]))
    if not as_json:
        click.echo("all equal" if sum(checked.values()) else "nothing is cached yet")


@command.command("purge")
@place_options
@click.option("--releases", metavar="PATH", help="Release directory, if it is not a project's.")
@click.option("--model", help="The model; needed with --releases.")
@click.option(
    "--selector",
    required=True,
    metavar="SELECTOR",
    help="all | fingerprint=sha256:... | keys=KEY[,KEY...] | slice:FEATURE=VALUE[,FEATURE=VALUE]",
)
@click.option("--cause", type=click.Choice(_CAUSES), default=Cause.MANUAL.value, show_default=True)
@click.option("--reason", default="", help="Why, for the record.")
@click.option(
    "--wait_seconds",
    "--wait-seconds",
    type=click.FloatRange(min=0.0),
    default=30.0,
    show_default=True,
    help="How long to wait for the gateway's acknowledgement.",
)
@json_option
def purge(
    *,
    config: Optional[str],
    cache_dir: Optional[str],
    releases: Optional[str],
    model: Optional[str],
    selector: str,
    cause: str,
    reason: str,
    wait_seconds: float,
    as_json: bool,
) -> None:
    """Withdraws cached answers by a record that every gateway follows, and waits until it has.

    As `encore invalidate`, and shows who has acknowledged. Exit code 1 if a gateway that runs here
    has not in time: it will, or it serves nothing once its ledger is too old.
    """
    subject = subject_of(config, releases, model)
    draft = RecordDraft(
        model=subject.releases.model,
        cause=Cause(cause),
        selector=parse_selector(selector, subject.features()),
        reason=reason or f"`encore cache purge --selector {selector}`",
        created_by=whoami(),
    )
    place = place_if_any(config, cache_dir)
    expected = consumers(place)
    record = subject.releases.append_record(draft)
    subject.publish()
    done, missing = acknowledged(subject, place, record, expected, wait_seconds)
    if as_json:
        print_json(
            {
                "record": json.loads(to_json(record)),
                "acknowledged_by": done,
                "not_acknowledged_by": missing,
            }
        )
    else:
        click.echo(f"record {record.record_id} {record.cause.value} written: {record.reason}")
        for name in done:
            click.echo(f"  acknowledged by {name}")
        if not expected:
            click.echo("  no gateway runs here; each applies it before it serves again")
    if missing:
        raise EncoreError(
            f"record {record.record_id} was not acknowledged within {wait_seconds:g} s by "
            f"{', '.join(missing)}"
        )


# --- showing -------------------------------------------------------------------------------------


def _head(workers: Sequence[WorkerStats]) -> Iterable[str]:
    for worker in workers:
        ports = [f"REST {worker.rest_port}"] if worker.rest_port else []
        ports += [f"gRPC {worker.grpc_port}"] if worker.grpc_port else []
        state = "ready" if worker.is_ready else "not ready"
        yield f"worker {worker.worker}  process {worker.pid}  {state}  {', '.join(ports)}"


def _print_model(model: ModelStats) -> None:
    console = Console(highlight=False)
    rows = sum(model.hits.values()) + model.misses
    console.print(f"\n[bold]{model.model}[/]  {_rates(model, rows)}")
    for text in _ledger_lines(model):
        console.print(f"  {text}", markup=False)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("  version", "labels", "fingerprint", "warmed", "in memory"):
        table.add_column(column)
    for version in model.versions:
        labels = [*version.labels, *(["(default)"] if version.is_default else [])]
        entries = "" if version.entries is None else f"{version.entries:,}"
        table.add_row(
            *(f"  {version.version}", ", ".join(labels), words.digest(version.fingerprint)),
            *(f"{version.warmed:,}", entries),
        )
    console.print(table)
    tiers = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("  tier", "entries", "bytes", "breaker"):
        tiers.add_column(column)
    for tier in model.tiers:
        numbers = ["" if n is None else f"{n:,}" for n in (tier.entries, tier.bytes)]
        tiers.add_row(f"  {tier.tier}", *numbers, tier.breaker)
    console.print(tiers)


def _rates(model: ModelStats, rows: int) -> str:
    if not rows:
        return "no row was asked for yet"
    kinds = ", ".join(f"{count / rows:.1%} {kind}" for kind, count in sorted(model.hits.items()))
    hits = sum(model.hits.values())
    return f"{hits / rows:.1%} of {rows:,} rows were hits" + (f" ({kinds})" if kinds else "")


def _ledger_lines(model: ModelStats) -> Iterable[str]:
    if model.ledger_age_seconds is not None:
        yield f"generation {model.generation}, ledger read {model.ledger_age_seconds:.1f} s ago"
    if model.ledger_problem:
        yield f"ledger: {model.ledger_problem}"
    if model.problem:
        yield model.problem


def _summed(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for each in counts:
        for name, count in each.items():
            total[name] = total.get(name, 0) + count
    return total
