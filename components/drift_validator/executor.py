"""What DriftValidator does: reads statistics, has them judged, writes the report."""

from __future__ import annotations

import json
from typing import Any, Optional

from absl import logging
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.utils import io_utils, path_utils

from tfx_encore.components.drift_validator import judging
from tfx_encore.components.drift_validator.model_features import features_read
from tfx_encore.components.drift_validator.nights import (
    EarlierNights,
    effective_share,
)
from tfx_encore.components.request_log_example_gen.executor import read_log_report
from tfx_encore.metadata import night_store
from tfx_encore.monitoring import drift, drift_skew, tfdv_reader
from tfx_encore.monitoring.drift_statistics import DatasetStatistics
from tfx_encore.monitoring.slice_report import SliceTable
from tfx_encore.schemas.charts import FeatureChart
from tfx_encore.schemas.decisions import Decision, Outcome
from tfx_encore.schemas.drift_policy import DriftPolicy
from tfx_encore.schemas.errors import DataError, ModelError
from tfx_encore.schemas.nights import SPLIT, LogReport
from tfx_encore.schemas.serial import from_json, to_json

STATISTICS, SCHEMA, BASELINE = "statistics", "schema", "baseline_statistics"
POLICY, BASELINE_NAME = "policy", "baseline_name"
LOG_REPORT, SLICE_REPORT, MODEL = "log_report", "slice_report", "model"
NIGHTS, SIGNATURES, NONCE = "nights", "signatures", "nonce"
REPORT = "report"
DECISION_FILE, CHARTS_FILE = "decision.json", "charts.json"
STATISTICS_FILE = "FeatureStats.pb"

Artifacts = dict[str, list[types.Artifact]]


class Executor(base_executor.BaseExecutor):
    """Executor of DriftValidator."""

    def Do(  # noqa: N802 - TFX names it
        self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]
    ) -> None:
        """Writes `decision.json` and `charts.json` into the report.

        Raises:
            DataError: the current statistics or the schema cannot be read.
            ConfigError: the policy names a feature that the schema lacks.
            ReleaseCorruptError: the record of an earlier night was edited.
        """
        policy = from_json(DriftPolicy, exec_properties[POLICY], source="drift policy")
        features = _schema_features(input_dict[SCHEMA])
        log = _log_report(input_dict.get(LOG_REPORT) or [])
        nights = _nights(exec_properties.get(NIGHTS))
        if nights is None and log is None:
            current = _current(input_dict[STATISTICS], policy.split)
            drift.check_policy(policy, features)
            baseline = _baseline(input_dict, policy.split, exec_properties)
            decision, charts = judging.judge_data(current, baseline, policy, features)
        elif log is not None and not log.rows:
            decision, charts = _without_rows(drift.GATE if nights else drift_skew.GATE), ()
        elif nights is not None:
            current = _current(input_dict[STATISTICS], SPLIT)
            share = effective_share(log)
            decision, charts = judging.judge_night(current, nights, policy, features, share)
        else:
            current = _current(input_dict[STATISTICS], SPLIT)
            baseline = _baseline(input_dict, policy.split, exec_properties)
            served = judging.Served(
                effective_share(log),
                _reads(input_dict.get(MODEL) or [], exec_properties.get(SIGNATURES)),
                _slices(input_dict.get(SLICE_REPORT) or []),
            )
            decision, charts = judging.judge_served(current, baseline, policy, features, served)
        _write(artifact_utils.get_single_instance(output_dict[REPORT]), decision, charts)


def _nights(text: Optional[str]) -> Optional[EarlierNights]:
    return from_json(EarlierNights, text, source="nights") if text else None


def _log_report(artifacts: list[types.Artifact]) -> Optional[LogReport]:
    if not artifacts:
        return None
    return read_log_report(artifact_utils.get_single_uri(artifacts))


def _without_rows(gate: str) -> Decision:
    reason = "the night has no rows to judge"
    return Decision(gate, Outcome.INSUFFICIENT_DATA, reason)


def _slices(artifacts: list[types.Artifact]) -> Optional[SliceTable]:
    """The release's own evaluation; None if it has none."""
    if not artifacts or _is_absent(artifacts[0]):
        return None
    path = f"{artifact_utils.get_single_uri(artifacts)}/{night_store.SLICES}"
    if not fileio.exists(path):
        return None
    with fileio.open(path, "rb") as file:
        return from_json(SliceTable, file.read(), source=path)


def _reads(artifacts: list[types.Artifact], signatures: Optional[str]) -> Optional[tuple[str, ...]]:
    """Features that the served signatures read; None if there is no model, or it cannot be told."""
    if not artifacts or _is_absent(artifacts[0]):
        return None
    model = artifact_utils.get_single_instance(artifacts)
    path = path_utils.serving_model_path(model.uri, path_utils.is_old_model_artifact(model))
    try:
        return features_read(path, tuple(json.loads(signatures)) if signatures else ())
    except ModelError as error:
        logging.warning("DriftValidator: cannot tell what the model reads: %s", error)
        return None


def _schema_features(artifacts: list[types.Artifact]) -> tuple[str, ...]:
    path = io_utils.get_only_uri_in_dir(artifact_utils.get_single_uri(artifacts))
    return tfdv_reader.schema_features(io_utils.parse_pbtxt_file(path, schema_pb2.Schema()))


def _statistics_file(uri: str, split: str) -> Optional[str]:
    """The split's statistics, in the layout of this TFX or of one before 1.0."""
    paths = [f"{uri}/{folder}/{STATISTICS_FILE}" for folder in (f"Split-{split}", split)]
    return next((path for path in paths if fileio.exists(path)), None)


def _read(path: str) -> DatasetStatistics:
    with fileio.open(path, "rb") as file:
        return tfdv_reader.parse_statistics(file.read(), source=path)


def _current(artifacts: list[types.Artifact], split: str) -> DatasetStatistics:
    artifact = artifact_utils.get_single_instance(artifacts)
    path = _statistics_file(artifact.uri, split)
    if path is None:
        raise DataError(
            f"{artifact.uri}: no statistics of split {split!r}; it has {_splits(artifact)}. Set "
            "`split` of the drift policy to one of them"
        )
    return _read(path)


def _splits(artifact: types.Artifact) -> str:
    return artifact.split_names or "no splits"


def _baseline(inputs: Artifacts, split: str, exec_properties: dict[str, Any]) -> judging.Baseline:
    artifacts = inputs.get(BASELINE) or []
    statistics, why = _baseline_statistics(artifacts, split)
    given = exec_properties.get(BASELINE_NAME)
    name = given or (_name(artifacts[0]) if artifacts else "the baseline")
    return judging.Baseline(statistics, why, name)


def _baseline_statistics(
    artifacts: list[types.Artifact], split: str
) -> tuple[Optional[DatasetStatistics], str]:
    """The baseline's statistics, or None and why there are none.

    Raises:
        DataError: the artifact says that it is present, but its file is missing or unreadable.
    """
    if not artifacts:
        return None, "no baseline statistics were given"
    artifact = artifact_utils.get_single_instance(artifacts)
    if _is_absent(artifact):
        return None, _why_absent(artifact)
    path = _statistics_file(artifact.uri, split)
    if path is not None:
        return _read(path), ""
    missing = f"{artifact.uri} holds no statistics of split {split!r}"
    if artifact.has_custom_property("present"):
        raise DataError(f"{missing}, though {_name(artifact)} is live; it has {_splits(artifact)}")
    return None, f"{missing} (it has {_splits(artifact)})"


def _is_absent(artifact: types.Artifact) -> bool:
    """True if LiveRelease says that there is nothing in it."""
    declared = artifact.has_custom_property("present")
    return declared and not artifact.get_custom_property("present")


def _why_absent(artifact: types.Artifact) -> str:
    if artifact.has_custom_property("release"):
        return f"{_name(artifact)} was pushed without training statistics"
    return "no release is live yet"


def _name(artifact: types.Artifact) -> str:
    if artifact.has_custom_property("release"):
        return str(artifact.get_custom_property("release")) or "the baseline"
    return "the baseline"


def _write(report: types.Artifact, decision: Decision, charts: tuple[FeatureChart, ...]) -> None:
    drawn = [json.loads(to_json(chart)) for chart in charts]
    contents = {
        DECISION_FILE: to_json(decision, indent=2),
        CHARTS_FILE: json.dumps(drawn, sort_keys=True, ensure_ascii=False, allow_nan=False),
    }
    for name, content in contents.items():
        io_utils.write_string_file(f"{report.uri}/{name}", content + "\n")
    report.set_string_custom_property("outcome", decision.outcome.value)
    report.set_string_custom_property("reason", decision.reason)
