"""Counting rows in Beam: how often each was seen before and after the cut, and the head of them."""

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

TALLY = "tally"
FILES = "files"
_FLUSH_AT = 50_000  # distinct rows held in a worker before they go on to be merged

Seen = tuple[int, int, bytes]
"""Times seen before the cut, times seen after it, and an Example the row came as."""


class ScanSource(beam.DoFn):
    """File -> what is known of it before its rows are counted: records, size, damage, times.

    Args:
        specs: as in `SourceReader`.
        timestamp_feature: if given, its values go to the output `times`.
    """

    def __init__(self, specs: Sequence[SignatureSpec], timestamp_feature: str | None) -> None:
        self._specs = tuple(specs)
        self._time = timestamp_feature

    def process(self, source: SourceFile) -> Iterator[Any]:
        """Yields the facts of one file (`RecordFile.facts`), and its times."""
        reader = SourceReader(self._specs, (), self._time) if self._time else None
        file = RecordFile(source.path)
        for record in file:
            if reader is None:
                continue
            for counted in reader.rows(record, source.is_log, {}):
                if counted.time is not None:
                    yield TaggedOutput("times", counted.time)
        yield file.facts()


class CountRows(beam.DoFn):
    """File -> ((signature, row), Seen), merged within the worker; and a tally of the rest.

    Args:
        specs: as in `SourceReader`.
        output_filter: as in `SourceReader`.
        timestamp_feature: as in `SourceReader`.
        held_after: rows of a later time lie in the held-out window; None if time does not decide.
    """

    def __init__(
        self,
        specs: Sequence[SignatureSpec],
        output_filter: Sequence[str],
        timestamp_feature: str | None,
        held_after: float | None,
    ) -> None:
        self._args = (tuple(specs), tuple(output_filter), timestamp_feature)
        self._held_after = held_after

    def process(self, source: SourceFile) -> Iterator[Any]:
        """Yields the rows of one file."""
        reader = SourceReader(*self._args)
        tally: dict[str, int] = {}
        counts: dict[tuple[int, bytes], Seen] = {}
        file = RecordFile(source.path)
        for number, record in enumerate(file):
            for counted in reader.rows(record, source.is_log, tally):
                held = self._is_held(source, number, counted.time)
                _count(counts, (counted.signature, encode_row(counted.row)), held, counted.example)
            if len(counts) >= _FLUSH_AT:
                yield from counts.items()
                counts = {}
        yield from counts.items()
        yield TaggedOutput(TALLY, tally)
        yield TaggedOutput(FILES, file.facts())

    def _is_held(self, source: SourceFile, number: int, time: float | None) -> bool:
        if self._held_after is not None:
            return time is not None and time > self._held_after
        if source.held_from is not None:
            return number >= source.held_from
        return source.held_out


def _count(
    counts: dict[tuple[int, bytes], Seen], key: tuple[int, bytes], held: bool, example: bytes
) -> None:
    before, after, known = counts.get(key, (0, 0, example))
    counts[key] = (before + (not held), after + held, min(known, example))


def merge_seen(items: Iterable[Seen]) -> Seen:
    """Adds up what was seen of one row; of its Examples the smallest is kept."""
    before = after = 0
    example: bytes | None = None
    for more_before, more_after, other in items:
        before += more_before
        after += more_after
        example = other if example is None else min(example, other)
    return before, after, example or b""


class Head(beam.CombineFn):
    """The most frequent rows within the budget; ties go to the smaller key.

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

    def add_input(self, accumulator: list[HeadRow], element: HeadRow) -> list[HeadRow]:
        """Adds a row; changes the accumulator."""
        accumulator.append(element)
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


def totals_of(element: tuple[tuple[int, bytes], Seen]) -> dict[str, int]:
    """What one distinct row adds to the totals."""
    before, after, _ = element[1]
    return {"counted": before, "held_out": after, "distinct": int(before > 0)}


class ToHeadRow(beam.DoFn):
    """Distinct row -> HeadRow, for those seen before the cut.

    Args:
        fingerprint: of the model.
        signatures: names, in the order of their indices.
        output_filter: part of the keys.
    """

    def __init__(
        self, fingerprint: str, signatures: Sequence[str], output_filter: Sequence[str]
    ) -> None:
        self._contexts = [(fingerprint, name, tuple(output_filter)) for name in signatures]
        self._makers: list[KeyMaker] = []

    def setup(self) -> None:
        """Hash states do not travel; they are made here."""
        self._makers = [KeyMaker(*context) for context in self._contexts]

    def process(self, element: tuple[tuple[int, bytes], Seen]) -> Iterator[HeadRow]:
        """Yields at most one row."""
        (signature, row), (before, after, example) = element
        if before:
            key = self._makers[signature].key(row)
            yield HeadRow(before, key, signature, row, example, after)
