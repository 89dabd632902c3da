"""What both planners are given: the project, the schema, the id of the run."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from datetime import datetime, timezone

from tfx import types
from tfx.types import artifact_utils
from tfx.utils import io_utils

from tfx_encore.pipeline.config import ProjectConfig


def config_text(config: ProjectConfig) -> str:
    """A project as JSON that `parse_config` reads again."""
    return config.model_dump_json(by_alias=True)


def schema_file(artifacts: Sequence[types.Artifact]) -> pathlib.Path:
    """The one file of the one `Schema` artifact."""
    uri = artifact_utils.get_single_uri(list(artifacts))
    return pathlib.Path(io_utils.get_only_uri_in_dir(uri))


def run_id_of(given: str) -> str:
    """The run's id; one made from the time where the backend did not fill it in."""
    if given and not given.startswith("{{"):
        return given
    return f"{datetime.now(timezone.utc):%Y%m%dT%H%M%S%f}-kubeflow"
