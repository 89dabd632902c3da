"""Reads what is known of the release that served a night."""

from __future__ import annotations

from dataclasses import dataclass

from tfx_encore.metadata import release_layout as layout
from tfx_encore.metadata.files import digest_of
from tfx_encore.metadata.releases import ReleaseDirectory
from tfx_encore.monitoring.slice_report import SliceTable
from tfx_encore.schemas.nights import LogReport
from tfx_encore.schemas.release import Manifest
from tfx_encore.schemas.serial import from_json

_SLICES_FILE = "slices.json"


@dataclass(frozen=True)
class ServedRelease:
    """The release that answered most of a night's rows.

    Attributes:
        version: its version; None if the log names none.
        fingerprint: of that version; None if neither the log nor the releases know it.
        name: as evidence calls it, `release 3`; None if it is none of these releases.
        manifest_digest: digest of its manifest; "" if it is none of these releases.
        table: its own evaluation by slice, if it has one.
        roll_back_to: the version that was live before, if that is still on disk.
    """

    version: int | None = None
    fingerprint: str | None = None
    name: str | None = None
    manifest_digest: str = ""
    table: SliceTable | None = None
    roll_back_to: int | None = None


def served_release(releases: ReleaseDirectory, log: LogReport) -> ServedRelease:
    """The release that served, by the fingerprint in the log.

    TensorFlow Serving's own log has the version only: its fingerprint is then the manifest's.

    Raises:
        ReleaseCorruptError: the release directory was edited.
    """
    version = log.main_version
    if version is None:
        return ServedRelease()
    logged = log.fingerprints.get(str(version))
    manifest = _manifest(releases, version, logged)
    if manifest is None:
        return ServedRelease(version, logged)
    return ServedRelease(
        version=version,
        fingerprint=manifest.fingerprint,
        name=f"release {manifest.version}",
        manifest_digest=manifest_digest(releases, manifest.version),
        table=_table(releases, manifest.version),
        roll_back_to=_older(releases, manifest),
    )


def fingerprints_by_version(releases: ReleaseDirectory, log: LogReport) -> dict[int, str]:
    """The fingerprint of every version in the log, as far as the log or the releases know it."""
    known = {int(version): name for version, name in log.fingerprints.items() if name}
    history = set(releases.history())
    for version in map(int, log.rows_by_version):
        if version not in known and version in history:
            known[version] = releases.manifest(version).fingerprint
    return known


def manifest_digest(releases: ReleaseDirectory, version: int) -> str:
    """Digest of a version's manifest."""
    return digest_of(releases.evidence_path(version) / layout.MANIFEST)


def _manifest(releases: ReleaseDirectory, version: int, logged: str | None) -> Manifest | None:
    """The manifest of that version; of another with that fingerprint, where numbers differ."""
    history = releases.history()
    if version in history:
        manifest = releases.manifest(version)
        if not logged or manifest.fingerprint == logged:
            return manifest
    others = (releases.manifest(number) for number in reversed(history))
    return next((found for found in others if logged and found.fingerprint == logged), None)


def _table(releases: ReleaseDirectory, version: int) -> SliceTable | None:
    file = releases.evidence_path(version) / layout.SLICE_REPORT / _SLICES_FILE
    if not file.is_file():
        return None
    return from_json(SliceTable, file.read_bytes(), source=str(file))


def _older(releases: ReleaseDirectory, manifest: Manifest) -> int | None:
    before = manifest.baseline_version
    return before if before is not None and before in releases.versions() else None
