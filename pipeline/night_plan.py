"""What a run of nights is given, and what it gives back. No IO here."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from tfx_encore.components.night_recorder.inputs import NightInputs
from tfx_encore.pipeline.plan import StepResult
from tfx_encore.schemas.nights import NightRecord


@dataclass(frozen=True)
class NightTask:
    """A day whose rows are evaluated.

    Attributes:
        date: the day, as `2016-01-12`.
        files: the request log and the labels.
        inputs_digest: digest of these files and of the configuration by which they are read.
    """

    date: str
    files: NightInputs
    inputs_digest: str


@dataclass(frozen=True)
class NightsPlan:
    """Everything a worker process needs to evaluate some days.

    Attributes:
        config: the project configuration as JSON (already validated).
        config_file: where it was read from.
        run_id: unique name of the run.
        schema_path: the curated schema, under a name that changes with its content.
        policy_digest: digest of the configuration by which nights are judged.
        tasks: the days, ascending.
    """

    config: str
    config_file: str
    run_id: str
    schema_path: str
    policy_digest: str
    tasks: tuple[NightTask, ...]


@dataclass(frozen=True)
class NightFailure:
    """A day whose evaluation failed; its last revision, if it has one, stays.

    Attributes:
        date: the day.
        step: the component.
        cause: its error in one line.
    """

    date: str
    step: str
    cause: str


@dataclass(frozen=True)
class WorkerResult:
    """What a worker process says at its end.

    Attributes:
        failures: the days that failed.
        peak_memory_mb: highest resident memory, MiB.
    """

    failures: tuple[NightFailure, ...] = ()
    peak_memory_mb: float = 0.0


@dataclass(frozen=True)
class NightsResult:
    """What a run of nights did.

    Attributes:
        records: of the days that were asked for and of those judged again, ascending.
        evaluated: days whose rows were read.
        judged_again: days judged again because an earlier one had changed.
        unchanged: days for which there was nothing to do.
        acted: days whose proposals were carried out, or tried.
        failures: days that failed.
        removed: what retention removed, one line each.
        steps: the components that ran, of all days.
        run_id: the run's unique name.
        seconds: wall time in all.
        peak_memory_mb: highest resident memory of the worker, MiB.
        log: path of the full log; "" if no worker was needed.
    """

    records: tuple[NightRecord, ...] = ()
    evaluated: tuple[str, ...] = ()
    judged_again: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    acted: tuple[str, ...] = ()
    failures: tuple[NightFailure, ...] = ()
    removed: tuple[str, ...] = ()
    steps: tuple[StepResult, ...] = ()
    run_id: str = ""
    seconds: float = 0.0
    peak_memory_mb: float = 0.0
    log: str = ""
