"""A compiled pipeline as a file: a PipelineSpec, and a PlatformSpec where tasks need volumes.

Two YAML documents, as Kubeflow's API server and its SDK read them. Every text that any YAML reader
could take for something else is quoted: Kubeflow reads with Go, and the two do not agree on what is
a number.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from tfx_encore.schemas.errors import ConfigError

_PLAIN = re.compile(r"[A-Za-z][A-Za-z_]*[A-Za-z]\Z")
_WORDS = {"true", "false", "yes", "no", "on", "off", "null", "nan", "inf"}


@dataclass(frozen=True)
class Package:
    """A compiled pipeline.

    Attributes:
        pipeline: the PipelineSpec, as JSON has it.
        platform: the PlatformSpec; {} if there is none.
    """

    pipeline: dict[str, Any]
    platform: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The pipeline's name."""
        return str(self.pipeline.get("pipelineInfo", {}).get("name", ""))

    @property
    def parameters(self) -> Mapping[str, dict[str, Any]]:
        """Name -> declaration of each pipeline parameter."""
        declared = self.pipeline.get("root", {}).get("inputDefinitions", {}).get("parameters", {})
        return dict(declared)


class _Dumper(yaml.SafeDumper):
    """Quotes whatever is more than a word."""

    def ignore_aliases(self, data: Any) -> bool:
        """Go's YAML reader limits aliases, and people cannot follow them."""
        del data
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    plain = _PLAIN.match(value) and value.lower() not in _WORDS
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if plain else '"')


_Dumper.add_representer(str, _text)


def package_text(package: Package) -> str:
    """The documents of a package, as YAML."""
    documents = [package.pipeline, *([package.platform] if package.platform else [])]
    head = f"# {package.name}, compiled by `encore kubeflow compile`; change encore.yaml instead.\n"
    return head + yaml.dump_all(
        documents, Dumper=_Dumper, sort_keys=True, width=2**20, allow_unicode=True
    )


def write_package(package: Package, file: pathlib.Path) -> None:
    """Writes a package; a file that is there is replaced at once."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.partial")
    partial.write_text(package_text(package), encoding="utf-8")
    partial.replace(file)


def read_package(file: pathlib.Path) -> Package:
    """Reads a package.

    Raises:
        ConfigError: there is no such file, or it is no compiled pipeline.
    """
    try:
        documents = list(yaml.safe_load_all(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(
            f"cannot be read: {error.strerror}; `encore kubeflow compile` writes it",
            file=str(file),
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"not readable as YAML: {error}", file=str(file)) from error
    found = [document for document in documents if isinstance(document, dict)]
    specs = [document for document in found if "pipelineInfo" in document]
    platforms = [document for document in found if "platforms" in document]
    if len(specs) != 1 or len(platforms) > 1:
        raise ConfigError(
            "holds no single pipeline specification; `encore kubeflow compile` writes one",
            file=str(file),
        )
    return Package(specs[0], platforms[0] if platforms else {})
