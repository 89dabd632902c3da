"""Reading a data schema (`.pbtxt`) into what the rest of the pipeline asks of it."""

from __future__ import annotations

import pathlib
import shutil

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from tfx_encore.metadata.files import digest_of
from tfx_encore.pipeline.spans import Column
from tfx_encore.schemas.errors import DataError


def read_columns(file: pathlib.Path) -> dict[str, Column]:
    """The schema's features by name.

    Raises:
        DataError: the file is missing, or is not a schema in text format.
    """
    schema = schema_pb2.Schema()
    try:
        text_format.Parse(file.read_text(encoding="utf-8"), schema)
    except FileNotFoundError as error:
        raise DataError(f"{file}: no such schema; `encore init` infers one from a CSV") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: not a schema in text format: {error}") from error
    if not schema.feature:
        raise DataError(f"{file}: the schema names no feature")
    return {feature.name: _column(feature) for feature in schema.feature}


def _column(feature: schema_pb2.Feature) -> Column:
    return Column(
        name=feature.name,
        type=schema_pb2.FeatureType.Name(feature.type),
        required=feature.presence.min_fraction >= 1.0,
    )


def content_addressed(file: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Copies `file` under a folder named by its digest and returns the copy.

    TFX's cache sees the path of an imported schema, not its content; a path that changes with the
    content makes an edited schema a new input.
    """
    target = folder / f"{file.stem}-{digest_of(file)[7:23]}" / file.name
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".partial")
        shutil.copyfile(file, partial)
        partial.replace(target)
    return target
