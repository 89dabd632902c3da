"""Which running gateway a command means, and how it is asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Optional

import click

from tfx_encore.gateway.admin import NotRunningError, ask
from tfx_encore.gateway.runtime_folder import running_folders, runtime_folder, sockets
from tfx_encore.pipeline.commands.options import open_project
from tfx_encore.pipeline.config import FILE_NAME
from tfx_encore.pipeline.run import Project
from tfx_encore.schemas.errors import ConfigError

_HELP = {
    "config": f"Project file of the gateway. Default: {FILE_NAME} here, if there is one.",
    "cache_dir": "Cache directory of the gateway, if it is not a project's.",
}


class Place(NamedTuple):
    """Which gateway is meant.

    Attributes:
        folder: of its sockets.
        project: whose gateway it is; None if it is no project's.
        hint: how to start it.
    """

    folder: Path
    project: Optional[Project]
    hint: str

    def ask(self, request: dict[str, Any], seconds: float = 600.0) -> list[dict[str, Any]]:
        """Returns each worker's reply.

        Raises:
            NotRunningError: it does not run; says how to start it.
        """
        try:
            return ask(self.folder, request, seconds)
        except NotRunningError:
            raise NotRunningError(f"no gateway runs here ({self.folder}); {self.hint}") from None


def place_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--config` and `--cache_dir`."""
    for name in ("cache_dir", "config"):
        spellings = [f"--{name}"] if name == "config" else [f"--{name}", "--cache-dir"]
        function = click.option(*spellings, name, metavar="PATH", help=_HELP[name])(function)
    return function


def place_of(config: Optional[str], cache_dir: Optional[str]) -> Place:
    """Finds the gateway that is meant.

    Raises:
        ConfigError: it cannot be told which.
    """
    if config and cache_dir:
        raise ConfigError("--config and --cache_dir both name a gateway; give one of them")
    if cache_dir:
        hint = f"`encore serve --cache_dir={cache_dir} ...` starts one"
        return Place(runtime_folder(cache_dir), None, hint)
    if config or Path(FILE_NAME).is_file():
        return _of_project(open_project(config or FILE_NAME))
    return _only_one()


def _of_project(project: Project) -> Place:
    folder = runtime_folder(str(project.workspace.root / "gateway"))
    return Place(folder, project, "`encore serve` in the project starts one")


def _only_one() -> Place:
    """The gateway without a cache directory, if one runs."""
    running = [folder for folder in running_folders() if sockets(folder)]
    hint = "`encore serve` starts one; --config or --cache_dir names one that runs elsewhere"
    if not running:
        raise NotRunningError(f"no gateway runs here; {hint}")
    if len(running) > 1:
        names = ", ".join(folder.name.removeprefix("process-") for folder in running)
        raise ConfigError(
            f"several gateways without a cache directory run here (processes {names}); give each "
            "a --cache_dir and name it"
        )
    return Place(running[0], None, hint)
