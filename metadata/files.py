"""Changes to the disk that survive a crash: written, synced, renamed. Digests of files.

Everything the release directory changes goes through a `Disk`, one small step at a time, so that a
test can stop the process before any of them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

_CHUNK = 1 << 20
READ_ONLY = 0o444
_WRITABLE = 0o644


def _nothing(_step: str, _path: Path) -> None:
    """The hook of a Disk that nobody watches."""


class Disk:
    """Changes files and directories so that each change is on the medium before the next.

    Args:
        before: called with a step's name (`create`, `write`, `sync`, `make_dir`, `rename`,
            `remove_file`, `remove_dir`) and the path it is about to change.
    """

    def __init__(self, before: Callable[[str, Path], None] = _nothing) -> None:
        self._before = before

    def make_dir(self, path: Path) -> None:
        """Makes a directory and those above it that are missing; one that exists is fine."""
        if path.is_dir():
            return
        if path.parent != path:
            self.make_dir(path.parent)
        self._before("make_dir", path)
        path.mkdir(exist_ok=True)
        self.sync_dir(path.parent)

    def write(self, path: Path, data: bytes, *, mode: int = _WRITABLE) -> None:
        """Writes a file that is complete only when this returns; the directory is not synced."""
        self._stream(path, iter((data,)), mode)

    def copy_file(self, source: Path, target: Path) -> None:
        """Copies content (not owner, mode or times) into a new, read-only, synced file."""
        with source.open("rb") as stream:
            self._stream(target, iter(lambda: stream.read(_CHUNK), b""), READ_ONLY)

    def copy_tree(self, source: Path, target: Path) -> None:
        """Copies a file, or a directory with all below it; links are followed."""
        if not source.is_dir():
            self.copy_file(source, target)
            return
        self.make_dir(target)
        for child in sorted(source.iterdir()):
            self.copy_tree(child, target / child.name)
        self.sync_dir(target)

    def replace(self, path: Path, data: bytes) -> None:
        """Replaces a file's content: a reader, or a crash, finds all of the old or all of it."""
        self.rename(self.prepare(path, data), path)

    def prepare(self, path: Path, data: bytes) -> Path:
        """Writes what is to replace `path` beside it, under the name this returns."""
        beside = path.parent / f".{path.name}.next"
        self.write(beside, data)
        return beside

    def rename(self, source: Path, target: Path) -> None:
        """Renames within a file system, over an existing file, and syncs the directory."""
        self._before("rename", target)
        source.replace(target)
        self.sync_dir(target.parent)

    def sync_dir(self, path: Path) -> None:
        """Makes the names in a directory durable."""
        self._before("sync", path)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def remove_tree(self, path: Path) -> None:
        """Removes a file, a link, or a directory with all below it; an absent one is fine."""
        if path.is_dir() and not path.is_symlink():
            for child in sorted(path.iterdir()):
                self.remove_tree(child)
            self._before("remove_dir", path)
            path.rmdir()
        elif path.exists() or path.is_symlink():
            self._before("remove_file", path)
            path.unlink()

    def _stream(self, path: Path, pieces: Iterator[bytes], mode: int) -> None:
        self._before("create", path)
        # A file left by a killed process may be read-only, so it goes before it is written again.
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb", buffering=0) as stream:
            for piece in pieces:
                self._before("write", path)
                _write_all(stream.fileno(), piece)
            self._before("sync", path)
            os.fsync(stream.fileno())


def _write_all(descriptor: int, data: bytes) -> None:
    """Writes every byte: a disk that fills up takes some of them before it says so."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def digest_of(path: Path) -> str:
    """Returns `sha256:` and the hexadecimal digest of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(_CHUNK):
            digest.update(piece)
    return f"sha256:{digest.hexdigest()}"


def digests_below(root: Path) -> dict[str, str]:
    """Returns the relative path (with `/`) and the digest of every file below a directory."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): digest_of(path) for path in files}
