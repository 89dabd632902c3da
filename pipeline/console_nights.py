"""How a run of nights looks on a terminal: its progress, and what was concluded."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Optional

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tfx_encore.metadata.night_store import RECORD
from tfx_encore.pipeline.console import TerminalProgress, mark
from tfx_encore.pipeline.night_actions import command_for
from tfx_encore.pipeline.night_plan import NightFailure, NightsResult
from tfx_encore.pipeline.plan import StepResult
from tfx_encore.pipeline.report import words
from tfx_encore.pipeline.run import Project
from tfx_encore.schemas.nights import MetricPoint, NightAlarm, NightRecord

_SHOWN = 6  # alarms listed for each night; --json has them all


class NightsProgress:
    """One line for each night, and one for each component of a run of few nights."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._steps = TerminalProgress(console)
        self._prefix = ""

    @contextlib.contextmanager
    def running(self) -> Iterator[NightsProgress]:
        """Shows progress inside the block."""
        with self._steps.running():
            yield self

    def night(self, date: str, index: int, of: int) -> None:
        """Prints the night's headline."""
        self._prefix = f"night {date} ({index} of {of})"
        self._console.print(f"[bold]{self._prefix}[/]")

    def night_failed(self, failure: NightFailure) -> None:
        """Prints why a night failed."""
        self._console.print(
            f"  [bold red]night {failure.date} failed[/] in {failure.step}: {escape(failure.cause)}"
        )

    def started(self, step: str, index: int, of: int) -> None:
        """Shows that a component runs."""
        self._steps.started(f"{self._prefix} {step}".strip(), index, of)

    def ended(self, step: StepResult) -> None:
        """Prints the component's line."""
        self._steps.ended(step)


def print_nights(console: Console, project: Project, result: NightsResult) -> None:
    """What each night was found to be, and what to do."""
    console.print()
    quiet = set(result.unchanged)
    for record in result.records:
        if record.date not in quiet:
            print_night(console, record)
    if quiet:
        said = _days(sorted(quiet))
        console.print(f"[dim]nothing new for {said}[/]")
    for line in result.removed:
        console.print(f"[dim]removed {escape(line)}[/]")
    folder = project.releases.path / "nights"
    shown = f"{folder}/<date>/<revision>/{RECORD}"
    console.print(f"[dim]nights       {escape(shown)}[/]", soft_wrap=True)
    if result.log:
        console.print(f"[dim]log          {escape(result.log)}[/]", soft_wrap=True)
        console.print(
            f"[dim]took         {result.seconds:.0f} s, {result.peak_memory_mb:,.0f} MiB of memory "
            "at most[/]"
        )


def print_night(console: Console, record: NightRecord) -> None:
    """One night: outcome, what was read, alarms, proposals."""
    console.print(f"{mark(record.outcome)} [bold]night {record.date}[/]: {escape(record.reason)}")
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts_of(record):
        table.add_row(f"  [dim]{name}[/]", escape(value))
    for alarm in record.alarms[:_SHOWN]:
        table.add_row(f"  {mark(alarm.outcome)}", escape(alarm_line(alarm)))
    if len(record.alarms) > _SHOWN:
        table.add_row("", f"... and {len(record.alarms) - _SHOWN} more; `encore why {record.date}`")
    console.print(table)
    for line in action_lines(record):
        console.print(f"  {escape(line)}")
    console.print()


def facts_of(record: NightRecord) -> Iterator[tuple[str, str]]:
    """What was read, in words."""
    log = record.log
    yield "read", f"{log.rows:,} rows of {log.requests:,} requests, {log.labelled:,} labelled"
    if log.unreadable:
        kept = f", kept in {log.set_aside} among the day's artifacts" if log.set_aside else ""
        yield "unreadable", f"{log.unreadable:,} of {log.records:,} records{kept}"
    if log.hit_rate is not None:
        yield "hit rate", words.percent(log.hit_rate)
    if record.version is not None:
        yield "served by", f"version {record.version}"
    accuracy = overall_metric(record)
    if accuracy is not None:
        low, high = accuracy.interval
        yield "accuracy", f"{accuracy.value:.4f} ({low:.4f} to {high:.4f})"


def overall_metric(record: NightRecord, metric: str = "accuracy") -> Optional[MetricPoint]:
    """A metric over all rows; None while too few have labels."""
    found = (m for m in record.metrics if m.metric == metric and not m.features)
    return next(found, None)


def alarm_line(alarm: NightAlarm) -> str:
    """An alarm with its age."""
    since = f" (since {alarm.since})"
    onset = f", the change dates from about {alarm.onset}" if alarm.onset else ""
    return f"{alarm.gate}: {alarm.message}{since}{onset}"


def action_lines(record: NightRecord) -> Iterator[str]:
    """What is proposed or was done, with the command for a person."""
    for action in record.actions:
        if action.kind == "nothing":
            continue
        what = action.kind.replace("_", " ")
        if action.state != "proposed":
            yield f"{what}: {action.state} ({action.result}): {action.reason}"
            continue
        command = command_for(action, record.date)
        yield f"proposed: {what}: {action.reason}" + (f"; `{command}`" if command else "")


def _days(days: Iterable[str]) -> str:
    days = list(days)
    return ", ".join(days) if len(days) <= 3 else f"{days[0]} to {days[-1]} ({len(days)} nights)"
