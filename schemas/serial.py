"""JSON for the frozen dataclasses in this folder: one way in, one way out. No IO here."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from tfx_encore.schemas.errors import DataError

T = TypeVar("T")


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Returns `value` (a dataclass or pydantic model of ours) as JSON with sorted keys.

    Sorted keys and fixed separators make equal values equal bytes.

    Raises:
        ValueError: a number is NaN or infinite; say None where there is no number.
    """
    plain = TypeAdapter(type(value)).dump_python(value, mode="json")
    separators = (",", ":") if indent is None else None
    return json.dumps(
        plain,
        indent=indent,
        sort_keys=True,
        separators=separators,
        ensure_ascii=False,
        allow_nan=False,
    )


def from_json(kind: type[T], text: str | bytes, *, source: str = "JSON") -> T:
    """Parses and validates `text` as `kind`.

    Raises:
        DataError: the text is not JSON or does not fit; names `source`, the key and the value.
    """
    try:
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "(whole document)"
        raise DataError(
            f"{source}: {where}: {first['msg']}, found {str(first.get('input'))[:120]!r}; "
            f"expected a {kind.__name__}"
        ) from error


def json_schema(kind: type[Any]) -> dict[str, Any]:
    """Returns the JSON Schema (draft 2020-12) of one of our dataclasses or models."""
    return TypeAdapter(kind).json_schema()
