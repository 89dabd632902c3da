"""What workers do in tests of the pools themselves; they import this file as the driver does."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path

from tfx_encore.components.shared_files import whole_file

WHOLE = "half a file, and the other half"
WHERE = "ENCORE_TEST_MACHINE"


def where(number: int, folder: str) -> int:
    """Writes down where a piece of work was done."""
    path = Path(folder) / f"task-{number}-{uuid.uuid4().hex}"
    path.write_text(f"{os.environ[WHERE]} {os.getpid()}")
    return number


def write_slowly(path: str, scratch: str, started: str) -> str:
    """Writes a file in two halves, a second apart, and says that it has begun."""
    with whole_file(path, scratch) as file:
        file.write(WHOLE[:10].encode())
        (Path(started) / os.environ[WHERE]).touch()
        time.sleep(1.0)
        file.write(WHOLE[10:].encode())
    return path
