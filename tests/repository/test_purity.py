"""The pure files: a file that says "No IO here" holds to it, and the core says it."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

MARK = "no io here"
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

# The files that decide something: whoever adds a decision elsewhere marks that file as well.
CORE = [
    "cache/answers.py",
    "cache/bucket_rows.py",
    "cache/breaker.py",
    "cache/cache_policy.py",
    "cache/certification.py",
    "cache/entry.py",
    "cache/entry_codec.py",
    "cache/invalidation.py",
    "cache/keys.py",
    "cache/row_spec.py",
    "cache/rows.py",
    "cache/selection.py",
    "gateway/agreement.py",
    "gateway/errors.py",
    "gateway/models/aspirations.py",
    "gateway/models/version_life.py",
    "gateway/models/version_policy.py",
    "gateway/signature.py",
    "gateway/status.py",
    "metadata/ledger.py",
    "metadata/reconcile.py",
    "metadata/release_state.py",
    "metadata/night_ledger.py",
    "monitoring/divergence.py",
    "monitoring/drift.py",
    "monitoring/drift_nights.py",
    "monitoring/drift_seasonal.py",
    "monitoring/drift_skew.py",
    "monitoring/estimate.py",
    "monitoring/intervals.py",
    "monitoring/multiple_testing.py",
    "monitoring/night_judge.py",
    "monitoring/night_record.py",
    "monitoring/night_slices.py",
    "monitoring/null_floors.py",
    "monitoring/served_paths.py",
    "monitoring/served_slices.py",
    "monitoring/slice_counts.py",
    "monitoring/slice_discovery.py",
    "monitoring/slice_gate.py",
    "monitoring/statistics_merge.py",
    "monitoring/trend.py",
    "monitoring/trend_alarm.py",
    "monitoring/trend_detector.py",
    "monitoring/trend_threshold.py",
    "schemas/charts.py",
    "schemas/decisions.py",
    "schemas/drift_policy.py",
    "schemas/evaluation_policy.py",
    "schemas/nightly_policy.py",
    "schemas/nights.py",
    "schemas/records.py",
    "schemas/release.py",
    "schemas/serial.py",
]

# What no pure file loads, and what the core does not load either.
FRAMEWORKS = [
    *["tensorflow", "tfx", "tfx_bsl", "apache_beam", "keras", "tf_keras", "kfp", "redis"],
    *["tensorflow_data_validation", "tensorflow_model_analysis", "tensorflow_transform"],
    *["tensorflow_serving", "aiohttp", "fastapi", "starlette", "flask", "uvicorn", "django"],
    *["tornado", "werkzeug", "uvloop", "httptools"],
]
STORES = ["ml_metadata", "grpc", "lmdb", "pymysql", "MySQLdb", "sqlite3"]

IO_MODULES = {
    *["asyncio", "ftplib", "http", "requests", "select", "shutil", "smtplib", "socket"],
    *["sqlite3", "ssl", "subprocess", "tempfile", "urllib3"],
}
IO_CALLS = {"open", "print", "input"}

# Imports each module in turn and says which heavy ones came with it first.
_PROBE = """
import importlib, json, sys
heavy, names = json.loads(sys.argv[1]), json.loads(sys.argv[2])
found = {}
for name in names:
    before = set(sys.modules)
    importlib.import_module(name)
    new = set(sys.modules) - before
    if bad := sorted(set(heavy) & new):
        found[name] = bad
print(json.dumps(found))
"""


def says_it_is_pure(source: str) -> bool:
    """Whether the first lines of a module promise that it does no IO."""
    head = source.lower().splitlines()[:12]
    return MARK in " ".join(line.strip("#\"' ") for line in head)


def io_in(source: str) -> list[str]:
    """Imports of IO modules and calls of `open`, `print`, `input`, as `line N: what`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            names = [f"{node.func.id}()"] if node.func.id in IO_CALLS else []
        else:
            continue
        found += [
            f"line {node.lineno}: {name}"
            for name in names
            if name.endswith("()") or name.split(".")[0] in IO_MODULES
        ]
    return found


def _pure_files(root: Path) -> list[Path]:
    files = (file for folder in FOLDERS for file in sorted((root / folder).rglob("*.py")))
    return [file for file in files if says_it_is_pure(file.read_text())]


def _heavy_imports(heavy: list[str], modules: list[str], cwd: Path) -> dict[str, list[str]]:
    probe = subprocess.run(
        [sys.executable, "-c", _PROBE, json.dumps(heavy), json.dumps(modules)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert probe.returncode == 0, probe.stderr
    return json.loads(probe.stdout)


def _module(file: Path, root: Path) -> str:
    parts = file.relative_to(root).with_suffix("").parts
    return ".".join(["tfx_encore", *(part for part in parts if part != "__init__")])


@pytest.mark.parametrize("name", CORE)
def test_the_core_says_that_it_does_no_io(name: str, root: Path) -> None:
    assert says_it_is_pure((root / name).read_text())


def test_pure_files_load_no_framework(root: Path, tmp_path: Path) -> None:
    modules = [_module(file, root) for file in _pure_files(root)]
    assert len(modules) >= len(CORE)
    assert _heavy_imports(FRAMEWORKS, modules, tmp_path) == {}


def test_the_core_loads_no_store_either(root: Path, tmp_path: Path) -> None:
    modules = [_module(root / name, root) for name in CORE]
    assert _heavy_imports([*FRAMEWORKS, *STORES], modules, tmp_path) == {}


def test_pure_files_do_no_io(root: Path) -> None:
    found = {str(f.relative_to(root)): io_in(f.read_text()) for f in _pure_files(root)}
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


def test_a_framework_in_a_pure_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "innocent.py").write_text("import json\n")
    (tmp_path / "guilty.py").write_text("import innocent\nimport tornado\n")
    assert _heavy_imports(FRAMEWORKS, ["innocent", "guilty"], tmp_path) == {"guilty": ["tornado"]}


@pytest.mark.parametrize(
    "source",
    ["import socket", "from urllib3 import x", "def f():\n  open('a')", "import http.client"],
)
def test_io_in_a_pure_file_is_found(source: str) -> None:
    assert len(io_in(source)) == 1


@pytest.mark.parametrize(
    ("source", "pure"),
    [
        ('"""Keys. No IO here."""', True),
        ("# No IO\n# here: keys only.\n", True),
        ('"""Reads files."""\n', False),
        ('"""Reads files."""\n' + "\n" * 20 + "# no io here", False),
    ],
)
def test_the_promise_is_read_from_the_first_lines(source: str, pure: bool) -> None:
    assert says_it_is_pure(source) is pure
