"""A follower's checkpoint in a file beside the stores that survive a restart. Plain files only.

    magic `encore-checkpoint 1`, CRC-32 of the line in hexadecimal, the line; one text line

The file is replaced as a whole: killed at any moment, it holds the line before or the new one.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path

_MAGIC = b"encore-checkpoint 1 "
_LONGEST = 65_536


class FileCheckpoint:
    """Keeps one line of text; see `cache.follower.Checkpoint`. One process writes a path at a time.

    Args:
        path: of the file; its folder is made if it is not there.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._part = self._path.with_name(self._path.name + ".part")

    def load(self) -> str | None:
        """Returns the line; None if there is no file.

        A file that is damaged or cannot be read gives an empty line, which no ledger holds: then
        the stores are not trusted.
        """
        try:
            with self._path.open("rb") as file:
                data = file.read(_LONGEST + 64)
        except FileNotFoundError:
            return None
        except OSError:
            return ""
        return _decode(data)

    def save(self, line: str) -> None:
        """Keeps the line instead of the one before; it is on the disk on return.

        Raises:
            ValueError: more than one line, or more than 64 KiB.
            OSError: it cannot be written; what was kept before still is.
        """
        data = _encode(line)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        descriptor = os.open(self._part, flags, 0o600)
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._part.replace(self._path)
        _sync_folder(self._path.parent)


def _encode(line: str) -> bytes:
    text = line.encode("utf-8")
    if b"\n" in text or len(text) > _LONGEST:
        raise ValueError(f"a checkpoint is one line of 64 KiB at most, not {line[:80]!r}")
    return b"%s%08x %s\n" % (_MAGIC, zlib.crc32(text), text)


def _decode(data: bytes) -> str:
    text = data[len(_MAGIC) + 9 : -1]
    if data != b"%s%08x %s\n" % (_MAGIC, zlib.crc32(text), text):
        return ""
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return ""


def _sync_folder(folder: Path) -> None:
    """Makes the new name last; the file itself is on the disk by then."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
