"""The dashboards against Grafana's own types, by tsc; and that they are what the boards say."""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from tfx_encore.monitoring.grafana.boards import BOARDS
from tfx_encore.monitoring.grafana.build import FOLDER, content_of

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PACKAGES = ("package.json", "package-lock.json")
TSC = ["--noEmit", "--strict", "--skipLibCheck", "--moduleResolution", "node10"]


def _installed(cannot: Callable[[str], NoReturn]) -> Path:
    """A folder with the packages of the lock; filled once, in `.cache`."""
    content = b"".join((HERE / name).read_bytes() for name in PACKAGES)
    folder = ROOT / ".cache" / "grafana" / hashlib.sha256(content).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            for name in PACKAGES:
                shutil.copy(HERE / name, folder)
            command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            if run.returncode and re.search("ENOTFOUND|ECONNREFUSED|ETIMEDOUT|EAI_", run.stderr):
                cannot("npm cannot fetch the packages, so the types cannot be had")
            assert run.returncode == 0, run.stderr
            (folder / "done").touch()
    return folder


@pytest.mark.service("npm")
def test_the_dashboards_are_what_grafana_reads(
    tmp_path: Path, cannot: Callable[[str], NoReturn]
) -> None:
    """`wrong.ts` holds what must be refused, so that types that accept anything are noticed."""
    packages = _installed(cannot)
    (tmp_path / "node_modules").symlink_to(packages / "node_modules")
    for name in ("schema.ts", "wrong.ts"):
        shutil.copy(HERE / name, tmp_path)
    lines = ["import type { JsonDashboard } from './schema';"]
    for file in sorted(FOLDER.glob("*.json")):
        name = file.stem.replace("-", "_")
        lines.append(f"export const {name}: JsonDashboard = {file.read_text()};")
    (tmp_path / "dashboards.ts").write_text("\n".join(lines))
    tsc = str(packages / "node_modules/.bin/tsc")
    run = subprocess.run(
        [tsc, *TSC, "--module", "esnext", "--target", "es2022", "dashboards.ts", "wrong.ts"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert len(lines) == 1 + len(BOARDS)


def test_the_files_are_what_the_boards_say() -> None:
    """If not: `python -m tfx_encore.monitoring.grafana.build`."""
    found = {file.name: file.read_text() for file in FOLDER.glob("*.json")}
    assert found == {f"{board.uid}.json": content_of(board) for board in BOARDS}


def test_panels_do_not_overlap_and_have_their_own_ids() -> None:
    for board in BOARDS:
        taken: set[tuple[int, int]] = set()
        panels = json.loads(content_of(board))["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels)
        for panel in panels:
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not cells & taken, (board.uid, panel["title"])
            taken |= cells


def test_the_lock_names_no_address() -> None:
    lock = json.loads((HERE / "package-lock.json").read_text())
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert [name for name, entry in packages.items() if "resolved" in entry] == []
    assert all(entry["integrity"].startswith("sha512-") for entry in packages.values())
