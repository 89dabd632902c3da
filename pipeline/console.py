"""How a run looks on a terminal: progress while it runs, a summary when it ends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Optional

from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table

from tfx_encore.pipeline.plan import RunResult, StepResult
from tfx_encore.pipeline.report import words
from tfx_encore.schemas.charts import Coverage
from tfx_encore.schemas.decisions import Decision, Outcome
from tfx_encore.schemas.release import Certificate

_COLOURS = {
    Outcome.OK: "green",
    Outcome.WARN: "yellow",
    Outcome.BLOCK: "bold red",
    Outcome.INSUFFICIENT_DATA: "cyan",
}
_MARKS = {"ran": "[green]✓[/]", "cached": "[cyan]=[/]", "failed": "[bold red]✗[/]", "skipped": "-"}
_SHORT = {Outcome.INSUFFICIENT_DATA: "TOO LITTLE"}
_SHOWN = 6  # findings listed for each decision; the report has them all


class TerminalProgress:
    """One line for each component; on a terminal, the one that runs is shown too."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Optional[Status] = None

    @contextlib.contextmanager
    def running(self) -> Iterator[TerminalProgress]:
        """Shows progress inside the block."""
        if self._console.is_terminal:
            with self._console.status("checking the data") as self._status:
                yield self
            self._status = None
        else:
            yield self

    def started(self, step: str, index: int, of: int) -> None:
        """Shows that a component runs."""
        if self._status is not None:
            self._status.update(f"{step}  [dim]{index} of {of}[/]" if of else step)

    def ended(self, step: StepResult) -> None:
        """Prints the component's line."""
        note = "  [cyan]from TFX's cache[/]" if step.state == "cached" else ""
        self._console.print(f"  {_MARKS[step.state]} {step.name:<16}{step.seconds:6.1f} s{note}")


def print_result(console: Console, result: RunResult) -> None:
    """The summary of a run."""
    console.print()
    console.print(_headline(result))
    if result.state == "unchanged":
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for decision in result.decisions:
        for left, right in _decision_rows(decision):
            table.add_row(f"  {left}", right)
    for name, value in _fact_rows(result):
        table.add_row(f"  [dim]{name}[/]", escape(value))
    console.print(table)
    # Paths are for copying: they are not wrapped.
    for name, path in (("report", result.report), ("log", result.log)):
        if path:
            console.print(f"  [dim]{name:<12}[/] {escape(path)}", soft_wrap=True)
    console.print()


def _headline(result: RunResult) -> str:
    where = f"{result.model}, span {result.span}"
    reason = escape(result.reason)
    if result.state == "pushed":
        return f"[bold green]version {result.version} pushed[/] ({where})\n  {reason}"
    if result.state == "refused":
        return f"[bold red]nothing pushed[/] ({where})"
    return f"[bold]no new version[/] ({where})\n  {reason}"


def _decision_rows(decision: Decision) -> Iterator[tuple[str, str]]:
    """The decision, then what was found, worst first."""
    name = words.gate(decision.gate).lower()
    baseline = f" against {decision.baseline}" if decision.baseline else ""
    found = [e for e in decision.evidence if e.outcome in (Outcome.BLOCK, Outcome.WARN)]
    # The first finding is usually the reason, word for word; it need not be said twice.
    reason = "" if found and found[0].message in decision.reason else f": {decision.reason}"
    yield mark(decision.outcome), f"[bold]{name}[/]{escape(baseline + reason)}"
    for evidence in found[:_SHOWN]:
        yield "", f"{mark(evidence.outcome)} {escape(evidence.message)}"
    if len(found) > _SHOWN:
        yield "", f"... and {len(found) - _SHOWN} more in the report"


def mark(outcome: Outcome) -> str:
    """An outcome as it is printed: short, in its colour."""
    return f"[{_COLOURS[outcome]}]{_SHORT.get(outcome, outcome.value)}[/]"


def _fact_rows(result: RunResult) -> Iterator[tuple[str, str]]:
    coverage = result.coverage
    if coverage is not None:
        yield "cache", _coverage(coverage)
    if result.certificate is not None:
        yield "cacheable", _cacheable(result.certificate)
    yield "records", _records(result)
    if result.anomalies:
        yield "anomalies", "; ".join(result.anomalies)
    if result.fingerprint:
        yield "fingerprint", result.fingerprint
    yield "took", f"{result.seconds:.0f} s, {result.peak_memory_mb:,.0f} MiB of memory at most"


def _coverage(coverage: Coverage) -> str:
    rate = f"{coverage.hit_rate:.1%} by raw key"
    if coverage.hit_rate_transformed is not None:
        rate = f"{coverage.hit_rate_transformed:.1%} ({rate})"
    return f"{coverage.entries:,} answers warmed; predicted hit rate {rate} on {coverage.window}"


def _cacheable(certificate: Certificate) -> str:
    answer = "row by row" if certificate.cacheable_rows else "not row by row"
    return f"{answer}: {certificate.message}"


def _records(result: RunResult) -> str:
    if not result.records:
        return "none: no cached answer had to be withdrawn"
    return "; ".join(
        f"{record.record_id} {record.cause.value} "
        f"(version {record.version_before} -> {record.version_after})"
        for record in result.records
    )
