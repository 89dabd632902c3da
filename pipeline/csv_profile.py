"""What a CSV file holds, column by column: the ground on which `encore init` decides.

One pass; memory grows with the number of different values up to a bound, not with the rows.
"""

from __future__ import annotations

import pathlib
import re
from collections import Counter
from dataclasses import dataclass, field

from tfx_encore.pipeline.csv_columns import Kind, kind_of
from tfx_encore.pipeline.csv_file import read_csv
from tfx_encore.schemas.errors import DataError

DISTINCT_LIMIT = 100_000  # different values of a column that are remembered
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ].*)?|\d{1,2}[/.]\d{1,2}[/.]\d{2,4}([T ].*)?")


@dataclass
class ColumnProfile:
    """One column.

    Attributes:
        name: as the header has it.
        rows: rows in the file.
        kinds: how many cells CsvExampleGen would take for each type.
        values: value -> how often, for the first DISTINCT_LIMIT different ones.
    """

    name: str
    rows: int = 0
    kinds: Counter[Kind] = field(default_factory=Counter)
    values: Counter[str] = field(default_factory=Counter)

    def add(self, cell: str) -> None:
        """Takes note of one cell."""
        self.rows += 1
        kind = kind_of(cell)
        self.kinds[kind] += 1
        if kind is not Kind.EMPTY and (cell in self.values or len(self.values) < DISTINCT_LIMIT):
            self.values[cell] += 1

    @property
    def kind(self) -> Kind:
        """The type that CsvExampleGen would give the column."""
        return max(self.kinds, default=Kind.EMPTY)

    @property
    def missing(self) -> int:
        """Rows without a value."""
        return self.kinds[Kind.EMPTY]

    @property
    def present(self) -> int:
        """Rows with a value."""
        return self.rows - self.missing

    @property
    def distinct(self) -> int:
        """Different values, at most DISTINCT_LIMIT."""
        return len(self.values)

    @property
    def is_dates(self) -> bool:
        """True if every value looks like a date."""
        return bool(self.values) and all(_DATE.fullmatch(value) for value in self.values)

    @property
    def strays(self) -> tuple[str, ...]:
        """The few values that keep the column from being numbers; none if that is not so."""
        texts = self.kinds[Kind.BYTES]
        if not 0 < texts <= self.present // 10:
            return ()
        return tuple(v for v, _ in self.values.most_common() if kind_of(v) is Kind.BYTES)[:3]


def profile_csv(file: pathlib.Path) -> dict[str, ColumnProfile]:
    """Profiles every column of a file, in order.

    Raises:
        DataError: the file cannot be read, is not CSV, or has no rows.
    """
    lines = read_csv(file, any_header=True)
    _, header = next(lines)
    columns = [ColumnProfile(name) for name in header]
    for line, cells in lines:
        if len(cells) != len(columns):
            raise DataError(f"{file}: line {line}: {len(cells)} values for {len(columns)} columns")
        for column, cell in zip(columns, cells, strict=True):
            column.add(cell)
    if not columns[0].rows:
        raise DataError(f"{file}: a header, but no rows")
    return {column.name: column for column in columns}
