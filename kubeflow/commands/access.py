"""Options by which `submit` and `schedule` find the server and the compiled pipeline."""

from __future__ import annotations

import hashlib
import pathlib
from collections.abc import Callable
from typing import Any, Optional, TypeVar

import click

from tfx_encore.kubeflow.commands.options import need_kfp
from tfx_encore.kubeflow.server import DEFAULT_EXPERIMENT, HOST_VARIABLE, TOKEN_VARIABLE, Access
from tfx_encore.kubeflow.spec_checks import check_package
from tfx_encore.kubeflow.spec_package import Package, package_text, read_package
from tfx_encore.pipeline.commands.options import open_project
from tfx_encore.schemas.errors import ConfigError

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--host",
        default="",
        metavar="URL",
        help=f"Kubeflow Pipelines. Default: ${HOST_VARIABLE}, the cluster's own, kubectl's.",
    ),
    click.option("--namespace", default="", metavar="NAME", help="Of a multi-user Kubeflow."),
    click.option(
        "--token-file",
        default="",
        metavar="FILE",
        help=f"Bearer token. Default: ${TOKEN_VARIABLE}, the service account's.",
    ),
    click.option(
        "--ca-cert", "ca_file", default="", metavar="FILE", help="The server's authority."
    ),
)


def access_options(function: F) -> F:
    """Adds --host, --namespace, --token-file and --ca-cert."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


_RUN_OPTIONS = (
    click.option("--package", metavar="FILE", help="Default: what `compile` wrote last."),
    click.option(
        "--param",
        "parameters",
        multiple=True,
        metavar="NAME=VALUE",
        help="A pipeline parameter, as span=2; repeat.",
    ),
    click.option(
        "--experiment",
        default=DEFAULT_EXPERIMENT,
        show_default=True,
        metavar="NAME",
        help="The experiment; made if there is none.",
    ),
    click.option("--pipeline-root", default="", metavar="URI", help="Default: as compiled."),
    click.option("--service-account", default="", metavar="NAME", help="That tasks run under."),
)


def run_options(function: F) -> F:
    """Adds what a single run and a recurring one both take."""
    for option in reversed(_RUN_OPTIONS):
        function = option(function)
    return function


def access_of(host: str, namespace: str, token_file: str, ca_file: str) -> Access:
    """The access that the options describe.

    Raises:
        ConfigError: `host` is no URL, or Kubeflow's SDK is not installed.
    """
    need_kfp()
    if host and not host.startswith(("http://", "https://")):
        raise ConfigError(f"{host!r} is no URL; write https://{host}", key="--host")
    return Access(host.rstrip("/"), namespace, token_file, ca_file)


def open_package(kind: Optional[str], file: Optional[str], config_file: str) -> Package:
    """The compiled pipeline that is meant; checked again, as it may have been written by hand.

    Raises:
        ConfigError: none is named, it is not there, or the backend would reject it.
    """
    if (kind is None) == (file is None):
        raise click.UsageError("say which pipeline: release, nightly or --package FILE")
    path = pathlib.Path(file) if file else _compiled(kind or "", config_file)
    package = read_package(path)
    errors = [p for p in check_package(package.pipeline, package.platform) if p.severity == "error"]
    if errors:
        lines = "".join(f"\n  - {problem}" for problem in errors)
        raise ConfigError(f"cannot run on Kubeflow:{lines}", file=str(path))
    return package


def _compiled(kind: str, config_file: str) -> pathlib.Path:
    return open_project(config_file).workspace.root / "kubeflow" / f"{kind}.yaml"


def version_name(package: Package) -> str:
    """The name of a version: the same for the same content, whoever uploads it."""
    digest = hashlib.sha256(package_text(package).encode()).hexdigest()
    return f"encore-{digest[:16]}"
