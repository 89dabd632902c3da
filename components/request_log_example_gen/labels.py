"""Labels that came later: read from CSV files or TFRecords of tf.Examples, keyed for the join."""

from __future__ import annotations

import codecs
import csv
import gzip
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tfx.dsl.io import fileio

from tfx_encore.cache.example_wire import RawFeature
from tfx_encore.cache.tf_example import features_of
from tfx_encore.components.request_log_example_gen.example_bytes import (
    join_text,
    value_of,
)
from tfx_encore.components.request_log_example_gen.log_file import LogFile, Lost
from tfx_encore.schemas.errors import DataError

REQUEST_ID, ROW = "request_id", "row"
_MAX_ROW = 1 << 32
_CHUNK = 1 << 20
Value = str | float | bytes | None


class LabelKeys(NamedTuple):
    """How labels find their rows.

    Attributes:
        column: holds the label.
        by_request: the request's id, and the number of the row, are part of the key.
        features: features that are.
        kinds: the schema's types of them; those it lacks are missing here.
    """

    column: str
    by_request: bool
    features: tuple[str, ...]
    kinds: Mapping[str, str]

    @classmethod
    def of(cls, column: str, join: Sequence[str], kinds: Mapping[str, str]) -> LabelKeys:
        """From the columns of the policy."""
        features = tuple(name for name in join if name not in (REQUEST_ID, ROW))
        known = {name: kinds[name] for name in features if name in kinds}
        return cls(column, REQUEST_ID in join, features, known)

    def of_row(self, place: bytes, features: bytes) -> bytes:
        """Key of a row, from its `place` and the text of its features (`EncodedRow.key`)."""
        if not self.features:
            return place
        return place + b"\0" + features if self.by_request else features


class Label(NamedTuple):
    """A label: the key of its rows, where it stands in its file, and whether it is 1."""

    key: bytes
    line: int
    positive: bool


class BadLabel(NamedTuple):
    """A line that holds no usable label, and why."""

    line: int
    reason: str


def place_of(request_id: bytes, row: int) -> bytes:
    """A row's name: sorted by request, then by number."""
    return request_id + b"\0" + row.to_bytes(4, "big")


def read_labels(path: str, keys: LabelKeys) -> Iterator[Label | BadLabel]:
    """Yields the labels of a file in its order; rows whose label is empty are not known yet.

    `.csv` and `.csv.gz` are CSV with a header, all else TFRecords.

    Raises:
        DataError: a CSV file without one of the columns, or that is not UTF-8.
    """
    is_csv = path.removesuffix(".gz").endswith((".csv", ".txt", ".tsv"))
    return _of_csv(path, keys) if is_csv else _of_records(path, keys)


def _of_csv(path: str, keys: LabelKeys) -> Iterator[Label | BadLabel]:
    with fileio.open(path, "rb") as raw:
        file: Any = gzip.GzipFile(fileobj=raw) if path.endswith(".gz") else raw
        reader = csv.reader(_lines(file), delimiter="\t" if ".tsv" in path else ",")
        try:
            header = next(reader, None)
            if header is None:
                return
            pick = _columns(path, header, keys)
            width = len(header)
            for cells in reader:
                if len(cells) == width:
                    found = _label(keys, pick, cells, reader.line_num)
                    if found is not None:
                        yield found
                elif cells:
                    yield BadLabel(reader.line_num, f"{len(cells)} columns, not {width}")
        except (UnicodeDecodeError, csv.Error, EOFError, gzip.BadGzipFile) as error:
            raise DataError(
                f"{path}, after line {reader.line_num}: {error}; write labels as CSV in UTF-8"
            ) from error


def _lines(file: Any) -> Iterator[str]:
    """Lines of UTF-8, with or without the mark that spreadsheets put in front."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    rest = ""
    while data := file.read(_CHUNK):
        *whole, rest = (rest + decoder.decode(data)).split("\n")
        for line in whole:
            yield line + "\n"
    rest += decoder.decode(b"", final=True)
    if rest:
        yield rest


class _Columns(NamedTuple):
    """Places of the columns; -1 where there is none."""

    label: int
    request_id: int
    row: int
    features: tuple[int, ...]


def _columns(path: str, header: Sequence[str], keys: LabelKeys) -> _Columns:
    needed = [keys.column, *([REQUEST_ID] if keys.by_request else []), *keys.features]
    missing = [name for name in needed if name not in header]
    if missing:
        raise DataError(
            f"{path} has no column {', '.join(missing)}; it has {', '.join(header)}. Correct the "
            "file's first line, or `nightly.labels.join` and `.column`"
        )
    at = {name: place for place, name in enumerate(header)}
    return _Columns(
        at[keys.column],
        at[REQUEST_ID] if keys.by_request else -1,
        at.get(ROW, -1),
        tuple(at[name] for name in keys.features),
    )


def _label(
    keys: LabelKeys, pick: _Columns, cells: Sequence[str], line: int
) -> Label | BadLabel | None:
    text = cells[pick.label]
    positive = _TRUTH.get(text)
    if positive is None:
        if not text.strip():
            return None
        positive = _truth(text)
        if positive is None:
            return BadLabel(line, f"label {text[:40]!r} is neither 0 nor 1")
    place = b""
    if keys.by_request:
        row = _row_number(cells[pick.row]) if pick.row >= 0 else 0
        if row is None:
            return BadLabel(line, f"row {cells[pick.row][:40]!r} is not a number from 0 on")
        if not cells[pick.request_id]:
            return BadLabel(line, "no request_id")
        place = place_of(cells[pick.request_id].encode("utf-8", "replace"), row)
    if not keys.features:
        return Label(place, line, positive)
    texts = (
        join_text(cells[at] or None, keys.kinds.get(name, ""))
        for at, name in zip(pick.features, keys.features, strict=True)
    )
    return Label(keys.of_row(place, b"\0".join(texts)), line, positive)


_TRUTH = {"0": False, "1": True}


def _truth(text: str) -> bool | None:
    try:
        return {0.0: False, 1.0: True}.get(float(text))
    except ValueError:
        return None


def _row_number(text: str) -> int | None:
    if not text:
        return 0
    number = int(text) if text.isdecimal() and len(text) < 11 else -1
    return number if 0 <= number < _MAX_ROW else None


def _of_records(path: str, keys: LabelKeys) -> Iterator[Label | BadLabel]:
    for number, record in enumerate(LogFile(path)):
        if isinstance(record, Lost):
            yield BadLabel(number, f"unreadable from byte {record.offset} on: {record.reason}")
            continue
        try:
            found = features_of(record)
        except DataError:
            yield BadLabel(number, "not a tf.Example")
            continue
        label = _of_example(found, keys, number)
        if label is not None:
            yield label


def _of_example(
    found: Mapping[str, RawFeature], keys: LabelKeys, number: int
) -> Label | BadLabel | None:
    text: Callable[[str], str] = lambda name: _text(value_of(found.get(name)))  # noqa: E731
    names = [keys.column, REQUEST_ID, ROW]
    cells = [text(name) for name in names]
    label = _label(
        keys._replace(features=()), _Columns(0, 1 if keys.by_request else -1, 2, ()), cells, number
    )
    if not isinstance(label, Label) or not keys.features:
        return label
    texts = (join_text(value_of(found.get(n)), keys.kinds.get(n, "")) for n in keys.features)
    return label._replace(key=keys.of_row(label.key, b"\0".join(texts)))


def _text(value: Value) -> str:
    if value is None:
        return ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
