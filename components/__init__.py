"""What TFX Encore adds to TFX: components of the release pipeline and of the nightly one."""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "CacheWarmer": "tfx_encore.components.cache_warmer.component",
    "DriftValidator": "tfx_encore.components.drift_validator.component",
    "LiveRelease": "tfx_encore.components.live_release.component",
    "LoggedEvaluator": "tfx_encore.components.logged_evaluator.component",
    "NightRecorder": "tfx_encore.components.night_recorder.component",
    "RequestLogExampleGen": "tfx_encore.components.request_log_example_gen.component",
    "SlicedEvaluator": "tfx_encore.components.sliced_evaluator.component",
    "SnapshotCoverage": "tfx_encore.components.rewarming.component",
    "TrendMonitor": "tfx_encore.components.trend_monitor.component",
    "VersionedPusher": "tfx_encore.components.versioned_pusher.component",
}

__all__ = sorted(_HOME)  # noqa: PLE0605 - the names are strings


def __getattr__(name: str) -> Any:
    """Loads a component the first time it is asked for."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {__all__}")
    return getattr(importlib.import_module(_HOME[name]), name)
