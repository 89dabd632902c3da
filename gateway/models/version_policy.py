"""Which of the versions under a base path are wanted. No IO here.

As tensorflow_serving/sources/storage_path/file_system_storage_path_source.cc decides it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

# absl::SimpleAtoi<int64>: blanks around and a sign are allowed, and so are leading zeros.
_NUMBER = re.compile(r"[ \t\n\v\f\r]*[+-]?[0-9]+[ \t\n\v\f\r]*")


class VersionPolicy(BaseModel):
    """FileSystemStoragePathSourceConfig.ServableVersionPolicy."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["latest", "all", "specific"] = Field(
        default="latest", description="the newest ones, all, or those that are listed"
    )
    num_versions: int = Field(
        default=1, ge=0, description="how many of the newest; 0 means 1, as in TensorFlow Serving"
    )
    versions: tuple[int, ...] = Field(default=(), description="those that are listed")

    def wanted(self, found: Mapping[int, str]) -> dict[int, str]:
        """Returns the versions to serve, ascending.

        Args:
            found: version -> name of its directory.
        """
        ascending = sorted(found)
        if self.kind == "latest":
            ascending = ascending[-max(self.num_versions, 1) :]
        elif self.kind == "specific":
            ascending = [version for version in ascending if version in self.versions]
        return {version: found[version] for version in ascending}

    def missing(self, found: Iterable[int]) -> tuple[int, ...]:
        """Returns the versions that are listed but not there, ascending."""
        if self.kind != "specific":
            return ()
        return tuple(sorted(set(self.versions) - set(found)))


class Found(NamedTuple):
    """What the names under a base path say.

    Attributes:
        versions: version -> name of its directory.
        ignored: names that stand for a version that another name stands for too.
    """

    versions: dict[int, str]
    ignored: tuple[str, ...]


def find_versions(names: Iterable[str]) -> Found:
    """Reads the names under a base path; of two that mean one version the last in order counts."""
    versions: dict[int, str] = {}
    ignored = []
    for name in sorted(names):
        version = version_number(name)
        if version is None:
            continue
        if version in versions:
            ignored.append(versions[version])
        versions[version] = name
    return Found(versions, tuple(ignored))


def version_number(name: str) -> int | None:
    """Returns the version that a directory of this name holds, as 7 for `0007`; None if none."""
    if not _NUMBER.fullmatch(name):
        return None
    number = int(name)
    return number if -(2**63) <= number < 2**63 else None
