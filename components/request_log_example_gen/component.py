"""The RequestLogExampleGen component."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Sequence
from typing import Optional, Union

from tfx import types
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from tfx_encore.components.request_log_example_gen import executor
from tfx_encore.components.request_log_example_gen.sources import by_own_time
from tfx_encore.schemas.artifacts import NightFiles, RequestLogReport
from tfx_encore.schemas.errors import ConfigError
from tfx_encore.schemas.nightly_policy import LabelsPolicy, NightlyPolicy

DEFAULT_SIGNATURE = "serving_default"
Files = Sequence[Union[str, "os.PathLike[str]"]]


class RequestLogExampleGenSpec(ComponentSpec):
    """Inputs, outputs and parameters of RequestLogExampleGen."""

    PARAMETERS = {  # noqa: RUF012 - TFX's form
        executor.FILES: ExecutionParameter(type=str),
        executor.LABEL_FILES: ExecutionParameter(type=str),
        executor.DATE: ExecutionParameter(type=str),
        executor.MODEL_NAME: ExecutionParameter(type=str),
        executor.SIGNATURES: ExecutionParameter(type=str),
        executor.PREDICTION_KEY: ExecutionParameter(type=str),
        executor.JOIN: ExecutionParameter(type=str),
        executor.COLUMN: ExecutionParameter(type=str),
        executor.BY_OWN_TIME: ExecutionParameter(type=int),
        executor.INPUTS_DIGEST: ExecutionParameter(type=str),
    }
    INPUTS = {  # noqa: RUF012
        executor.SCHEMA: ChannelParameter(type=standard_artifacts.Schema, optional=True),
        executor.NIGHT: ChannelParameter(type=NightFiles, optional=True),
    }
    OUTPUTS = {  # noqa: RUF012
        executor.EXAMPLES: ChannelParameter(type=standard_artifacts.Examples),
        executor.LOG_REPORT: ChannelParameter(type=RequestLogReport),
    }


class RequestLogExampleGen(base_beam_component.BaseBeamComponent):
    """Makes Examples from a day of a request log: what was asked, served, and turned out true.

    Reads the gateway's log and TensorFlow Serving's own. Nothing in the log is fatal: what cannot
    be read is counted and set aside.

    Outputs: `examples` (`Examples` with the split `night`: the requests' own features and those
    named in `tfx_encore.schemas.nights`) and `log_report` (a `RequestLogReport`: `log.json`).

    Args:
        files: TFRecord files of PredictionLogs, as `sources.find_log_files` finds them. May be
            empty: a day without traffic.
        date: the day (UTC), as 2016-01-12.
        model_name: records of other models are passed over; "" takes all.
        policy: of it `log` and `labels` are used. Where `log.files` lacks {DATE}, only records
            whose own time lies in the day count.
        signatures: whose rows are evaluated. Default: those of `policy.log`, else
            `serving_default`.
        prediction_key: output that holds the probability; needed only where there are several.
        labels: files with labels, as `sources.find_label_files` finds them; later ones win.
        schema: types of the features. Features it lacks are left out. Without it all are taken as
            they came.
        inputs_digest: digest of the files (`sources.files_digest`). TFX's cache answers where
            neither it nor another parameter has changed.
        night: `NightFiles` to read instead of `files` and `labels`, where these are known only when
            the pipeline runs.

    Raises:
        ConfigError: `date` is no day, or there are labels but no policy of how they are joined.
    """

    SPEC_CLASS = RequestLogExampleGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    def __init__(
        self,
        files: Files,
        date: str,
        model_name: str,
        policy: Optional[NightlyPolicy] = None,
        *,
        signatures: Sequence[str] = (),
        prediction_key: str = "",
        labels: Files = (),
        schema: Optional[types.BaseChannel] = None,
        inputs_digest: str = "",
        night: Optional[types.BaseChannel] = None,
    ) -> None:
        policy = policy or NightlyPolicy()
        joined = policy.labels or LabelsPolicy(files="-")
        if labels and policy.labels is None:
            raise ConfigError("label files are given, but not how they are joined", key="labels")
        spec = RequestLogExampleGenSpec(
            **{
                executor.FILES: _paths(files),
                executor.LABEL_FILES: _paths(labels),
                executor.DATE: _day(date),
                executor.MODEL_NAME: model_name,
                executor.SIGNATURES: json.dumps(
                    list(signatures or policy.log.signatures or [DEFAULT_SIGNATURE])
                ),
                executor.PREDICTION_KEY: prediction_key,
                executor.JOIN: json.dumps(list(joined.join)),
                executor.COLUMN: joined.column,
                executor.BY_OWN_TIME: int(by_own_time(policy.log)),
                executor.INPUTS_DIGEST: inputs_digest,
                executor.SCHEMA: schema,
                executor.NIGHT: night,
                executor.EXAMPLES: types.Channel(type=standard_artifacts.Examples),
                executor.LOG_REPORT: types.Channel(type=RequestLogReport),
            }
        )
        super().__init__(spec=spec)


def _paths(files: Files) -> str:
    listed = [files] if isinstance(files, (str, os.PathLike)) else files
    return json.dumps([os.fspath(path) for path in listed])


def _day(date: str) -> str:
    try:
        return dt.date.fromisoformat(date).isoformat()
    except ValueError as error:
        raise ConfigError(f"{date!r} is not a day; write it as 2016-01-12", key="date") from error
