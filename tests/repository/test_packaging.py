"""What a wheel of this repository holds, built by way of the source distribution."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

FOLDERS = [
    "schemas",
    "monitoring",
    "cache",
    "metadata",
    "gateway",
    "components",
    "pipeline",
    "kubeflow",
]
# What the installed package reads at run time beside its code.
DATA = {".pbtxt", ".json", ".html", ".css", ".yaml", ".js"}
# Applied from a checkout (`kubectl apply -k`), with an image that is built there, too.
MANIFESTS = ("kubeflow/base/", "kubeflow/components/", "kubeflow/overlays/")


@pytest.fixture(scope="module")
def wheel(
    root: Path, repository_files: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> zipfile.ZipFile:
    """A wheel built from a copy, so that nothing is left in the checkout."""
    copy = tmp_path_factory.mktemp("checkout")
    for file in repository_files:
        target = copy / file.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    out = copy / "out"
    built = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(copy)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]
    (file,) = out.glob("*.whl")
    return zipfile.ZipFile(file)


def test_a_wheel_installs_one_name_only(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {name for name in tops if not name.endswith(".dist-info")} == {"tfx_encore"}


def test_a_wheel_holds_every_module_of_the_folders(
    wheel: zipfile.ZipFile, root: Path, repository_files: list[Path]
) -> None:
    expected = {
        f"tfx_encore/{name}"
        for file in repository_files
        if (name := file.relative_to(root).as_posix()).split("/")[0] in FOLDERS
        and file.suffix == ".py"
    }
    assert expected - set(wheel.namelist()) == set()


def test_a_wheel_holds_the_files_that_the_code_reads(
    wheel: zipfile.ZipFile, root: Path, repository_files: list[Path]
) -> None:
    expected = {
        f"tfx_encore/{name}"
        for file in repository_files
        if (name := file.relative_to(root).as_posix()).split("/")[0] in FOLDERS
        and file.suffix in DATA
        and not name.startswith(MANIFESTS)
    }
    assert {"tfx_encore/schemas/taxi.pbtxt"} <= expected
    assert {*expected, "tfx_encore/py.typed"} - set(wheel.namelist()) == set()


def test_a_wheel_holds_no_manifests(wheel: zipfile.ZipFile) -> None:
    homes = tuple(f"tfx_encore/{folder}" for folder in MANIFESTS)
    assert [name for name in wheel.namelist() if name.startswith(homes)] == []


def test_a_wheel_holds_no_tests_and_the_licence(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    stems = {name: Path(name).stem for name in names}
    assert [n for n, stem in stems.items() if stem.startswith(("test_", "conftest"))] == []
    assert [name for name in names if ".dist-info/" in name and name.endswith("LICENSE")]


def test_a_wheel_works_without_the_checkout(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path / "site")
    code = (
        "import importlib\n"
        f"for name in ['', *(f'.{{f}}' for f in {FOLDERS})]:\n"
        "    print(importlib.import_module('tfx_encore' + name).__file__)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    files = run.stdout.split()
    assert len(files) == 1 + len(FOLDERS)
    assert all(file.startswith(str(tmp_path / "site")) for file in files)


def test_the_command_is_installed(wheel: zipfile.ZipFile) -> None:
    (entry_points,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    assert "encore = tfx_encore.pipeline.cli:main" in wheel.read(entry_points).decode()
