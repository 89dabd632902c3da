"""`--set drift.thresholds.psi=0.3`: values of encore.yaml given on the command line. No IO here."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import yaml

from tfx_encore.schemas.errors import ConfigError


def with_overrides(document: dict[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """A project document with some keys set; it is validated by whoever parses it.

    Args:
        document: what encore.yaml holds.
        settings: KEY=VALUE, the key with dots, the value as YAML has it.

    Raises:
        ConfigError: not KEY=VALUE, a value that is not YAML, or a key below one that is no mapping.
    """
    changed = copy.deepcopy(document)
    for setting in settings:
        key, value = _split(setting)
        _put(changed, key, value)
    return changed


def _split(setting: str) -> tuple[str, Any]:
    key, equals, text = setting.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"{setting!r} is not KEY=VALUE, as drift.thresholds.psi=0.3", key="--set")
    try:
        return key, yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{text!r} is not YAML: {error}", key=key) from error


def _put(document: dict[str, Any], key: str, value: Any) -> None:
    *above, last = key.split(".")
    place = document
    for number, part in enumerate(above, start=1):
        if place.get(part) is None:
            place[part] = {}
        place = place[part]
        if not isinstance(place, dict):
            raise ConfigError(f"{'.'.join(above[:number])} is no mapping", key=key)
    place[last] = value
