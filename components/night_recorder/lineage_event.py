"""A night as an OpenLineage run event, for whoever collects lineage from several tools.

One event for each revision of a night: COMPLETE with what was read, concluded and written, or FAIL
with the error. Equal revisions give equal run ids. https://openlineage.io/spec/2-0-2
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent
from openlineage.client.event_v2 import RunState as State
from openlineage.client.facet_v2 import (
    JobFacet,
    RunFacet,
    data_quality_assertions_dataset,
    dataset_version_dataset,
    documentation_job,
    error_message_run,
    input_statistics_input_dataset,
    job_type_job,
    nominal_time_run,
    output_statistics_output_dataset,
    processing_engine_run,
)
from openlineage.client.serde import Serde

import tfx_encore
from tfx_encore.components.night_recorder.inputs import InputFile, NightInputs
from tfx_encore.schemas.decisions import Evidence, Outcome
from tfx_encore.schemas.nights import NightRecord, day_before

PRODUCER = f"urn:tfx-encore:{tfx_encore.__version__}"
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:tfx-encore:nights")


@dataclass(frozen=True)
class Place:
    """Where a night is kept.

    Attributes:
        folder: of the night's files.
        sizes: name of a file in it -> bytes.
    """

    folder: str
    sizes: dict[str, int] = field(default_factory=dict)


def run_id_of(model: str, date: str, revision: int) -> str:
    """The run id of a revision of a night: a UUID that follows from it."""
    return str(uuid.uuid5(_NAMESPACE, f"{model}/{date}/{revision}"))


def completed(record: NightRecord, inputs: NightInputs, place: Place) -> str:
    """The event of a night that was judged, as JSON."""
    checks = [(d.gate, check) for d in record.decisions for check in d.evidence]
    event = _event(
        State.COMPLETE,
        record.model,
        record.date,
        record.revision,
        record.created_at,
        inputs=[*_inputs(record, inputs, checks)],
        outputs=[_output(record, place)],
    )
    return Serde.to_json(event)


def failed(model: str, date: str, revision: int, *, at: str, error: str) -> str:
    """The event of a night whose evaluation failed, as JSON.

    Args:
        model: the model's name.
        date: the day.
        revision: that it would have had.
        at: when it failed, UTC, RFC 3339.
        error: the component and its error in one line.
    """
    message = error_message_run.ErrorMessageRunFacet(
        message=error, programmingLanguage="PYTHON", producer=PRODUCER
    )
    event = _event(State.FAIL, model, date, revision, at, run={"errorMessage": message})
    return Serde.to_json(event)


def _event(
    state: State,
    model: str,
    date: str,
    revision: int,
    at: str,
    *,
    run: dict[str, RunFacet] | None = None,
    inputs: Sequence[InputDataset] = (),
    outputs: Sequence[OutputDataset] = (),
) -> RunEvent:
    facets: dict[str, RunFacet] = {
        "nominalTime": nominal_time_run.NominalTimeRunFacet(
            nominalStartTime=f"{date}T00:00:00Z",
            nominalEndTime=f"{day_before(date, -1)}T00:00:00Z",
            producer=PRODUCER,
        ),
        "processing_engine": processing_engine_run.ProcessingEngineRunFacet(
            version=tfx_encore.__version__, name="TFX Encore", producer=PRODUCER
        ),
        **(run or {}),
    }
    return RunEvent(
        eventType=state,
        eventTime=at,
        run=Run(runId=run_id_of(model, date, revision), facets=facets),
        job=Job(namespace=_namespace(model), name="nightly", facets=_job_facets(model)),
        inputs=list(inputs),
        outputs=list(outputs),
        producer=PRODUCER,
    )


def _job_facets(model: str) -> dict[str, JobFacet]:
    return {
        "jobType": job_type_job.JobTypeJobFacet(
            processingType="BATCH", integration="TFX", jobType="JOB", producer=PRODUCER
        ),
        "documentation": documentation_job.DocumentationJobFacet(
            description=f"Evaluates a day of the traffic of {model}", producer=PRODUCER
        ),
    }


def _inputs(
    record: NightRecord, inputs: NightInputs, checks: Sequence[tuple[str, Evidence]]
) -> Iterator[InputDataset]:
    if inputs.log:
        facets = {
            "inputStatistics": _statistics(inputs.log, record.log.rows),
            "dataQualityAssertions": _assertions(checks),
        }
        yield InputDataset(*_files(inputs.log), inputFacets=facets)
    if inputs.labels:
        statistics = _statistics(inputs.labels, record.log.labels_read)
        yield InputDataset(*_files(inputs.labels), inputFacets={"inputStatistics": statistics})
    if record.version is not None:
        version = dataset_version_dataset.DatasetVersionDatasetFacet(
            datasetVersion=record.fingerprint or str(record.version), producer=PRODUCER
        )
        name = f"releases/{record.version}"
        yield InputDataset(_namespace(record.model), name, facets={"version": version})


def _files(files: Sequence[InputFile]) -> tuple[str, str]:
    """Namespace and name of the folder of files, as OpenLineage names local files."""
    return "file", str(PurePath(files[0].path).parent)


def _statistics(
    files: Sequence[InputFile], rows: int
) -> input_statistics_input_dataset.InputStatisticsInputDatasetFacet:
    return input_statistics_input_dataset.InputStatisticsInputDatasetFacet(
        rowCount=rows,
        size=sum(file.size for file in files),
        fileCount=len(files),
        producer=PRODUCER,
    )


def _assertions(
    checks: Sequence[tuple[str, Evidence]],
) -> data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet:
    made = [c for c in checks if c[1].outcome is not Outcome.INSUFFICIENT_DATA]
    return data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(
        assertions=[_assertion(gate, check) for gate, check in made], producer=PRODUCER
    )


def _assertion(gate: str, check: Evidence) -> data_quality_assertions_dataset.Assertion:
    feature = check.subject.startswith("feature:")
    return data_quality_assertions_dataset.Assertion(
        assertion=f"{gate}.{check.measure}",
        success=check.outcome is Outcome.OK,
        column=check.subject.removeprefix("feature:") if feature else None,
        severity="error" if check.outcome is Outcome.BLOCK else "warn",
        name=f"{gate}/{check.subject}/{check.measure}",
        description=check.message,
        expected=None if check.threshold is None else repr(check.threshold),
        actual=None if check.effect is None else repr(check.effect),
    )


def _output(record: NightRecord, place: Place) -> OutputDataset:
    version = dataset_version_dataset.DatasetVersionDatasetFacet(
        datasetVersion=str(record.revision), producer=PRODUCER
    )
    written = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
        size=sum(place.sizes.values()), fileCount=len(place.sizes), producer=PRODUCER
    )
    return OutputDataset(
        "file",
        str(Path(place.folder)),
        facets={"version": version},
        outputFacets={"outputStatistics": written},
    )


def _namespace(model: str) -> str:
    return f"tfx-encore://{model}"
