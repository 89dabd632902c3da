"""A write to a release directory: the lock, the tidying, the one step that counts, the way back."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tfx_encore.metadata.files import Disk
from tfx_encore.metadata.journal import numbered, write_entries
from tfx_encore.metadata.release_check import load_state
from tfx_encore.metadata.release_layout import Layout
from tfx_encore.metadata.release_lock import exclusive
from tfx_encore.metadata.release_state import ReleaseState, dump
from tfx_encore.metadata.release_tidy import config_bytes, tidy
from tfx_encore.schemas.errors import EncoreError, ReleaseCorruptError, ReleaseError
from tfx_encore.schemas.records import InvalidationRecord, RecordDraft

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class ReleaseWriter:
    """Takes turns with other writers and commits.

    Args:
        layout: where things are.
        disk: makes the changes.
        lock_timeout_seconds: how long to wait for another writer.
    """

    def __init__(self, layout: Layout, disk: Disk, lock_timeout_seconds: float) -> None:
        self._layout = layout
        self._disk = disk
        self._lock_timeout_seconds = lock_timeout_seconds

    def commit(
        self, after: ReleaseState, drafts: Sequence[RecordDraft], now: str
    ) -> tuple[tuple[InvalidationRecord, ...], str]:
        """Makes `after` what readers see; returns the records, and any trouble since, as text.

        All that needs space is written before the one step that counts; what follows it can
        neither undo it nor, if it fails, call it back: the next writer does it again.
        """
        records = numbered(drafts, after.sequence, now)
        after = after.recorded(len(records))
        write_entries(self._disk, self._layout, records)
        config = self._disk.prepare(self._layout.models_config, config_bytes(self._layout, after))
        try:
            self._disk.replace(self._layout.labels, dump(after))
            self._disk.rename(config, self._layout.models_config)
            tidy(self._disk, self._layout, after)
        except (OSError, ReleaseCorruptError) as error:
            if load_state(self._layout) != after:
                raise
            return records, f"; clearing up failed ({error}), the next push does it"
        return records, ""

    @contextmanager
    def opened(self) -> Iterator[ReleaseState]:
        """Holds the lock over a directory free of leftovers; gives the state it is in."""
        layout = self._layout
        try:
            self._disk.make_dir(layout.home)
            with exclusive(layout.lock, self._lock_timeout_seconds):
                state = self._opened()
                try:
                    yield state
                except (OSError, EncoreError):
                    self._back_out()
                    raise
        except OSError as error:
            raise self._refused(error) from error

    def _opened(self) -> ReleaseState:
        """The state, after a first writer has founded the directory and leftovers are gone."""
        state = load_state(self._layout)
        if not self._layout.labels.exists():
            self._disk.replace(self._layout.labels, dump(state))
        self._disk.make_dir(self._layout.journal)
        tidy(self._disk, self._layout, state)
        return state

    def _back_out(self) -> None:
        """Gives back the space of a failed write; what cannot be removed now is removed later."""
        with suppress(OSError, EncoreError):
            tidy(self._disk, self._layout, load_state(self._layout))

    def _refused(self, error: OSError) -> ReleaseError:
        where = error.filename or self._layout.home
        still = "nothing was changed"
        with suppress(EncoreError):
            labels = load_state(self._layout).labels
            still += f", labels are {labels}" if labels else ""
        if error.errno in _NO_SPACE:
            free = shutil.disk_usage(_existing(self._layout.home)).free
            return ReleaseError(
                f"no space left for {where} ({error.strerror}; {free:,} bytes are free): "
                f"free some, or keep fewer versions (keep_versions); {still}"
            )
        return ReleaseError(f"{where}: {error.strerror or error}; {still}")


def _existing(path: Path) -> Path:
    """The path, or the nearest directory above it that exists."""
    return path if path.exists() or path.parent == path else _existing(path.parent)
