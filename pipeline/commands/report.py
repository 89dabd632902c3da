"""`encore report`: the HTML report of a version."""

from __future__ import annotations

import click

from tfx_encore.pipeline.commands.options import open_project, project_option
from tfx_encore.pipeline.reports import write_version_report
from tfx_encore.schemas.errors import VersionNotFoundError


@click.command("report")
@project_option
@click.argument("version", type=click.IntRange(min=1), required=False)
@click.option("--open", "open_it", is_flag=True, help="Open it in a browser.")
def command(config_file: str, version: int | None, *, open_it: bool) -> None:
    """Writes the HTML report of VERSION (by default the live one) and prints its path.

    \b
    Examples:
      encore report
      encore report 2 --open
    """
    project = open_project(config_file)
    wanted = version or project.releases.live(project.config.release.label)
    if wanted is None:
        raise VersionNotFoundError("nothing is live yet; `encore run` pushes a release")
    path = write_version_report(project, wanted)
    click.echo(str(path))
    if open_it:
        click.launch(str(path))
