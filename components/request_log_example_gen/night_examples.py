"""A day of a request log in Beam: files in, Examples and a report out."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from tfx.dsl.io import fileio

from tfx_encore.components.request_log_example_gen import joining_stage, reading_stage
from tfx_encore.components.request_log_example_gen.labels import LabelKeys
from tfx_encore.components.request_log_example_gen.messages import Wanted
from tfx_encore.components.request_log_example_gen.reading_stage import Layout, LogPart, parts_of
from tfx_encore.components.request_log_example_gen.tallies import add, report_of
from tfx_encore.components.shared_files import buckets_for, read_json, sizes_of, write_json
from tfx_encore.schemas.nights import LogReport

BUCKET_BYTES = 48 << 20  # of log for each bucket, hence for each file of Examples
PART_BYTES = 64 << 20  # of log that a worker reads at a time
_MAX_BUCKETS = 1000
_BUCKETS_A_PART = 8
SET_ASIDE = "set_aside"
INDEX = "index.json"
_NOTES = "notes.json"
_MAX_LINES = 10_000  # of lost stretches, and of bad labels, that are told one by one

Notes = dict[str, Any]


@dataclass(frozen=True)
class Night:
    """What a night is made from.

    Attributes:
        date: the day (UTC), as 2016-01-12.
        files: of the log, in order.
        label_files: in order: of several labels for a row the last wins.
        wanted: which records, and how they are read.
        keys: how labels find their rows.
        by_own_time: only records whose time lies in the day count.
    """

    date: str
    files: tuple[str, ...]
    label_files: tuple[str, ...]
    wanted: Wanted
    keys: LabelKeys
    by_own_time: bool = False

    @property
    def window(self) -> tuple[int, int] | None:
        """The day in microseconds since 1970, its end excluded; None if all records count."""
        if not self.by_own_time:
            return None
        day = dt.datetime.fromisoformat(self.date).replace(tzinfo=dt.timezone.utc)
        start = int(day.timestamp()) * 1_000_000
        return start, start + 86_400_000_000


def make_examples(
    make_pipeline: Callable[[], Any], night: Night, examples: str, report: str, tmp: str
) -> LogReport:
    """Writes the Examples of a night, and sets aside what cannot be read.

    Args:
        make_pipeline: makes the Beam pipeline; used as a context.
        night: what to read.
        examples: folder for the files of Examples.
        report: folder below which `set_aside` is made if something is unreadable.
        tmp: folder that every worker can write into; the caller removes it.

    Raises:
        DataError: a file that cannot be opened, or labels without their columns.
    """
    sizes = sizes_of(night.files)
    buckets = buckets_for(sum(sizes), BUCKET_BYTES, _MAX_BUCKETS)
    aside = f"{report}/{SET_ASIDE}"
    layout = Layout(buckets, -(-buckets // _BUCKETS_A_PART), examples, aside, tmp)
    for folder in (examples, aside, tmp):
        fileio.makedirs(folder)
    with make_pipeline() as pipeline:
        _build(pipeline, night, parts_of(night.files, sizes, PART_BYTES), layout)
    notes = read_json(f"{tmp}/{_NOTES}")
    _write_index(notes[reading_stage.LOST], aside)
    told = [line for *_, line in notes[joining_stage.BAD]]
    return report_of(notes[reading_stage.TALLY], len(night.files), told)


def _build(pipeline: Any, night: Night, log_parts: Sequence[LogPart], layout: Layout) -> None:
    read = reading_stage.ReadLog(night.wanted, night.keys, night.window, layout)
    log = (
        pipeline
        | "Parts" >> beam.Create(log_parts)
        | "Spread" >> beam.Reshuffle()
        | "Read log"
        >> beam.ParDo(read).with_outputs(reading_stage.NOTES, reading_stage.PRINTS, main="rows")
    )
    labels = (
        pipeline
        | "Label files" >> beam.Create(list(enumerate(night.label_files)))
        | "Spread labels" >> beam.Reshuffle()
        | "Read labels"
        >> beam.ParDo(joining_stage.ReadLabels(night.keys, layout)).with_outputs(
            reading_stage.NOTES, main="labels"
        )
    )
    # An empty bucket is a file as well: how many there are follows from the log's size alone.
    empty = pipeline | "Buckets" >> beam.Create(
        [(number, None) for number in range(layout.buckets)]
    )
    written = (
        (log.rows, labels.labels, empty)
        | "Together" >> beam.Flatten()
        | "Meet" >> beam.GroupByKey()
        | "Write" >> beam.ParDo(joining_stage.WriteBucket(layout))
    )
    squares = (
        log[reading_stage.PRINTS]
        | "Equal rows" >> beam.GroupByKey()
        | "Squares" >> beam.ParDo(reading_stage.Squares())
    )
    _ = (
        (log[reading_stage.NOTES], labels[reading_stage.NOTES], written, squares)
        | "Notes" >> beam.Flatten()
        | "All notes" >> beam.CombineGlobally(AddNotes())
        | "Save notes" >> beam.Map(write_json, f"{layout.working}/{_NOTES}")
    )


class AddNotes(beam.CombineFn):
    """Adds tallies up; of what is told line by line, the first lines stay.

    The accumulator, kind -> tally or lines, is what comes out, and may be changed.
    """

    def create_accumulator(self) -> Notes:
        """Nothing yet."""
        return {reading_stage.TALLY: {}, reading_stage.LOST: [], joining_stage.BAD: []}

    def add_input(self, accumulator: Notes, element: tuple[str, Any]) -> Notes:
        """Adds a note."""
        kind, note = element
        if kind == reading_stage.TALLY:
            add(accumulator[kind], note)
        else:
            accumulator[kind].append(note)
            if len(accumulator[kind]) >= 2 * _MAX_LINES:
                accumulator[kind] = _first(accumulator[kind])
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[Notes]) -> Notes:
        """Adds all up."""
        merged = self.create_accumulator()
        for accumulator in accumulators:
            add(merged[reading_stage.TALLY], accumulator[reading_stage.TALLY])
            for kind in (reading_stage.LOST, joining_stage.BAD):
                merged[kind] = _first([*merged[kind], *accumulator[kind]])
        return merged

    def extract_output(self, accumulator: Notes) -> Notes:
        """The sums, and the first lines in order."""
        for kind in (reading_stage.LOST, joining_stage.BAD):
            accumulator[kind] = _first(accumulator[kind])
        return accumulator


def _first(lines: list[Any]) -> list[Any]:
    return sorted(lines, key=_place)[:_MAX_LINES]


def _place(line: Any) -> Any:
    """Lost stretches in order of file and offset, bad labels in order of file and line."""
    return (line["file"], line["offset"]) if isinstance(line, dict) else line


def _write_index(lost: list[dict[str, Any]], aside: str) -> None:
    if not lost:
        fileio.rmtree(aside)
        return
    with fileio.open(f"{aside}/{INDEX}", "w") as file:
        file.write(json.dumps(lost, indent=1, sort_keys=True) + "\n")
