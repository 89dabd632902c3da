"""`encore schema`: the JSON Schemas of what we write and read."""

from __future__ import annotations

from typing import Any

import click

from tfx_encore.pipeline.commands.options import print_json
from tfx_encore.pipeline.config import config_schema
from tfx_encore.schemas.decisions import Decision
from tfx_encore.schemas.records import InvalidationRecord
from tfx_encore.schemas.release import Manifest
from tfx_encore.schemas.serial import json_schema

_KINDS: dict[str, type[Any]] = {
    "decision": Decision,
    "record": InvalidationRecord,
    "manifest": Manifest,
}


@click.command("schema")
@click.argument("name", type=click.Choice(["config", *_KINDS]))
def command(name: str) -> None:
    """Prints the JSON Schema of the project file, a decision, a record or a manifest.

    \b
    Examples:
      encore schema config > encore.schema.json
      encore schema record
    """
    print_json(config_schema() if name == "config" else json_schema(_KINDS[name]))
