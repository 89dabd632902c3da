"""First stage in Beam: log files to packed rows, and everything that is counted on the way."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import TaggedOutput

from tfx_encore.components.packing import Batches
from tfx_encore.components.request_log_example_gen.example_bytes import (
    bytes_entry,
    float_entry,
    int_entry,
    varint,
)
from tfx_encore.components.request_log_example_gen.labels import LabelKeys, place_of
from tfx_encore.components.request_log_example_gen.log_file import LogFile, Lost
from tfx_encore.components.request_log_example_gen.messages import NotALogError, Wanted
from tfx_encore.components.request_log_example_gen.records import Answered, Failed, RecordReader
from tfx_encore.components.request_log_example_gen.sources import short_name
from tfx_encore.components.request_log_example_gen.tallies import (
    SQUARES,
    Requests,
    Tally,
    count,
)
from tfx_encore.components.shared_files import whole_file
from tfx_encore.schemas import nights

NOTES, PRINTS = "notes", "prints"
ROWS = "rows"  # kind of packs
TALLY, LOST = "tally", "lost"  # kinds of notes
_MAX_ASIDE = 1000  # stretches of a file that are set aside
_MAX_ASIDE_BYTES = 64 << 20
_MAX_KEPT = 1 << 20  # of a record
_PRINTS_HELD = 1 << 18


@dataclass(frozen=True)
class LogPart:
    """Some files of the log, read by one worker: (number in the night, path)."""

    files: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class Layout:
    """How a night is cut, and where its files go.

    Attributes:
        buckets: of rows; each becomes a file.
        parts: of prints.
        examples: folder of the files.
        aside: folder of what cannot be read.
        working: folder that every worker can write into.
    """

    buckets: int
    parts: int
    examples: str
    aside: str
    working: str


class ReadLog(beam.DoFn):
    """LogPart -> (bucket, packed rows); beside them prints of rows, and notes.

    Args:
        wanted: which records.
        keys: how labels find their rows.
        window: microseconds since 1970, from and to: records of other times are passed over
            silently. None takes all.
        layout: how many buckets, and where what cannot be read goes.
    """

    def __init__(
        self,
        wanted: Wanted,
        keys: LabelKeys,
        window: tuple[int, int] | None,
        layout: Layout,
    ) -> None:
        self._wanted = wanted
        self._keys = keys
        self._window = window
        self._layout = layout

    def process(self, part: LogPart) -> Iterator[Any]:
        """Yields the rows of some files."""
        reader = RecordReader(self._wanted)
        batches = Batches(
            ROWS,
            self._layout.buckets,
            4,
            folder=self._layout.working,
            name=f"{part.files[0][0]:06d}",
        )
        prints = _Prints(self._layout.parts)
        tally: Tally = {}
        requests = Requests(tally)
        records = 0
        for number, path in part.files:
            name = short_name(path)
            aside = _Aside(self._layout, number, path)
            for position, record in enumerate(file := LogFile(path)):
                if isinstance(record, Lost):
                    aside.keep(record)
                    continue
                try:
                    found = reader.read(record)
                except NotALogError as error:
                    aside.keep(Lost(file.offset, len(record) + 16, record[:_MAX_KEPT], str(error)))
                    continue
                if self._window and not self._window[0] <= found.time_us < self._window[1]:
                    continue
                records += 1
                if isinstance(found, Answered):
                    requests.add(found)
                    if self._rows(found, f"{name}#{position:06d}", batches, prints):
                        yield from batches.flush()
                    if prints.full:
                        yield from prints.flush()
                elif isinstance(found, Failed):
                    count(tally, "failed", found.code)
                else:
                    count(tally, "unusable", found.reason)
            yield from aside.close(file, tally)
        yield from batches.flush()
        yield from prints.flush()
        count(tally, "records", by=records)
        requests.close()
        yield TaggedOutput(NOTES, (TALLY, tally))

    def _rows(self, answer: Answered, made_id: str, batches: Batches, prints: _Prints) -> bool:
        """Adds the rows of a request; True if it is time to flush."""
        request_id = (answer.request_id or made_id).encode()
        shared = _shared(answer, request_id)
        full = False
        for number, (row, score, path) in enumerate(
            zip(answer.rows, answer.scores, answer.paths, strict=True)
        ):
            place = place_of(request_id, number)
            key = self._keys.of_row(place, row.key)
            body = b"".join(
                (
                    row.body,
                    _score(score),
                    _PATHS[path],
                    _row_number(number),
                    _DIGEST,
                    row.digest,
                    shared,
                )
            )
            values = (answer.time_us, place, b"" if key is place else key, body)
            full = batches.add(key, values, len(body) + 2 * len(place) + 16) or full
            prints.add(row.digest)
        return full


class Squares(beam.DoFn):
    """(part, prints) -> note with the sum of the squared multiplicities of equal rows."""

    def process(self, element: tuple[int, Any]) -> Iterator[tuple[str, Tally]]:
        """Yields one tally."""
        packs = [np.frombuffer(packed, "<u8").reshape(2, -1) for packed in element[1]]
        both = np.concatenate(packs, axis=1)
        _, place = np.unique(both[0], return_inverse=True)
        counts = np.zeros(place.max() + 1, np.int64)
        np.add.at(counts, place, both[1].astype(np.int64))
        yield TALLY, {SQUARES: int((counts * counts).sum())}


class _Prints:
    """Eight bytes of each row's digest, counted: equal rows are found without the rows."""

    def __init__(self, parts: int) -> None:
        self._parts = parts
        self._held = bytearray()

    def add(self, digest: bytes) -> None:
        """Adds a row."""
        self._held += digest[:8]

    @property
    def full(self) -> bool:
        """It is time to `flush`."""
        return len(self._held) >= 8 * _PRINTS_HELD

    def flush(self) -> Iterator[TaggedOutput]:
        """Yields (part, prints and their counts as unsigned 64-bit numbers), and starts anew."""
        prints = np.frombuffer(bytes(self._held), "<u8")
        self._held.clear()
        found, counts = np.unique(prints, return_counts=True)
        for part in range(self._parts):
            here = found % self._parts == part
            if here.any():
                packed = np.stack([found[here], counts[here].astype("<u8")]).tobytes()
                yield TaggedOutput(PRINTS, (part, packed))


class _Aside:
    """Sets the unreadable stretches of a file aside."""

    def __init__(self, layout: Layout, number: int, path: str) -> None:
        self._layout = layout
        self._number = number
        self._path = path
        self._index: list[dict[str, Any]] = []
        self._bytes = 0
        self._sizes: list[int] = []

    def keep(self, lost: Lost) -> None:
        """Writes a stretch aside, while there is room for more."""
        self._sizes.append(lost.size)
        if len(self._index) >= _MAX_ASIDE:
            return
        name = ""
        if lost.kept and self._bytes < _MAX_ASIDE_BYTES:
            name = f"{self._number:05d}-{lost.offset:015d}.bin"
            with whole_file(f"{self._layout.aside}/{name}", self._layout.working) as file:
                file.write(lost.kept)
            self._bytes += len(lost.kept)
        self._index.append(
            {
                "file": short_name(self._path),
                "offset": lost.offset,
                "bytes": lost.size,
                "reason": lost.reason,
                "kept": name,
            }
        )

    def close(self, file: LogFile, tally: Tally) -> Iterator[TaggedOutput]:
        """Counts what was lost, in records, and yields the lines for the index."""
        lost = sum(file.records_in(size) for size in self._sizes)
        if lost:
            count(tally, "records", by=lost)
            count(tally, "unreadable", by=lost)
        for line in self._index:
            yield TaggedOutput(NOTES, (LOST, line))


def _shared(answer: Answered, request_id: bytes) -> bytes:
    """What all rows of a request say."""
    time = varint(answer.time_us)
    constant = (answer.version, answer.fingerprint, answer.signature)
    entries = _constants.get(constant)
    if entries is None:
        entries = b"".join(
            (
                int_entry(nights.VERSION, answer.version),
                bytes_entry(nights.FINGERPRINT, answer.fingerprint.encode()),
                bytes_entry(nights.SIGNATURE, answer.signature.encode()),
            )
        )
        if len(_constants) < _MAX_CONSTANTS:
            _constants[constant] = entries
    return b"".join(
        (
            entries,
            _id_prefix(len(request_id)),
            request_id,
            _time_prefix(len(time)),
            time,
        )
    )


_MAX_CONSTANTS = 1000
_constants: dict[tuple[int, str, str], bytes] = {}
_PATHS = {path: bytes_entry(nights.PATH, path.encode()) for path in nights.PATHS}
_FLOAT = struct.Struct("<f")
_SCORE = float_entry(nights.SCORE, 0.0)[:-4]
_DIGEST = bytes_entry(nights.ROW_DIGEST, bytes(16))[:-16]
_ROWS = [int_entry(nights.ROW, number) for number in range(1024)]


@lru_cache(maxsize=1000)
def _id_prefix(size: int) -> bytes:
    return bytes_entry(nights.REQUEST_ID, bytes(size))[: -size or None]


@lru_cache(maxsize=10)
def _time_prefix(size: int) -> bytes:
    return int_entry(nights.TIME_US, 1 << 7 * (size - 1))[:-size]


def _row_number(number: int) -> bytes:
    return _ROWS[number] if number < len(_ROWS) else int_entry(nights.ROW, number)


def _score(score: float) -> bytes:
    return _SCORE + _FLOAT.pack(score)


def parts_of(files: Sequence[str], sizes: Sequence[int], size: int) -> list[LogPart]:
    """Files in their order, put together until each part has at least `size` bytes."""
    parts: list[LogPart] = []
    held: list[tuple[int, str]] = []
    total = 0
    for number, (path, found) in enumerate(zip(files, sizes, strict=True)):
        held.append((number, path))
        total += found
        if total >= size:
            parts.append(LogPart(tuple(held)))
            held, total = [], 0
    return [*parts, LogPart(tuple(held))] if held else parts
