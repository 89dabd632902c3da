"""`encore ui`: a web page over the workspace."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Optional

import click

from tfx_encore.pipeline.commands.options import open_project, project_option
from tfx_encore.schemas.errors import ConfigError

if TYPE_CHECKING:
    from tfx_encore.pipeline.run import Project
    from tfx_encore.pipeline.ui.guard import Rules

MIN_TOKEN = 16


@click.command("ui")
@project_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8600,
    show_default=True,
    help="Port to listen at; 0 takes a free one.",
)
@click.option(
    "--token",
    envvar="ENCORE_UI_TOKEN",
    help="What a reader must know. Made and printed if --host is reachable from elsewhere.",
)
@click.option("--open", "open_it", is_flag=True, help="Open it in a browser.")
def command(config_file: str, host: str, port: int, token: Optional[str], *, open_it: bool) -> None:
    """Shows releases, nights, slices, drift, cache and records as a web page, read only.

    \b
    Examples:
      encore ui
      encore ui --open
      encore ui --host 0.0.0.0        prints an address with a token
    """
    from tfx_encore.pipeline.ui.guard import Rules, hosts_of, is_loopback

    if token is not None and len(token) < MIN_TOKEN:
        raise ConfigError(
            f"has {len(token)} characters; give it {MIN_TOKEN} or more, or leave it out and have "
            "one made",
            key="--token",
        )
    if token is None and not is_loopback(host):
        token = secrets.token_urlsafe(24)
    project = open_project(config_file)
    rules = Rules(token, hosts_of(host))
    _serve(project, rules, host, port, open_it=open_it)


def _serve(project: Project, rules: Rules, host: str, port: int, *, open_it: bool) -> None:
    from tfx_encore.pipeline.ui.app import make_app
    from tfx_encore.pipeline.ui.reading import Reader
    from tfx_encore.pipeline.ui.serving import address_of, listen, make_server

    app = make_app(Reader(project), rules)
    with listen(host, port) as bound:
        address = address_of(bound, host)
        shown = f"{address}?token={rules.token}" if rules.token else address
        click.echo(f"{project.config.model}: {shown}")
        click.echo("Ctrl-C ends it")
        if open_it:
            click.launch(shown)
        try:
            make_server(app).run(sockets=[bound])
        except KeyboardInterrupt:
            click.echo("")
