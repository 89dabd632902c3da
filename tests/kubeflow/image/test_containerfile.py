"""The Containerfile: what it starts from, what it fetches, who it runs as."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def folder(root: Path) -> Path:
    return root / "kubeflow/image"


@pytest.fixture(scope="module")
def lines(folder: Path) -> list[str]:
    """The instructions, continued lines joined."""
    text = (folder / "Containerfile").read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def _instructions(lines: list[str], name: str) -> list[str]:
    return [line.removeprefix(name).strip() for line in lines if line.split()[0] == name]


def _last_stage(lines: list[str]) -> list[str]:
    start = max(number for number, line in enumerate(lines) if line.startswith("FROM "))
    return lines[start:]


def test_both_bases_can_be_pinned_and_are_public_ones_of_one_python(lines) -> None:
    arguments = dict(a.split("=", 1) for a in _instructions(lines, "ARG") if "=" in a)
    assert _instructions(lines, "FROM") == ["${BUILDER} AS builder", "${BASE}"]
    full = re.fullmatch(r"docker\.io/library/python:([\d.]+)-(\w+)", arguments["BUILDER"])
    slim = re.fullmatch(r"docker\.io/library/python:([\d.]+)-slim-(\w+)", arguments["BASE"])
    assert full is not None
    assert slim is not None
    assert full.groups() == slim.groups()


def test_the_only_things_fetched_are_packages_by_hash(lines, folder) -> None:
    assert _instructions(lines, "ADD") == []
    assert not any("://" in line for line in lines)
    installs = (folder / "install.sh").read_text().replace("\\\n", " ").splitlines()
    fetching = [line for line in installs if re.search(r"pip (install|sync)\b", line)]
    assert len(fetching) == 3
    for line in fetching:
        assert "--require-hashes" in line or "--offline" in line, line
    assert not re.search(r"\b(curl|wget|apt|apt-get|git)\b", "\n".join([*lines, *installs]))


def test_the_last_stage_runs_no_command_and_is_not_root(lines) -> None:
    last = _last_stage(lines)
    assert _instructions(last, "RUN") == []
    (user,) = _instructions(last, "USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user), "Kubernetes checks numbers, not names"
    (entry,) = _instructions(last, "ENTRYPOINT")
    assert entry == '["encore"]', "the exec form, so that SIGTERM arrives"


def test_everything_that_is_written_goes_to_one_folder(lines) -> None:
    environment = dict(
        word.split("=", 1) for word in " ".join(_instructions(_last_stage(lines), "ENV")).split()
    )
    for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "MPLCONFIGDIR", "IPYTHONDIR"):
        assert environment[name].split("/")[1] == "tmp", name
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"


def test_secrets_are_mounted_and_never_arguments(lines) -> None:
    for line in [*_instructions(lines, "ARG"), *_instructions(lines, "ENV")]:
        assert not re.search(r"(?i)pip|index|proxy|cert|token|password", line), line
    mounts = re.findall(r"--mount=type=(\w+),id=([\w-]+)", "\n".join(lines))
    assert mounts == [("secret", "pip"), ("secret", "ca")]


def test_the_context_is_what_is_listed_and_nothing_else(folder, root) -> None:
    text = (folder / "Containerfile.dockerignore").read_text()
    rules = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    copied = re.findall(
        r"^COPY (?!--from)(.+) \S+$", (folder / "Containerfile").read_text(), re.MULTILINE
    )
    sources = {word.split("/")[0] for line in copied for word in line.split()} - {"${REQUIREMENTS}"}
    allowed = {rule.removeprefix("!").split("/")[0] for rule in rules if rule.startswith("!")}
    assert sources | {"requirements"} == allowed


def test_every_folder_of_the_package_is_copied(root, lines) -> None:
    folders = re.search(r"FOLDERS = \((.*?)\)", (root / "setup.py").read_text(), re.DOTALL)
    assert folders is not None
    copied = {line.split()[0] for line in _instructions(lines, "COPY")}
    assert set(re.findall(r'"(\w+)"', folders[1])) <= copied


@pytest.mark.parametrize("name", ["install.sh", "prune.sh"])
def test_the_scripts_of_the_builder_are_portable_shell(folder, name) -> None:
    checked = subprocess.run(["sh", "-n", folder / name], capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr
