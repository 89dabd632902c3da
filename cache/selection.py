"""Which entries an invalidation record covers. No IO here.

What cannot be told is taken to be covered: a withdrawn answer costs one computation, a stale one is
a wrong answer. That is the case for

- a row that the store does not keep (`Entry.row` is empty), for a slice;
- a row that does not hold a feature the slice names: the key leaves it out, since the model does
  not read it, so nobody knows whether the request was in the slice;
- an entry kept by its transformed row (`TRANSFORMED`): the raw rows and keys behind it are not
  known, so that every slice and every set of keys covers it;
- a set of keys of which one is not hexadecimal.

A feature with several values lies in the slice of each of them, as TFMA has it; one without a value
lies in none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from tfx_encore.cache.entry import Entry
from tfx_encore.cache.rows import STRING, Cell, Row, decode_row, split_strings, to_array
from tfx_encore.schemas.errors import DataError
from tfx_encore.schemas.records import (
    InvalidationRecord,
    SelectAll,
    SelectFingerprint,
    SelectKeys,
)

TRANSFORMED = b"T"
"""First byte of the row of an entry kept by its transformed row; no canonical row begins so."""

_TRUTH = {"true": True, "1": True, "false": False, "0": False}


def is_transformed(row: bytes) -> bool:
    """True if these bytes stand for a transformed row."""
    return row[:1] == TRANSFORMED


def covers(record: InvalidationRecord, entry: Entry, row: bytes | None = None) -> bool:
    """True if a record's selector covers an entry, or may cover it; whatever its cause.

    Args:
        record: the record.
        entry: the entry.
        row: the raw row that is asked about, where it is known better than `entry.row`.
    """
    return matcher(record)(entry if row is None else entry._replace(row=row))


def matcher(record: InvalidationRecord) -> Callable[[Entry], bool]:
    """Returns `covers` of one record, to be asked of many entries."""
    selector = record.selector
    if isinstance(selector, SelectAll):
        return lambda _: True
    if isinstance(selector, SelectFingerprint):
        return lambda entry: entry.fingerprint == selector.fingerprint
    if isinstance(selector, SelectKeys):
        keys = key_set(selector.keys)
        return lambda entry: keys is None or is_transformed(entry.row) or entry.key in keys
    return lambda entry: in_slice(cells_of(entry.row), selector.features)


def key_set(keys: Iterable[str]) -> frozenset[bytes] | None:
    """Returns keys as bytes; None if one of them is not hexadecimal."""
    try:
        return frozenset(bytes.fromhex(key) for key in keys)
    except ValueError:
        return None


def cells_of(row: bytes) -> Row | None:
    """Returns a row's cells; None if the bytes are not a canonical row."""
    try:
        return decode_row(row)
    except DataError:
        return None


def in_slice(cells: Row | None, features: Mapping[str, str]) -> bool:
    """True if a row lies in a slice, or may lie in it.

    Args:
        cells: of the row; None if they are not known.
        features: feature -> value as text; no features mean every row.
    """
    return cells is None or all(
        name not in cells or holds_value(cells[name], value) for name, value in features.items()
    )


def holds_value(item: Cell, text: str) -> bool:
    """True if one of a cell's values is the value that a text names.

    Strings are compared byte by byte in UTF-8. A number is the value if the text reads as an equal
    number once rounded to the cell's dtype ("8", "8.0" and "8e0" all name 8), as a not-a-number if
    both are, and a bool if the text is `true`, `false`, `1` or `0`, in any case.
    """
    if item.dtype == STRING:
        return text.encode("utf-8", "surrogatepass") in split_strings(item.data)
    values = to_array(item)
    if item.dtype == "bool":
        wanted = _TRUTH.get(text.strip().lower())
        return wanted is not None and bool((values == wanted).any())
    try:
        if values.dtype.kind in "iu":
            return _exact(text) in values.ravel().tolist()
        number = float(text)
    except (ValueError, OverflowError):
        return False
    if math.isnan(number):
        return bool(np.isnan(values).any())
    with np.errstate(over="ignore"):
        return bool((values == values.dtype.type(number)).any())


def _exact(text: str) -> int | float:
    """The number a text names; an integer beyond 2**53 without rounding."""
    try:
        return int(text)
    except ValueError:
        return float(text)
