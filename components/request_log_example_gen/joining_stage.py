"""Second stage in Beam: labels meet their rows, and each bucket of them becomes a file."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from tfx_encore.components.packing import Batches, Packed, unpack
from tfx_encore.components.request_log_example_gen.example_bytes import example, float_entry
from tfx_encore.components.request_log_example_gen.labels import (
    BadLabel,
    LabelKeys,
    read_labels,
)
from tfx_encore.components.request_log_example_gen.log_file import frame
from tfx_encore.components.request_log_example_gen.reading_stage import (
    NOTES,
    ROWS,
    TALLY,
    Layout,
)
from tfx_encore.components.request_log_example_gen.sources import short_name
from tfx_encore.components.request_log_example_gen.tallies import Tally, count
from tfx_encore.components.shared_files import whole_file
from tfx_encore.schemas.nights import LABEL

BAD = "bad"  # kind of notes
LABELS = "labels"  # kind of packs
_MAX_BAD = 20  # of a file, that are told one by one
_CHUNK = 1 << 20
_LABELS = (float_entry(LABEL, 0.0), float_entry(LABEL, 1.0))
_GZIP = 31  # zlib's window bits for a gzip stream; its header then has no time

Row = tuple[int, bytes, bytes, bytes]
"""Time, place, body, key of the join: rows sort by it."""


class ReadLabels(beam.DoFn):
    """(number, path) of a label file -> (bucket, packed labels); notes beside: a tally, bad lines.

    Args:
        keys: how labels find their rows.
        layout: as for the rows.
    """

    def __init__(self, keys: LabelKeys, layout: Layout) -> None:
        self._keys = keys
        self._layout = layout

    def process(self, element: tuple[int, str]) -> Iterator[Any]:
        """Yields the labels of one file."""
        number, path = element
        batches = Batches(
            LABELS, self._layout.buckets, 3, folder=self._layout.working, name=f"{number:06d}"
        )
        good = bad = 0
        for label in read_labels(path, self._keys):
            if isinstance(label, BadLabel):
                bad += 1
                if bad <= _MAX_BAD:
                    told = f"{short_name(path)}:{label.line}: {label.reason}"
                    yield TaggedOutput(NOTES, (BAD, (number, label.line, told)))
                continue
            good += 1
            place = number << 40 | label.line
            if batches.add(label.key, (label.key, place, label.positive), len(label.key) + 24):
                yield from batches.flush()
        yield from batches.flush()
        tally: Tally = {}
        count(tally, "labels_read", by=good)
        count(tally, "labels_bad", by=bad)
        yield TaggedOutput(NOTES, (TALLY, tally))


class WriteBucket(beam.DoFn):
    """(bucket, packs) -> a gzip TFRecord file of Examples, sorted; yields a note.

    Args:
        layout: where the files go.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def process(self, element: tuple[int, Iterable[Packed | None]]) -> Iterator[tuple[str, Tally]]:
        """Writes one bucket."""
        bucket, packs = element
        layout = self._layout
        tally: Tally = {}
        rows, labels = _unpacked(packs, tally)
        name = f"data_tfrecord-{bucket:05d}-of-{layout.buckets:05d}.gz"
        used: set[bytes] = set()
        with whole_file(f"{layout.examples}/{name}", layout.working) as file:
            for data in _packed(_examples(rows, labels, used, tally)):
                file.write(data)
        count(tally, "labels_unmatched", by=len(labels) - len(used))
        yield TALLY, tally


def _unpacked(
    packs: Iterable[Packed | None], tally: Tally
) -> tuple[list[Row], dict[bytes, tuple[int, bool]]]:
    """The rows, sorted, and the last label of each key."""
    rows: list[Row] = []
    labels: dict[bytes, tuple[int, bool]] = {}
    for packed in packs:
        if packed is None:
            continue
        if packed.kind == ROWS:
            times, places, keys, bodies = unpack(packed)
            rows.extend(zip(times, places, bodies, keys, strict=True))
        else:
            for key, line, positive in zip(*unpack(packed), strict=True):
                before = labels.get(key)
                if before is not None:
                    count(tally, "labels_repeated")
                if before is None or before[0] < line:
                    labels[key] = (line, positive)
    rows.sort()
    return rows, labels


def _examples(
    rows: list[Row], labels: dict[bytes, tuple[int, bool]], used: set[bytes], tally: Tally
) -> Iterator[bytes]:
    labelled = 0
    for _, place, body, key in rows:
        label = labels.get(key or place)
        if label is None:
            yield frame(example(body))
            continue
        used.add(key or place)
        labelled += 1
        yield frame(example(body, _LABELS[label[1]]))
    count(tally, "labelled", by=labelled)


def _packed(records: Iterable[bytes]) -> Iterator[bytes]:
    """Records as a gzip stream; quick rather than small."""
    packer = zlib.compressobj(1, zlib.DEFLATED, _GZIP)
    held: list[bytes] = []
    size = 0
    for record in records:
        held.append(record)
        size += len(record)
        if size >= _CHUNK:
            yield packer.compress(b"".join(held))
            held, size = [], 0
    yield packer.compress(b"".join(held))
    yield packer.flush()
