"""Counts which of a day's rows the answers of a snapshot cover."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam

from tfx_encore.cache.keys import KeyMaker
from tfx_encore.cache.snapshot import SnapshotMeta, read_blocks, read_meta
from tfx_encore.components.cache_warmer import counting
from tfx_encore.components.cache_warmer.count_pipeline import save_sums
from tfx_encore.components.cache_warmer.reading import SourceFile, read_json
from tfx_encore.components.cache_warmer.warm import COVERAGE_FILE
from tfx_encore.metadata.release_layout import COVERAGE
from tfx_encore.schemas.charts import Coverage
from tfx_encore.schemas.nights import NightCoverage
from tfx_encore.schemas.serial import from_json


def measure_coverage(
    make_pipeline: Callable[[], Any], snapshot_dir: Path, log_files: Sequence[str]
) -> NightCoverage | None:
    """What the snapshot was worth for the rows of a day's request log, by raw row key.

    Only requests of the signatures and outputs that the snapshot holds are counted, as when it was
    made. Damaged ends of files are passed over: RequestLogExampleGen reports them.

    Args:
        make_pipeline: gives a Beam pipeline to be run by `with`.
        snapshot_dir: of a cache snapshot.
        log_files: PredictionLog TFRecords.

    Returns:
        the coverage; None if the log holds no such row.

    Raises:
        SnapshotError: the snapshot is damaged.
    """
    meta = read_meta(str(snapshot_dir))
    keys = frozenset(key for block in read_blocks(str(snapshot_dir)) for key in block.key_list())
    totals = _count(make_pipeline, meta, keys, log_files) if log_files else {}
    if not totals.get("rows"):
        return None
    return NightCoverage(
        covered=totals.get("covered", 0) / totals["rows"],
        expected=expected_coverage(snapshot_dir),
        entries=meta.entries,
        snapshot=str(snapshot_dir),
    )


def expected_coverage(snapshot_dir: Path) -> float | None:
    """The hit rate that was measured when the snapshot was made; None if nobody kept it.

    A night's snapshot has it in its own folder, a release's beside it.
    """
    for folder in (snapshot_dir, snapshot_dir.parent / COVERAGE):
        path = folder / COVERAGE_FILE
        if path.is_file():
            return from_json(Coverage, path.read_bytes(), source=str(path)).hit_rate
    return None


class _Covered(beam.DoFn):
    """Distinct row -> how often it came, and how often of that the snapshot had its answer."""

    def __init__(self, meta: SnapshotMeta, keys: frozenset[bytes]) -> None:
        names = [spec.signature for spec in meta.signatures]
        self._contexts = [(meta.fingerprint, name, meta.output_filter) for name in names]
        self._keys = keys
        self._makers: list[KeyMaker] = []

    def setup(self) -> None:
        """Hash states do not travel; they are made here."""
        self._makers = [KeyMaker(*context) for context in self._contexts]

    def process(self, element: tuple[tuple[int, bytes], counting.Seen]) -> Iterator[dict[str, int]]:
        """Yields what the row adds to the totals."""
        (signature, row), (seen, _, _) = element
        covered = self._makers[signature].key(row) in self._keys
        yield {"rows": seen, "covered": seen if covered else 0}


def _count(
    make_pipeline: Callable[[], Any],
    meta: SnapshotMeta,
    keys: frozenset[bytes],
    log_files: Sequence[str],
) -> dict[str, int]:
    rows = counting.CountRows(meta.signatures, meta.output_filter, None, None)
    sources = [SourceFile(path, is_log=True) for path in log_files]
    with tempfile.TemporaryDirectory(prefix="night-coverage-") as tmp:
        with make_pipeline() as pipeline:
            found = (
                pipeline
                | "Sources" >> beam.Create(sources)
                | "Spread" >> beam.Reshuffle()
                | "Rows"
                >> beam.ParDo(rows).with_outputs(counting.TALLY, counting.FILES, main="rows")
            )
            covered = found.rows | "Covered" >> beam.ParDo(_Covered(meta, keys))
            save_sums(covered, f"{tmp}/totals.json")
        totals: dict[str, int] = read_json(f"{tmp}/totals.json")
        return totals
