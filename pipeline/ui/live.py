"""What a running gateway says of its cache, if one runs."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from tfx_encore.gateway.admin_messages import ModelStats, WorkerStats, merge_models
from tfx_encore.pipeline.run import Project
from tfx_encore.schemas.errors import EncoreError

SECONDS = 2.0


@dataclass(frozen=True)
class Answer:
    """The gateway's word.

    Attributes:
        model: of the project's model, all workers together; None if there is no word.
        workers: how many answered.
        trouble: why there is no word.
    """

    model: ModelStats | None = None
    workers: int = 0
    trouble: str = ""


def ask_gateway(project: Project, seconds: float = SECONDS) -> Answer:
    """Asks the project's gateway; never raises, and waits `seconds` at most for a worker."""
    from tfx_encore.pipeline.gateway_place import place_of

    try:
        replies = place_of(str(project.file), None).ask({"command": "stats"}, seconds)
        workers = [WorkerStats.model_validate(reply) for reply in replies]
    except (EncoreError, ValidationError, OSError) as error:
        return Answer(trouble=str(error))
    models = {model.model: model for model in merge_models(workers)}
    model = models.get(project.config.model)
    trouble = "" if model else f"the gateway does not serve {project.config.model}"
    return Answer(model, len(workers), trouble)
