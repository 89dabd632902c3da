"""JSON files that one component of a night writes for another."""

from __future__ import annotations

from typing import TypeVar

from tfx.dsl.io import fileio

from tfx_encore.schemas.errors import DataError
from tfx_encore.schemas.serial import from_json

T = TypeVar("T")


def read_night_json(kind: type[T], path: str) -> T:
    """Reads a file through TFX's file systems.

    Args:
        kind: what `to_json` was given.
        path: the file, with or without a scheme.

    Raises:
        DataError: it is missing, or not one of that kind.
    """
    try:
        with fileio.open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}; run the night again") from error
    return from_json(kind, content, source=path)
