"""Cache snapshots made of a night's traffic, for a model that was released before.

<releases>/<model>/nights/snapshots/<16 hexadecimal digits of the fingerprint>/
  newest.json             {"snapshot": "2016-01-12-1"}: its replacement is the commit
  2016-01-12-1/           a snapshot, its certificate, its coverage
  .lock                   one writer at a time

What a release was decided on (`<version>.evidence/snapshot`) is never changed; such a snapshot only
takes its place where answers are loaded. It belongs to a fingerprint, hence to every version with
this content.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tfx_encore.metadata.files import Disk
from tfx_encore.metadata.release_layout import SNAPSHOT, Layout
from tfx_encore.metadata.release_lock import exclusive
from tfx_encore.schemas.errors import DataError

_NEWEST = "newest.json"
_META = "snapshot.json"
_NAME = re.compile(r"(\d{4}-\d{2}-\d{2})-(\d+)")
_KEPT = 2  # the newest, and the one before: a gateway may be reading it


class NightSnapshots:
    """The snapshots of one fingerprint; readers need no lock.

    Args:
        root: root of the release directory.
        model: the model's name.
        fingerprint: as `sha256:` and hexadecimal digits.
        disk: makes the changes.
        lock_timeout_seconds: how long a writer waits for another.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        model: str,
        fingerprint: str,
        *,
        disk: Disk | None = None,
        lock_timeout_seconds: float = 60.0,
    ) -> None:
        short = fingerprint.rpartition(":")[2][:16]
        self.home = Layout(root, model).home / "nights" / "snapshots" / short
        self._disk = disk or Disk()
        self._lock_timeout_seconds = lock_timeout_seconds

    def made_before(self, date: str) -> Path | None:
        """The newest that is still there of those made of nights before `date`; None without."""
        made = self._made() if self.home.is_dir() else []
        folders = [self.home / name for name in reversed(made) if name[: len(date)] < date]
        return next((path for path in folders if (path / _META).is_file()), None)

    def newest(self) -> Path | None:
        """The snapshot that is loaded; None if no night has made one, or it is gone."""
        try:
            name = json.loads((self.home / _NEWEST).read_bytes())["snapshot"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            return None
        folder = self.home / name
        return folder if (folder / _META).is_file() else None

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """An empty folder of its own on the same disk, to be committed; removed if it is not."""
        self._disk.make_dir(self.home)
        folder = Path(tempfile.mkdtemp(prefix=".staging-", dir=self.home))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def commit(self, date: str, staged: Path) -> Path:
        """Makes a staged snapshot the newest in one step, and removes those before the last.

        Raises:
            DataError: `staged` holds no snapshot, or `date` is none.
            ReleaseBusyError: another process is at it for too long.
        """
        if not (staged / _META).is_file():
            raise DataError(f"{staged} holds no {_META}; it is no snapshot")
        with exclusive(self.home / ".lock", self._lock_timeout_seconds):
            target = self.home / self._next(date)
            for path in sorted(staged.rglob("*")):
                _sync(path)
            self._disk.rename(staged, target)
            target.chmod(0o755)
            content = json.dumps({"snapshot": target.name}).encode()
            self._disk.replace(self.home / _NEWEST, content)
            for old in self._made()[:-_KEPT]:
                self._disk.remove_tree(self.home / old)
        return target

    def _next(self, date: str) -> str:
        numbers = [int(match[2]) for name in self._made() if (match := _NAME.fullmatch(name))]
        name = f"{date}-{max(numbers, default=0) + 1}"
        if not _NAME.fullmatch(name):
            raise DataError(f"{date!r} is no date; write it as 2016-01-12")
        return name

    def _made(self) -> list[str]:
        """Names of all snapshots, in the order in which they were made."""
        found = [match for path in self.home.iterdir() if (match := _NAME.fullmatch(path.name))]
        return [match[0] for match in sorted(found, key=lambda match: int(match[2]))]


def snapshots_of(
    root: str | os.PathLike[str],
    model: str,
    version: int,
    fingerprint: str,
    *,
    before: str | None = None,
) -> tuple[Path, ...]:
    """The snapshots that may warm a version, newest first: of a night, then of its release.

    Args:
        root: root of the release directory.
        model: the model's name.
        version: the version.
        fingerprint: its fingerprint.
        before: only those of nights before this date: what was there when that night was served.
    """
    nights = NightSnapshots(root, model, fingerprint)
    newest = nights.made_before(before) if before else nights.newest()
    released = Layout(root, model).evidence(version) / SNAPSHOT
    found = (newest, released if (released / _META).is_file() else None)
    return tuple(path for path in found if path is not None)


def _sync(path: Path) -> None:
    if path.is_file():
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
