"""`encore kubeflow compile`: the pipelines as Kubeflow Pipelines v2 specifications."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any, Optional

import click

from tfx_encore.kubeflow.commands.options import (
    KINDS,
    kind_argument,
    need_kfp,
    parse_amounts,
    parse_secret,
    parse_variable,
    parse_volume,
    set_option,
)
from tfx_encore.kubeflow.overrides import with_overrides
from tfx_encore.kubeflow.target import Target, Volume
from tfx_encore.pipeline.commands.options import json_option, print_json, project_option
from tfx_encore.pipeline.config import load_document, parse_config
from tfx_encore.pipeline.workspace import Workspace
from tfx_encore.schemas.errors import ConfigError

if TYPE_CHECKING:
    from tfx_encore.kubeflow.compiling import Compiled


@click.command("compile")
@kind_argument
@project_option
@click.option("--image", metavar="IMAGE", default="", help="Container image of every task.")
@click.option(
    "--releases-claim",
    metavar="NAME",
    default="",
    help="PersistentVolumeClaim (ReadWriteMany) that holds the release directory.",
)
@click.option(
    "--releases-mount",
    metavar="PATH",
    default="/encore",
    show_default=True,
    help="Where it is mounted; relative paths of encore.yaml start there.",
)
@click.option(
    "--volume", "volumes", multiple=True, metavar="CLAIM:PATH", help="A further volume; repeat."
)
@click.option(
    "--secret-env",
    "secrets",
    multiple=True,
    metavar="VARIABLE=SECRET:KEY",
    help="An environment variable from a Secret; repeat.",
)
@click.option(
    "--env", "variables", multiple=True, metavar="VARIABLE=VALUE", help="One by value; repeat."
)
@click.option("--pull-secret", "pull_secrets", multiple=True, metavar="SECRET", help="Repeat.")
@click.option("--pull-policy", type=click.Choice(["Always", "IfNotPresent", "Never"]), default=None)
@click.option(
    "--cpu",
    "cpu",
    multiple=True,
    metavar="[TASK=]CORES",
    help="Cores that each task, or one, is promised: 2, 500m; repeat.",
)
@click.option(
    "--memory",
    "memory",
    multiple=True,
    metavar="[TASK=]BYTES",
    help="Memory that each task, or one, is promised and may not exceed: 4Gi, 512Mi; repeat.",
)
@click.option("--pipeline-root", metavar="URI", default="", help="s3://, gs:// or minio:// folder.")
@click.option("--module", metavar="NAME", help="The user's module as it is called in the image.")
@click.option(
    "--pythonpath", metavar="DIR", default="", help="Folder on a volume to import it from."
)
@click.option("--name", metavar="NAME", help="Default: the model and the pipeline's kind.")
@click.option("--output", metavar="DIR", help="Default: kubeflow in the workspace.")
@set_option
@json_option
def command(
    kind: Optional[str],
    config_file: str,
    *,
    settings: tuple[str, ...],
    module: Optional[str],
    name: Optional[str],
    output: Optional[str],
    as_json: bool,
    **target_options: Any,
) -> None:
    """Writes the release and the nightly pipeline, or one of them, as KFP v2 specifications.

    What Kubeflow's open-source backend would reject when the pipeline runs is refused here, with
    the reason and the way out. The schema becomes part of the specification.

    \b
    Examples:
      encore kubeflow compile --image registry.example/encore:1.4 --releases-claim encore
      encore kubeflow compile nightly --image registry.example/encore@sha256:... \\
          --releases-claim encore --volume request-log:/logs --set nightly.request_log=/logs
      encore kubeflow compile release --image registry.example/encore:1.4 \\
          --releases-claim encore --cpu 1 --memory 2Gi --memory Trainer=8Gi
    """
    if name and kind is None:
        raise click.UsageError("--name goes with one pipeline; say which: release or nightly")
    need_kfp()
    from tfx_encore.pipeline.quiet import hush

    hush()
    file = pathlib.Path(config_file)
    document = with_overrides(load_document(file).content, settings)
    if module:
        document = with_overrides(document, [f"training.module={module}"])
    config = parse_config(document, source=str(file))
    target = target_of(**target_options)
    workspace = Workspace.of(config, config_file)
    folder = pathlib.Path(output) if output else workspace.root / "kubeflow"
    schema = workspace.project / config.data.schema_file
    from tfx_encore.kubeflow.compiling import compile_project

    kinds = [kind] if kind else KINDS
    done = compile_project(kinds, config, schema, target, folder, name=name)
    for problem in dict.fromkeys(problem for each in done for problem in each.warnings):
        click.echo(f"encore: warning: {problem}", err=True)
    if as_json:
        print_json([_shown(each) for each in done])
    else:
        for each in map(_shown, done):
            click.echo(f"{each['file']}: {each['name']}, {each['tasks']} tasks")


def _shown(done: Compiled) -> dict[str, Any]:
    tasks = len(done.package.pipeline["root"]["dag"]["tasks"])
    return {
        "kind": done.kind,
        "name": done.package.name,
        "file": str(done.file),
        "tasks": tasks,
    }


def target_of(
    *,
    image: str,
    releases_claim: str,
    releases_mount: str,
    volumes: tuple[str, ...],
    secrets: tuple[str, ...],
    variables: tuple[str, ...],
    pull_secrets: tuple[str, ...],
    pull_policy: Optional[str],
    pipeline_root: str,
    cpu: tuple[str, ...],
    memory: tuple[str, ...],
    pythonpath: str,
) -> Target:
    """The target that the options describe.

    Raises:
        ConfigError: no claim, or an option that is not in its form.
    """
    if not releases_claim:
        raise ConfigError(
            "name the claim that holds the release directory; tasks share it, so that it must be "
            "ReadWriteMany",
            key="--releases-claim",
        )
    environment = [parse_variable(text) for text in variables]
    if pythonpath:
        environment.append(("PYTHONPATH", pythonpath))
    return Target(
        image=image,
        volumes=(Volume(releases_claim, releases_mount), *map(parse_volume, volumes)),
        secrets=tuple(map(parse_secret, secrets)),
        environment=tuple(environment),
        pull_secrets=pull_secrets,
        pull_policy=pull_policy or "",
        pipeline_root=pipeline_root,
        cpu=parse_amounts(cpu, "--cpu", "500m", least="1m"),
        memory=parse_amounts(memory, "--memory", "4Gi", least="1Mi"),
    )
