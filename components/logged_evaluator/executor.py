"""What LoggedEvaluator does: finds model, cuts and files, has rows counted, labels the output."""

from __future__ import annotations

import json
from typing import Any, Optional

from tfx import types
from tfx.dsl.components.base import base_beam_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.utils import io_utils, path_utils

from tfx_encore.components.logged_evaluator.count_pipeline import SLICES_FILE, Plan, count
from tfx_encore.components.shared_files import scratch_folder
from tfx_encore.metadata.fingerprint import fingerprint_saved_model
from tfx_encore.monitoring.night_slices import NightSlices
from tfx_encore.monitoring.slice_discovery import Cuts, cuts_from_statistics
from tfx_encore.monitoring.tfdv_reader import read_statistics
from tfx_encore.schemas.evaluation_policy import EvaluationPolicy
from tfx_encore.schemas.nightly_policy import NightlyPolicy
from tfx_encore.schemas.nights import OURS, SPLIT, LogReport
from tfx_encore.schemas.serial import from_json

EXAMPLES, MODEL, LOG_REPORT = "examples", "model", "log_report"
TRAINING_STATISTICS = "training_statistics"
POLICY, NIGHTLY, MODEL_NAME, DATE = "policy", "nightly", "model_name", "date"
EXTRA_SLICES, TRAINING_SPLIT = "extra_slices", "training_split"
STATISTICS = "statistics"
LOG_FILE = "log.json"
PAYLOAD_BYTES = 256 * 1024

Artifacts = dict[str, list[types.Artifact]]


class Executor(base_beam_executor.BaseBeamExecutor):
    """Executor of LoggedEvaluator; see the component for inputs and outputs."""

    def Do(  # noqa: N802 - TFX's name
        self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]
    ) -> None:
        """Writes `slices.json` and `pairs.json`.

        Raises:
            DataError: a file of the examples cannot be read.
            ModelError: the model cannot answer the sample.
        """
        plan = _plan(input_dict, exec_properties)
        output = artifact_utils.get_single_instance(output_dict[STATISTICS])
        files = _files(input_dict[EXAMPLES])
        tmp_root = self._get_tmp_dir() if self._context else None
        with scratch_folder(tmp_root, "logged-evaluator") as tmp:
            count(self._make_beam_pipeline, plan, files, output.uri, tmp)
        _describe(output, exec_properties[MODEL_NAME], exec_properties[DATE])


def _plan(inputs: Artifacts, properties: dict[str, Any]) -> Plan:
    policy = from_json(EvaluationPolicy, properties[POLICY], source="evaluation policy")
    nightly = from_json(NightlyPolicy, properties[NIGHTLY], source="nightly policy")
    report = _log_report(inputs.get(LOG_REPORT))
    fingerprints = {int(version): name for version, name in report.fingerprints.items()}
    path, fingerprint = find_model(inputs.get(MODEL), fingerprints)
    if fingerprint is None and report.main_version is not None:
        fingerprint = fingerprints.get(report.main_version)
    ignored = (policy.label_key, *OURS, *nightly.discovery.ignore_features)
    return Plan(
        policy=policy,
        extra_slices=tuple(json.loads(properties[EXTRA_SLICES])),
        cuts=_cuts(inputs, properties, ignored) if nightly.discovery.enabled else {},
        fingerprints=fingerprints,
        fingerprint=fingerprint,
        model=path,
        recompute_rows=nightly.log.recompute_rows,
    )


def find_model(
    artifacts: Optional[list[types.Artifact]], fingerprints: dict[int, str]
) -> tuple[Optional[str], Optional[str]]:
    """Path and fingerprint of the model, if there is one; its version is added to the known."""
    if not artifacts or artifacts[0].get_custom_property("present") == 0:
        return None, None
    artifact = artifacts[0]
    old = path_utils.is_old_model_artifact(artifact)
    path = path_utils.serving_model_path(artifact.uri, old)
    fingerprint = artifact.get_string_custom_property("fingerprint")
    fingerprint = fingerprint or fingerprint_saved_model(path)
    version = int(artifact.get_custom_property("version") or 0)
    if version:
        fingerprints.setdefault(version, fingerprint)
    return path, fingerprint


def _log_report(artifacts: Optional[list[types.Artifact]]) -> LogReport:
    if not artifacts:
        return LogReport()
    path = f"{artifacts[0].uri}/{LOG_FILE}"
    with fileio.open(path, "rb") as file:
        return from_json(LogReport, file.read(), source=path)


def _cuts(inputs: Artifacts, properties: dict[str, Any], ignored: tuple[str, ...]) -> Cuts:
    """Cuts by the release's training data; without them no pairs are counted."""
    artifacts = inputs.get(TRAINING_STATISTICS)
    if not artifacts or artifacts[0].get_custom_property("present") == 0:
        return {}
    path = f"{artifacts[0].uri}/Split-{properties[TRAINING_SPLIT]}/FeatureStats.pb"
    if not fileio.exists(path):
        return {}
    with fileio.open(path, "rb") as file:
        return cuts_from_statistics(_statistics(file.read(), path), ignored)


def _statistics(content: bytes, path: str) -> Any:
    from tensorflow_metadata.proto.v0 import statistics_pb2

    found = statistics_pb2.DatasetFeatureStatisticsList.FromString(content)
    return read_statistics(found, source=path)


def _files(examples: list[types.Artifact]) -> list[str]:
    return [
        file
        for uri in artifact_utils.get_split_uris(examples, SPLIT)
        for file in sorted(fileio.glob(io_utils.all_files_pattern(uri)))
    ]


def _describe(output: types.Artifact, model: str, date: str) -> None:
    path = f"{output.uri}/{SLICES_FILE}"
    with fileio.open(path, "rb") as file:
        text = file.read()
    night = from_json(NightSlices, text, source=path)
    rows = sum(item.counts(night.threshold).n for item in night.slices if not item.features)
    output.set_string_custom_property("model", model)
    output.set_string_custom_property("date", date)
    output.set_int_custom_property("rows", rows)
    if len(text) <= PAYLOAD_BYTES:
        output.set_string_custom_property("payload", text.decode())
