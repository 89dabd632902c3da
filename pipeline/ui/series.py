"""Values over nights: which days, with gaps where nights are missing. No IO here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tfx_encore.pipeline.ui import charts
from tfx_encore.pipeline.ui.charts import Spec
from tfx_encore.schemas.nights import NightRecord, days_between


@dataclass(frozen=True)
class Change:
    """Another version answered from this day on."""

    date: str
    version: int
    before: int | None


def days_of(dates: Sequence[str]) -> tuple[str, ...]:
    """Every day from the first of `dates` to the last, those without a night included."""
    return days_between(min(dates), max(dates)) if dates else ()


def spread(days: Sequence[str], values: Mapping[str, float | None]) -> tuple[float | None, ...]:
    """The values by day, None where a day has none."""
    return tuple(values.get(day) for day in days)


def changes(nights: Iterable[NightRecord]) -> tuple[Change, ...]:
    """The days on which another version answers than the night before."""
    found: list[Change] = []
    before: int | None = None
    for night in nights:
        if night.version is None:
            continue
        if before is not None and night.version != before:
            found.append(Change(night.date, night.version, before))
        before = night.version
    return tuple(found)


def change_marks(found: Iterable[Change]) -> tuple[list[Spec], list[Spec]]:
    """The changes as upright lines and their words, for a layout."""
    marks = [charts.upright(change.date, f"v{change.version}") for change in found]
    return [shape for shape, _ in marks], [note for _, note in marks]


LEAST_SPAN = 0.2


def spark(values: Sequence[float | None]) -> tuple[str, ...]:
    """The points of small lines in a box of 100 by 20, one for each unbroken stretch.

    The box is as high as the values need, and `LEAST_SPAN` at least, so that noise stays small.
    """
    there = [value for value in values if value is not None]
    middle = (min(there) + max(there)) / 2 if there else 0.0
    span = max(LEAST_SPAN, max(there) - min(there)) if there else LEAST_SPAN
    low = middle - span / 2
    step = 100 / max(1, len(values) - 1)
    lines: list[list[str]] = [[]]
    for index, value in enumerate(values):
        if value is None:
            lines.append([])
            continue
        y = 18 - 16 * (value - low) / span
        lines[-1].append(f"{index * step:.1f},{y:.1f}")
    return tuple(" ".join(points) for points in lines if len(points) > 1)
