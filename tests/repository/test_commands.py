"""The Makefile, .ci/run, tools/services and tools/view, with stand-ins for what they start."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

TARGETS = [
    "help",
    "setup",
    "run",
    "nightly",
    "test",
    "test-slow",
    "test-tfx-1.21",
    "kubeflow-test",
    "image",
    "lint",
    "fix",
    "bench",
    "lock",
    "clean",
]


def _script(path: Path, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{body}\n")
    path.chmod(0o755)


@pytest.fixture
def checkout(root: Path, tmp_path: Path) -> Path:
    """The Makefile and .ci/run beside programs that only note that they were called."""
    shutil.copy(root / "Makefile", tmp_path / "Makefile")
    shutil.copytree(root / ".ci", tmp_path / ".ci")
    for name in ["tools/bootstrap", "tools/services", "tools/view", "tools/lock", "tools/debian13"]:
        _script(tmp_path / name, f'echo "{name} $*" >> calls')
    for name in ["pytest", "ruff", "mypy", "python"]:
        _script(
            tmp_path / ".venv/bin" / name,
            f'echo "{name} $*" >> calls\n'
            f'case "{name} $*" in *"${{FAIL_ON:-nothing}}"*) exit ${{CODE:-1}};; esac',
        )
    return tmp_path


def _run(folder: Path, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
    # What the make that runs these tests hands down must not reach the one under test.
    inherited = {k: v for k, v in os.environ.items() if not re.match("MAKE|MFLAGS|TEST_|PYTEST", k)}
    return subprocess.run(
        command, cwd=folder, env={**inherited, **env}, capture_output=True, text=True, check=False
    )


def _calls(folder: Path) -> list[str]:
    return [line.strip() for line in (folder / "calls").read_text().splitlines()]


def test_make_alone_lists_every_target(checkout: Path) -> None:
    listed = re.findall(r"^  make (\S+) ", _run(checkout, "make").stdout, re.MULTILINE)
    assert listed == TARGETS


def test_make_run_needs_the_run_set_only_and_no_service(checkout: Path) -> None:
    assert _run(checkout, "make", "run").returncode == 0
    assert _calls(checkout) == ["tools/bootstrap run", "python -m tfx_encore.pipeline.taxi"]


def test_make_test_prepares_services_and_leaves_out_slow_tests(checkout: Path) -> None:
    assert _run(checkout, "make", "test", "TEST_WORKERS=2", "PYTEST_ARGS=tests/x").returncode == 0
    assert _calls(checkout) == [
        "tools/bootstrap dev",
        "tools/services",
        "pytest -n 2 --dist loadfile -m not slow tests/x",
    ]


def test_the_other_tfx_is_tested_in_the_root_by_the_same_target(checkout: Path) -> None:
    run = _run(checkout, "make", "test-tfx-1.21", "TEST_WORKERS=2", "PYTEST_ARGS=tests/x -x")
    assert run.returncode == 0
    assert _calls(checkout) == [
        "tools/debian13 make --no-print-directory test TEST_WORKERS=2 PYTEST_ARGS=tests/x -x"
    ]


@pytest.mark.parametrize("target", ["run", "nightly", "test", "test-slow", "lint", "bench"])
def test_a_failing_step_fails_the_target(checkout: Path, target: str) -> None:
    assert _run(checkout, "make", target, FAIL_ON=" ").returncode != 0


def test_no_test_in_the_fast_suite_is_a_failure(checkout: Path) -> None:
    assert _run(checkout, "make", "test", FAIL_ON="not slow", CODE="5").returncode != 0


def test_no_slow_test_is_said_and_is_no_failure(checkout: Path) -> None:
    run = _run(checkout, "make", "test-slow", FAIL_ON="slow", CODE="5")
    assert run.returncode == 0
    assert "no test is marked slow: nothing to run" in run.stdout


def test_the_benchmarks_are_told_what_was_asked(checkout: Path) -> None:
    _run(checkout, "make", "bench", "QUICK=1", "ONLY=keys")
    assert _calls(checkout)[-1] == "python benchmarks/run_all.py --quick --only keys"


def test_ci_runs_the_three_steps_in_order(checkout: Path) -> None:
    run = _run(checkout, ".ci/run")
    assert run.returncode == 0, run.stderr
    steps = [call for call in _calls(checkout) if not call.startswith("tools/")]
    assert [step.split()[0] for step in steps] == ["ruff", "ruff", "mypy", "pytest", "pytest"]
    assert ["not slow" in step for step in steps[3:]] == [True, False]
    assert "passed: lint, test, test-slow" in run.stdout


@pytest.mark.parametrize(
    ("fail_on", "step", "last"),
    [
        ("tfx_encore", "lint", "mypy"),
        ("not slow", "test", "pytest"),
        ("-m slow", "test-slow", "pytest"),
    ],
)
def test_ci_stops_at_the_first_failure_and_names_it(
    checkout: Path, fail_on: str, step: str, last: str
) -> None:
    run = _run(checkout / ".ci", "./run", FAIL_ON=fail_on)
    assert run.returncode != 0
    assert run.stderr.splitlines()[-1] == f"=== FAILED: make {step}"
    assert _calls(checkout)[-1].split()[0] == last


# --- tools/services -----------------------------------------------------------------------------


@pytest.fixture
def services(root: Path, tmp_path: Path) -> Path:
    """tools/services for one program that is there and one that is in no package."""
    tools = tmp_path / "tools"
    shutil.copytree(root / "tools", tools)
    text = (tools / "services").read_text()
    wanted = "SERVICES='\nsh dash\nmade-up-daemon made-up-package\n'"
    (tools / "services").write_text(re.sub(r"SERVICES='[^']*'", wanted, text))
    return tmp_path


def test_a_service_that_is_there_costs_nothing(root: Path, services: Path) -> None:
    file = services / "tools/services"
    file.write_text(file.read_text().replace("made-up-daemon made-up-package", "cat coreutils"))
    run = _run(services, "tools/services")
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_a_missing_service_is_installed_from_apt_after_an_update(services: Path) -> None:
    _script(services / "bin/id", "echo 0")
    _script(
        services / "bin/apt-get",
        f'echo "$DEBIAN_FRONTEND $*" >> {services}/calls\n'
        f'case "$*" in *install*) cp {services}/bin/id {services}/bin/made-up-daemon;; esac',
    )
    run = _run(services, "tools/services", PATH=f"{services}/bin:/usr/bin:/bin")
    assert run.returncode == 0
    assert "still missing" not in run.stderr
    update, install = _calls(services)
    assert update.endswith("update")
    assert install.startswith("noninteractive ")
    assert install.endswith("install --no-install-recommends made-up-package")


@pytest.mark.parametrize("apt", ["exit 100", "exit 0"])
def test_what_stays_missing_is_named_and_is_no_failure(services: Path, apt: str) -> None:
    _script(services / "bin/id", "echo 0")
    _script(services / "bin/apt-get", apt)
    run = _run(services, "tools/services", PATH=f"{services}/bin:/usr/bin:/bin")
    assert run.returncode == 0
    assert "apt install made-up-package" in run.stderr


def test_without_the_right_to_install_nothing_is_tried(services: Path) -> None:
    _script(services / "bin/id", "echo 1000")
    _script(services / "bin/sudo", "exit 1")
    _script(services / "bin/apt-get", f"echo called >> {services}/calls")
    run = _run(services, "tools/services", PATH=f"{services}/bin:/usr/bin:/bin")
    assert run.returncode == 0
    assert "apt-get cannot be used here" in run.stderr
    assert "still missing" in run.stderr
    assert not (services / "calls").exists()


# --- tools/view ---------------------------------------------------------------------------------


def test_the_view_shows_the_package_as_it_is_installed(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "tools", tmp_path / "tools")
    for name in ["schemas", "cache/stores"]:
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "__init__.py").touch()
    (tmp_path / "src/tfx_encore").mkdir(parents=True)
    (tmp_path / "src/tfx_encore/__init__.py").touch()
    (tmp_path / "src/tfx_encore/py.typed").touch()
    (tmp_path / "cache/__init__.py").write_text("first = 1")
    for _ in range(2):
        assert _run(tmp_path, "tools/view").returncode == 0
    view = tmp_path / "build/view/tfx_encore"
    assert sorted(p.name for p in view.iterdir()) == ["__init__.py", "cache", "py.typed", "schemas"]
    (tmp_path / "cache/__init__.py").write_text("second = 2")
    assert (view / "cache/__init__.py").read_text() == "second = 2"
