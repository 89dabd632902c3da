"""A push: what is asked for, what came of it, and the staged copy between."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Union

from tfx_encore.metadata.files import READ_ONLY, Disk, digests_below
from tfx_encore.metadata.fingerprint import fingerprint_saved_model
from tfx_encore.metadata.release_layout import MANIFEST, WARMUP, Layout
from tfx_encore.schemas.decisions import Decision
from tfx_encore.schemas.errors import ConfigError, ModelError, PushRefusedError
from tfx_encore.schemas.records import InvalidationRecord
from tfx_encore.schemas.release import Certificate, Manifest, Provenance
from tfx_encore.schemas.serial import to_json

PathLike = Union[str, "os.PathLike[str]"]


@dataclass(frozen=True)
class PushRequest:
    """What to push, and what to say of it.

    Attributes:
        saved_model: a local SavedModel directory.
        evidence: name in `<version>.evidence/` -> local file or directory to copy there.
        warmup: TF Serving's warm-up requests; they become
            `assets.extra/tf_serving_warmup_requests`. None leaves the SavedModel's own.
        fingerprint: what the caller takes the SavedModel's fingerprint to be; None if it has not
            computed it.
        decisions: what each gate decided.
        certificate: what may be cached.
        provenance: what the pipeline knew of the run.
        schema_digest: `sha256:` digest of the schema file.
        lineage: name of an input -> id of its artifact in ML Metadata.
        versions_of: name of a tool -> its version.
        label: the label that is to point at the new version.
        keep: how many of the newest versions stay, at least 1.
        created_by: what to call the author of the invalidation record.
        judged_against: version that was live when the model was judged, 0 for none; a push is
            refused if another is live by then. None if the caller does not know.
    """

    saved_model: PathLike
    evidence: Mapping[str, PathLike] = field(default_factory=dict)
    warmup: PathLike | None = None
    fingerprint: str | None = None
    decisions: tuple[Decision, ...] = ()
    certificate: Certificate | None = None
    provenance: Provenance = field(default_factory=Provenance)
    schema_digest: str | None = None
    lineage: Mapping[str, int] = field(default_factory=dict)
    versions_of: Mapping[str, str] = field(default_factory=dict)
    label: str = "stable"
    keep: int = 5
    created_by: str = "VersionedPusher"
    judged_against: int | None = None


@dataclass(frozen=True)
class PushResult:
    """What came of a push.

    Attributes:
        version: the new version, or the one whose content is equal.
        pushed: True if there is a new version.
        reason: one line for a person.
        fingerprint: the content's fingerprint.
        records: the invalidation records of the push that made `version`, in order of sequence.
        repeated: True if `records` are those of an earlier attempt at this push, given again
            because its execution may never have reached ML Metadata.
    """

    version: int
    pushed: bool
    reason: str
    fingerprint: str
    records: tuple[InvalidationRecord, ...] = ()
    repeated: bool = False


def check_judged(request: PushRequest, live: int | None) -> None:
    """Refuses a model that was compared with a version that is no longer live.

    Raises:
        PushRefusedError: names both versions.
    """
    judged = request.judged_against
    if judged is None or judged == (live or 0):
        return
    then = f"version {judged}" if judged else "nothing"
    reason = (
        f"it was judged while {then} was live under {request.label!r}, and now "
        f"{f'version {live}' if live else 'nothing'} is; run the pipeline again"
    )
    raise PushRefusedError(f"nothing was pushed, for live: {reason}", (("live", reason),))


def check_request(request: PushRequest) -> str:
    """Returns the fingerprint of what is to be pushed.

    Raises:
        ConfigError: a name of evidence, or `keep`, cannot be.
        ModelError: the SavedModel cannot be read, or is not the one the caller means.
    """
    for name in request.evidence:
        if name == MANIFEST or name.startswith(".") or "/" in name or not name:
            raise ConfigError(f"{name!r} cannot name evidence; use a plain file name")
    if request.keep < 1:
        raise ConfigError(f"keep is {request.keep}; at least 1 version must stay")
    found = fingerprint_saved_model(request.saved_model)
    if request.fingerprint not in (None, found):
        raise ModelError(
            f"{request.saved_model}: its fingerprint is {found}, not {request.fingerprint} as the "
            "caller says; it was changed since it was examined, so run the pipeline again"
        )
    return found


def stage(disk: Disk, layout: Layout, request: PushRequest, manifest: Manifest) -> None:
    """Copies a version and its evidence to the staging name; nobody reads there.

    Raises:
        ModelError: the SavedModel changed while it was copied.
    """
    model, evidence = layout.staging / "model", layout.staging / "evidence"
    disk.make_dir(evidence)
    disk.copy_tree(Path(request.saved_model), model)
    if fingerprint_saved_model(model) != manifest.fingerprint:
        raise ModelError(
            f"{request.saved_model} changed while it was copied; push it when it is complete"
        )
    if request.warmup is not None:
        disk.make_dir(model / WARMUP.parent)
        disk.copy_file(Path(request.warmup), model / WARMUP)
        disk.sync_dir(model / WARMUP.parent)
    for name, source in sorted(request.evidence.items()):
        disk.copy_tree(Path(source), evidence / name)
    complete = replace(manifest, evidence=digests_below(evidence))
    disk.write(evidence / MANIFEST, f"{to_json(complete, indent=2)}\n".encode(), mode=READ_ONLY)
    disk.sync_dir(evidence)


def install(disk: Disk, layout: Layout, version: int) -> None:
    """Gives the staged copy its names; it is not live before the state that counts it."""
    # Evidence first: a version directory without a manifest is then never one of ours.
    disk.rename(layout.staging / "evidence", layout.evidence(version))
    disk.rename(layout.staging / "model", layout.version(version))


def describe(
    request: PushRequest,
    *,
    model: str,
    version: int,
    fingerprint: str,
    baseline_version: int | None,
    created_at: str,
) -> Manifest:
    """The manifest of a version, but for the digests of evidence that is yet to be copied."""
    told = request.provenance
    return Manifest(
        model=model,
        version=version,
        fingerprint=fingerprint,
        created_at=created_at,
        created_by=told.created_by or whoami(),
        baseline_version=baseline_version,
        run_id=told.run_id,
        inputs_digest=told.inputs_digest,
        spans=told.spans,
        schema_digest=request.schema_digest,
        hyperparameters=told.hyperparameters,
        decisions=request.decisions,
        certificate=request.certificate,
        lineage=dict(request.lineage),
        versions_of=dict(request.versions_of),
    )


def same_attempt(manifest: Manifest, provenance: Provenance) -> bool:
    """True if a version was pushed by this run, or from the very same inputs."""
    return (manifest.run_id is not None and manifest.run_id == provenance.run_id) or (
        manifest.inputs_digest is not None and manifest.inputs_digest == provenance.inputs_digest
    )


def whoami() -> str:
    """User and host, as `ada@laptop`; a user without a name gives a number."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
