"""Which files a directory holds, so that a change of them is seen. Blocking."""

from __future__ import annotations

import os

FileSet = tuple[tuple[str, int, int], ...]
"""(relative path, bytes, modification time in ns) of each file, in order."""


def file_set(path: str) -> FileSet:
    """Returns the files below a directory; empty if it is not there or cannot be read."""
    found = []
    for folder, _, names in os.walk(path):
        for name in names:
            full = os.path.join(folder, name)  # noqa: PTH118 - of many files, polled
            try:
                stat = os.stat(full)  # noqa: PTH116
            except OSError:
                continue
            found.append((os.path.relpath(full, path), stat.st_size, stat.st_mtime_ns))
    return tuple(sorted(found))
