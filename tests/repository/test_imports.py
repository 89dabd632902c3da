"""Imports run downwards only: which folder may import which."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import tfx_encore

_BELOW_PIPELINE = {"schemas", "monitoring", "cache", "metadata", "components"}

MAY_IMPORT: dict[str, set[str]] = {
    "schemas": set(),
    "monitoring": {"schemas"},
    "cache": {"schemas"},
    "metadata": {"schemas"},
    "gateway": {"schemas", "monitoring", "cache", "metadata"},
    "components": {"schemas", "monitoring", "cache", "metadata"},
    "pipeline": {*_BELOW_PIPELINE, "gateway"},
    "kubeflow": {*_BELOW_PIPELINE, "pipeline"},
}

# A module named in a string is loaded later all the same (lazy names, executor class paths).
_DOTTED = re.compile(r"tfx_encore(\.[A-Za-z_]\w*)+")


class Import(NamedTuple):
    """One import of ours: the line and the full dotted name."""

    line: int
    name: str


def imports_of(source: str, package: str) -> Iterator[Import]:
    """Every name below tfx_encore that `source`, a module in `package`, imports or names."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (Import(node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, package)
            yield from (Import(node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and _DOTTED.fullmatch(node.value)
        ):
            yield Import(node.lineno, node.value)


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    kept = parts[: len(parts) - node.level + 1]
    return ".".join([*kept, *([node.module] if node.module else [])])


def folder_of(name: str) -> str | None:
    """The folder that a dotted name belongs to; a public name belongs to its home's."""
    parts = name.split(".")
    if parts[0] != "tfx_encore" or len(parts) < 2:
        return None
    home = tfx_encore._HOME.get(parts[1])
    folder = home.split(".")[1] if home else parts[1]
    return folder if folder in MAY_IMPORT else None


def violations(source: str, package: str) -> list[str]:
    """The imports of `source` that do not run downwards, as `line N: name`."""
    own = package.split(".")[1]
    return [
        f"line {line}: {name}"
        for line, name in imports_of(source, package)
        if (folder := folder_of(name)) and folder != own and folder not in MAY_IMPORT[own]
    ]


def _package_of(file: Path, root: Path) -> str:
    return ".".join(["tfx_encore", *file.relative_to(root).parent.parts])


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_a_folder_imports_only_what_lies_below_it(folder: str, root: Path) -> None:
    found = {
        str(file.relative_to(root)): wrong
        for file in sorted((root / folder).rglob("*.py"))
        if (wrong := violations(file.read_text(), _package_of(file, root)))
    }
    assert found == {}, f"{folder} may import {sorted(MAY_IMPORT[folder]) or 'nothing of ours'}"


def test_the_face_of_the_package_loads_nothing_by_itself(root: Path) -> None:
    tree = ast.parse((root / "src/tfx_encore/__init__.py").read_text())
    imported = [
        alias.name
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    ]
    assert imported == ["annotations", "importlib", "Any"]


def test_the_rules_have_no_circle() -> None:
    done: set[str] = set()
    while ready := {name for name in MAY_IMPORT if name not in done and MAY_IMPORT[name] <= done}:
        done |= ready
    assert done == set(MAY_IMPORT)


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("tfx_encore.cache", "import tfx_encore.metadata.ledger"),
        ("tfx_encore.cache", "from tfx_encore.components import DriftValidator"),
        ("tfx_encore.cache", "from tfx_encore import pipeline"),
        ("tfx_encore.cache", "from ..metadata import ledger"),
        ("tfx_encore.cache.stores", "from ...metadata.ledger import Ledger"),
        ("tfx_encore.cache", "from .. import monitoring as m"),
        ("tfx_encore.schemas", "def f():\n    from tfx_encore.cache import keys"),
        ("tfx_encore.schemas", "if TYPE_CHECKING:\n    import tfx_encore.cache.keys"),
        ("tfx_encore.metadata", "importlib.import_module('tfx_encore.pipeline.cli')"),
        ("tfx_encore.components.drift_validator", "from tfx_encore.gateway import app"),
        ("tfx_encore.monitoring", "from tfx_encore import VersionedPusher"),
        ("tfx_encore.pipeline", "from tfx_encore.kubeflow import compile"),
    ],
)
def test_a_planted_violation_is_found(package: str, source: str) -> None:
    assert len(violations(source, package)) == 1


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("tfx_encore.cache", "from tfx_encore.schemas.records import InvalidationRecord"),
        ("tfx_encore.cache.stores", "from ..keys import row_key"),
        ("tfx_encore.cache.stores", "from ...schemas import errors"),
        ("tfx_encore.cache", "from tfx_encore import __version__, DriftReport"),
        ("tfx_encore.schemas", "TYPE_NAME = 'tfx_encore.CacheInvalidation'"),
        ("tfx_encore.schemas", "'''See tfx_encore.pipeline for the callers.'''"),
        ("tfx_encore.components.live_release", "from tfx_encore.metadata import releases"),
        ("tfx_encore.pipeline", "import tfx_encore.gateway.app"),
        ("tfx_encore.cache", "import cachetools, tfx"),
    ],
)
def test_an_import_that_runs_downwards_is_let_through(package: str, source: str) -> None:
    assert violations(source, package) == []
