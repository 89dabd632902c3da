"""Warms a project's model anew from a night's traffic, and tells the gateway that runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfx_encore.gateway.admin import NotRunningError, ask
from tfx_encore.gateway.runtime_folder import runtime_folder
from tfx_encore.pipeline.run import Project
from tfx_encore.schemas.errors import EncoreError

if TYPE_CHECKING:
    from tfx_encore.components.rewarming.rewarm import Rewarmed


def rewarm_project(
    project: Project, version: int, date: str, log_files: Sequence[str | Path]
) -> Rewarmed:
    """Makes a snapshot of a night's traffic the newest of a version, and has it loaded.

    A gateway that does not run here loads it when it next loads the version.

    Args:
        project: whose model.
        version: of the model; on disk.
        date: the night, as 2016-01-12.
        log_files: its PredictionLog TFRecords.

    Raises:
        DataError: no usable row in the log.
        ModelError: the model's answers are not to be cached.
        EncoreError: a gateway runs here and could not load it; it is there all the same.
    """
    from tfx_encore.components.rewarming.rewarm import rewarm

    config = project.config
    made = rewarm(
        lambda: _beam_pipeline(project),
        project.releases,
        version,
        date,
        [str(path) for path in log_files],
        policy=config.warmup.model_copy(update={"model_name": config.model}),
        tolerate_damaged_share=config.nightly.log.tolerate_unreadable_share,
    )
    tell_gateway(project)
    return made


def tell_gateway(project: Project) -> int:
    """Has the gateway that runs here load the newest snapshots; returns the answers it loaded.

    0 if none runs here.

    Raises:
        EncoreError: it could not load one.
    """
    folder = runtime_folder(str(project.workspace.root / "gateway"))
    request = {"command": "warm", "model": project.config.model, "snapshot": None}
    try:
        replies = ask(folder, request, 600.0)
    except NotRunningError:
        return 0
    problems = sorted({problem for reply in replies for problem in reply["problems"]})
    if problems:
        raise EncoreError("; ".join(problems))
    return sum(count for reply in replies for count in reply["loaded"].values())


def _beam_pipeline(project: Project) -> Any:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    from tfx_encore.pipeline.worker import beam_args_here

    arguments = beam_args_here(project.config, project.workspace)
    return beam.Pipeline(options=PipelineOptions(list(arguments)))
