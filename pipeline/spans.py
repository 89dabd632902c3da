"""Finding the data of a span, and refusing what no pipeline could use, before anything starts."""

from __future__ import annotations

import fnmatch
import glob
import hashlib
import pathlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from tfx_encore.pipeline.csv_columns import Column, ColumnCheck, checks_for
from tfx_encore.pipeline.csv_file import read_csv
from tfx_encore.schemas.errors import DataError
from tfx_encore.schemas.release import SpanDigest

__all__ = ["PLACE", "Column", "Span", "available_spans", "check_file", "read_span"]

PLACE = "{SPAN}"


@dataclass(frozen=True)
class Span:
    """The files of one span.

    Attributes:
        number: the span's number.
        files: absolute paths in order of name; all lie in one folder.
        rows: data rows in all files.
        digest: digest of the files' contents.
        source: the pattern as the user wrote it.
    """

    number: int
    files: tuple[pathlib.Path, ...]
    rows: int
    digest: str
    source: str

    @property
    def folder(self) -> pathlib.Path:
        """The folder that holds the files."""
        return self.files[0].parent

    def describe(self) -> SpanDigest:
        """What the manifest says of the span."""
        return SpanDigest(
            span=self.number, digest=self.digest, source=self.source, examples={"all": self.rows}
        )


def available_spans(pattern: str, project: pathlib.Path) -> tuple[int, ...]:
    """Numbers of the spans for which the pattern finds files, ascending.

    A number is written without leading zeros. A pattern without {SPAN} has span 1 only.
    """
    if PLACE not in pattern:
        return (1,) if _matches(pattern, project) else ()
    exact = fnmatch.translate(pattern)
    exact = exact.replace(re.escape(PLACE), r"(?P<span>0|[1-9][0-9]*)", 1)
    exact = exact.replace(re.escape(PLACE), r"(?P=span)")
    found = (re.match(exact, path) for path in _matches(pattern.replace(PLACE, "*"), project))
    return tuple(sorted({int(match["span"]) for match in found if match}))


def read_span(
    pattern: str, project: pathlib.Path, number: int, columns: Mapping[str, Column]
) -> Span:
    """Finds and checks the files of a span: one pass, constant memory.

    Args:
        pattern: of the files; {SPAN} stands for the number. Relative to `project`.
        project: the project's folder.
        number: the span's number.
        columns: what the schema says of each column; other columns may be there and are not
            looked at.

    Raises:
        DataError: no such span, an unreadable or empty file, a missing column, a required value
            that is absent, a value that its column's type cannot hold, or a column that
            CsvExampleGen would take for another type. Names file, line, column and value.
    """
    files = _files_of(pattern, project, number)
    checks = checks_for(columns)
    whole = hashlib.sha256()
    rows = 0
    headers = []
    for file in files:
        header, count = check_file(file, checks)
        headers.append(header)
        rows += count
        whole.update(_digest(file))
    shown = ", ".join(str(file) for file in files)
    if rows == 0:
        raise DataError(f"span {number}: no rows in {shown}")
    for file, header in zip(files, headers, strict=True):
        if header != headers[0]:
            raise DataError(f"{file}: its header differs from that of {files[0]}; make them equal")
    for name, check in checks.items():
        problem = check.problem_of_all()
        if problem:
            raise DataError(f"{shown}: {name} {problem}")
    return Span(number, files, rows, f"sha256:{whole.hexdigest()}", pattern)


def _files_of(pattern: str, project: pathlib.Path, number: int) -> tuple[pathlib.Path, ...]:
    if PLACE not in pattern and number != 1:
        raise DataError(
            f"no span {number}: the pattern {pattern} has no {PLACE}, so there is span 1 only"
        )
    files = [project / path for path in _matches(pattern.replace(PLACE, str(number)), project)]
    if not files:
        spans = ", ".join(map(str, available_spans(pattern, project))) or "none"
        raise DataError(f"no files for span {number} at {pattern}; spans that have files: {spans}")
    folders = {file.parent for file in files}
    if len(folders) > 1:
        raise DataError(
            f"span {number}: files lie in {len(folders)} folders ({pattern}); put them into one"
        )
    return tuple(files)


def _matches(pattern: str, project: pathlib.Path) -> list[str]:
    """Paths that match, in order, relative to the project unless the pattern is absolute."""
    return sorted(glob.glob(pattern, root_dir=project))  # noqa: PTH207 - pathlib has no root_dir


def check_file(
    file: pathlib.Path, checks: Mapping[str, ColumnCheck], *, any_header: bool = False
) -> tuple[list[str], int]:
    """Looks at every cell of a file.

    Args:
        file: the file.
        checks: column -> its check; they go on from file to file.
        any_header: as in `read_csv`.

    Returns:
        the header, and the number of rows.

    Raises:
        DataError: names file, line, column and value.
    """
    lines = read_csv(file, any_header=any_header)
    _, header = next(lines)
    _check_header(file, header, checks)
    looked_at = [(header.index(name), check) for name, check in checks.items()]
    rows = 0
    for line, cells in lines:
        rows += 1
        if len(cells) != len(header):
            raise DataError(f"{file}: line {line}: {len(cells)} values for {len(header)} columns")
        for index, check in looked_at:
            problem = check.problem(cells[index])
            if problem:
                raise DataError(f"{file}: line {line}: {check.column.name} {problem}")
    return header, rows


def _check_header(file: pathlib.Path, header: list[str], checks: Mapping[str, ColumnCheck]) -> None:
    missing = [name for name in checks if name not in header]
    if not missing:
        return
    raise DataError(
        f"{file}: missing column{'s' * (len(missing) > 1)} {', '.join(missing)} that the schema "
        f"names; the file has {', '.join(header)}"
    )


def _digest(file: pathlib.Path) -> bytes:
    whole = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            whole.update(block)
    return whole.digest()
