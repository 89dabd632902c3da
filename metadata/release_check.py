"""Reads a release directory back and says what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tfx_encore.metadata.files import digest_of
from tfx_encore.metadata.fingerprint import fingerprint_saved_model
from tfx_encore.metadata.journal import read_entry
from tfx_encore.metadata.release_layout import Layout, entry_of, evidence_of, version_of
from tfx_encore.metadata.release_state import ReleaseState, parse
from tfx_encore.schemas.errors import DataError, EncoreError, ModelError, ReleaseCorruptError
from tfx_encore.schemas.release import Manifest
from tfx_encore.schemas.serial import from_json, to_json


def load_state(layout: Layout) -> ReleaseState:
    """Reads what is live; an absent directory is an empty state.

    Raises:
        ReleaseCorruptError: `labels.json` was edited, or is gone while versions are there.
    """
    try:
        return parse(layout.labels.read_bytes(), str(layout.labels))
    except FileNotFoundError:
        _refuse_lost_labels(layout)
        return ReleaseState()
    except OSError as error:
        raise ReleaseCorruptError(
            f"{layout.labels} cannot be read ({error.strerror}); give this user access to it"
        ) from error


def read_manifest(layout: Layout, version: int) -> Manifest:
    """Reads what a version says of itself, also after retention removed the version.

    Raises:
        ReleaseCorruptError: it is missing, unreadable, or another version's.
    """
    path = layout.manifest(version)
    try:
        manifest = from_json(Manifest, path.read_bytes(), source=str(path))
    except FileNotFoundError as error:
        raise ReleaseCorruptError(f"{path} is missing; restore it from a copy") from error
    except (OSError, DataError) as error:
        raise ReleaseCorruptError(f"{error}; restore {path} from a copy") from error
    if (manifest.model, manifest.version) != (layout.model, version):
        raise ReleaseCorruptError(
            f"{path} is the manifest of {manifest.model} {manifest.version}; "
            "restore the right one from a copy"
        )
    return manifest


def check_version(layout: Layout, version: int) -> None:
    """Raises ReleaseCorruptError unless a version on disk is what was pushed."""
    manifest = read_manifest(layout, version)
    path = layout.version(version)
    way_out = (
        "restore it from a copy, or point its labels at a sound version "
        "(`encore label set LABEL VERSION`)"
    )
    try:
        found = fingerprint_saved_model(path)
    except ModelError as error:
        raise ReleaseCorruptError(f"version {version} is damaged: {error}; {way_out}") from error
    if found != manifest.fingerprint:
        raise ReleaseCorruptError(
            f"{path} was changed after it was pushed: its fingerprint is {found}, the manifest "
            f"says {manifest.fingerprint}; {way_out}"
        )


def check_served(layout: Layout, state: ReleaseState, label: str) -> None:
    """Raises ReleaseCorruptError unless what labels point at is there and `label`'s is sound."""
    for name, version in sorted(state.labels.items()):
        if not layout.version(version).is_dir():
            raise ReleaseCorruptError(
                f"label {name!r} points at version {version}, but {layout.version(version)} is "
                "gone; restore it from a copy, or point the label elsewhere "
                f"(`encore label set {name} VERSION`)"
            )
    if label in state.labels:
        check_version(layout, state.labels[label])


def problems(layout: Layout) -> Iterator[str]:
    """Everything that is wrong, one line each; nothing when all is sound."""
    try:
        state = load_state(layout)
    except ReleaseCorruptError as error:
        yield str(error)
        return
    for version in range(1, state.highest_version + 1):
        yield from _problems_of(layout, version, on_disk=version in state.versions)
    for sequence in range(1, state.sequence + 1):
        yield from _problems_of_entry(layout, sequence)
    yield from (foreign(path) for path in foreign_versions(layout, state))


def _problems_of(layout: Layout, version: int, *, on_disk: bool) -> Iterator[str]:
    try:
        manifest = read_manifest(layout, version)
        if on_disk:
            check_version(layout, version)
    except EncoreError as error:
        yield str(error)
        return
    if on_disk:
        yield from _evidence_problems(layout.evidence(version), manifest)


def _problems_of_entry(layout: Layout, sequence: int) -> Iterator[str]:
    try:
        read_entry(layout, sequence)
    except ReleaseCorruptError as error:
        yield str(error)


def _evidence_problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    for name, digest in sorted(manifest.evidence.items()):
        path = folder / name
        if not path.is_file():
            yield f"{path} is missing; restore it from a copy"
        elif digest_of(path) != digest:
            yield f"{path} was changed after it was pushed; restore it from a copy"


def foreign_versions(layout: Layout, state: ReleaseState) -> list[Path]:
    """Version directories that no push has made: without a manifest, and not counted."""
    return [
        path
        for path in names_in(layout.home)
        if (version := version_of(path.name)) is not None
        and version not in state.versions
        and not layout.manifest(version).is_file()
    ]


def foreign(path: Path) -> str:
    """What to say of a version directory that no push has made."""
    return (
        f"{path} was not made by a push (it has no manifest); move it out of {path.parent}, "
        "and push it if it is to be served"
    )


def names_in(folder: Path) -> list[Path]:
    """What a directory holds, in order of name; nothing if it is absent."""
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _refuse_lost_labels(layout: Layout) -> None:
    """A first push writes labels.json before anything else, so beside versions it was lost."""
    names = [path.name for path in names_in(layout.home)]
    evidence = [v for name in names if (v := evidence_of(name)) is not None]
    if not evidence and not any(version_of(name) is not None for name in names):
        return
    suggestion = to_json(_as_found(layout, evidence))
    raise ReleaseCorruptError(
        f"{layout.labels} is gone, though versions are there; restore it from a copy, or, if what "
        f"it says is right, write this into it: {suggestion}"
    )


def _as_found(layout: Layout, evidence: list[int]) -> ReleaseState:
    """The state that the files suggest; what the newest records say of labels is believed."""
    versions = tuple(v for v in sorted(evidence) if layout.version(v).is_dir())
    entries = [e for path in names_in(layout.journal) if (e := entry_of(path.name)) is not None]
    labels = {"stable": versions[-1]} if versions else {}
    for sequence in sorted(entries):
        with suppress(ReleaseCorruptError):
            record = read_entry(layout, sequence)
            if record.label and record.version_after in versions:
                labels[record.label] = record.version_after
    return ReleaseState(
        labels=labels,
        versions=versions,
        highest_version=max(evidence, default=0),
        sequence=max(entries, default=0),
    )
