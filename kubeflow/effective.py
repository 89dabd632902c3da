"""The configuration that a run goes by: the one compiled in, with the run's parameters. No IO here.

Only sections that are pipeline parameters can change from run to run. The rest is in the graph, and
a value that the graph would not follow is refused instead of ignored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tfx_encore.pipeline.config import ProjectConfig, parse_config
from tfx_encore.schemas.errors import ConfigError

# Sections of encore.yaml that each pipeline takes as parameters.
SECTIONS = {"release": ("drift", "evaluation"), "nightly": ("evaluation", "nightly")}
# Of these, what decides how components are wired or how the log is read.
FIXED = (
    "evaluation.signature_name",
    "evaluation.prediction_key",
    "nightly.log",
    "nightly.labels.join",
    "nightly.labels.column",
)


def effective_config(kind: str, compiled: str, given: Mapping[str, str]) -> ProjectConfig:
    """The configuration of a run.

    Args:
        kind: `release` or `nightly`.
        compiled: the configuration as it was when the pipeline was compiled, as JSON.
        given: section -> the run's value for it, as JSON.

    Raises:
        ConfigError: a value is not valid, or is of a key that is fixed when compiled.
    """
    document = json.loads(compiled)
    for section in SECTIONS[kind]:
        if section in given:
            document[section] = _object(section, given[section])
    config = parse_config(document, source="pipeline parameters")
    check_fixed(kind, json.loads(compiled), config)
    return config


def check_fixed(kind: str, compiled: Mapping[str, Any], config: ProjectConfig) -> None:
    """Checks that nothing differs but what a run may change.

    Raises:
        ConfigError: names the key.
    """
    before = parse_config(dict(compiled), source="compiled pipeline")
    old, new = (c.model_dump(mode="json", by_alias=True) for c in (before, config))
    free = SECTIONS[kind]
    changed = [key for key in old if key not in free and old[key] != new[key]]
    changed += [key for key in FIXED if _at(old, key) != _at(new, key)]
    if changed:
        raise ConfigError(
            f"is fixed when the {kind} pipeline is compiled; change encore.yaml and run "
            f"`encore kubeflow compile {kind}` again. A run may change {' and '.join(free)}, but "
            f"not {', '.join(FIXED)}",
            key=changed[0],
        )


def _at(document: Mapping[str, Any], key: str) -> Any:
    value: Any = document
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _object(section: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError(
            f"the pipeline parameter is not JSON: {error}; let `encore kubeflow submit --set "
            f"{section}.KEY=VALUE` write it",
            key=section,
        ) from error
