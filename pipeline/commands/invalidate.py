"""`encore invalidate`: withdrawing cached answers by hand."""

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
from tfx_encore.pipeline.selectors import parse_selector
from tfx_encore.schemas.errors import ConfigError
from tfx_encore.schemas.records import Cause, RecordDraft
from tfx_encore.schemas.serial import to_json

_CAUSES = [Cause.MANUAL.value, Cause.DATA_DRIFT.value, Cause.ERASURE.value]


@click.command("invalidate")
@project_option
@click.option("--model", help="The model; must be the project's. Default: the project's.")
@click.option(
    "--selector",
    required=True,
    metavar="SELECTOR",
    help="all | fingerprint=sha256:... | keys=KEY[,KEY...] | slice:FEATURE=VALUE[,FEATURE=VALUE]",
)
@click.option("--cause", type=click.Choice(_CAUSES), default=Cause.MANUAL.value, show_default=True)
@click.option("--reason", default="", help="Why, for the record.")
@json_option
def command(
    config_file: str, model: str | None, selector: str, cause: str, reason: str, *, as_json: bool
) -> None:
    """Withdraws cached answers: writes a record that every cache follows.

    \b
    Examples:
      encore invalidate --selector all --reason "fares were in cents"
      encore invalidate --selector slice:payment_type=Cash --cause DATA_DRIFT
      encore invalidate --selector keys=0f3a...,77b1... --cause ERASURE
    """
    project = open_project(config_file)
    if model not in (None, project.config.model):
        raise ConfigError(f"--model {model}: this project's model is {project.config.model}")
    draft = RecordDraft(
        model=project.config.model,
        cause=Cause(cause),
        selector=parse_selector(selector, project.feature_names()),
        reason=reason or f"`encore invalidate --selector {selector}`",
        created_by=whoami(),
    )
    record = project.releases.append_record(draft)
    reconcile_project(project)
    if as_json:
        print_json(json.loads(to_json(record)))
    else:
        click.echo(f"record {record.record_id} {record.cause.value} written: {record.reason}")
