"""What `encore init` makes of each column: label, number, category, or left out. No IO here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Optional, Union

from tfx_encore.pipeline.config_errors import suggestion
from tfx_encore.pipeline.csv_columns import Column, Kind
from tfx_encore.pipeline.csv_profile import DISTINCT_LIMIT, ColumnProfile
from tfx_encore.schemas.errors import DataError

MINIMUM_ROWS = 50  # to have some to learn from and some to judge by
CATEGORY_VALUES = 20  # a whole number with at most so many different values is a category,
CATEGORY_ROWS = 20  # if there are at least so many rows for each
SLICE_VALUES = 12  # categories with at most so many values make slices
SLICES = 3
IDENTIFIER_ROWS = 100  # in fewer rows, whole numbers that all differ mean nothing
_SHOWN = 6

Literal = Union[int, float, str]


@dataclass(frozen=True)
class Label:
    """The column to predict.

    Attributes:
        column: its name.
        positive: the value whose probability the model gives, of the column's type.
        share: share of the rows that have this value, in (0, 1).
    """

    column: str
    positive: Literal
    share: float


@dataclass(frozen=True)
class Roles:
    """What becomes of every column.

    Attributes:
        label: the column to predict.
        numbers: columns read as numbers, in the file's order.
        categories: columns read as one of several values, in the file's order.
        left_out: column -> why the model does not read it.
        unknown: columns without a single value; the schema does not name them.
        notes: what the user should know, one line each.
    """

    label: Label
    numbers: tuple[str, ...]
    categories: tuple[str, ...]
    left_out: dict[str, str]
    unknown: tuple[str, ...]
    notes: tuple[str, ...]


def choose_roles(
    profiles: Mapping[str, ColumnProfile], label: str, positive: Optional[str], *, source: str
) -> Roles:
    """Decides on every column of a file.

    Args:
        profiles: the file's columns.
        label: the column to predict.
        positive: the value that counts as yes; None if that goes without saying.
        source: the file, for messages.

    Raises:
        DataError: too few rows, no such label, a label that has no two values, or nothing to learn
            from.
    """
    chosen = choose_label(profiles, label, positive, source=source)
    _refuse_equal_names(profiles, source)
    numbers, categories, unknown, left_out = [], [], [], {}
    for profile in profiles.values():
        reason = None if profile.name == label else _why_left_out(profile)
        if profile.name == label:
            continue
        if profile.kind is Kind.EMPTY:
            unknown.append(profile.name)
        elif reason:
            left_out[profile.name] = reason
        elif profile.kind is Kind.BYTES or is_category(profile):
            categories.append(profile.name)
        else:
            numbers.append(profile.name)
    if not numbers and not categories:
        raise DataError(f"{source}: no column is left to learn from: {_listed(left_out, unknown)}")
    notes = [note for profile in profiles.values() if (note := _note(profile))]
    return Roles(chosen, tuple(numbers), tuple(categories), left_out, tuple(unknown), tuple(notes))


def choose_label(
    profiles: Mapping[str, ColumnProfile], name: str, positive: Optional[str], *, source: str
) -> Label:
    """Checks the column to predict and finds which of its two values counts as yes.

    Raises:
        DataError: says what to do.
    """
    if name not in profiles:
        raise DataError(f"{source}: no column {name!r}{suggestion(name, profiles)}")
    profile = profiles[name]
    if profile.rows < MINIMUM_ROWS:
        raise DataError(f"{source}: {profile.rows} rows; at least {MINIMUM_ROWS} are needed")
    if profile.missing:
        raise DataError(
            f"{source}: label {name!r} has no value in {profile.missing} rows; remove those rows"
        )
    if profile.distinct != 2:
        raise DataError(f"{source}: {_not_binary(profile)}")
    value = positive if positive is not None else _obvious(profile)
    if value is None or value not in profile.values:
        first, second = sorted(profile.values)
        asked = "" if positive is None else f"not {positive!r}; "
        raise DataError(
            f"{source}: label {name!r} has the values {first!r} and {second!r}, {asked}say which "
            f"one the model is to predict: --positive {second!r}"
        )
    return Label(name, _literal(value, profile.kind), profile.values[value] / profile.rows)


def is_category(profile: ColumnProfile) -> bool:
    """True if whole numbers are names rather than amounts, as far as their count can tell."""
    return (
        profile.kind is Kind.INT
        and profile.distinct <= CATEGORY_VALUES
        and profile.present >= CATEGORY_ROWS * profile.distinct
    )


def schema_columns(
    profiles: Mapping[str, ColumnProfile], unknown: Iterable[str]
) -> dict[str, Column]:
    """The columns as the schema will have them: the types that CsvExampleGen gives them today."""
    return {
        name: Column(name, profile.kind.name, required=not profile.missing)
        for name, profile in profiles.items()
        if name not in set(unknown)
    }


def slices(profiles: Mapping[str, ColumnProfile], roles: Roles) -> tuple[str, ...]:
    """Categories to slice by: those with few values, fewest first."""
    few = [c for c in roles.categories if 2 <= profiles[c].distinct <= SLICE_VALUES]
    return tuple(sorted(few, key=lambda c: profiles[c].distinct)[:SLICES])


def plain(column: str) -> str:
    """A column's name as TensorFlow takes it; `_plain` of the model that init writes."""
    name = re.sub(r"\W", "_", column, flags=re.ASCII)
    return name if name[0].isalpha() else f"f{name}"


def _why_left_out(profile: ColumnProfile) -> Optional[str]:
    if profile.is_dates:
        return "dates: make numbers or categories of them before"
    if profile.distinct == 1:
        return "always the same value"
    everywhere = profile.distinct in (profile.present, DISTINCT_LIMIT)
    if profile.kind is Kind.INT and everywhere and profile.present >= IDENTIFIER_ROWS:
        return "whole numbers that all differ: an identifier or a time"
    if profile.kind is Kind.BYTES and (
        profile.distinct > profile.present / 2 or profile.distinct == DISTINCT_LIMIT
    ):
        return "texts of which most differ: an identifier or free text"
    return None


def _note(profile: ColumnProfile) -> Optional[str]:
    """What may go wrong with the column when the next data comes."""
    if profile.strays:
        strays = ", ".join(repr(value) for value in profile.strays)
        return (
            f"{profile.name} is text because of {profile.kinds[Kind.BYTES]:,} of "
            f"{profile.present:,} values ({strays}); if those mean that there is none, clear the "
            "cells and run init again"
        )
    points = profile.kinds[Kind.FLOAT]
    if profile.kind is Kind.FLOAT and points < profile.present / 100:
        return (
            f"{profile.name} has a decimal point in {points:,} of {profile.present:,} values only; "
            "data in which none has one is refused, so write them all with one (5.0)"
        )
    if profile.kind is Kind.EMPTY:
        return f"{profile.name} has no value at all; it is not in the schema and nothing reads it"
    return None


def _refuse_equal_names(profiles: Mapping[str, ColumnProfile], source: str) -> None:
    seen: dict[str, str] = {}
    for name in profiles:
        other = seen.setdefault(plain(name), name)
        if other != name:
            raise DataError(
                f"{source}: columns {other!r} and {name!r} are one name to TensorFlow "
                f"({plain(name)}); rename one"
            )
        if name == "self":
            raise DataError(f"{source}: TensorFlow takes no column named 'self'; rename it")


def _obvious(profile: ColumnProfile) -> Optional[str]:
    """The value that means yes where the two speak for themselves."""
    for value in profile.values:
        if value.lower() == "true" and {v.lower() for v in profile.values} == {"true", "false"}:
            return value
    if profile.kind in (Kind.INT, Kind.FLOAT) and {float(v) for v in profile.values} == {0.0, 1.0}:
        return next(value for value in profile.values if float(value) == 1.0)
    return None


def _literal(value: str, kind: Kind) -> Literal:
    if kind is Kind.INT:
        return int(value)
    return float(value) if kind is Kind.FLOAT else value


def _not_binary(profile: ColumnProfile) -> str:
    many = f"more than {DISTINCT_LIMIT - 1:,}" if profile.distinct == DISTINCT_LIMIT else ""
    count = many or f"{profile.distinct:,}"
    values = ", ".join(repr(value) for value, _ in profile.values.most_common(_SHOWN))
    more = ", ..." if profile.distinct > _SHOWN else ""
    if profile.distinct == 1:
        return f"label {profile.name!r} is always {values}; there is nothing to learn"
    return (
        f"label {profile.name!r} has {count} values ({values}{more}); binary classification needs "
        "two: add a column with 1 for the rows to predict and 0 for the others, and name that"
    )


def _listed(left_out: Mapping[str, str], unknown: Iterable[str]) -> str:
    reasons = [f"{name} ({reason})" for name, reason in left_out.items()]
    return "; ".join([*reasons, *(f"{name} (no value)" for name in unknown)]) or "only the label"
