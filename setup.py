"""Packages the top-level folders as `tfx_encore.<folder>`; nothing else is installed."""

from __future__ import annotations

import glob
import pathlib

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
FOLDERS = (
    "schemas",
    "monitoring",
    "cache",
    "metadata",
    "gateway",
    "components",
    "pipeline",
    "kubeflow",
)
# Used from a checkout (`kubectl apply -k`, `make image`), so not installed.
FROM_CHECKOUT = tuple(
    HERE / "kubeflow" / name for name in ("base", "components", "image", "make-secrets", "overlays")
)


def _packages() -> list[str]:
    """Every package below the folders, under its installed name."""
    names = ["tfx_encore"]
    for folder in FOLDERS:
        if (HERE / folder / "__init__.py").exists():
            names.append(f"tfx_encore.{folder}")
            names += [f"tfx_encore.{folder}.{name}" for name in find_packages(str(HERE / folder))]
    return names


def _data(folder: str) -> list[str]:
    """The files of a folder that are no code, whatever they are, as patterns."""
    found = (path.relative_to(HERE / folder) for path in (HERE / folder).rglob("*"))
    return [
        glob.escape(str(path))
        for path in sorted(found)
        if path.suffix not in {".py", ".pyc"}
        and not any(part.startswith((".", "__pycache__")) for part in path.parts)
        and (HERE / folder / path).is_file()
        and not any((HERE / folder / path).is_relative_to(place) for place in FROM_CHECKOUT)
    ]


setup(
    packages=_packages(),
    package_dir={
        "": "src",
        **{f"tfx_encore.{folder}": folder for folder in FOLDERS},
    },
    package_data={
        "tfx_encore": ["py.typed"],
        **{f"tfx_encore.{folder}": _data(folder) for folder in FOLDERS},
    },
)
