"""Packages the top-level folders as `tfx_encore.<folder>`; nothing else is installed."""

from __future__ import annotations

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


def _packages() -> list[str]:
    """Every package below the folders, under its installed name."""
    names = ["tfx_encore"]
    for folder in FOLDERS:
        if (HERE / folder / "__init__.py").exists():
            names.append(f"tfx_encore.{folder}")
            names += [f"tfx_encore.{folder}.{name}" for name in find_packages(str(HERE / folder))]
    return names


PACKAGES = _packages()

setup(
    packages=PACKAGES,
    package_dir={
        "": "src",
        **{f"tfx_encore.{folder}": folder for folder in FOLDERS},
    },
    package_data={
        "tfx_encore": ["py.typed"],
        **{
            name: ["*.pbtxt", "*.json", "*.html", "*.css", "*.yaml", "*.js", "templates/*.tmpl"]
            for name in PACKAGES[1:]
        },
    },
)
