"""Reading a CSV file exactly as CsvExampleGen does, so that what is checked is what is trained on.

CsvExampleGen splits the header at commas without regard to quotes, takes lines together until their
quotes are even, and reads UTF-8 only.
"""

from __future__ import annotations

import codecs
import csv
import pathlib
from collections.abc import Iterable, Iterator

from tfx_encore.schemas.errors import DataError

_LONGEST_RECORD = 1 << 20  # characters; a stray quote would otherwise take in the rest of the file
_BYTE_ORDER_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_csv(file: pathlib.Path, *, any_header: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Yields the header and then each row, with the line where it begins; in constant memory.

    Args:
        file: the file.
        any_header: take a header with quotes or a byte order mark too, which CsvExampleGen would
            misread; for a file that is about to be written anew.

    Raises:
        DataError: the file cannot be read, is not UTF-8, or is not CSV; names the line.
    """
    try:
        with file.open("rb") as stream:
            first = stream.readline()
            if not first.strip():
                raise DataError(f"{file}: empty; expected a header line and rows")
            yield 1, _any_header(file, first) if any_header else _header(file, first)
            for line, record in _records(file, stream):
                cells = _cells(file, line, record)
                if cells:
                    yield line, cells
    except IsADirectoryError as error:
        raise DataError(f"{file}: is a folder; end the pattern with /*.csv") from error
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from error


def _header(file: pathlib.Path, line: bytes) -> list[str]:
    if line.startswith(_BYTE_ORDER_MARKS):
        raise DataError(
            f"{file}: begins with a byte order mark, as Excel writes it; save the file as plain "
            "UTF-8"
        )
    text = _decoded(file, 1, line).strip()
    if '"' in text:
        raise DataError(
            f"{file}: the header has quotes, which CsvExampleGen takes for part of the names; "
            f"write it without: sed -i '1s/\"//g' {file}"
        )
    return _without_repetition(file, text.split(","))


def _any_header(file: pathlib.Path, line: bytes) -> list[str]:
    text = _decoded(file, 1, line.removeprefix(codecs.BOM_UTF8))
    names = [name.strip() for name in _cells(file, 1, text, skipinitialspace=True)]
    for number, name in enumerate(names, start=1):
        if not name:
            raise DataError(
                f"{file}: column {number} has no name in the header; name it, or leave it out "
                "(pandas: to_csv(..., index=False))"
            )
        if set(name) & set('",\r\n'):
            raise DataError(
                f"{file}: CsvExampleGen cannot read a column whose name holds a comma, a quote or "
                f"a line break: {name!r}; rename it"
            )
    return _without_repetition(file, names)


def _without_repetition(file: pathlib.Path, names: list[str]) -> list[str]:
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DataError(f"{file}: column {twice[0]!r} appears twice in the header")
    _refuse_other_separator(file, names)
    return names


def _refuse_other_separator(file: pathlib.Path, names: list[str]) -> None:
    """Raises DataError if the one name there is looks like several with another separator."""
    other = next((mark for mark in ";\t|" if len(names) == 1 and mark in names[0]), None)
    if other:
        raise DataError(f"{file}: columns are separated by {other!r}; write them with commas")


def _records(file: pathlib.Path, lines: Iterable[bytes]) -> Iterator[tuple[int, str]]:
    """Takes lines together until their quotes are even: a quoted value may hold line breaks."""
    begin, record = 0, ""
    for number, raw in enumerate(lines, start=2):
        line = _decoded(file, number, raw)
        if not record:
            begin = number
            if line.count('"') % 2 == 0:
                yield number, line
            else:
                record = line
            continue
        record += line
        if line.count('"') % 2 == 1:
            yield begin, record
            record = ""
        elif len(record) > _LONGEST_RECORD:
            break
    if record:
        raise DataError(
            f"{file}: line {begin}: a quote is opened and never closed; a quote that belongs to a "
            'value is written twice, and the value in quotes, as "5"" pipe"'
        )


def _decoded(file: pathlib.Path, number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file}: line {number}: byte 0x{line[error.start]:02x} is not UTF-8; convert the "
            "file, as with iconv -f latin1 -t utf-8"
        ) from error


def _cells(
    file: pathlib.Path, line: int, record: str, *, skipinitialspace: bool = False
) -> list[str]:
    try:
        if "\0" in record:  # Python refuses it before 3.11 only, so we do
            raise csv.Error("line contains NUL")
        return next(csv.reader([record], strict=True, skipinitialspace=skipinitialspace))
    except (csv.Error, StopIteration) as error:
        raise DataError(
            f"{file}: line {line}: not CSV: {error}; a quote that belongs to a value is written "
            'twice, and the value in quotes, as "5"" pipe"'
        ) from error
