"""Which parameters of the components are known only when a pipeline runs. No IO here.

The pipelines for Kubeflow are the local ones. What the local runner computes before a run, a
planner computes in the run's first task: it builds the same components and hands out their
parameters, each under one of the names below. Nothing is computed twice in two ways.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tfx_encore.schemas.errors import ConfigError

# name -> (component, its parameter), of which the first gives the value and all receive it.
Bindings = Mapping[str, tuple[tuple[str, str], ...]]

# A planner puts these out.
RELEASE_PLANNED: Bindings = {
    "data_folder": (("CsvExampleGen", "input_base"),),
    "data_files": (("CsvExampleGen", "input_config"),),
    "transform_config": (("Transform", "custom_config"),),
    "trainer_config": (("Trainer", "custom_config"),),
    "provenance": (("VersionedPusher", "provenance"),),
}
NIGHT_PLANNED: Bindings = {
    "date": (
        ("NightRecorder", "date"),
        ("RequestLogExampleGen", "date"),
        ("LoggedEvaluator", "date"),
        ("TrendMonitor", "date"),
    ),
    "inputs_digest": (
        ("NightRecorder", "inputs_digest"),
        ("RequestLogExampleGen", "inputs_digest"),
    ),
    "policy_digest": (("NightRecorder", "policy_digest"),),
    "run_id": (("NightRecorder", "run_id"),),
    "earlier_nights": (("SeasonalDriftValidator", "nights"),),
    "drift_policy": (("SeasonalDriftValidator", "policy"),),
    "skew_policy": (("SkewValidator", "policy"),),
    "trend_policy": (("TrendMonitor", "policy"),),
}
# Pipeline parameters go into these as they are.
RELEASE_GIVEN: Bindings = {
    "releases": (
        ("LiveRelease", "releases"),
        ("CacheWarmer", "releases"),
        ("VersionedPusher", "releases"),
    ),
    "request_log": (("CacheWarmer", "request_log"),),
    "drift": (("DriftValidator", "policy"),),
    "evaluation": (("SlicedEvaluator", "policy"),),
}
NIGHT_GIVEN: Bindings = {
    "releases": (
        ("LiveRelease", "releases"),
        ("TrendMonitor", "releases"),
        ("SnapshotCoverage", "releases"),
        ("NightRecorder", "releases"),
    ),
    "evaluation": (
        ("LoggedEvaluator", "policy"),
        ("TrendMonitor", "evaluation"),
        ("NightRecorder", "evaluation_policy"),
    ),
    "nightly": (("LoggedEvaluator", "nightly"), ("NightRecorder", "nightly_policy")),
}
# A new name for the files' content makes Kubeflow's cache notice a change in place.
DATA_DIGEST = ("CsvExampleGen", "input_fingerprint")


def values_of(nodes: Sequence[Any], bindings: Bindings) -> dict[str, str]:
    """The value of each name, read from components that were built for this run."""
    by_id = {node.id: node for node in nodes}
    return {
        name: str(by_id[places[0][0]].exec_properties[places[0][1]])
        for name, places in bindings.items()
    }


def bind(nodes: Sequence[Any], bindings: Bindings, values: Mapping[str, Any]) -> None:
    """Puts a runtime parameter or a placeholder where components had a constant.

    Raises:
        ConfigError: a component has no such parameter, so that the table above is out of date.
    """
    by_id = {node.id: node for node in nodes}
    for name, places in bindings.items():
        for component, parameter in places:
            node = by_id.get(component)
            if node is None or parameter not in node.spec.PARAMETERS:
                raise ConfigError(f"{component} has no parameter {parameter!r} to bind {name} to")
            node.spec.exec_properties[parameter] = values[name]
