"""The folders, how they are imported, and what is public."""

from __future__ import annotations

import importlib
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

import tfx_encore

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

PUBLIC_NAMES = [
    "CacheInvalidation",
    "CacheSnapshot",
    "CacheWarmer",
    "CoverageReport",
    "DriftReport",
    "DriftValidator",
    "LiveRelease",
    "LoggedEvaluator",
    "NightDecision",
    "NightFiles",
    "NightRecorder",
    "NightStatistics",
    "RequestLogExampleGen",
    "RequestLogReport",
    "SliceReport",
    "SlicedEvaluator",
    "SnapshotCoverage",
    "TrendMonitor",
    "TrendReport",
    "VersionedPusher",
    "__version__",
]


def _fresh(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs code in a new interpreter whose working folder is not the checkout."""
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_top_level_folder_is_imported_under_the_package(folder: str, root: Path) -> None:
    assert (root / folder / "__init__.py").is_file()
    module = importlib.import_module(f"tfx_encore.{folder}")
    assert Path(module.__file__ or "").resolve().parent == (root / folder).resolve()


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_subfolder_with_code_is_a_package(folder: str, root: Path) -> None:
    with_code = {file.parent for file in (root / folder).rglob("*.py")}
    assert [str(path) for path in with_code if not (path / "__init__.py").is_file()] == []


def test_the_bare_folder_names_are_not_importable_elsewhere(tmp_path: Path) -> None:
    code = (
        "import importlib.util\n"
        f"found = [n for n in {FOLDERS} if importlib.util.find_spec(n)]\n"
        "raise SystemExit(f'importable: {found}' if found else 0)"
    )
    run = _fresh(code, tmp_path)
    assert (run.returncode, run.stderr) == (0, "")


def test_the_package_is_importable_elsewhere_and_costs_nothing(tmp_path: Path) -> None:
    heavy = "{'tensorflow', 'tfx', 'apache_beam', 'pydantic', 'numpy'}"
    run = _fresh(f"import sys, tfx_encore; print(sorted({heavy} & set(sys.modules)))", tmp_path)
    assert (run.stdout.strip(), run.stderr) == ("[]", "")


def test_one_top_level_name_is_installed() -> None:
    top_level = importlib.metadata.distribution("tfx-encore").read_text("top_level.txt")
    assert top_level is not None
    assert top_level.split() == ["tfx_encore"]


def test_the_public_names_are_these_and_no_others() -> None:
    assert sorted(tfx_encore.__all__) == sorted(PUBLIC_NAMES)


def test_every_public_name_loads_a_class_of_that_name() -> None:
    classes = [name for name in PUBLIC_NAMES if name != "__version__"]
    assert [getattr(tfx_encore, name).__name__ for name in classes] == classes


def test_every_component_is_public() -> None:
    from tfx_encore import components

    assert set(components.__all__) <= set(tfx_encore.__all__)


def test_an_unknown_public_name_says_where_the_known_ones_are() -> None:
    with pytest.raises(AttributeError, match=r"tfx_encore\.__all__"):
        tfx_encore.NoSuchThing  # noqa: B018


def test_the_version_is_the_one_installed() -> None:
    assert importlib.metadata.version("tfx-encore") == tfx_encore.__version__
