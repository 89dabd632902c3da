"""The checkout under test: where it is and which files belong to it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    """The top folder of the repository."""
    return _ROOT


@pytest.fixture(scope="session")
def repository_files() -> list[Path]:
    """Every file that is tracked, or would be by `git add .`."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    # A file deleted but not yet staged is still listed.
    return [_ROOT / name for name in listed if name and (_ROOT / name).is_file()]
