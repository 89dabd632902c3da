"""`encore versions`: what was pushed, and what is live."""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console
from rich.table import Table

from tfx_encore.pipeline.commands.options import (
    json_option,
    open_project,
    print_json,
    project_option,
)
from tfx_encore.pipeline.report import words


@click.command("versions")
@project_option
@json_option
def command(config_file: str, *, as_json: bool) -> None:
    """Lists the versions that are on disk, newest last, with their labels.

    \b
    Examples:
      encore versions
      encore versions --json | jq '.versions[-1].fingerprint'
    """
    project = open_project(config_file)
    releases = project.releases
    labels = releases.labels()
    rows: list[dict[str, Any]] = [
        {
            "version": version,
            "labels": sorted(name for name, at in labels.items() if at == version),
            "fingerprint": manifest.fingerprint,
            "created_at": manifest.created_at,
            "created_by": manifest.created_by,
            "spans": [span.span for span in manifest.spans],
            "path": str(releases.version_path(version)),
        }
        for version in releases.versions()
        for manifest in [releases.manifest(version)]
    ]
    if as_json:
        print_json({"model": project.config.model, "labels": labels, "versions": rows})
        return
    if not rows:
        click.echo(f"{project.config.model}: nothing was pushed yet; `encore run` pushes a release")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("version", "labels", "spans", "fingerprint", "pushed", "by"):
        table.add_column(column)
    for row in rows:
        table.add_row(
            str(row["version"]),
            ", ".join(row["labels"]),
            ", ".join(map(str, row["spans"])),
            words.digest(row["fingerprint"]),
            words.moment(row["created_at"]),
            row["created_by"],
        )
    Console(highlight=False).print(table)
