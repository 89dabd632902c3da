"""NightPlanner: what `encore nightly` does before TFX starts, as the first task on Kubeflow."""

from __future__ import annotations

import datetime as dt
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from tfx_encore.components.night_recorder.inputs import NightInputs
from tfx_encore.components.night_recorder.night_files import write_night_files
from tfx_encore.components.request_log_example_gen.sources import find_label_files
from tfx_encore.kubeflow.bindings import NIGHT_PLANNED, values_of
from tfx_encore.kubeflow.effective import effective_config
from tfx_encore.kubeflow.planning.given import config_text, run_id_of, schema_file
from tfx_encore.kubeflow.planning.night_date import asked
from tfx_encore.kubeflow.planning.values import value_channels, value_outputs, write_values
from tfx_encore.metadata.files import digest_of
from tfx_encore.metadata.night_store import NightStore
from tfx_encore.pipeline import night_days
from tfx_encore.pipeline.config import ProjectConfig
from tfx_encore.pipeline.night_digests import inputs_digest, night_files, policy_digest
from tfx_encore.pipeline.night_plan import NightTask
from tfx_encore.pipeline.nightly_pipeline import NightParts, nightly_components
from tfx_encore.pipeline.run import Project
from tfx_encore.pipeline.workspace import Workspace
from tfx_encore.schemas.artifacts import NightFiles
from tfx_encore.schemas.errors import ConfigError, DataError
from tfx_encore.schemas.nights import day_before

CONFIG, RELEASES, DATE, SCHEDULED = "config", "releases", "date", "scheduled_at"
REQUEST_LOG, LABELS, RUN_ID = "request_log", "labels", "run_id"
EVALUATION, NIGHTLY, SCHEMA, NIGHT = "evaluation", "nightly", "schema", "night"

Artifacts = dict[str, list[types.Artifact]]


class Executor(base_executor.BaseExecutor):
    """Executor of NightPlanner."""

    def Do(  # noqa: N802 - TFX names it
        self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]
    ) -> None:
        """Says which day is evaluated, finds its files, hands out what the components need.

        Raises:
            ConfigError: a threshold or the date is not valid.
            DataError: no request log, or nothing logged on the day that was asked for.
        """
        project = project_of(exec_properties)
        clock = dt.datetime.now(dt.timezone.utc)
        wanted = asked(exec_properties[DATE], exec_properties[SCHEDULED], clock)
        day = wanted.day or newest_open(project, wanted.today)
        files = night_files(project, day)
        _check_logged(project, day, files, asked_for=wanted.day is not None)
        schema = schema_file(input_dict[SCHEMA])
        parts = _parts(project, day, files, schema, run_id_of(exec_properties[RUN_ID]))
        values = values_of(nightly_components(project.config, parts), NIGHT_PLANNED)
        write_values(output_dict, values)
        write_night_files(artifact_utils.get_single_instance(output_dict[NIGHT]), day, files)


def _check_logged(project: Project, day: str, files: NightInputs, *, asked_for: bool) -> None:
    """A day without a log is a night too, unless it was asked for or has a record already."""
    if files.log:
        return
    if NightStore(project.workspace.releases, project.config.model).has(day):
        raise DataError(f"the request log of {day} is gone; its record stays as it is")
    if asked_for:
        raise night_days.nothing_logged(project, (day,))


def project_of(properties: dict[str, Any]) -> Project:
    """The project as this run sees it: its thresholds and its places."""
    config = effective_config("nightly", properties[CONFIG], properties)
    nightly, labels = config.nightly, properties[LABELS]
    if labels and nightly.labels is None:
        raise ConfigError(
            "label files are given, but not how they are joined; set `nightly.labels` in "
            "encore.yaml and compile again",
            key="labels",
        )
    known = nightly.labels
    joined = known.model_copy(update={"files": labels}) if labels and known else None
    places = {"request_log": properties[REQUEST_LOG], "labels": joined}
    root = pathlib.Path("/")
    return Project(
        config=config.model_copy(update={"nightly": nightly.model_copy(update=places)}),
        file=root / "encore.yaml",
        workspace=Workspace(root, root, pathlib.Path(properties[RELEASES])),
    )


def newest_open(project: Project, today: str) -> str:
    """The newest day without a record; else one whose labels have come since; else yesterday.

    A run evaluates one day, so that missed days are made up for by the runs that catch up, or by
    any run that finds nothing newer to do.

    Raises:
        DataError: the folder of the request log does not exist, or nothing was ever logged.
    """
    store = NightStore(project.workspace.releases, project.config.model)
    days = sorted(night_days.open_days(project, store.dates(), today), reverse=True)
    missing = (day for day in days if not store.has(day))
    return next(missing, None) or next(_with_new_labels(project, store, days), day_before(today))


def _with_new_labels(project: Project, store: NightStore, days: Iterable[str]) -> Iterator[str]:
    """Days with label files that are newer than the record, by their times alone."""
    labels = project.config.nightly.labels
    if labels is None:
        return
    for day in days:
        made = dt.datetime.fromisoformat(store.record(day).created_at.replace("Z", "+00:00"))
        found = find_label_files(labels, pathlib.Path("/"), day, project.config.model)
        if any(file.stat().st_mtime > made.timestamp() for file in found):
            yield day


def _parts(
    project: Project, day: str, files: NightInputs, schema: pathlib.Path, run_id: str
) -> NightParts:
    # A day without a log is the same whatever it would have been read by.
    digest = inputs_digest(project.config, files, digest_of(schema)) if files.log else ""
    return NightParts(
        task=NightTask(day, files, digest),
        run_id=run_id,
        releases=str(project.workspace.releases),
        schema_path=str(schema),
        policy_digest=policy_digest(project.config),
    )


class NightPlannerSpec(ComponentSpec):
    """Inputs, outputs and parameters of NightPlanner."""

    PARAMETERS = {  # noqa: RUF012 - TFX's form
        name: ExecutionParameter(type=str)
        for name in (
            CONFIG,
            RELEASES,
            DATE,
            SCHEDULED,
            REQUEST_LOG,
            LABELS,
            EVALUATION,
            NIGHTLY,
            RUN_ID,
        )
    }
    INPUTS = {SCHEMA: ChannelParameter(type=standard_artifacts.Schema)}  # noqa: RUF012
    OUTPUTS = {  # noqa: RUF012
        **value_outputs(NIGHT_PLANNED),
        NIGHT: ChannelParameter(type=NightFiles),
    }


class NightPlanner(base_component.BaseComponent):
    """Says which day the run evaluates and finds its request log and labels.

    Its outputs are the parameters in `bindings.NIGHT_PLANNED`, and `night` (a `NightFiles`). It is
    never answered from a cache: files come and grow.

    Args:
        schema: `Schema` of the data.
        config: the project, as JSON.
        releases: the directory that VersionedPusher pushes into.
        date: which day; see `night_date`.
        scheduled_at: the time for which the run was scheduled.
        request_log: absolute folder of the request log.
        labels: absolute pattern of the label files; "" for none.
        evaluation: the `evaluation` section of this run, as JSON.
        nightly: the `nightly` section of this run, as JSON.
        run_id: unique name of the run.
    """

    SPEC_CLASS = NightPlannerSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
    READS_WORLD = True

    def __init__(
        self,
        schema: types.BaseChannel,
        config: ProjectConfig,
        *,
        releases: Any,
        date: Any,
        request_log: Any,
        labels: Any,
        evaluation: Any,
        nightly: Any,
        scheduled_at: str,
        run_id: str,
    ) -> None:
        spec = NightPlannerSpec(
            **{
                SCHEMA: schema,
                CONFIG: config_text(config),
                RELEASES: releases,
                DATE: date,
                SCHEDULED: scheduled_at,
                REQUEST_LOG: request_log,
                LABELS: labels,
                EVALUATION: evaluation,
                NIGHTLY: nightly,
                RUN_ID: run_id,
                **value_channels(NIGHT_PLANNED),
                NIGHT: types.Channel(type=NightFiles),
            }
        )
        super().__init__(spec=spec)
