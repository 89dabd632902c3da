"""What SnapshotCoverage does: finds the newest snapshot, counts what of the night it covers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Optional

from tfx import types
from tfx.dsl.components.base import base_beam_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils

from tfx_encore.components.night_recorder.night_files import read_night_files
from tfx_encore.components.request_log_example_gen.executor import read_log_report
from tfx_encore.components.rewarming.measuring import measure_coverage
from tfx_encore.metadata.night_snapshots import snapshots_of
from tfx_encore.metadata.releases import ReleaseDirectory
from tfx_encore.schemas.serial import to_json

RELEASES, MODEL_NAME, LABEL = "releases", "model_name", "label"
DATE = "date"
LOG_FILES, LOG_REPORT, NIGHT, NONCE = "log_files", "log_report", "night", "nonce"
COVERAGE = "coverage"
COVERAGE_FILE = "coverage.json"

Artifacts = dict[str, list[types.Artifact]]


class Executor(base_beam_executor.BaseBeamExecutor):
    """Executor of SnapshotCoverage."""

    def Do(  # noqa: N802 - TFX names it
        self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]
    ) -> None:
        """Writes `coverage.json`, if there is a snapshot and a row.

        Raises:
            SnapshotError: the newest snapshot is damaged.
            ReleaseCorruptError: the release directory was edited.
        """
        report = artifact_utils.get_single_instance(output_dict[COVERAGE])
        releases = ReleaseDirectory(exec_properties[RELEASES], exec_properties[MODEL_NAME])
        version = _served(input_dict.get(LOG_REPORT) or [])
        version = version or releases.live(exec_properties[LABEL])
        snapshot = _newest(releases, version, exec_properties.get(DATE))
        found = None
        if snapshot is not None:
            files = _log_files(input_dict.get(NIGHT) or [], exec_properties[LOG_FILES])
            tmp = self._get_tmp_dir() if self._context else None
            found = measure_coverage(self._make_beam_pipeline, snapshot, files, tmp)
        report.set_int_custom_property("present", int(found is not None))
        if found is not None:
            io_utils.write_string_file(f"{report.uri}/{COVERAGE_FILE}", to_json(found, indent=2))
            report.set_float_custom_property("hit_rate", found.covered)
            report.set_string_custom_property("window", "the night")


def _log_files(nights: list[types.Artifact], given: str) -> list[str]:
    if not nights:
        return [str(path) for path in json.loads(given)]
    return [file.path for file in read_night_files(artifact_utils.get_single_uri(nights)).log]


def _served(log_reports: list[types.Artifact]) -> Optional[int]:
    if not log_reports:
        return None
    return read_log_report(artifact_utils.get_single_uri(log_reports)).main_version


def _newest(
    releases: ReleaseDirectory, version: Optional[int], before: Optional[str]
) -> Optional[Path]:
    """The newest snapshot of a version; None if it has none, or was never pushed here."""
    if version is None or version not in releases.history():
        return None
    fingerprint = releases.manifest(version).fingerprint
    root = releases.path.parent
    found = snapshots_of(root, releases.model, version, fingerprint, before=before)
    return found[0] if found else None
