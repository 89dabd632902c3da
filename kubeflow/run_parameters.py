"""The parameter values of a run, from what a person gives. No IO here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Union

from tfx_encore.kubeflow.effective import SECTIONS, check_fixed, effective_config
from tfx_encore.kubeflow.overrides import with_overrides
from tfx_encore.kubeflow.spec_package import Package
from tfx_encore.pipeline.config import parse_config
from tfx_encore.pipeline.config_errors import suggestion
from tfx_encore.schemas.errors import ConfigError
from tfx_encore.schemas.serial import to_json

Value = Union[str, int, float]

_PLANNERS = ("ReleasePlanner", "NightPlanner")
_KIND = {"ReleasePlanner": "release", "NightPlanner": "nightly"}


def run_parameters(
    package: Package, given: Iterable[str], settings: Iterable[str]
) -> dict[str, Value]:
    """The values that a run gives; what it leaves out stays as compiled.

    Args:
        package: the compiled pipeline.
        given: NAME=VALUE of pipeline parameters.
        settings: KEY=VALUE of encore.yaml, with dots.

    Raises:
        ConfigError: no such parameter, a value of another type, or a setting that is not valid or
            is fixed when the pipeline is compiled.
    """
    values = dict(_given(package, text) for text in given)
    settings = tuple(settings)
    _check_sections(package, values)
    if not settings:
        return values
    kind, config = compiled_config(package)
    changed = parse_config(
        with_overrides(_document(package, kind, config), settings), source="--set"
    )
    check_fixed(kind, config, changed)
    for section in SECTIONS[kind]:
        text = to_json(getattr(changed, section))
        if text != package.parameters[section].get("defaultValue"):
            if section in values:
                raise ConfigError(f"given both by --param and by --set {section}", key=section)
            values[section] = text
    return values


def _check_sections(package: Package, values: Mapping[str, Value]) -> None:
    """A whole section, given as JSON, is validated as `--set` is."""
    known = {section for sections in SECTIONS.values() for section in sections}
    given = {name: str(value) for name, value in values.items() if name in known}
    if given:
        kind, config = compiled_config(package)
        effective_config(kind, json.dumps(config), given)


def compiled_config(package: Package) -> tuple[str, dict[str, Any]]:
    """The kind of a package and the configuration that was compiled into it.

    Raises:
        ConfigError: it is no release or nightly pipeline of ours.
    """
    tasks = package.pipeline.get("root", {}).get("dag", {}).get("tasks", {})
    for planner in _PLANNERS:
        if planner in tasks:
            text = tasks[planner]["inputs"]["parameters"]["config"]["runtimeValue"]["constant"]
            return _KIND[planner], json.loads(text)
    raise ConfigError(
        f"{package.name} was not compiled by `encore kubeflow compile`; --set works for its "
        "pipelines only",
        key="--set",
    )


def _document(package: Package, kind: str, config: Mapping[str, Any]) -> dict[str, Any]:
    defaults = {
        section: json.loads(package.parameters[section]["defaultValue"])
        for section in SECTIONS[kind]
    }
    return {**config, **defaults}


def _given(package: Package, text: str) -> tuple[str, Value]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"{text!r} is not NAME=VALUE, as span=2", key="--param")
    if name not in package.parameters:
        known = sorted(package.parameters)
        raise ConfigError(
            f"{package.name} has no parameter {name!r}{suggestion(name, known)}; it has "
            f"{', '.join(known)}",
            key="--param",
        )
    return name, _value(name, value, package.parameters[name].get("parameterType", "STRING"))


def _value(name: str, text: str, kind: str) -> Value:
    try:
        if kind == "NUMBER_INTEGER":
            return int(text)
        if kind == "NUMBER_DOUBLE":
            return float(text)
    except ValueError as error:
        raise ConfigError(f"{text!r} is no number", key=f"--param {name}") from error
    return text
