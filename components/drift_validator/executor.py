"""What DriftValidator does: reads two statistics, has them judged, writes the report."""

from __future__ import annotations

import json
from typing import Any, Optional

from google.protobuf.message import DecodeError
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2
from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.utils import io_utils

from tfx_encore.monitoring import drift, drift_charts, tfdv_reader
from tfx_encore.monitoring.drift_statistics import DatasetStatistics
from tfx_encore.schemas.charts import FeatureChart
from tfx_encore.schemas.decisions import Decision
from tfx_encore.schemas.drift_policy import DriftPolicy
from tfx_encore.schemas.errors import DataError
from tfx_encore.schemas.serial import from_json, to_json

STATISTICS, SCHEMA, BASELINE = "statistics", "schema", "baseline_statistics"
POLICY, BASELINE_NAME = "policy", "baseline_name"
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
        """
        policy = from_json(DriftPolicy, exec_properties[POLICY], source="drift policy")
        current = _current(input_dict[STATISTICS], policy.split)
        features = _schema_features(input_dict[SCHEMA])
        drift.check_policy(policy, features)
        baseline, why = _baseline(input_dict.get(BASELINE) or [], policy.split)
        if baseline is None:
            decision = drift.without_baseline(policy, why)
        else:
            name = exec_properties.get(BASELINE_NAME) or _name(input_dict[BASELINE][0])
            decision = drift.decide(current, baseline, policy, features, name)
        charts = drift_charts.charts(current, baseline, features)
        _write(artifact_utils.get_single_instance(output_dict[REPORT]), decision, charts)


def _schema_features(artifacts: list[types.Artifact]) -> tuple[str, ...]:
    path = io_utils.get_only_uri_in_dir(artifact_utils.get_single_uri(artifacts))
    return tfdv_reader.schema_features(io_utils.parse_pbtxt_file(path, schema_pb2.Schema()))


def _statistics_file(uri: str, split: str) -> Optional[str]:
    """The split's statistics, in the layout of this TFX or of one before 1.0."""
    paths = [f"{uri}/{folder}/{STATISTICS_FILE}" for folder in (f"Split-{split}", split)]
    return next((path for path in paths if fileio.exists(path)), None)


def _read(path: str) -> DatasetStatistics:
    with fileio.open(path, "rb") as file:
        content = file.read()
    try:
        statistics = statistics_pb2.DatasetFeatureStatisticsList.FromString(content)
    except DecodeError as error:
        raise DataError(f"{path}: not TFDV statistics ({error}); compute them again") from error
    return tfdv_reader.read_statistics(statistics, source=path)


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


def _baseline(
    artifacts: list[types.Artifact], split: str
) -> tuple[Optional[DatasetStatistics], str]:
    """The baseline's statistics, or None and why there are none.

    Raises:
        DataError: the artifact says that it is present, but its file is missing or unreadable.
    """
    if not artifacts:
        return None, "no baseline statistics were given"
    artifact = artifact_utils.get_single_instance(artifacts)
    declared = artifact.has_custom_property("present")
    if declared and not artifact.get_custom_property("present"):
        return None, _why_absent(artifact)
    path = _statistics_file(artifact.uri, split)
    if path is not None:
        return _read(path), ""
    missing = f"{artifact.uri} holds no statistics of split {split!r}"
    if declared:
        raise DataError(f"{missing}, though {_name(artifact)} is live; it has {_splits(artifact)}")
    return None, f"{missing} (it has {_splits(artifact)})"


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
