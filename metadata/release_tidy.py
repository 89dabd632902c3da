"""Removes what a killed writer, or retention, leaves behind.

Only the holder of the lock tidies: what looks like a leftover may be another writer's work.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tfx_encore.metadata.files import Disk
from tfx_encore.metadata.model_config import model_config_list
from tfx_encore.metadata.release_check import foreign, foreign_versions, names_in
from tfx_encore.metadata.release_layout import (
    MANIFEST,
    Layout,
    entry_of,
    evidence_of,
    is_working_name,
    version_of,
)
from tfx_encore.metadata.release_state import ReleaseState
from tfx_encore.schemas.errors import ReleaseCorruptError


def tidy(disk: Disk, layout: Layout, state: ReleaseState) -> None:
    """Makes the directory hold what `state` says and nothing that was left unfinished.

    Raises:
        ReleaseCorruptError: there is a version directory that no push has made.
    """
    for path in foreign_versions(layout, state):
        raise ReleaseCorruptError(foreign(path))
    for path in list(leftovers(layout, state)):
        _remove(disk, layout, path)
    if not config_is_current(layout, state):
        disk.replace(layout.models_config, config_bytes(layout, state))


def leftovers(layout: Layout, state: ReleaseState) -> Iterator[Path]:
    """What nobody needs, in the order in which it may be removed.

    A version goes before its evidence, so that a version without a manifest is never ours.
    """
    names = names_in(layout.home)
    yield from (path for path in names if is_working_name(path.name))
    yield from (path for path in names if version_of(path.name) not in (None, *state.versions))
    for path in names:
        version = evidence_of(path.name)
        if version is not None and version > state.highest_version:
            yield path
        elif version is not None and version not in state.versions:
            yield from (child for child in names_in(path) if child.name != MANIFEST)
    for path in names_in(layout.journal):
        sequence = entry_of(path.name)
        if is_working_name(path.name) or (sequence is not None and sequence > state.sequence):
            yield path


def config_is_current(layout: Layout, state: ReleaseState) -> bool:
    """True if `models.config` says what `labels.json` says."""
    try:
        return layout.models_config.read_bytes() == config_bytes(layout, state)
    except OSError:
        return False


def config_bytes(layout: Layout, state: ReleaseState) -> bytes:
    """The bytes of `models.config`."""
    return model_config_list(layout.model, str(layout.home.resolve()), state).encode()


def _remove(disk: Disk, layout: Layout, path: Path) -> None:
    """Removes a leftover; a version in one step, so that no server sees half of it."""
    version = version_of(path.name)
    if version is not None and path.parent == layout.home:
        disk.rename(path, layout.trash(version))
        path = layout.trash(version)
    disk.remove_tree(path)
