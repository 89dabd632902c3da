"""The process that evaluates nights: `python -m tfx_encore.pipeline.nightly_worker PLAN FD`.

One process takes all days of a run, so that TensorFlow is imported once. A day that fails is told
of and left; the others go on.
"""

from __future__ import annotations

import dataclasses
import resource
import sys
import traceback
from typing import Any, TextIO

from tfx_encore.pipeline.night_plan import NightFailure, NightsPlan, NightTask, WorkerResult
from tfx_encore.pipeline.worker import beam_args_here, one_line, tell, work


def main(arguments: list[str]) -> int:
    """Runs the plan; returns 0 if every day was tried, whatever was decided."""
    return work(arguments, NightsPlan, _run)


def _run(plan: NightsPlan, events: TextIO) -> WorkerResult:
    tell(events, "started", {"step": "loading TensorFlow and TFX", "index": 0, "of": 0})
    from tfx_encore.pipeline import local_runner
    from tfx_encore.pipeline.config import ProjectConfig
    from tfx_encore.pipeline.mlmd import connection_config
    from tfx_encore.pipeline.workspace import Workspace

    config = ProjectConfig.model_validate_json(plan.config)
    workspace = Workspace.of(config, plan.config_file)
    connection = connection_config(config, workspace)
    listener = local_runner.Listener(
        started=lambda step, index, of: tell(
            events, "started", {"step": step, "index": index, "of": of}
        ),
        ended=lambda step: tell(events, "ended", dataclasses.asdict(step)),
    )
    failures = []
    for index, task in enumerate(plan.tasks, start=1):
        place = {"date": task.date, "index": index, "of": len(plan.tasks)}
        tell(events, "night", place)
        try:
            local_runner.run_pipeline(
                _pipeline(plan, task, config, workspace, connection),
                f"{plan.run_id}-{task.date}",
                listener,
            )
        except local_runner.StepError as error:
            traceback.print_exc()
            failure = NightFailure(task.date, error.step, one_line(error.__cause__))
            failures.append(failure)
            tell(events, "night_failed", dataclasses.asdict(failure))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return WorkerResult(tuple(failures), memory)


def _pipeline(
    plan: NightsPlan, task: NightTask, config: Any, workspace: Any, connection: Any
) -> Any:
    from tfx_encore.pipeline.nightly_pipeline import NightParts, nightly_pipeline

    parts = NightParts(
        task=task,
        run_id=plan.run_id,
        releases=str(workspace.releases),
        schema_path=plan.schema_path,
        policy_digest=plan.policy_digest,
    )
    return nightly_pipeline(
        config,
        parts,
        root=str(workspace.night_artifacts / task.date),
        metadata_connection=connection,
        beam_args=beam_args_here(config, workspace),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
