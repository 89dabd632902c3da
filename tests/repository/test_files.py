"""What must not stand in a file of the repository, and what requirements must look like."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

# Joined from pieces, so that this file does not match itself.
_DASHES = "-" * 2
FORBIDDEN = {
    "an index on the command line": re.compile(f"{_DASHES}(extra-)?index-url"),
    "a package index": re.compile(r"https?://\S*(" + "py" + r"pi|pythonhosted|simple/)"),
    "a home folder": re.compile(r"(?<![\w.])/(" + "ro" + r"ot|home/\w+|Users/\w+)/"),
    "credentials in an address": re.compile(r"https?://[^\s/@:]+:[^\s/@]+@"),
}

PIN = re.compile(r"^[a-z0-9][a-z0-9._-]*(\[[a-z0-9,-]+\])?==[^\s;]+( ; [^\\]+)?$")
# For each TFX what the product runs on, and that with what developing needs.
SETS = [
    ("tfx116-py310.txt", "dev-py310.txt"),
    ("tfx121-py311-py313.txt", "dev-py311-py313.txt"),
]
HASH = re.compile(r"^--hash=sha256:[0-9a-f]{64}$")


def findings(text: str, checkout: Path) -> list[str]:
    """What in `text` names a place that other machines do not have, as `line N: what`."""
    found = [
        f"line {number}: {what}"
        for number, line in enumerate(text.splitlines(), 1)
        for what, pattern in FORBIDDEN.items()
        if pattern.search(line)
    ]
    # Deep enough not to be a word that means something else.
    if len(checkout.parts) > 2 and str(checkout) in text:
        found.append("the path of this checkout")
    return found


def test_no_file_names_an_index_or_a_place_on_one_machine(
    repository_files: list[Path], root: Path
) -> None:
    found = {}
    for file in repository_files:
        try:
            text = file.read_text()
        except UnicodeDecodeError:
            continue  # a picture
        if wrong := findings(text, root):
            found[str(file.relative_to(root))] = wrong
    assert found == {}


@pytest.mark.parametrize(
    "line",
    [
        f"pip install {_DASHES}index-url https://x",
        f"{_DASHES}extra-index-url=y",
        "see https://" + "py" + "pi.org/simple",
        "see https://files.python" + "hosted.org/a",
        "cd /ro" + "ot/x",
        "open('/home/" + "someone/x')",
        "https://user:" + "secret@example.com",
        "cd /srv/checkouts/encore && make",
    ],
)
def test_a_planted_place_is_found(line: str) -> None:
    assert len(findings(f"fine\n{line}\n", Path("/srv/checkouts/encore"))) == 1


def test_an_ordinary_address_is_let_through() -> None:
    text = "https://github.com/tensorflow/tfx and --no-emit-index-url and /usr/bin and $HOME/x"
    assert findings(text, Path("/srv/checkouts/encore")) == []


def _pins(file: Path) -> dict[str, set[str]]:
    """Versions by package, checking that every entry is a pin with hashes and nothing else.

    There are several where markers choose between them.
    """
    entries = re.sub(r"\\\n", " ", file.read_text()).splitlines()
    pins: dict[str, set[str]] = {}
    for entry in entries:
        pin, *hashes = re.split(r"\s+(?=--hash)", entry.strip())
        assert PIN.match(pin), f"{file.name}: not a pin: {pin}"
        assert hashes, f"{file.name}: no hash: {pin}"
        assert all(HASH.match(each) for each in hashes), f"{file.name}: {pin}"
        name, version = pin.split(" ; ")[0].split("==")
        pins.setdefault(name, set()).add(version)
    return pins


def _locks(root: Path) -> list[Path]:
    return sorted((root / "requirements").glob("*.txt"))


def test_every_requirement_is_pinned_by_version_and_hash(root: Path) -> None:
    names = {file.name for file in _locks(root)}
    assert names >= {"uv.txt", *(name for pair in SETS for name in pair)}
    assert all(_pins(file) for file in _locks(root))


def test_every_lock_has_its_source(root: Path) -> None:
    assert [f.name for f in _locks(root) if not f.with_suffix(".in").is_file()] == []


@pytest.mark.parametrize(("run_set", "dev_set"), SETS)
def test_the_development_set_contains_the_run_set_unchanged(
    root: Path, run_set: str, dev_set: str
) -> None:
    run = _pins(root / "requirements" / run_set)
    dev = _pins(root / "requirements" / dev_set)
    assert {name: dev.get(name) for name in run} == run


@pytest.mark.parametrize("run_set", [run for run, _ in SETS])
def test_source_packages_are_built_with_the_pinned_tools(root: Path, run_set: str) -> None:
    run = _pins(root / "requirements" / run_set)
    build = _pins(root / "requirements/build.txt")
    assert build["setuptools"] == run["setuptools"]


def _marks(root: Path) -> set[tuple[str, tuple[str, ...]]]:
    """Every `pytest.mark.X(...)` in the tests, with its string arguments."""
    found: set[tuple[str, tuple[str, ...]]] = set()
    for file in (root / "tests").rglob("*.py"):
        tree = ast.parse(file.read_text())
        calls = {id(n.func): n for n in ast.walk(tree) if isinstance(n, ast.Call)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pytest.mark":
                call = calls.get(id(node))
                values = [a.value for a in call.args if isinstance(a, ast.Constant)] if call else []
                found.add((node.attr, tuple(v for v in values if isinstance(v, str))))
    return found


def test_every_mark_is_registered(root: Path, pytestconfig: pytest.Config) -> None:
    registered = {re.split(r"[:(]", line)[0] for line in pytestconfig.getini("markers")}
    assert {name for name, _ in _marks(root)} - registered == set()
    assert {"slow", "service"} <= registered


def test_every_service_that_a_test_needs_is_one_that_is_installed_from_apt(root: Path) -> None:
    listed = subprocess.run(
        [root / "tools/services", "--list"], capture_output=True, text=True, check=True
    ).stdout.split()[::2]
    needed = {name for mark, names in _marks(root) if mark == "service" for name in names}
    # The tests of the conftest itself write their marks in strings, so none of theirs is here.
    assert needed - set(listed) == set()


def test_the_scripts_are_executable_and_parse(root: Path) -> None:
    names = [
        "bootstrap",
        "container-base",
        "debian13",
        "image",
        "lock",
        "podman",
        "services",
        "view",
    ]
    for name in names:
        assert (root / "tools" / name).stat().st_mode & 0o111, name
    assert (root / ".ci/run").stat().st_mode & 0o111
    scripts = [*(root / "tools").glob("*"), root / ".ci/run"]
    shell = [file for file in scripts if file.is_file() and file.suffix != ".py"]
    for file in shell:
        checked = subprocess.run(["bash", "-n", file], capture_output=True, text=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, ""), file
