"""What LiveRelease does: copies what is live out of the release directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

from absl import logging
from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.utils import io_utils, path_utils

from tfx_encore.components.request_log_example_gen.executor import read_log_report
from tfx_encore.metadata import release_layout as layout
from tfx_encore.metadata.releases import ReleaseDirectory
from tfx_encore.schemas.release import Manifest

RELEASES, MODEL_NAME, LABEL, NONCE = "releases", "model_name", "label", "nonce"
VERSION, LOG_REPORT = "version", "log_report"
MODEL, STATISTICS, SCHEMA = "model", "statistics", "schema"
SLICE_REPORT = "slice_report"

_SPLIT_PREFIX = "Split-"

Artifacts = dict[str, list[types.Artifact]]


class Executor(base_executor.BaseExecutor):
    """Executor of LiveRelease."""

    def Do(  # noqa: N802 - TFX names it
        self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]
    ) -> None:
        """Fills the outputs from the live release, or marks them absent.

        Raises:
            ReleaseCorruptError: the release directory was edited, or the live version damaged.
        """
        releases = ReleaseDirectory(exec_properties[RELEASES], exec_properties[MODEL_NAME])
        label = exec_properties[LABEL]
        model, statistics, schema, slices = (
            artifact_utils.get_single_instance(output_dict[key])
            for key in (MODEL, STATISTICS, SCHEMA, SLICE_REPORT)
        )
        asked = exec_properties.get(VERSION) or _served(input_dict.get(LOG_REPORT) or [])
        version = asked or releases.live(label)
        if version is None or version not in releases.history():
            what = f"version {asked}" if asked else f"anything under {label!r}"
            logging.info("LiveRelease: %s does not have %s", releases.model, what)
            for artifact in (model, statistics, schema, slices):
                _mark(artifact, None, present=False)
            statistics.split_names = artifact_utils.encode_split_names([])
            return
        is_there = version in releases.versions()
        if is_there:
            releases.check(version)
        manifest, evidence = releases.manifest(version), releases.evidence_path(version)
        if is_there:
            _give_model(model, releases.version_path(version), manifest)
        else:
            _mark(model, manifest, present=False)
        _give_statistics(statistics, evidence / layout.STATISTICS, manifest)
        _give_schema(schema, evidence / layout.SCHEMA, manifest)
        _give_slices(slices, evidence / layout.SLICE_REPORT, manifest)


def _served(log_reports: list[types.Artifact]) -> Optional[int]:
    """The version that answered most rows of a night; None if the log does not say."""
    if not log_reports:
        return None
    return read_log_report(artifact_utils.get_single_uri(log_reports)).main_version


def _give_model(artifact: types.Artifact, version: Path, manifest: Manifest) -> None:
    io_utils.copy_dir(str(version), path_utils.serving_model_dir(artifact.uri))
    _mark(artifact, manifest, present=True)


def _give_statistics(artifact: types.Artifact, folder: Path, manifest: Manifest) -> None:
    """Statistics as StatisticsGen lays them out; absent if the push was given none."""
    present = folder.is_dir()
    if present:
        io_utils.copy_dir(str(folder), artifact.uri)
    splits = sorted(
        path.name.removeprefix(_SPLIT_PREFIX)
        for path in (folder.iterdir() if present else ())
        if path.name.startswith(_SPLIT_PREFIX)
    )
    artifact.split_names = artifact_utils.encode_split_names(splits)
    artifact.span = max((span.span for span in manifest.spans), default=0)
    _mark(artifact, manifest, present=present)


def _give_schema(artifact: types.Artifact, file: Path, manifest: Manifest) -> None:
    present = file.is_file()
    if present:
        fileio.makedirs(artifact.uri)
        io_utils.copy_file(str(file), f"{artifact.uri}/{layout.SCHEMA}", overwrite=True)
    _mark(artifact, manifest, present=present)


def _give_slices(artifact: types.Artifact, folder: Path, manifest: Manifest) -> None:
    present = folder.is_dir()
    if present:
        io_utils.copy_dir(str(folder), artifact.uri)
    _mark(artifact, manifest, present=present)


def _mark(artifact: types.Artifact, manifest: Optional[Manifest], *, present: bool) -> None:
    """Says whether there is content, and of which release."""
    artifact.set_int_custom_property("present", int(present))
    if manifest is not None:
        artifact.set_string_custom_property("release", f"release {manifest.version}")
        artifact.set_int_custom_property("version", manifest.version)
        artifact.set_string_custom_property("fingerprint", manifest.fingerprint)
