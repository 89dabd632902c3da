"""A released taxi model for the benchmarks of serving, made once and kept in `.cache/bench`.

The network, its transformation and its signatures are those of the example project
(`pipeline.taxi.model`), trained for a few steps by the release pipeline on the first span.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORKSPACE = ROOT / ".encore"
ROW = {
    "fare": 12.25,
    "trip_miles": 3.2,
    "pickup_latitude": 41.88,
    "pickup_longitude": -87.63,
    "trip_start_hour": 17,
    "payment_type": "Credit Card",
}
BODY = {"signature_name": "predict_raw", "instances": [ROW]}


def releases() -> Path:
    """Returns the release directory that `make run` made; runs it if there is none."""
    if not (WORKSPACE / "releases" / "taxi" / "labels.json").is_file():
        command = [sys.executable, "-m", "tfx_encore.pipeline.taxi"]
        subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    return WORKSPACE / "releases"


@contextlib.contextmanager
def release() -> Iterator[Path]:
    """A copy of the release directory that the caller may write to."""
    folder = tempfile.mkdtemp(prefix="encore-releases-")
    try:
        copy = Path(folder) / "releases"
        shutil.copytree(releases(), copy, copy_function=_link)
        yield copy
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _link(source: str, target: str) -> str:
    """Versions never change, so a second name for a file is as good as a copy of it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target
