"""tools/bootstrap, with a uv that only pretends: what it decides, says and leaves behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# Pretends to make an environment and to install; notes each call.
FAKE_UV = """#!/bin/bash
echo "$*" >> "$CALLS"
case "$1 $2" in
    "--version ") echo "uv ${FAKE_UV_VERSION:-0.13.8}" ;;
    "python find") exit 1 ;;
    "venv "*) mkdir -p .venv/bin; ln -s "$5" .venv/bin/python ;;
    "pip sync")
        env | grep -E '^(UV_|SSL_)' | sort > "$CALLS.env"
        touch .venv/half-installed
        sleep "${FAKE_SECONDS:-0}"
        rm -f .venv/half-installed
        if [ -n "${FAKE_ERROR:-}" ]; then echo "error: $FAKE_ERROR"; exit 2; fi ;;
    "pip install") touch .venv/bin/encore; chmod +x .venv/bin/encore ;;
esac
"""

# Pretends to be of a version, and of that only.
FAKE_PYTHON = """#!/bin/bash
case "$1" in
    -V) echo "Python {version}.9" ;;
    -c) code=$2; shift 2
        exec {real} -c 'import sys
sys.version_info = (*map(int, "{version}".split(".")), 9, "final", 0)
sys._base_executable, sys.abiflags = "{path}", "{flags}"
exec(sys.argv.pop(1))' "$code" "$@" ;;
    *) exec {real} "$@" ;;
esac
"""
OLD_GLIBC, NEW_GLIBC = "2.36", "2.39"


class Project:
    """A small checkout with the real tools and made-up programs on PATH."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.folder = folder / "checkout"
        self.bin = folder / "bin"
        self.calls_file = folder / "calls"
        self.home = folder / "home"
        for path in (self.folder / "schemas", self.bin, self.home):
            path.mkdir(parents=True)
        shutil.copytree(root / "tools", self.folder / "tools")
        shutil.copytree(root / "requirements", self.folder / "requirements")
        for name in ("pyproject.toml", "setup.py", ".python-version"):
            shutil.copy(root / name, self.folder / name)
        (self.folder / "schemas/__init__.py").touch()
        self.program("uv", FAKE_UV)
        self.program("g++", "#!/bin/sh\n")
        self.program("gcc", "#!/bin/sh\n")
        self.program("pyenv", "#!/bin/sh\nexit 1\n")
        self.glibc(OLD_GLIBC)
        self._hide_the_machines_pythons()
        self.python("3.10")

    def program(self, name: str, text: str) -> None:
        """Puts a program first on PATH."""
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def _hide_the_machines_pythons(self) -> None:
        """None is found but those of `python`, which have headers while a file is there."""
        for version in ("3.10", "3.11", "3.12", "3.13"):
            self.hide(version)
        self.edit(
            "choice.sh",
            ("echo python3\n", ":\n"),
            ('echo "/usr/bin/python$version"\n', ":\n"),
            ('echo "/usr/local/bin/python$version"\n', ":\n"),
        )
        self.headers = self.home / "Python.h"
        self.headers.touch()
        self.edit(
            "bootstrap", ("has_headers() {\n", f"has_headers() {{ [ -e {self.headers} ]; return\n")
        )

    def edit(self, tool: str, *changes: tuple[str, str]) -> None:
        """Replaces texts of a tool, each of which it has once."""
        path = self.folder / "tools" / tool
        text = path.read_text()
        for old, new in changes:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        path.write_text(text)

    def hide(self, version: str) -> None:
        """As pyenv's shim does where another version is selected."""
        self.program(f"python{version}", "#!/bin/sh\necho 'command not found' >&2\nexit 127\n")

    def glibc(self, version: str) -> None:
        """The C library that the machine seems to have."""
        self.program("getconf", f"#!/bin/sh\necho glibc {version}\n")

    def python(self, version: str, path: Path | None = None, flags: str = "") -> Path:
        """A Python that seems to be of a version, on PATH unless placed elsewhere."""
        path = path or self.bin / f"python{version}"
        # The one of these tests: a system's own may lack pip.
        real = sys.executable
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(FAKE_PYTHON.format(version=version, real=real, path=path, flags=flags))
        path.chmod(0o755)
        return path

    def environment(self, **extra: str) -> dict[str, str]:
        return {
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "HOME": str(self.home),
            "CALLS": str(self.calls_file),
            "PIP_CONFIG_FILE": os.devnull,
            **extra,
        }

    def start(self, mode: str = "run", **extra: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.folder / "tools/bootstrap", mode],
            cwd=self.home,
            env=self.environment(**extra),
            text=True,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def bootstrap(self, mode: str = "run", **extra: str) -> tuple[int, str]:
        """Runs it; the exit code and what it said."""
        process = self.start(mode, **extra)
        said = process.communicate(timeout=60)[1]
        return process.returncode, said

    def installs(self) -> list[str]:
        """The requirement file of each install so far."""
        lines = self.calls_file.read_text().splitlines() if self.calls_file.exists() else []
        return [line.split()[-1] for line in lines if line.startswith("pip sync")]


@pytest.fixture
def project(root: Path, tmp_path: Path) -> Project:
    return Project(root, tmp_path)


RUN = "requirements/tfx116-py310.txt"
DEV = "requirements/dev-py310.txt"
RUN_121 = "requirements/tfx121-py311-py313.txt"
DEV_121 = "requirements/dev-py311-py313.txt"
CHOSEN = (
    "==> TFX 1.16 on Python 3.10, as this system's glibc, 2.36, is older than the 2.39 that "
    "TFX 1.21 needs\n"
)


def _pinned(project: Project, name: str) -> int:
    return sum("==" in line for line in (project.folder / name).read_text().splitlines())


def test_a_first_call_installs_the_pinned_set_and_says_its_stages(project: Project) -> None:
    code, said = project.bootstrap("run")
    assert code == 0, said
    assert project.installs() == [RUN]
    stages = [line.split()[1] for line in said.splitlines()]
    assert stages == ["TFX", ".venv", str(_pinned(project, RUN)), "tfx-encore,", "ready"]


def test_packages_are_installed_by_hash_and_without_resolving(project: Project) -> None:
    project.bootstrap("run")
    calls = project.calls_file.read_text()
    assert "pip sync --quiet --python .venv/bin/python --require-hashes" in calls
    assert "--no-deps --no-build-isolation --offline -e ." in calls


def test_a_second_call_does_nothing_and_is_quick(project: Project) -> None:
    project.bootstrap("run")
    before = project.calls_file.read_text()
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        assert project.bootstrap("run") == (0, CHOSEN)
        seconds.append(time.perf_counter() - start)
    assert project.calls_file.read_text() == before
    assert min(seconds) < 0.5


def test_the_development_set_serves_both_commands(project: Project) -> None:
    project.bootstrap("dev")
    assert project.bootstrap("run") == (0, CHOSEN)
    assert project.installs() == [DEV]


def test_the_run_set_does_not_serve_the_tests(project: Project) -> None:
    project.bootstrap("run")
    project.bootstrap("dev")
    assert project.installs() == [RUN, DEV]


@pytest.mark.parametrize(
    "changed", ["requirements/tfx116-py310.txt", "pyproject.toml", "tools/bootstrap"]
)
def test_a_changed_input_installs_again(project: Project, changed: str) -> None:
    project.bootstrap("run")
    with (project.folder / changed).open("a") as file:
        file.write("\n")
    project.bootstrap("run")
    assert len(project.installs()) == 2


def test_a_new_top_level_package_installs_again(project: Project) -> None:
    project.bootstrap("run")
    (project.folder / "gateway").mkdir()
    (project.folder / "gateway/__init__.py").touch()
    project.bootstrap("run")
    assert len(project.installs()) == 2


def test_a_moved_checkout_installs_again(project: Project) -> None:
    project.bootstrap("run")
    project.folder = project.folder.rename(project.folder.with_name("elsewhere"))
    project.bootstrap("run")
    assert len(project.installs()) == 2


def test_an_environment_whose_python_is_gone_is_made_anew(project: Project) -> None:
    project.bootstrap("run")
    python = project.folder / ".venv/bin/python"
    python.unlink()
    python.symlink_to("/nowhere/python")
    assert project.bootstrap("run")[0] == 0
    assert python.exists()


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


def test_a_killed_install_is_started_over(project: Project) -> None:
    half = project.folder / ".venv/half-installed"
    process = project.start("run", FAKE_SECONDS="30")
    _wait_for(half)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert half.exists()
    code, said = project.bootstrap("run")
    assert code == 0
    assert "interrupted or failed: starting over" in said
    assert not half.exists()


def test_an_interrupted_install_says_that_the_next_starts_over(project: Project) -> None:
    process = project.start("run", FAKE_SECONDS="30")
    _wait_for(project.folder / ".venv/half-installed")
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "Interrupted; the next run starts over." in said
    assert "starting over" in project.bootstrap("run")[1]


def test_uv_alone_is_found_without_installing_anything(project: Project) -> None:
    found = subprocess.run(
        [project.folder / "tools/bootstrap", "uv"],
        env=project.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == str(project.bin / "uv")
    assert project.installs() == []


def test_a_uv_that_is_too_old_is_not_used(project: Project) -> None:
    # Without a way to make environments the private one cannot be installed either.
    project.program("python3.10", "#!/bin/sh\nexit 127\n")
    project.program("python3", "#!/bin/sh\nexit 1\n")
    project.edit("bootstrap", ("python3 /usr/bin/python3;", "python3;"))
    code, said = project.bootstrap("run", FAKE_UV_VERSION="0.4.9")
    assert code == 1
    assert "uv could not be installed" in said
    assert "apt install python3-venv" in said


def test_two_at_once_install_once(project: Project) -> None:
    first = project.start("run", FAKE_SECONDS="1")
    _wait_for(project.folder / ".venv/half-installed")
    code, said = project.bootstrap("run")
    assert (code, first.wait(timeout=60)) == (0, 0)
    assert "another install is at work here" in said
    assert len(project.installs()) == 1


def test_a_failing_install_shows_the_end_of_the_log_and_leaves_no_stamp(project: Project) -> None:
    code, said = project.bootstrap("run", FAKE_ERROR="no route to the packages")
    assert code == 1
    assert "    error: no route to the packages" in said
    assert ".cache/bootstrap.log" in said
    assert project.bootstrap("run")[0] == 0
    assert len(project.installs()) == 2


def test_another_system_is_told_what_to_do(project: Project) -> None:
    project.program("uname", '#!/bin/sh\n[ "$1" = -m ] && echo arm64 || echo Darwin\n')
    code, said = project.bootstrap("run")
    assert code == 1
    assert "Linux x86-64; this machine is Darwin arm64" in said
    assert "docker run --platform linux/amd64" in said


@pytest.mark.parametrize(
    ("getconf", "message"),
    [
        ("#!/bin/sh\necho glibc 2.17\n", "glibc 2.28 or newer; this system has 2.17"),
        ("#!/bin/sh\nexit 1\n", "needs the GNU C library"),
    ],
)
def test_an_unfit_c_library_is_told_what_to_do(
    project: Project, getconf: str, message: str
) -> None:
    project.program("getconf", getconf)
    code, said = project.bootstrap("run")
    assert code == 1
    assert message in said
    assert "Debian 11 or newer" in said


def test_without_python_310_the_ways_to_it_are_listed(project: Project) -> None:
    project.hide("3.10")
    project.python("3.12")
    code, said = project.bootstrap("run")
    assert code == 1
    assert "Python 3.10 was not found, and TFX 1.16 runs on no other" in said
    assert "uv python install 3.10" in said
    assert "ENCORE_PYTHON=" in said
    assert project.installs() == []


@pytest.mark.parametrize("version", ["3.10", "3.12"])
def test_a_pyenv_version_that_is_not_selected_is_found(project: Project, version: str) -> None:
    project.glibc(NEW_GLIBC)
    project.hide("3.10")
    project.python(version, project.home / f".pyenv/versions/{version}.99/bin/python{version}")
    code, said = project.bootstrap("run")
    assert code == 0, said
    assert f"on Python {version}" in said


@pytest.mark.parametrize(
    ("glibc", "pythons", "install", "reason"),
    [
        ("2.36", ["3.10", "3.13"], RUN, "TFX 1.16 on Python 3.10, as this system's glibc, 2.36,"),
        ("2.39", ["3.10", "3.11", "3.13"], RUN_121, "TFX 1.21 on Python 3.13, the newest; glibc"),
        ("2.41", ["3.11"], RUN_121, "TFX 1.21 on Python 3.11, the newest; glibc 2.41"),
        ("2.41", ["3.12", "3.14"], RUN_121, "TFX 1.21 on Python 3.12, the newest; glibc 2.41"),
        ("2.41", ["3.10", "3.14"], RUN, "TFX 1.16 on Python 3.10, as no Python 3.11 to 3.13"),
    ],
)
def test_the_machine_decides_which_tfx_it_gets_and_is_told_why(
    project: Project, glibc: str, pythons: list[str], install: str, reason: str
) -> None:
    project.glibc(glibc)
    project.hide("3.10")
    for version in pythons:
        project.python(version)
    code, said = project.bootstrap("run")
    assert code == 0, said
    assert project.installs() == [install]
    assert said.startswith(f"==> {reason}")


def test_the_development_set_is_that_of_the_same_tfx(project: Project) -> None:
    project.glibc(NEW_GLIBC)
    project.python("3.13")
    assert project.bootstrap("dev")[0] == 0
    assert project.installs() == [DEV_121]


def test_a_python_without_the_global_lock_is_not_taken(project: Project) -> None:
    project.glibc(NEW_GLIBC)
    project.python("3.13", flags="t")
    project.python("3.11")
    assert "TFX 1.21 on Python 3.11" in project.bootstrap("run")[1]


def test_the_other_tfx_can_be_asked_for_and_the_machines_own_comes_back(project: Project) -> None:
    project.glibc(NEW_GLIBC)
    project.python("3.13")
    code, said = project.bootstrap("run", ENCORE_TFX="1.16")
    assert (code, project.installs()) == (0, [RUN])
    assert said.startswith("==> TFX 1.16 on Python 3.10, as ENCORE_TFX=1.16 asks")
    assert project.bootstrap("run")[0] == 0
    assert project.installs() == [RUN, RUN_121]
    assert (project.folder / ".venv/bin/python").readlink() == project.bin / "python3.13"


def test_tfx_121_is_refused_where_the_c_library_is_too_old(project: Project) -> None:
    project.python("3.13")
    code, said = project.bootstrap("run", ENCORE_TFX="1.21")
    assert code == 1
    assert "needs glibc 2.39 or newer; this system has 2.36" in said
    assert "tools/debian13 make run" in said
    assert project.installs() == []


def test_tfx_121_without_a_python_for_it_lists_the_ways(project: Project) -> None:
    project.glibc(NEW_GLIBC)
    code, said = project.bootstrap("run", ENCORE_TFX="1.21")
    assert code == 1
    assert "Python 3.11, 3.12 or 3.13 was not found" in said
    assert "uv python install 3.13" in said
    assert "apt install python3 python3-dev python3-venv" in said


def test_a_tfx_that_is_not_pinned_is_refused(project: Project) -> None:
    code, said = project.bootstrap("run", ENCORE_TFX="1.17")
    assert code == 1
    assert "valid: 1.16, 1.21" in said


def test_a_chosen_python_brings_its_tfx(project: Project) -> None:
    project.glibc(NEW_GLIBC)
    project.python("3.13")
    other = project.python("3.12", project.home / "mine/python")
    code, said = project.bootstrap("run", ENCORE_PYTHON=str(other))
    assert (code, project.installs()) == (0, [RUN_121])
    assert said.startswith(f"==> TFX 1.21 on Python 3.12, as ENCORE_PYTHON={other} needs")


@pytest.mark.parametrize(
    ("version", "tfx", "message"),
    [
        ("3.9", "", "is not a 64-bit CPython that starts, of 3.10 (TFX 1.16) or 3.11 to 3.13"),
        ("3.14", "", "is not a 64-bit CPython that starts, of 3.10 (TFX 1.16) or 3.11 to 3.13"),
        ("3.13", "", "needs TFX 1.21, and that needs glibc 2.39 or newer; this system has 2.36"),
        ("3.13", "1.16", "runs TFX 1.21, and ENCORE_TFX=1.16 asks for another"),
    ],
)
def test_a_chosen_python_that_cannot_be_is_refused(
    project: Project, version: str, tfx: str, message: str
) -> None:
    other = project.python(version, project.home / "mine/python")
    code, said = project.bootstrap("run", ENCORE_PYTHON=str(other), ENCORE_TFX=tfx)
    assert code == 1
    assert message in said
    assert project.installs() == []


def test_the_headers_of_the_systems_python_come_from_apt(project: Project) -> None:
    """As on a Debian 13 that has Python and nothing to compile with."""
    project.glibc(NEW_GLIBC)
    project.python("3.13")
    project.edit("bootstrap", ("$PYTHON != /usr/bin/*", f"$PYTHON != {project.bin}/*"))
    project.headers.unlink()
    project.program("id", "#!/bin/sh\necho 0\n")
    project.program("apt-get", '#!/bin/bash\necho "apt $*" >> "$CALLS"\n')
    code, said = project.bootstrap("run")
    assert code == 1
    assert "apt install python3.13-dev" in said
    calls = project.calls_file.read_text().splitlines()
    (install,) = [line for line in calls if "install -" in line]
    assert install.endswith("install --no-install-recommends python3.13-dev")
    project.headers.touch()
    assert project.bootstrap("run")[0] == 0


def test_settings_of_pip_are_read_where_the_python_has_no_pip(project: Project) -> None:
    """Debian's own Python comes without."""
    python = project.python("3.10")
    python.write_text(python.read_text().replace("    -V)", "    -m) exit 1 ;;\n    -V)"))
    project.python("3.11", project.bin / "python3")
    project.bootstrap("run", PIP_INDEX_URL="https://packages.example/x")
    seen = (project.calls_file.with_suffix(".env")).read_text()
    assert "UV_DEFAULT_INDEX=https://packages.example/x" in seen


def test_an_unknown_set_is_refused(project: Project) -> None:
    code, said = project.bootstrap("everything")
    assert code == 1
    assert "unknown set 'everything'; valid: run, dev, uv" in said


def test_the_settings_of_pip_reach_uv(project: Project) -> None:
    project.bootstrap(
        "run", PIP_INDEX_URL="https://packages.example/x", PIP_EXTRA_INDEX_URL="file:///a"
    )
    seen = (project.calls_file.with_suffix(".env")).read_text().splitlines()
    assert "UV_DEFAULT_INDEX=https://packages.example/x" in seen
    assert "UV_INDEX=file:///a" in seen


def test_a_setting_of_uv_wins_over_pips(project: Project) -> None:
    project.bootstrap(
        "run", PIP_INDEX_URL="https://a.example", UV_DEFAULT_INDEX="https://b.example"
    )
    assert (
        "UV_DEFAULT_INDEX=https://b.example" in project.calls_file.with_suffix(".env").read_text()
    )
