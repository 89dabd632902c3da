"""`encore label`: which version a label points at."""

from __future__ import annotations

import json

import click

from tfx_encore.metadata.release_push import whoami
from tfx_encore.pipeline.commands.options import (
    json_option,
    open_project,
    print_json,
    project_option,
)
from tfx_encore.pipeline.publish import reconcile_project
from tfx_encore.schemas.serial import to_json


@click.group("label")
def command() -> None:
    """Points a label at a version; what its old version answered is withdrawn.

    \b
    Examples:
      encore label set stable 6
      encore label list
    """


@command.command("set")
@project_option
@click.argument("label")
@click.argument("version", type=click.IntRange(min=1))
@click.option("--reason", default="", help="Why, for the record.")
@json_option
def set_label(config_file: str, label: str, version: int, reason: str, *, as_json: bool) -> None:
    """Points LABEL at VERSION, and writes the invalidation record of the change.

    Moving back is a rollback: the answers of the older version are still in the cache under its
    fingerprint, and are valid again.
    """
    project = open_project(config_file)
    why = reason or f"`encore label set {label} {version}`"
    record = project.releases.set_label(label, version, by=whoami(), reason=why)
    reconcile_project(project)
    if as_json:
        print_json(
            {
                "label": label,
                "version": version,
                "record": json.loads(to_json(record)) if record else None,
            }
        )
    elif record is None:
        click.echo(f"{label} -> {version}: no answers had to be withdrawn")
    else:
        click.echo(
            f"{label} -> {version} (was {record.version_before}); record {record.record_id} "
            f"{record.cause.value} withdraws the answers of version {record.version_before}"
        )


@command.command("list")
@project_option
@json_option
def list_labels(config_file: str, *, as_json: bool) -> None:
    """Lists the labels and the versions they point at."""
    labels = open_project(config_file).releases.labels()
    if as_json:
        print_json(labels)
    elif not labels:
        click.echo("no labels yet; the first push sets one")
    for label, version in sorted(labels.items()) if not as_json else ():
        click.echo(f"{label} -> {version}")
