"""Counting rows in Beam: how often each was seen before and after the cut, and the head of them.

Rows travel in packs (`components.packing`), by bucket: what a worker holds is a bucket, and what
grows with the data is the number of buckets.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from tfx_encore.cache.keys import KeyMaker
from tfx_encore.cache.row_spec import SignatureSpec
from tfx_encore.cache.rows import encode_row
from tfx_encore.components.cache_warmer.head import HeadRow
from tfx_encore.components.cache_warmer.reading import (
    RecordFile,
    SourceFile,
    SourceReader,
)
from tfx_encore.components.cache_warmer.times import drawn
from tfx_encore.components.packing import Batches, Packed, unpack, write_packs

TALLY = "tally"
FILES = "files"
TIMES = "times"
TOTALS = "totals"
ROWS, DISTINCT = "rows", "distinct"  # kinds of packs
_ROWS_AT_ONCE = 1000  # of a head, in one element: runners limit what one may weigh
_FLUSH_AT = 50_000  # distinct rows held in a worker before they go on to be merged

RowOf = tuple[int, bytes]
"""Index of a signature, and a canonical row."""
Seen = tuple[int, int, bytes]
"""Times seen before the cut, times seen after it, and an Example the row came as."""


class ScanSource(beam.DoFn):
    """(number, file) -> what is known of it before its rows are counted (`RecordFile.facts`).

    Args:
        specs: as in `SourceReader`.
        timestamp_feature: if given, a sample of its values goes to the output `times`.
    """

    def __init__(self, specs: Sequence[SignatureSpec], timestamp_feature: str | None) -> None:
        self._specs = tuple(specs)
        self._time = timestamp_feature

    def process(self, numbered: tuple[int, SourceFile]) -> Iterator[Any]:
        """Yields the facts of one file, and its sample."""
        number, source = numbered
        file = RecordFile(source.path)
        if self._time is None:
            for _ in file:
                pass
        else:
            reader = SourceReader(self._specs, (), self._time)
            yield TaggedOutput(TIMES, drawn(number, _times(file, reader, source.is_log)))
        yield file.facts()


def _times(file: RecordFile, reader: SourceReader, is_log: bool) -> Iterator[float]:
    for record in file:
        for found in reader.rows(record, is_log, {}):
            if found.time is not None:
                yield found.time


class Head(beam.CombineFn):
    """Lists of rows -> the most frequent within the budget; ties go to the smaller key.

    Rows count against the byte budget with their keys; answers are not known yet and are counted
    when the snapshot is written. The head of a union lies within the union of the heads, so
    accumulators may be cut at any time.

    Args:
        max_entries: rows at most.
        max_bytes: bytes of rows and keys at most.
    """

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes

    def create_accumulator(self) -> list[HeadRow]:
        """Nothing yet."""
        return []

    def add_input(self, accumulator: list[HeadRow], element: list[HeadRow]) -> list[HeadRow]:
        """Adds some rows; changes the accumulator."""
        accumulator.extend(element)
        return self._cut(accumulator) if len(accumulator) >= self._slack() else accumulator

    def merge_accumulators(self, accumulators: Iterable[list[HeadRow]]) -> list[HeadRow]:
        """Merges heads; changes the first."""
        merged: list[HeadRow] = []
        for accumulator in accumulators:
            merged.extend(accumulator)
            if len(merged) >= self._slack():
                merged = self._cut(merged)
        return merged

    def compact(self, accumulator: list[HeadRow]) -> list[HeadRow]:
        """Cuts before an accumulator travels."""
        return self._cut(accumulator)

    def extract_output(self, accumulator: list[HeadRow]) -> list[HeadRow]:
        """The head, most frequent first."""
        return self._cut(accumulator)

    def _slack(self) -> int:
        return 2 * self._max_entries + 1000

    def _cut(self, rows: list[HeadRow]) -> list[HeadRow]:
        best = heapq.nsmallest(self._max_entries, rows, key=_rank)
        total = 0
        for place, row in enumerate(best):
            total += len(row.row) + len(row.key)
            if total > self._max_bytes:
                return best[:place]
        return best


def _rank(row: HeadRow) -> tuple[int, bytes]:
    return -row.seen, row.key


class CountRows(beam.DoFn):
    """(number, file) -> (bucket, packed rows with what was seen of each); tally and facts beside.

    Args:
        specs: as in `SourceReader`.
        output_filter: as in `SourceReader`.
        timestamp_feature: as in `SourceReader`.
        held_after: rows of a later time lie in the held-out window; None if time does not decide.
        buckets: of rows.
        folder: for the packs; every worker reaches it.
    """

    def __init__(
        self,
        specs: Sequence[SignatureSpec],
        output_filter: Sequence[str],
        timestamp_feature: str | None,
        held_after: float | None,
        *,
        buckets: int,
        folder: str,
    ) -> None:
        self._args = (tuple(specs), tuple(output_filter), timestamp_feature)
        self._held_after = held_after
        self._buckets = buckets
        self._folder = folder

    def process(self, numbered: tuple[int, SourceFile]) -> Iterator[Any]:
        """Yields the rows of one file."""
        number, source = numbered
        reader = SourceReader(*self._args)
        tally: dict[str, int] = {}
        file = RecordFile(source.path)
        batches = Batches(ROWS, self._buckets, 5, folder=self._folder, name=f"{number:06d}")
        for counts in counted(file, reader, source, self._held_after, tally):
            for (signature, row), (before, after, example) in counts.items():
                values = (signature, row, before, after, example)
                if batches.add(row, values, len(row) + len(example) + 32):
                    yield from batches.flush()
        yield from batches.flush()
        yield TaggedOutput(TALLY, tally)
        yield TaggedOutput(FILES, file.facts())


def counted(
    file: RecordFile,
    reader: SourceReader,
    source: SourceFile,
    held_after: float | None,
    tally: dict[str, int],
) -> Iterator[dict[RowOf, Seen]]:
    """What was seen of the rows of a file, some distinct rows at a time.

    Args:
        file: the file, opened.
        reader: makes rows of its records.
        source: what is known of it.
        held_after: as in `CountRows`.
        tally: what is passed over is added to it.
    """
    counts: dict[RowOf, Seen] = {}
    for number, record in enumerate(file):
        for found in reader.rows(record, source.is_log, tally):
            held = _is_held(source, number, found.time, held_after)
            _count(counts, (found.signature, encode_row(found.row)), held, found.example)
        if len(counts) >= _FLUSH_AT:
            yield counts
            counts = {}
    yield counts


def _is_held(source: SourceFile, number: int, time: float | None, held_after: float | None) -> bool:
    if held_after is not None:
        return time is not None and time > held_after
    if source.held_from is not None:
        return number >= source.held_from
    return source.held_out


def _count(counts: dict[RowOf, Seen], key: RowOf, held: bool, example: bytes) -> None:
    before, after, known = counts.get(key, (0, 0, example))
    counts[key] = (before + (not held), after + held, min(known, example))


def merge_packs(packs: Iterable[Packed]) -> dict[RowOf, Seen]:
    """Adds up what was seen of each row of a bucket; of its Examples the smallest is kept."""
    merged: dict[RowOf, Seen] = {}
    for packed in packs:
        for signature, row, before, after, example in zip(*unpack(packed), strict=True):
            known = merged.get((signature, row))
            if known is not None:
                before, after = before + known[0], after + known[1]  # noqa: PLW2901
                example = min(example, known[2])  # noqa: PLW2901
            merged[signature, row] = (before, after, example)
    return merged


class MergeBucket(beam.DoFn):
    """(bucket, packs) -> the head of its rows in parts; totals, and its distinct rows, beside.

    Args:
        fingerprint: of the model.
        signatures: names, in the order of their indices.
        output_filter: part of the keys.
        head: chooses the head.
        folder: for packs of the first signature's distinct rows, in order; None packs none.
    """

    def __init__(
        self,
        fingerprint: str,
        signatures: Sequence[str],
        output_filter: Sequence[str],
        head: Head,
        *,
        folder: str | None,
    ) -> None:
        self._contexts = [(fingerprint, name, tuple(output_filter)) for name in signatures]
        self._head = head
        self._folder = folder
        self._makers: list[KeyMaker] = []

    def setup(self) -> None:
        """Hash states do not travel; they are made here."""
        self._makers = [KeyMaker(*context) for context in self._contexts]

    def process(self, element: tuple[int, Iterable[Packed]]) -> Iterator[Any]:
        """Yields what is known of one bucket."""
        bucket, packs = element
        merged = merge_packs(packs)
        yield TaggedOutput(TOTALS, _totals(merged.values()))
        if self._folder is not None:
            mine = sorted((row, *seen) for (index, row), seen in merged.items() if index == 0)
            path = f"{self._folder}/{DISTINCT}-{bucket:06d}.pack"
            for _, packed in write_packs(DISTINCT, path, {bucket: mine}):
                yield TaggedOutput(DISTINCT, packed)
        head = self._head.extract_output([*self._rows(merged)])
        for start in range(0, len(head), _ROWS_AT_ONCE):
            yield head[start : start + _ROWS_AT_ONCE]

    def _rows(self, merged: dict[RowOf, Seen]) -> Iterator[HeadRow]:
        """Those seen before the cut."""
        for (signature, row), (before, after, example) in merged.items():
            if before:
                key = self._makers[signature].key(row)
                yield HeadRow(before, key, signature, row, example, after)


def _totals(found: Iterable[Seen]) -> dict[str, int]:
    totals = {"counted": 0, "held_out": 0, "distinct": 0}
    for before, after, _ in found:
        totals["counted"] += before
        totals["held_out"] += after
        totals["distinct"] += before > 0
    return totals


class Sums(beam.CombineFn):
    """Adds dictionaries of counts, key by key."""

    def create_accumulator(self) -> dict[str, int]:
        """Nothing yet."""
        return {}

    def add_input(self, accumulator: dict[str, int], element: dict[str, int]) -> dict[str, int]:
        """Adds one; changes the accumulator."""
        for name, count in element.items():
            accumulator[name] = accumulator.get(name, 0) + count
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[dict[str, int]]) -> dict[str, int]:
        """Adds all up."""
        merged: dict[str, int] = {}
        for accumulator in accumulators:
            self.add_input(merged, accumulator)
        return merged

    def extract_output(self, accumulator: dict[str, int]) -> dict[str, int]:
        """The sums."""
        return accumulator
