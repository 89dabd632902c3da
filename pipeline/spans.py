"""Finding the data of a span, and refusing what no pipeline could use, before anything starts."""

from __future__ import annotations

import csv
import glob
import hashlib
import pathlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tfx_encore.schemas.errors import DataError
from tfx_encore.schemas.release import SpanDigest

PLACE = "{SPAN}"


@dataclass(frozen=True)
class Column:
    """What the schema says of a CSV column.

    Attributes:
        name: the feature's name.
        type: INT, FLOAT or BYTES.
        required: True if every row must have a value.
    """

    name: str
    type: str
    required: bool


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
    """Numbers of the spans for which the pattern finds files, ascending."""
    if PLACE not in pattern:
        return (1,) if _matches(pattern, project) else ()
    head, _, _ = pattern.partition(PLACE)
    found = set()
    for path in _matches(pattern.replace(PLACE, "*"), project):
        relative = str(path)[len(str(project / head[:-1])) if head.endswith("/") else 0 :]
        match = re.search(_as_regex(pattern), str(path)) or re.search(r"(\d+)", relative)
        if match:
            found.add(int(match.group(1)))
    return tuple(sorted(found))


def read_span(
    pattern: str, project: pathlib.Path, number: int, columns: Mapping[str, Column]
) -> Span:
    """Finds and checks the files of a span: one pass, constant memory.

    Raises:
        DataError: no such span, an unreadable or empty file, a missing column, a required value
            that is absent or a value that its column's type cannot hold. Names file, line, column
            and value.
    """
    files = tuple(_matches(pattern.replace(PLACE, str(number)), project))
    if not files:
        spans = ", ".join(map(str, available_spans(pattern, project))) or "none"
        raise DataError(f"no files for span {number} at {pattern}; spans that have files: {spans}")
    folders = {file.parent for file in files}
    if len(folders) > 1:
        raise DataError(
            f"span {number}: files lie in {len(folders)} folders ({pattern}); put them into one"
        )
    whole = hashlib.sha256()
    rows = 0
    for file in files:
        count, digest = _check_file(file, columns)
        rows += count
        whole.update(digest)
    if rows == 0:
        raise DataError(f"span {number}: no rows in {', '.join(str(file) for file in files)}")
    return Span(number, files, rows, f"sha256:{whole.hexdigest()}", pattern)


def _matches(pattern: str, project: pathlib.Path) -> list[pathlib.Path]:
    return sorted(pathlib.Path(path) for path in glob.glob(str(project / pattern)))  # noqa: PTH207


def _as_regex(pattern: str) -> str:
    escaped = re.escape(pattern).replace(re.escape(PLACE), r"(\d+)", 1)
    return (
        escaped.replace(re.escape(PLACE), r"\1").replace(r"\*", "[^/]*").replace(r"\?", ".") + "$"
    )


def _check_file(file: pathlib.Path, columns: Mapping[str, Column]) -> tuple[int, bytes]:
    """Rows of a CSV file and the SHA-256 of its bytes."""
    try:
        digest = _digest(file)
        with file.open(encoding="utf-8", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            header = next(reader, None)
            if not header:
                raise DataError(f"{file}: empty; expected a header line and rows")
            _check_header(file, header, columns)
            return _check_rows(file, reader, [columns.get(name) for name in header]), digest
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: not readable as UTF-8 CSV: {error}") from error


def _digest(file: pathlib.Path) -> bytes:
    whole = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            whole.update(block)
    return whole.digest()


def _check_header(file: pathlib.Path, header: list[str], columns: Mapping[str, Column]) -> None:
    missing = [name for name in columns if name not in header]
    if missing:
        raise DataError(
            f"{file}: missing column{'s' * (len(missing) > 1)} {', '.join(missing)} that the schema "
            f"names; the file has {', '.join(header)}"
        )
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(f"{file}: column {twice[0]!r} appears twice in the header")


def _check_rows(
    file: pathlib.Path,
    reader: csv._reader,
    columns: list[Column | None],  # type: ignore[name-defined]
) -> int:
    checks = [_check_of(column) for column in columns]
    count = 0
    for values in reader:
        if not values:
            continue
        count += 1
        if len(values) != len(checks):
            raise DataError(
                f"{file}: line {reader.line_num}: {len(values)} values for {len(checks)} columns"
            )
        for value, check, column in zip(values, checks, columns):
            if check is not None and not check(value):
                raise _value_error(file, reader.line_num, column, value)
    return count


def _value_error(file: pathlib.Path, line: int, column: Column | None, value: str) -> DataError:
    assert column is not None
    if value == "":
        return DataError(
            f"{file}: line {line}: {column.name} has no value, but the schema requires one in "
            "every row (presence.min_fraction: 1)"
        )
    return DataError(
        f"{file}: line {line}: {column.name} is {value!r}, which is no {column.type} as the schema "
        "says"
    )


def _check_of(column: Column | None) -> Callable[[str], bool] | None:
    """A predicate on one cell, or None if any text is right."""
    if column is None:
        return None
    required = column.required
    if column.type == "BYTES":
        return bool if required else None
    parse = _is_int if column.type == "INT" else _is_float
    return lambda value: parse(value) if value else not required


def _is_int(value: str) -> bool:
    """True if CsvExampleGen reads the text as an integer."""
    try:
        return -(2**63) <= int(value) < 2**63
    except ValueError:
        return False


def _is_float(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True
