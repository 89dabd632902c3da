"""Cuts the taxi data that ships inside the installed `tfx` package into two spans by time."""

from __future__ import annotations

import csv
import importlib.util
import pathlib
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone

from tfx_encore.schemas.errors import DataError

# Span 1 is 2013 and 2014, span 2 is 2015 and 2016.
CUTS = (datetime(2015, 1, 1, tzinfo=timezone.utc),)
TIME_COLUMN = "trip_start_timestamp"
_DATA = "examples/chicago_taxi_pipeline/data/simple/data.csv"


def shipped_csv() -> pathlib.Path:
    """The taxi CSV inside the installed `tfx` package: 15,002 trips, 2013 to 2016.

    Raises:
        DataError: tfx is not installed, or this build of it ships no example data.
    """
    spec = importlib.util.find_spec("tfx")
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        file = pathlib.Path(folder) / _DATA
        if file.is_file():
            return file
    raise DataError(f"the installed tfx package holds no {_DATA}; install tfx from PyPI")


def write_spans(
    source: pathlib.Path, folder: pathlib.Path, cuts: Sequence[datetime] = CUTS
) -> tuple[pathlib.Path, ...]:
    """Writes `folder/span-1/data.csv`, `folder/span-2/data.csv`..., rows in order of time.

    A file that already holds the right rows is left alone.

    Args:
        source: a CSV with a `trip_start_timestamp` column in seconds since 1970, UTC.
        folder: where the spans go.
        cuts: the first moment of each span but the first, ascending.

    Returns:
        the files, one for each span.
    """
    with source.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))
    header, rows = rows[0], rows[1:]
    column = header.index(TIME_COLUMN)
    rows.sort(key=lambda row: int(row[column]))
    bounds = [cut.timestamp() for cut in cuts]
    spans: list[list[list[str]]] = [[] for _ in range(len(bounds) + 1)]
    for row in rows:
        spans[sum(int(row[column]) >= bound for bound in bounds)].append(row)
    return tuple(
        _write(folder / f"span-{number}" / "data.csv", [header, *span])
        for number, span in enumerate(spans, start=1)
    )


def _write(file: pathlib.Path, rows: Iterable[list[str]]) -> pathlib.Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    with partial.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)
    if file.exists() and file.read_bytes() == partial.read_bytes():
        partial.unlink()
    else:
        partial.replace(file)
    return file
