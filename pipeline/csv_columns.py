"""What CsvExampleGen will make of a column's cells, and whether the schema agrees. No IO here.

CsvExampleGen knows nothing of the schema: it gives each column of a span the narrowest type that
holds all its values, integer, then float, then text. Where that is not what the schema says,
Transform fails much later and says little.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from tfx_encore.schemas.errors import DataError

_LEAST_INT, _LARGEST_INT = -(2**63), 2**63 - 1
_LARGEST_FLOAT = 3.4028235e38  # of 32 bits, which is what tf.Example holds
_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+")


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


class Kind(enum.IntEnum):
    """CsvExampleGen's types from narrow to wide; a column takes the widest of its cells."""

    EMPTY = 0
    INT = 1
    FLOAT = 2
    BYTES = 3


def kind_of(cell: str) -> Kind:
    """The type that CsvExampleGen gives a cell (tfx_bsl.coders.csv_decoder, _InferValueType)."""
    if not cell:
        return Kind.EMPTY
    if not cell.isascii():  # it parses bytes, where only ASCII digits count
        return Kind.BYTES
    try:
        return Kind.INT if _LEAST_INT <= int(cell) <= _LARGEST_INT else Kind.BYTES
    except ValueError:
        pass
    try:
        float(cell)
    except ValueError:
        return Kind.BYTES
    return Kind.FLOAT


class ColumnCheck:
    """Looks at the cells of one column, in all files of a span.

    Args:
        column: what the schema says.

    Raises:
        DataError: the schema gives the column a type that a CSV cannot hold.
    """

    def __init__(self, column: Column) -> None:
        problems = {"INT": self._int, "FLOAT": self._float, "BYTES": self._bytes}
        if column.type not in problems:
            raise DataError(
                f"the schema gives {column.name} the type {column.type}; a CSV column is INT, "
                "FLOAT or BYTES"
            )
        self._problem_of = problems[column.type]
        self._kind = Kind.EMPTY
        self.column = column

    def problem(self, cell: str) -> str | None:
        """What is wrong with a cell, as the end of a sentence that begins with its column."""
        if cell:
            return self._problem_of(cell)
        if self.column.required:
            return "has no value, but the schema requires one in every row (presence.min_fraction)"
        return None

    def problem_of_all(self) -> str | None:
        """What is wrong with the column as a whole, once every cell was looked at."""
        if self.column.type == "FLOAT" and self._kind is Kind.INT:
            return (
                "is FLOAT in the schema, but every value is written as a whole number, so that "
                "CsvExampleGen takes it for INT; write 5.0 for 5, or declare it INT"
            )
        if self.column.type == "BYTES" and self._kind in (Kind.INT, Kind.FLOAT):
            return (
                "is BYTES in the schema, but every value is a number, so that CsvExampleGen takes "
                f"it for {self._kind.name}; declare it {self._kind.name}, or write it with a "
                "letter, as Z10115"
            )
        return None

    def _int(self, cell: str) -> str | None:
        kind = kind_of(cell)
        if kind is Kind.INT:
            return None
        if kind is Kind.FLOAT:
            return _no(cell, "INT", "write whole numbers as 5, not 5.0, or declare it FLOAT")
        return _no(cell, "INT", "leave the cell empty where there is no value")

    def _float(self, cell: str) -> str | None:
        try:
            value = float(cell) if cell.isascii() else None
        except ValueError:
            value = None
        if value is None and _DECIMAL_COMMA.fullmatch(cell):
            return _no(cell, "FLOAT", "write it with a point, as 3.5")
        if value is None or not math.isfinite(value):
            return _no(cell, "FLOAT", "leave the cell empty where there is no value")
        if abs(value) > _LARGEST_FLOAT:
            return _no(cell, "FLOAT", "it does not fit 32 bits")
        if self._kind is not Kind.FLOAT or abs(value) > _LARGEST_INT:
            kind = kind_of(cell)
            if kind is Kind.BYTES:
                return _no(cell, "FLOAT", "write so large a number with a point, as 1e20")
            self._kind = max(self._kind, kind)
        return None

    def _bytes(self, cell: str) -> None:
        if self._kind is not Kind.BYTES:
            self._kind = max(self._kind, kind_of(cell))


def checks_for(columns: Mapping[str, Column]) -> dict[str, ColumnCheck]:
    """A fresh check for each column, by name."""
    return {name: ColumnCheck(column) for name, column in columns.items()}


def _no(cell: str, kind: str, hint: str) -> str:
    shown = cell if len(cell) <= 40 else f"{cell[:40]}..."
    return f"is {shown!r}, which is no {kind} as the schema says; {hint}"
