"""Counts which of a day's rows the answers of a snapshot cover."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
from tfx.dsl.io import fileio

from tfx_encore.cache.keys import KEY_BYTES, KeyMaker
from tfx_encore.cache.snapshot import SnapshotMeta, read_blocks, read_meta
from tfx_encore.components.cache_warmer.count_pipeline import save_sums
from tfx_encore.components.cache_warmer.counting import counted
from tfx_encore.components.cache_warmer.reading import RecordFile, SourceFile, SourceReader
from tfx_encore.components.cache_warmer.warm import COVERAGE_FILE
from tfx_encore.components.shared_files import read_json, scratch_folder
from tfx_encore.metadata.release_layout import COVERAGE
from tfx_encore.schemas.charts import Coverage
from tfx_encore.schemas.nights import NightCoverage
from tfx_encore.schemas.serial import from_json


def measure_coverage(
    make_pipeline: Callable[[], Any],
    snapshot_dir: Path,
    log_files: Sequence[str],
    tmp_root: str | None = None,
) -> NightCoverage | None:
    """What the snapshot was worth for the rows of a day's request log, by raw row key.

    Only requests of the signatures and outputs that the snapshot holds are counted, as when it was
    made. Damaged ends of files are passed over: RequestLogExampleGen reports them.

    Args:
        make_pipeline: gives a Beam pipeline to be run by `with`.
        snapshot_dir: of a cache snapshot.
        log_files: PredictionLog TFRecords.
        tmp_root: folder that every worker reaches; None where all runs on this machine.

    Returns:
        the coverage; None if the log holds no such row.

    Raises:
        SnapshotError: the snapshot is damaged.
    """
    meta = read_meta(str(snapshot_dir))
    totals: dict[str, int] = {}
    if log_files:
        keys = (block.keys for block in read_blocks(str(snapshot_dir)))
        with scratch_folder(tmp_root, "night-coverage") as tmp:
            totals = _count(make_pipeline, meta, keys, log_files, tmp)
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


class CoveredRows(beam.DoFn):
    """File -> how many rows it has, and of how many the snapshot has the answer.

    Args:
        meta: of the snapshot.
        keys_file: the keys of its answers, one after the other; every worker reaches it.
    """

    def __init__(self, meta: SnapshotMeta, keys_file: str) -> None:
        names = [spec.signature for spec in meta.signatures]
        self._contexts = [(meta.fingerprint, name, meta.output_filter) for name in names]
        self._readers = (meta.signatures, meta.output_filter)
        self._keys_file = keys_file

    def setup(self) -> None:
        """Reads the keys; hash states do not travel and are made here."""
        self._makers = [KeyMaker(*context) for context in self._contexts]
        with fileio.open(self._keys_file, "rb") as file:
            keys = file.read()
        self._keys = frozenset(keys[at : at + KEY_BYTES] for at in range(0, len(keys), KEY_BYTES))

    def process(self, source: SourceFile) -> Iterator[dict[str, int]]:
        """Yields what the file adds to the totals."""
        reader = SourceReader(*self._readers)
        rows = covered = 0
        for counts in counted(RecordFile(source.path), reader, source, None, {}):
            for (signature, row), (seen, _, _) in counts.items():
                rows += seen
                if self._makers[signature].key(row) in self._keys:
                    covered += seen
        yield {"rows": rows, "covered": covered}


def _count(
    make_pipeline: Callable[[], Any],
    meta: SnapshotMeta,
    keys: Iterable[bytes],
    log_files: Sequence[str],
    tmp: str,
) -> dict[str, int]:
    with fileio.open(f"{tmp}/keys", "wb") as file:
        for some in keys:
            file.write(some)
    with make_pipeline() as pipeline:
        covered = (
            pipeline
            | "Sources" >> beam.Create([SourceFile(path, is_log=True) for path in log_files])
            | "Spread" >> beam.Reshuffle()
            | "Covered" >> beam.ParDo(CoveredRows(meta, f"{tmp}/keys"))
        )
        save_sums(covered, f"{tmp}/totals.json")
    totals: dict[str, int] = read_json(f"{tmp}/totals.json")
    return totals
