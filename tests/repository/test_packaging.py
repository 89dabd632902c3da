"""What a wheel and a source distribution hold, and what is there once they are installed."""

from __future__ import annotations

import configparser
import csv
import email
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

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
# Used from a checkout (`kubectl apply -k`, `make image`), so not installed.
FROM_CHECKOUT = (
    "kubeflow/base/",
    "kubeflow/components/",
    "kubeflow/image/",
    "kubeflow/make-secrets",
    "kubeflow/overlays/",
)


@pytest.fixture(scope="module")
def built(
    root: Path, repository_files: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with a source distribution and the wheel made of it, built from a copy."""
    copy = tmp_path_factory.mktemp("checkout")
    for file in repository_files:
        target = copy / file.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    out = copy / "out"
    run = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(copy)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    return out


@pytest.fixture(scope="module")
def wheel(built: Path) -> zipfile.ZipFile:
    (file,) = built.glob("*.whl")
    return zipfile.ZipFile(file)


def test_a_wheel_installs_one_name_only(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {name for name in tops if not name.endswith(".dist-info")} == {"tfx_encore"}


def test_a_wheel_holds_every_file_of_the_folders_and_no_other(
    wheel: zipfile.ZipFile, root: Path, repository_files: list[Path]
) -> None:
    """What is read at run time beside the code too, whatever its name."""
    expected = {
        f"tfx_encore/{name}"
        for file in repository_files
        if (name := file.relative_to(root).as_posix()).split("/")[0] in FOLDERS
        and not name.startswith(FROM_CHECKOUT)
    }
    face = {f"tfx_encore/{file.name}" for file in (root / "src/tfx_encore").glob("*.*")}
    assert {"tfx_encore/schemas/taxi.pbtxt", "tfx_encore/py.typed"} <= expected | face
    files = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert (expected | face) ^ files == set()


def test_a_wheel_holds_nothing_that_is_used_from_a_checkout(wheel: zipfile.ZipFile) -> None:
    homes = tuple(f"tfx_encore/{place}" for place in FROM_CHECKOUT)
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


class Environment:
    """An environment with nothing in it."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=False)
        self.bin = folder / "bin"
        self.python = self.bin / "python"
        (self.site,) = folder.glob("lib/python3*/site-packages")
        self._folder = folder
        self._before = self._files()

    def install(self, distribution: Path) -> None:
        """Installs it without what it depends on; a source is built with the tools of ours."""
        tools = self._folder / "tools"
        tools.mkdir()
        ours = Path(sysconfig.get_path("purelib"))
        for pattern in ("setuptools*", "wheel*", "pkg_resources", "_distutils_hack"):
            for file in ours.glob(pattern):
                (tools / file.name).symlink_to(file)
        pip = [sys.executable, "-m", "pip", "--python", str(self.python), "install"]
        run = subprocess.run(
            [*pip, "--no-deps", "--no-index", "--no-build-isolation", str(distribution)],
            env={**os.environ, "PYTHONPATH": str(tools)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
        shutil.rmtree(tools)

    def installed(self) -> set[str]:
        """What is there since, relative to the environment; compiled files left out."""
        return {name for name in self._files() - self._before if "__pycache__" not in name}

    def _files(self) -> set[str]:
        every = (p for p in self._folder.rglob("*") if not p.is_dir())
        return {p.relative_to(self._folder).as_posix() for p in every}


@pytest.fixture(scope="module", params=["*.whl", "*.tar.gz"], ids=["wheel", "sdist"])
def environment(
    request: pytest.FixtureRequest, built: Path, tmp_path_factory: pytest.TempPathFactory
) -> Environment:
    """An empty environment after one of the distributions was installed into it."""
    (distribution,) = built.glob(request.param)
    environment = Environment(tmp_path_factory.mktemp("empty") / "env")
    environment.install(distribution)
    return environment


def _information(environment: Environment) -> Path:
    (found,) = environment.site.glob("*.dist-info")
    return found


def test_installing_adds_the_package_and_the_command_and_nothing_else(
    environment: Environment,
) -> None:
    tops = {entry.name for entry in environment.site.iterdir()}
    assert tops == {"tfx_encore", _information(environment).name}
    assert _information(environment).name.startswith("tfx_encore-")
    site = environment.site.relative_to(environment.bin.parent).as_posix()
    others = {name for name in environment.installed() if not name.startswith(f"{site}/")}
    assert others == {"bin/encore"}


def test_the_record_names_every_installed_file(environment: Environment) -> None:
    with (_information(environment) / "RECORD").open(newline="") as file:
        recorded = {(environment.site / row[0]).resolve() for row in csv.reader(file)}
    found = {environment.bin.parent.resolve() / name for name in environment.installed()}
    assert {path for path in recorded if "__pycache__" not in path.parts} == found


def test_wheel_and_source_install_the_same_files(
    environment: Environment, wheel: zipfile.ZipFile
) -> None:
    site = environment.site.relative_to(environment.bin.parent).as_posix()
    ours = {n.removeprefix(f"{site}/") for n in environment.installed() if "/tfx_encore/" in n}
    assert ours == {name for name in wheel.namelist() if name.startswith("tfx_encore/")}


def test_the_only_command_is_encore(environment: Environment) -> None:
    found = configparser.ConfigParser()
    found.read(_information(environment) / "entry_points.txt")
    assert dict(found["console_scripts"]) == {"encore": "tfx_encore.pipeline.cli:main"}
    # Groups of our own may be there for others to extend; anybody else's may not.
    others = [name for name in found.sections() if name != "console_scripts"]
    assert [name for name in others if not name.startswith("tfx_encore.")] == []
    assert (_information(environment) / "top_level.txt").read_text().split() == ["tfx_encore"]


def test_the_installed_command_says_its_help(environment: Environment, tmp_path: Path) -> None:
    """With what it depends on in reach, and without the checkout."""
    run = subprocess.run(
        [environment.bin / "encore", "--help"],
        cwd=tmp_path,
        env={"PYTHONPATH": sysconfig.get_path("purelib"), "PATH": os.defpath},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert "Usage: encore" in run.stdout
    where = "import tfx_encore; print(tfx_encore.__file__)"
    found = subprocess.run(
        [environment.python, "-c", where], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert found.stdout.startswith(str(environment.site))


def test_each_python_is_given_its_tfx(environment: Environment) -> None:
    text = (_information(environment) / "METADATA").read_text()
    information = email.message_from_string(text)
    assert information["Requires-Python"] == "<3.14,>=3.10"
    wanted = [Requirement(line) for line in information.get_all("Requires-Dist", [])]
    tfx = [requirement for requirement in wanted if requirement.name == "tfx"]
    for python, version in {"3.10": "1.16.0", "3.11": "1.21.0", "3.13": "1.21.3"}.items():
        (chosen,) = [r for r in tfx if r.marker and r.marker.evaluate({"python_version": python})]
        assert chosen.specifier.contains(version), python
