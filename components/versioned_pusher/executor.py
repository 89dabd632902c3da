"""What VersionedPusher does: asks the blessings, pushes, says what came of it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from typing import Any

from absl import logging
from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils

from tfx_encore.components.versioned_pusher import blessings, gathering
from tfx_encore.metadata.mlmd_records import MAX_PAYLOAD_BYTES, RECORDS_FILE, payload_of
from tfx_encore.metadata.release_push import PushResult
from tfx_encore.metadata.releases import ReleaseDirectory
from tfx_encore.schemas.errors import PushRefusedError
from tfx_encore.schemas.records import InvalidationRecord
from tfx_encore.schemas.release import Provenance
from tfx_encore.schemas.release_policy import ReleasePolicy
from tfx_encore.schemas.serial import from_json

RELEASES, MODEL_NAME, BLESSINGS = "releases", "model_name", "blessings"
POLICY, PROVENANCE, NONCE = "policy", "provenance", "nonce"
PUSHED_MODEL, INVALIDATION = "pushed_model", "invalidation"

Artifacts = dict[str, list[types.Artifact]]


class Executor(base_executor.BaseExecutor):
    """Executor of VersionedPusher."""

    def Do(  # noqa: N802 - TFX names it
        self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]
    ) -> None:
        """Pushes, or writes why not; a refusal is a decision and does not fail the run.

        Raises:
            ReleaseError: the release directory is damaged, busy, or cannot be written.
            ModelError: there is no SavedModel, or it is not the one that was examined.
            DataError: a piece of evidence cannot be read.
        """
        pushed_model = artifact_utils.get_single_instance(output_dict[PUSHED_MODEL])
        invalidation = artifact_utils.get_single_instance(output_dict[INVALIDATION])
        name = exec_properties[MODEL_NAME]
        try:
            releases, result = self._push(input_dict, exec_properties)
        except PushRefusedError as error:
            logging.warning("VersionedPusher: %s", error)
            _write_refusal(pushed_model, str(error))
            _write_records(invalidation, name, ())
            return
        logging.info("VersionedPusher: %s", result.reason)
        _write_push(pushed_model, releases, result)
        _write_records(invalidation, name, result.records, repeated=result.repeated)

    def _push(
        self, inputs: Artifacts, properties: dict[str, Any]
    ) -> tuple[ReleaseDirectory, PushResult]:
        policy = from_json(ReleasePolicy, properties[POLICY], source="release policy")
        told = from_json(Provenance, properties[PROVENANCE], source="provenance")
        check_blessings(json.loads(properties[BLESSINGS]), inputs)
        releases = ReleaseDirectory(
            properties[RELEASES],
            properties[MODEL_NAME],
            lock_timeout_seconds=policy.lock_timeout_seconds,
        )
        run_id = self._context.pipeline_run_id if self._context else None
        with tempfile.TemporaryDirectory() as folder:
            fetch = gathering.Fetcher(folder)
            provenance = gathering.with_run(told, run_id)
            return releases, releases.push(gathering.gather(inputs, policy, provenance, fetch))


def check_blessings(names: Sequence[str], inputs: Artifacts) -> None:
    """Raises PushRefusedError, with every reason, unless all blessings allow the push."""
    model = gathering.single(inputs, gathering.MODEL)
    refused = blessings.refusals(names, inputs, model.uri if model else "")
    if refused:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in refused)
        raise PushRefusedError(f"nothing was pushed, for {reasons}", refused)


def _write_refusal(pushed_model: types.Artifact, reason: str) -> None:
    pushed_model.set_int_custom_property("pushed", 0)
    pushed_model.set_string_custom_property("reason", reason)


def _write_push(
    pushed_model: types.Artifact, releases: ReleaseDirectory, result: PushResult
) -> None:
    """TFX's own three properties, ours beside them, and, as TFX does, the model itself."""
    version = releases.version_path(result.version)
    pushed_model.set_int_custom_property("pushed", int(result.pushed))
    pushed_model.set_string_custom_property("pushed_destination", str(version))
    pushed_model.set_string_custom_property("pushed_version", str(result.version))
    pushed_model.set_int_custom_property("version", result.version)
    pushed_model.set_string_custom_property("fingerprint", result.fingerprint)
    pushed_model.set_string_custom_property("reason", result.reason)
    io_utils.copy_dir(str(version), pushed_model.uri)


def _write_records(
    invalidation: types.Artifact,
    model: str,
    records: Sequence[InvalidationRecord],
    *,
    repeated: bool = False,
) -> None:
    payload = payload_of(records)
    io_utils.write_string_file(f"{invalidation.uri}/{RECORDS_FILE}", payload)
    invalidation.set_string_custom_property("model", model)
    invalidation.set_int_custom_property("records", len(records))
    if not records:
        return
    invalidation.set_int_custom_property("first_sequence", records[0].sequence)
    invalidation.set_int_custom_property("last_sequence", records[-1].sequence)
    invalidation.set_string_custom_property("cause", records[0].cause.value)
    invalidation.set_int_custom_property("repeated", int(repeated))
    if len(payload) <= MAX_PAYLOAD_BYTES:
        invalidation.set_string_custom_property("payload", payload)
