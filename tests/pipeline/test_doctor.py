"""`encore doctor`: what is installed, what is missing, how to get it."""

from __future__ import annotations

import importlib.metadata
import pathlib
import py_compile
import re
import shutil
import sqlite3
import subprocess
import sys
import types

import pytest
from packaging.requirements import Requirement

from tfx_encore.metadata.mlmd_store import MlmdStore
from tfx_encore.pipeline import doctor
from tfx_encore.pipeline.config import load_config
from tfx_encore.pipeline.doctor import disk_check, package_checks, program_checks
from tfx_encore.pipeline.doctor_project import project_checks
from tfx_encore.pipeline.mlmd import connection
from tfx_encore.pipeline.workspace import Workspace

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path):
    """A project that could run; returns its file."""
    (tmp_path / "data/span-1").mkdir(parents=True)
    (tmp_path / "data/span-1/a.csv").write_text("age,left\n41,0\n")
    (tmp_path / "schema.pbtxt").write_text(
        'feature { name: "age" type: INT }\nfeature { name: "left" type: INT }\n'
    )
    (tmp_path / "model.py").write_text("")
    file = tmp_path / "encore.yaml"
    file.write_text(
        "model: churn\n"
        "data: {spans: 'data/span-{SPAN}/*.csv', schema: schema.pbtxt}\n"
        "training: {module: model.py}\n"
        "evaluation: {label_key: left}\n"
    )
    return file


def _states(file: pathlib.Path) -> dict[str, str]:
    return {check.name: check.state for check in project_checks(file)}


def _find(file: pathlib.Path, name: str) -> doctor.Check:
    return next(check for check in project_checks(file) if check.name == name)


def test_the_environment_of_these_tests_is_well_and_costs_no_tensorflow(tmp_path):
    code = (
        "import sys\n"
        "from tfx_encore.pipeline.doctor import diagnose\n"
        "diagnosis = diagnose(None)\n"
        "assert diagnosis.well, diagnosis\n"
        "print(sorted({'tensorflow', 'tfx', 'apache_beam', 'ml_metadata'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_outside_a_project_the_command_says_so_and_is_content(encore, tmp_path):
    text = encore(tmp_path, "doctor")
    assert (text.code, text.err) == (0, "")
    assert "none here (no encore.yaml)" in text.out
    assert "all well" in text.out
    listed = encore(tmp_path, "doctor", "--json").json
    assert (listed["ok"], listed["project"]) == (True, None)
    assert not any(check["area"] == "project" for check in listed["checks"])


def test_inside_a_project_the_command_looks_at_it(encore, project):
    listed = encore(project.parent, "doctor", "--json").json
    assert (listed["ok"], listed["project"]) == (True, "encore.yaml")
    found = {c["name"]: c["found"] for c in listed["checks"] if c["area"] == "project"}
    assert found["configuration"] == "encore.yaml, model churn"
    assert found["schema"] == "schema.pbtxt, 2 features"
    assert found["data"] == "1 span(s) (1)"
    assert "nothing recorded yet" in found["metadata"]
    assert found["releases"].endswith("none yet")
    assert sorted(path.name for path in project.parent.iterdir()) == [
        "data", "encore.yaml", "model.py", "schema.pbtxt",
    ]  # fmt: skip


@pytest.mark.parametrize("arguments", [["--config", "other.yaml"], []])
def test_a_named_project_file_that_is_not_there_is_an_error(encore, tmp_path, arguments):
    named = {} if arguments else {"ENCORE_CONFIG": "other.yaml"}
    sick = encore(tmp_path, "doctor", *arguments, **named)
    assert sick.code == 1
    assert "other.yaml: no such file" in sick.out
    assert "to mend: configuration" in sick.out


def test_a_missing_package_and_one_of_another_version_say_how_to_get_the_right_one():
    absent, wrong, fine = package_checks({"absent-package": ">=2", "pyyaml": "<1", "pydantic": ""})
    assert (absent.state, absent.found) == ("missing", "not installed; needed: >=2")
    assert wrong.state == "problem"
    assert wrong.found.endswith(", not <1")
    assert "make setup" in absent.advice
    assert absent.advice == wrong.advice
    assert (fine.state, fine.advice) == ("ok", "")


def test_the_ranges_are_those_that_the_packages_declare():
    found = {check.name: check.found for check in package_checks()}
    declared = [Requirement(line) for line in importlib.metadata.requires("tfx-encore") or ()]
    (tfx,) = [r for r in declared if r.name == "tfx" and r.marker and r.marker.evaluate()]
    assert found["tfx"] == f"{importlib.metadata.version('tfx')} ({tfx.specifier})"
    assert re.search(r"\(.*>=2\.\d+", found["tensorflow"])
    assert all(check.state == "ok" for check in package_checks())


def test_one_required_thing_missing_makes_the_whole_unwell(monkeypatch):
    monkeypatch.setitem(doctor.PACKAGES, "absent-package", ">=2")
    assert not doctor.diagnose(None).well


def test_a_missing_program_is_optional_and_says_how_to_get_it():
    chromium, mariadbd, podman = program_checks(lambda name: "/x" if name == "mariadbd" else None)
    assert (chromium.state, chromium.required) == ("missing", False)
    assert chromium.advice == "apt install chromium"
    assert (mariadbd.state, mariadbd.found) == ("ok", "/x")
    assert podman.advice == "apt install podman"
    assert doctor.Diagnosis((chromium, mariadbd, podman), None).well


def test_another_python_than_the_package_declares_is_a_problem(monkeypatch):
    monkeypatch.setattr(doctor.platform, "python_version", lambda: "3.14.0")
    python = next(iter(doctor.machine_checks()))
    assert python.state == "problem"
    assert python.found.startswith("3.14.0, not ")


@pytest.mark.parametrize(
    ("is_compiled", "is_forbidden", "state"),
    [(False, True, "problem"), (False, False, "ok"), (True, True, "ok")],
)
def test_a_python_that_compiles_everything_in_each_process_is_told_but_works(
    tmp_path, monkeypatch, is_compiled, is_forbidden, state
):
    package = tmp_path / "tensorflow"
    package.mkdir()
    (package / "__init__.py").touch()
    if is_compiled:
        py_compile.compile(package / "__init__.py", doraise=True)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", is_forbidden)
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    (bytecode,) = (check for check in doctor.machine_checks() if check.name == "bytecode")
    assert (bytecode.state, bytecode.required) == (state, state == "ok")
    assert (str(tmp_path) in bytecode.advice) == (state == "problem")


def test_a_workspace_that_is_not_there_yet_is_judged_by_the_folder_above(tmp_path):
    check = disk_check(tmp_path / "a/b/c")
    assert check.state == "ok"
    assert "GiB free" in check.found
    assert not (tmp_path / "a").exists()


def test_a_disk_without_room_is_a_problem(tmp_path, monkeypatch):
    usage = types.SimpleNamespace(free=10 * 2**20)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage)
    check = disk_check(tmp_path)
    assert (check.state, check.advice) == (
        "problem",
        "free 1 GiB, or name a `workspace` on another disk",
    )


def test_a_workspace_that_cannot_be_written_is_a_problem():
    check = disk_check(pathlib.Path("/proc/encore"))
    assert check.state == "problem"
    assert "workspace" in check.advice


def test_a_wrong_project_file_is_told_in_its_own_line_and_nothing_else_is_guessed(project):
    project.write_text(project.read_text() + "dirft: {}\n")
    (check,) = project_checks(project)
    assert check.state == "problem"
    assert "dirft: unknown key; did you mean 'drift'?" in check.found


@pytest.mark.parametrize(
    ("break_it", "name", "said"),
    [
        (lambda f: (f / "schema.pbtxt").unlink(), "schema", "no such schema"),
        (lambda f: (f / "schema.pbtxt").write_text("feature {"), "schema", "not a schema"),
        (
            lambda f: (f / "schema.pbtxt").write_text('feature { name: "age" type: INT }'),
            "schema",
            "evaluation.label_key: no feature 'left' in the schema",
        ),
        (lambda f: (f / "model.py").unlink(), "module", "no such file"),
        (
            lambda f: (f / "encore.yaml").write_text(
                (f / "encore.yaml").read_text() + "metadata: {grpc: nowhere}\n"
            ),
            "metadata",
            "'nowhere' is not HOST:PORT",
        ),
    ],
)
def test_each_thing_that_the_project_names_is_looked_at(project, break_it, name, said):
    assert set(_states(project).values()) == {"ok"}
    break_it(project.parent)
    check = _find(project, name)
    assert check.state == "problem"
    assert said in check.found
    assert [n for n, state in _states(project).items() if state != "ok"] == [name]


def test_a_project_without_data_is_not_called_broken(project):
    shutil.rmtree(project.parent / "data")
    check = _find(project, "data")
    assert (check.state, check.required) == ("missing", False)


def _store(project: pathlib.Path) -> pathlib.Path:
    """Makes the project's metadata store; returns its file."""
    config = load_config(project)
    workspace = Workspace.of(config, project)
    store = MlmdStore(connection(config, workspace))
    with store.writing():
        pass
    store.close()
    return workspace.sqlite(config)


def test_a_metadata_store_is_opened_and_its_version_told(project):
    _store(project)
    check = _find(project, "metadata")
    assert check.state == "ok"
    assert check.found.endswith("opens, schema version 10")


def test_a_metadata_store_of_another_version_is_a_problem(project):
    with sqlite3.connect(_store(project)) as store:
        store.execute("UPDATE MLMDEnv SET schema_version = 99")
    check = _find(project, "metadata")
    assert check.state == "problem"
    assert "another version of ml-metadata" in check.found


def test_a_metadata_file_that_is_none_is_a_problem(project):
    (project.parent / ".encore").mkdir()
    (project.parent / ".encore/metadata.sqlite").write_text("hello, I am no database at all")
    assert _find(project, "metadata").state == "problem"


def test_every_fault_of_the_release_directory_is_told(project, encore):
    releases = project.parent / ".encore/releases/churn"
    (releases / "7").mkdir(parents=True)
    (releases / "labels.json").write_text("{")
    check = _find(project, "releases")
    assert check.state == "problem"
    assert "labels.json" in check.found
    sick = encore(project.parent, "doctor")
    assert sick.code == 1
    assert "to mend: releases" in sick.out
