"""What several subcommands share: the project option, JSON output, the project itself."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Callable
from typing import Any, TypeVar

import click

from tfx_encore.pipeline.config import FILE_NAME, load_config
from tfx_encore.pipeline.run import Project
from tfx_encore.pipeline.workspace import Workspace

F = TypeVar("F", bound=Callable[..., Any])


def project_option(function: F) -> F:
    """Adds `--config FILE`; the function receives `config_file`."""
    return click.option(
        "--config",
        "config_file",
        metavar="FILE",
        default=lambda: os.environ.get("ENCORE_CONFIG", FILE_NAME),
        show_default=f"$ENCORE_CONFIG or {FILE_NAME}",
        help="The project file.",
    )(function)


def json_option(function: F) -> F:
    """Adds `--json`; the function receives `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")(function)


def open_project(config_file: str) -> Project:
    """Reads the project file."""
    file = pathlib.Path(config_file)
    config = load_config(file)
    return Project(config=config, file=file, workspace=Workspace.of(config, file))


def print_json(value: Any) -> None:
    """Prints a JSON document with sorted keys."""
    click.echo(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False))
