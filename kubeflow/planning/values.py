"""Values that a planner hands to the components after it, as Kubeflow output parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tfx import types
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.component_spec import ChannelParameter

Artifacts = dict[str, list[types.Artifact]]

_PREFIX = "planned_"  # TFX wants the names of parameters and of outputs to differ


def value_outputs(names: Iterable[str]) -> dict[str, ChannelParameter]:
    """The outputs of a component spec that hold one text each."""
    return {_PREFIX + name: ChannelParameter(type=standard_artifacts.String) for name in names}


def value_channels(names: Iterable[str]) -> dict[str, types.Channel]:
    """Channels for the outputs of `value_outputs`."""
    return {_PREFIX + name: types.Channel(type=standard_artifacts.String) for name in names}


def placeholders(outputs: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """What stands for each value where a component takes a parameter."""
    return {name: outputs[_PREFIX + name].future()[0].value for name in names}


def write_values(outputs: Artifacts, values: Mapping[str, str]) -> None:
    """Writes the values into the artifacts; the entry point makes parameters of them."""
    for name, value in values.items():
        artifact_utils.get_single_instance(outputs[_PREFIX + name]).value = value
