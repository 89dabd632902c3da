"""Where things are in a release directory. Names only: no IO here.

<releases>/<model>/
  7/                    what TF Serving may see of version 7
  7.evidence/           its manifest and what the decision was made from
  labels.json           what is live: its replacement is the commit
  models.config         TF Serving's configuration, derived from labels.json
  journal/000012.json   invalidation records
  .lock  .staging/  .trash-3/  .labels.json.next
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from tfx_encore.schemas.errors import ConfigError
from tfx_encore.schemas.release_policy import LABEL_PATTERN, MODEL_NAME_PATTERN

MANIFEST = "manifest.json"
STATISTICS = "statistics"
SCHEMA = "schema.pbtxt"
DRIFT_REPORT = "drift_report"
SLICE_REPORT = "slice_report"
SNAPSHOT = "snapshot"
COVERAGE = "coverage"
EVALUATION = "evaluation"
WARMUP = Path("assets.extra") / "tf_serving_warmup_requests"

_VERSION = re.compile(r"[1-9][0-9]{0,17}")
_EVIDENCE = re.compile(r"([1-9][0-9]{0,17})\.evidence")
_ENTRY = re.compile(r"([0-9]{6,18})\.json")
_OURS_TO_REMOVE = re.compile(r"\.staging|\.trash-[0-9]+|\..+\.next")


class Layout:
    """The paths of one model's releases.

    Args:
        root: the directory that holds all models' releases.
        model: the model's name.

    Raises:
        ConfigError: the name is not one.
    """

    def __init__(self, root: str | os.PathLike[str], model: str) -> None:
        check_model_name(model)
        self.root = Path(root)
        self.model = model
        self.home = self.root / model
        self.lock = self.home / ".lock"
        self.staging = self.home / ".staging"
        self.labels = self.home / "labels.json"
        self.models_config = self.home / "models.config"
        self.journal = self.home / "journal"

    def version(self, version: int) -> Path:
        """The directory that TF Serving reads."""
        return self.home / str(version)

    def evidence(self, version: int) -> Path:
        """The directory of what the decision was made from."""
        return self.home / f"{version}.evidence"

    def manifest(self, version: int) -> Path:
        """The file that says what a version is; it outlives the version."""
        return self.evidence(version) / MANIFEST

    def trash(self, version: int) -> Path:
        """Where a version waits to be removed."""
        return self.home / f".trash-{version}"

    def entry(self, sequence: int) -> Path:
        """The journal's file for one record."""
        return self.journal / f"{sequence:06d}.json"


def version_of(name: str) -> int | None:
    """The version that a directory of this name holds, as `7` of `"7"`; None if none."""
    return int(name) if _VERSION.fullmatch(name) else None


def evidence_of(name: str) -> int | None:
    """The version that an evidence directory of this name belongs to; None if none."""
    match = _EVIDENCE.fullmatch(name)
    return int(match[1]) if match else None


def entry_of(name: str) -> int | None:
    """The sequence of the record that a journal file of this name holds; None if none."""
    match = _ENTRY.fullmatch(name)
    return int(match[1]) if match else None


def is_working_name(name: str) -> bool:
    """True for a name that only an unfinished write leaves behind."""
    return _OURS_TO_REMOVE.fullmatch(name) is not None


def check_model_name(model: str) -> None:
    """Raises ConfigError unless `model` can name a directory, a URL part and a record."""
    if not re.fullmatch(MODEL_NAME_PATTERN, model):
        raise ConfigError(
            f"{model!r} is not a model name; use letters, digits, '_', '-' and '.', at most 127, "
            "with a letter or a digit first"
        )


def check_label(label: str) -> None:
    """Raises ConfigError unless `label` can name a label."""
    if not re.fullmatch(LABEL_PATTERN, label):
        raise ConfigError(
            f"{label!r} is not a label; use lower-case letters, digits, '_' and '-', at most 63, "
            "with a letter first, as 'stable' or 'canary'"
        )
