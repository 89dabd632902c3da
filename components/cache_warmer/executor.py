"""Executor of CacheWarmer: artifacts in, artifacts out; the work is in `warm`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_beam_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils, path_utils

from tfx_encore.components.cache_warmer.inference import load_model
from tfx_encore.components.cache_warmer.reading import SourceFile, list_files
from tfx_encore.components.cache_warmer.warm import Warmed, warm
from tfx_encore.components.shared_files import scratch_folder
from tfx_encore.metadata.releases import ReleaseDirectory
from tfx_encore.schemas.errors import ConfigError
from tfx_encore.schemas.serial import from_json
from tfx_encore.schemas.warmup_policy import WarmupPolicy

Artifacts = dict[str, list[types.Artifact]]


class Executor(base_beam_executor.BaseBeamExecutor):
    """Computes a cache snapshot and its coverage for a candidate model."""

    def Do(  # noqa: N802 - TFX's name
        self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]
    ) -> None:
        """Runs CacheWarmer; inputs, outputs and parameters as in `component`.

        Raises:
            ConfigError, DataError, ModelError: as `warm.warm` does.
            ReleaseCorruptError: the release directory was edited.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        policy = from_json(WarmupPolicy, exec_properties["policy"], source="CacheWarmer policy")
        check_schema(input_dict.get("schema", []), policy)
        model = artifact_utils.get_single_instance(input_dict["model"])
        path = path_utils.serving_model_path(model.uri, path_utils.is_old_model_artifact(model))
        # Before anything is computed: a record that comes meanwhile withdraws the answers.
        generation = newest_record(exec_properties.get("releases"), policy.model_name)
        sources = find_sources(input_dict["examples"], exec_properties.get("request_log"), policy)
        snapshot = artifact_utils.get_single_instance(output_dict["snapshot"])
        coverage = artifact_utils.get_single_instance(output_dict["coverage"])
        try:
            with scratch_folder(self._tmp_root(), "cache-warmer") as tmp:
                warmed = warm(
                    self._make_beam_pipeline,
                    path,
                    sources,
                    policy,
                    tmp=tmp,
                    snapshot_dir=snapshot.uri,
                    coverage_dir=coverage.uri,
                    generation=generation,
                )
        finally:
            load_model.cache_clear()
        describe_outputs(warmed, snapshot, coverage)

    def _tmp_root(self) -> str | None:
        return self._get_tmp_dir() if self._context else None


def find_sources(
    examples: Sequence[types.Artifact], request_log: str | None, policy: WarmupPolicy
) -> list[SourceFile]:
    """Lists the files to count: the request log if there is one, else the examples.

    Raises:
        DataError: a pattern that matches nothing.
        ConfigError: a split that the examples do not have.
    """
    if request_log:
        return [SourceFile(path, is_log=True) for path in list_files(request_log)]
    sources = []
    for artifact in examples:
        known = artifact_utils.decode_split_names(artifact.split_names)
        missing = sorted({*policy.splits} - {*known})
        if missing:
            raise ConfigError(
                f"the examples have no split {missing}; they have {known}", key="warmup.splits"
            )
        for split in policy.splits:
            pattern = f"{artifact_utils.get_split_uri([artifact], split)}/*"
            held_out = split == policy.held_out_split
            sources += [SourceFile(p, False, held_out) for p in list_files(pattern)]
    return sources


def newest_record(releases: str | None, model: str) -> int:
    """Returns the sequence of the model's newest invalidation record in the release directory.

    0 before the first, and where there is no release directory to ask.

    Raises:
        ReleaseCorruptError: the release directory was edited.
    """
    return ReleaseDirectory(releases, model).state().sequence if releases else 0


def check_schema(schemas: Sequence[types.Artifact], policy: WarmupPolicy) -> None:
    """Checks the features that the policy names against the schema, if there is one.

    Raises:
        ConfigError: a name that the schema does not have.
    """
    if not schemas:
        return
    uri = io_utils.get_only_uri_in_dir(artifact_utils.get_single_uri(list(schemas)))
    known = {feature.name for feature in io_utils.SchemaReader().read(uri).feature}
    named = {*policy.exclude_features, *filter(None, [policy.timestamp_feature])}
    if named - known:
        raise ConfigError(
            f"no feature {sorted(named - known)} in the schema; it has {sorted(known)}",
            key="warmup",
        )


def describe_outputs(warmed: Warmed, snapshot: types.Artifact, coverage: types.Artifact) -> None:
    """Copies the main figures into the artifacts' custom properties."""
    snapshot.set_string_custom_property("fingerprint", warmed.snapshot.fingerprint)
    snapshot.set_int_custom_property("entries", warmed.snapshot.entries)
    snapshot.set_int_custom_property("bytes", warmed.snapshot.bytes)
    coverage.set_float_custom_property("hit_rate", warmed.coverage.hit_rate)
    coverage.set_string_custom_property("window", warmed.coverage.window)
