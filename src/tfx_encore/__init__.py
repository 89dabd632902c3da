"""TFX Encore: a served TensorFlow model stays fast and right.

The public names below are loaded when first used, so that importing the package costs nothing.
Kubeflow imports the artifact types from here, as `tfx_encore.<Class>`.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "CacheInvalidation": "tfx_encore.schemas.artifacts",
    "CacheSnapshot": "tfx_encore.schemas.artifacts",
    "CoverageReport": "tfx_encore.schemas.artifacts",
    "DriftReport": "tfx_encore.schemas.artifacts",
    "SliceReport": "tfx_encore.schemas.artifacts",
    "NightDecision": "tfx_encore.schemas.artifacts",
    "NightFiles": "tfx_encore.schemas.artifacts",
    "NightStatistics": "tfx_encore.schemas.artifacts",
    "RequestLogReport": "tfx_encore.schemas.artifacts",
    "TrendReport": "tfx_encore.schemas.artifacts",
    "CacheWarmer": "tfx_encore.components",
    "DriftValidator": "tfx_encore.components",
    "LiveRelease": "tfx_encore.components",
    "LoggedEvaluator": "tfx_encore.components",
    "NightRecorder": "tfx_encore.components",
    "RequestLogExampleGen": "tfx_encore.components",
    "SlicedEvaluator": "tfx_encore.components",
    "SnapshotCoverage": "tfx_encore.components",
    "TrendMonitor": "tfx_encore.components",
    "VersionedPusher": "tfx_encore.components",
}

__all__ = ["__version__", *sorted(_HOME)]  # noqa: PLE0604 - the names are strings


def __getattr__(name: str) -> Any:
    """Loads a public name from its home the first time it is asked for."""
    if name not in _HOME:
        raise AttributeError(f"tfx_encore has no attribute {name!r}; see tfx_encore.__all__")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
