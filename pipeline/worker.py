"""The process that runs a release pipeline: `python -m tfx_encore.pipeline.worker PLAN FD`.

It has a process of its own so that its memory is given back, its output goes to the log, and its
death is a message on the terminal. It tells of its progress as JSON lines on file descriptor FD.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import pathlib
import resource
import sys
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TextIO, TypeVar

from tfx_encore.pipeline.beam_options import beam_args, require_reachable
from tfx_encore.pipeline.plan import ReleasePlan, RunResult, StepResult
from tfx_encore.pipeline.quiet import hush
from tfx_encore.schemas.errors import EncoreError, StepFailedError
from tfx_encore.schemas.serial import from_json, to_json

if TYPE_CHECKING:
    from tfx_encore.pipeline.config import ProjectConfig
    from tfx_encore.pipeline.workspace import Workspace

Plan = TypeVar("Plan")


def main(arguments: list[str]) -> int:
    """Runs the plan; returns 0 if the pipeline ended, whatever it decided."""
    return work(arguments, ReleasePlan, _run)


def work(arguments: list[str], kind: type[Plan], run: Callable[[Plan, TextIO], Any]) -> int:
    """Reads a plan, runs it, tells what came of it; returns 0 unless it failed.

    Args:
        arguments: path of the plan, and number of the file descriptor of the events.
        kind: what the plan is.
        run: does it, telling of events; returns the result.
    """
    plan = from_json(kind, pathlib.Path(arguments[0]).read_bytes(), source=arguments[0])
    hush(logging.INFO)
    with os.fdopen(int(arguments[1]), "w", encoding="utf-8", buffering=1) as events:
        try:
            tell(events, "result", json.loads(to_json(run(plan, events))))
        except EncoreError as error:
            traceback.print_exc()
            tell(events, "error", as_event(error))
            return 1
    return 0


def tell(events: TextIO, kind: str, body: dict[str, Any]) -> None:
    """Tells whoever started this process of an event."""
    events.write(json.dumps({"kind": kind, **body}) + "\n")


def as_event(error: EncoreError) -> dict[str, Any]:
    """The body of the event `error`."""
    step = error.step if isinstance(error, StepFailedError) else ""
    cause = error.cause if isinstance(error, StepFailedError) else str(error)
    return {"step": step, "cause": cause}


def _run(plan: ReleasePlan, events: TextIO) -> RunResult:
    tell(events, "started", {"step": "loading TensorFlow and TFX", "index": 0, "of": 0})
    began = time.monotonic()
    if plan.module_folder:
        sys.path.insert(0, plan.module_folder)

    from tfx_encore.pipeline import local_runner
    from tfx_encore.pipeline.config import ProjectConfig
    from tfx_encore.pipeline.mlmd import connection_config
    from tfx_encore.pipeline.release import release_pipeline
    from tfx_encore.pipeline.workspace import Workspace

    config = ProjectConfig.model_validate_json(plan.config)
    workspace = Workspace.of(config, plan.config_file)
    steps: list[StepResult] = []

    def ended(step: StepResult) -> None:
        steps.append(step)
        tell(events, "ended", dataclasses.asdict(step))

    listener = local_runner.Listener(
        started=lambda step, index, of: tell(
            events, "started", {"step": step, "index": index, "of": of}
        ),
        ended=ended,
    )
    pipeline = release_pipeline(
        config,
        plan.inputs,
        root=plan.artifacts,
        metadata_connection=connection_config(config, workspace),
        beam_args=beam_args_here(config, workspace),
    )
    try:
        outputs = local_runner.run_pipeline(pipeline, plan.run_id, listener)
    except local_runner.StepError as error:
        cause = error.__cause__
        raise StepFailedError(error.step, one_line(cause), log="") from cause
    return _result(plan, config.model, outputs, tuple(steps), time.monotonic() - began)


def beam_args_here(config: ProjectConfig, workspace: Workspace) -> tuple[str, ...]:
    """The project's Beam arguments, for a pipeline whose artifacts lie in the workspace.

    Raises:
        ConfigError: the runner's workers could not read them.
    """
    require_reachable(config.beam.runner, str(workspace.root))
    return beam_args(config.beam.runner, config.beam.options)


def one_line(error: BaseException | None) -> str:
    """An error as a person wants it: the first line of its message, or its type."""
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else type(error).__name__
    return text if isinstance(error, EncoreError) else f"{type(error).__name__}: {text}"


def _result(
    plan: ReleasePlan,
    model: str,
    outputs: dict[str, dict[str, Any]],
    steps: tuple[StepResult, ...],
    seconds: float,
) -> RunResult:
    from tfx_encore.pipeline.evidence import read_evidence

    span = plan.inputs.provenance.spans[0].span
    pushed = outputs["VersionedPusher"]["pushed_model"].properties
    evidence = read_evidence(outputs)
    return RunResult(
        model=model,
        span=span,
        run_id=plan.run_id,
        state=_state(pushed),
        reason=str(pushed.get("reason", "")),
        version=int(pushed["version"]) if pushed.get("version") else None,
        fingerprint=pushed.get("fingerprint"),
        decisions=evidence.decisions,
        certificate=evidence.certificate,
        coverage=evidence.coverage,
        records=evidence.records,
        anomalies=evidence.anomalies,
        steps=steps,
        seconds=seconds,
        peak_memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        evidence=evidence.folders,
    )


def _state(pushed: dict[str, Any]) -> Literal["pushed", "already_pushed", "refused"]:
    """`pushed`, `already_pushed` or `refused`, from what the pusher wrote."""
    if int(pushed.get("pushed", 0)):
        return "pushed"
    return "already_pushed" if pushed.get("version") else "refused"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
