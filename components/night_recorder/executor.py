"""What NightRecorder does: reads what the night's components wrote, judges, commits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Optional

from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.utils import io_utils

from tfx_encore.components.night_recorder.looking_back import digest_of_values
from tfx_encore.components.night_recorder.night_files import read_night_files
from tfx_encore.components.night_recorder.recording import COVERAGE, INPUTS, Recorder
from tfx_encore.components.night_recorder.release_evidence import served_release
from tfx_encore.metadata import night_store as names
from tfx_encore.metadata.mlmd_night_ledger import properties_of
from tfx_encore.monitoring.night_judge import Policies
from tfx_encore.schemas.errors import DataError
from tfx_encore.schemas.evaluation_policy import EvaluationPolicy
from tfx_encore.schemas.nightly_policy import NightlyPolicy
from tfx_encore.schemas.nights import SPLIT, LogReport, NightRecord
from tfx_encore.schemas.serial import from_json, to_json

LOG_REPORT, STATISTICS, NIGHT_STATISTICS = "log_report", "statistics", "night_statistics"
SKEW_REPORT, DRIFT_REPORT, TREND_REPORT = "skew_report", "drift_report", "trend_report"
COVERAGE_REPORT, NIGHT = "coverage_report", "night"
RELEASES, MODEL_NAME, DATE, RUN_ID = "releases", "model_name", "date", "run_id"
NIGHTLY, EVALUATION, POLICY_DIGEST = "nightly_policy", "evaluation_policy", "policy_digest"
FEATURES, INPUTS_DIGEST, INPUT_FILES = "features", "inputs_digest", "input_files"
DECISION = "decision"

_DECISION_FILE, _CHARTS_FILE = "decision.json", "charts.json"

Artifacts = dict[str, list[types.Artifact]]


class Executor(base_executor.BaseExecutor):
    """Executor of NightRecorder."""

    def Do(  # noqa: N802 - TFX names it
        self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]
    ) -> None:
        """Commits the night to the NightStore and writes `night.json` into the decision.

        Raises:
            DataError: the log report is missing.
            ReleaseCorruptError: the release directory or the night before was edited.
        """
        files = dict(_files(input_dict))
        files[INPUTS] = _inputs(input_dict, exec_properties[INPUT_FILES])
        recorder = _recorder(exec_properties)
        digest = evaluation_digest(recorder, files[names.LOG], exec_properties[INPUTS_DIGEST])
        record, _ = recorder.evaluated(exec_properties[DATE], files, digest)
        _write(artifact_utils.get_single_instance(output_dict[DECISION]), record)


def evaluation_digest(recorder: Recorder, log: bytes, inputs_digest: str) -> str:
    """Digest of everything that the evaluation was made from: the inputs, and the release."""
    report = from_json(LogReport, log, source=names.LOG)
    release = served_release(recorder.releases, report)
    return digest_of_values(inputs_digest, release.manifest_digest)


def _recorder(properties: dict[str, Any]) -> Recorder:
    policies = Policies(
        from_json(NightlyPolicy, properties[NIGHTLY], source="nightly policy"),
        from_json(EvaluationPolicy, properties[EVALUATION], source="evaluation policy"),
        tuple(json.loads(properties[FEATURES])),
        properties[POLICY_DIGEST],
    )
    return Recorder(properties[RELEASES], properties[MODEL_NAME], policies, properties[RUN_ID])


def _files(inputs: Artifacts) -> Iterator[tuple[str, bytes]]:
    """Name in the night's folder -> content, for all that the components wrote."""
    wanted = (
        (LOG_REPORT, names.LOG, names.LOG),
        (NIGHT_STATISTICS, names.SLICES, names.SLICES),
        (NIGHT_STATISTICS, names.PAIRS, names.PAIRS),
        (STATISTICS, f"Split-{SPLIT}/FeatureStats.pb", names.STATISTICS),
        (SKEW_REPORT, _DECISION_FILE, names.SKEW),
        (SKEW_REPORT, _CHARTS_FILE, names.SKEW_CHARTS),
        (COVERAGE_REPORT, COVERAGE, COVERAGE),
    )
    for key, file, name in wanted:
        content = _content(inputs.get(key) or [], file)
        if content is not None:
            yield name, content
        elif key == LOG_REPORT:
            raise DataError(f"no {file} in the log report; run RequestLogExampleGen again")


def _inputs(inputs: Artifacts, given: str) -> bytes:
    nights = inputs.get(NIGHT) or []
    if not nights:
        return given.encode()
    return to_json(read_night_files(artifact_utils.get_single_uri(nights))).encode()


def _content(artifacts: list[types.Artifact], file: str) -> Optional[bytes]:
    if not artifacts:
        return None
    path = f"{artifact_utils.get_single_instance(artifacts).uri}/{file}"
    if not fileio.exists(path):
        return None
    with fileio.open(path, "rb") as stream:
        content: bytes = stream.read()
    return content


def _write(artifact: types.Artifact, record: NightRecord) -> None:
    io_utils.write_string_file(f"{artifact.uri}/{names.RECORD}", to_json(record, indent=2) + "\n")
    for name, value in properties_of(record).items():
        if isinstance(value, int):
            artifact.set_int_custom_property(name, value)
        else:
            artifact.set_string_custom_property(name, value)
