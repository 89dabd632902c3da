"""Gathers what a push needs from the input artifacts."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Optional

from tfx import types
from tfx.dsl.io import fileio
from tfx.utils import io_utils, path_utils

from tfx_encore import __version__
from tfx_encore.components.versioned_pusher.blessings import BLESSING_PREFIX, read_decision
from tfx_encore.metadata import release_layout as layout
from tfx_encore.metadata.files import digest_of
from tfx_encore.metadata.release_push import PushRequest
from tfx_encore.schemas.decisions import Decision
from tfx_encore.schemas.errors import DataError, ModelError
from tfx_encore.schemas.release import Certificate, Provenance
from tfx_encore.schemas.release_policy import ReleasePolicy
from tfx_encore.schemas.serial import from_json

MODEL, SCHEMA, LIVE_MODEL = "model", "schema", "live_model"
# Input key -> the name of its folder in the evidence.
FOLDERS = {
    "statistics": layout.STATISTICS,
    "drift_report": layout.DRIFT_REPORT,
    "slice_report": layout.SLICE_REPORT,
    "snapshot": layout.SNAPSHOT,
    "coverage": layout.COVERAGE,
    "evaluation": layout.EVALUATION,
}
CERTIFICATE_FILE = "certificate.json"
# TensorFlow comes as one of two distributions.
_TOOLS = ("tfx", "tensorflow", "tensorflow-cpu", "apache-beam", "keras")

Inputs = Mapping[str, Sequence[types.Artifact]]


class Fetcher:
    """Gives a local path for a uri, and copies here what is elsewhere.

    Args:
        folder: a local temporary directory for the copies.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._copies = 0

    def local(self, uri: str) -> Path:
        """Returns a local directory with what the uri holds.

        Raises:
            DataError: there is nothing.
        """
        if not fileio.exists(uri):
            raise DataError(f"{uri} does not exist; run the component that makes it again")
        if "://" not in uri:
            return Path(uri)
        self._copies += 1
        copy = f"{self._folder}/{self._copies}"
        io_utils.copy_dir(uri, copy)
        return Path(copy)


def gather(
    inputs: Inputs, policy: ReleasePolicy, provenance: Provenance, fetch: Fetcher
) -> PushRequest:
    """Returns the push that the inputs ask for.

    Raises:
        DataError: an input that was given cannot be read.
        ModelError: the model artifact holds no SavedModel.
    """
    folders = {
        name: fetch.local(artifact.uri)
        for key, name in FOLDERS.items()
        if (artifact := single(inputs, key)) is not None
    }
    schema = _schema_file(inputs, fetch)
    snapshot = folders.get(layout.SNAPSHOT)
    return PushRequest(
        saved_model=_saved_model(inputs, fetch),
        evidence={**folders, layout.SCHEMA: schema} if schema else folders,
        warmup=_warmup(snapshot),
        fingerprint=_fingerprint_warmed(inputs),
        decisions=_decisions(inputs),
        certificate=_certificate(snapshot),
        provenance=provenance,
        schema_digest=digest_of(schema) if schema else None,
        lineage={key: found.id for key in inputs if (found := single(inputs, key)) and found.id},
        versions_of=tool_versions(),
        label=policy.label,
        keep=policy.keep_versions,
        judged_against=_judged_against(inputs),
    )


def single(inputs: Inputs, key: str) -> Optional[types.Artifact]:
    """The artifact of an input, the first if there are several, or None."""
    found = inputs.get(key) or ()
    return found[0] if found else None


def with_run(provenance: Provenance, run_id: Optional[str]) -> Provenance:
    """Fills in the orchestrator's run id where the pipeline gave none."""
    return replace(provenance, run_id=provenance.run_id or run_id or None)


def tool_versions() -> dict[str, str]:
    """What the release was made with."""
    found = [(tool.removesuffix("-cpu"), _version_of(tool)) for tool in _TOOLS]
    ours = {"tfx_encore": __version__, "python": platform.python_version()}
    return ours | {tool: number for tool, number in found if number}


def _version_of(tool: str) -> Optional[str]:
    """The version of an installed distribution; None if it is not installed."""
    try:
        return version(tool)
    except PackageNotFoundError:
        return None


def _saved_model(inputs: Inputs, fetch: Fetcher) -> Path:
    artifact = single(inputs, MODEL)
    if artifact is None:
        raise ModelError("no model came from the component that trains it; run it again")
    # An imported artifact may be a bare SavedModel; TFX's own have it one level down.
    if fileio.exists(f"{artifact.uri}/saved_model.pb"):
        return fetch.local(artifact.uri)
    return fetch.local(
        path_utils.serving_model_path(artifact.uri, path_utils.is_old_model_artifact(artifact))
    )


def _schema_file(inputs: Inputs, fetch: Fetcher) -> Optional[Path]:
    artifact = single(inputs, SCHEMA)
    if artifact is None:
        return None
    files = [path for path in sorted(fetch.local(artifact.uri).iterdir()) if path.is_file()]
    if len(files) != 1:
        raise DataError(f"{artifact.uri} holds {len(files)} files; a schema artifact holds one")
    return files[0]


def _warmup(snapshot: Optional[Path]) -> Optional[Path]:
    """The warm-up file; an empty one is left out, TF Serving would only report it."""
    path = snapshot / layout.WARMUP.name if snapshot else None
    return path if path and path.is_file() and path.stat().st_size else None


def _judged_against(inputs: Inputs) -> Optional[int]:
    """The version that LiveRelease found, 0 for none; None if it is not an input."""
    live = single(inputs, LIVE_MODEL)
    # Kubeflow gives integers back as floats.
    return None if live is None else int(live.get_custom_property("version") or 0)


def _fingerprint_warmed(inputs: Inputs) -> Optional[str]:
    """What the snapshot says that its answers belong to: it must be the model pushed."""
    snapshot = single(inputs, "snapshot")
    return (snapshot.get_custom_property("fingerprint") or None) if snapshot else None


def _certificate(snapshot: Optional[Path]) -> Optional[Certificate]:
    path = snapshot / CERTIFICATE_FILE if snapshot else None
    if path is None or not path.is_file():
        return None
    return from_json(Certificate, path.read_bytes(), source=str(path))


def _decisions(inputs: Inputs) -> tuple[Decision, ...]:
    """The decisions of every report and blessing that holds one, each once."""
    keys = [
        "drift_report",
        "slice_report",
        *sorted(key for key in inputs if key.startswith(BLESSING_PREFIX)),
    ]
    uris = dict.fromkeys(found.uri for key in keys if (found := single(inputs, key)))
    decisions = (read_decision(uri) for uri in uris)
    return tuple(decision for decision in decisions if decision is not None)
