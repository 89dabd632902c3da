"""Reads and checks a `tensorflow.serving.ModelServerConfig`. No IO but reading a file.

As tensorflow_serving/model_servers/server_core.cc checks it, in the same order and words, but all
of it before anything changes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from tfx_encore.gateway.errors import Code, ServingError
from tfx_encore.gateway.models.version_policy import VersionPolicy
from tfx_encore.schemas.errors import ConfigError

TENSORFLOW = "tensorflow"

# tsl/platform/path.cc, ParseURI: a scheme is letters, digits and dots before `://`.
_URI = re.compile(r"[a-zA-Z][0-9a-zA-Z.]*://.*", re.DOTALL)
_ENTRY = re.compile(r"\bconfig\s*:?\s*[{<]")

Labels = Mapping[str, Mapping[str, int]]
"""Model -> label -> version."""


@dataclass(frozen=True)
class ModelSettings:
    """What is configured of one model.

    Attributes:
        name: in requests.
        base_path: holds its versions.
        policy: which of them are served.
        labels: label -> version.
        is_explicit: True if it says which versions or labels; a release directory decides else.
    """

    name: str
    base_path: str
    policy: VersionPolicy = field(default_factory=VersionPolicy)
    labels: Mapping[str, int] = field(default_factory=dict)
    is_explicit: bool = False


class ModelConfigError(ServingError):
    """A configuration that cannot be served.

    Args:
        code: what kind of failure it is.
        message: as TensorFlow Serving words it.
        entry: place of the model in the list, from 0; None if it is about the whole.
    """

    def __init__(self, code: Code, message: str, entry: int | None = None) -> None:
        self.entry = entry
        super().__init__(code, message)


@dataclass(frozen=True)
class Served:
    """What a new configuration is judged by.

    Attributes:
        config: what is configured now; None if nothing is.
        labels: that were assigned by it.
        is_available: tells whether a version of a model answers.
        allow_unavailable: `--allow_version_labels_for_unavailable_models`.
        allow_any: `--force_allow_any_version_labels_for_unavailable_models`.
    """

    config: Any
    labels: Labels
    is_available: Callable[[str, int], bool]
    allow_unavailable: bool = False
    allow_any: bool = False


# --- reading -------------------------------------------------------------------------------------


def read_text(path: str) -> str:
    """Reads a configuration file.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(
            f"cannot be read: {reason}; --model_config_file names a ModelServerConfig in text form",
            file=path,
        ) from error


def parse_text(text: str, path: str) -> Any:
    """Returns the `ModelServerConfig` that a file holds.

    Args:
        text: content of the file.
        path: of the file, for messages.

    Raises:
        ConfigError: it is not one; names the line.
    """
    try:
        return text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    except text_format.ParseError as error:
        line = error.GetLine()
        place = path if line is None else f"{path}:{line}"
        reason = re.sub(r"^\d+:\d+\s*:\s*", "", str(error))
        raise ConfigError(f"not a ModelServerConfig in text form: {reason}", file=place) from error


def single_model(name: str, base_path: str) -> Any:
    """Returns the configuration that `--model_name` and `--model_base_path` mean."""
    config = model_server_config_pb2.ModelServerConfig()
    model = config.model_config_list.config.add()
    model.name, model.base_path, model.model_platform = name, base_path, TENSORFLOW
    return config


def in_file(error: ServingError, path: str, text: str) -> ConfigError:
    """Returns an error of a configuration as one of the file that it was read from."""
    entry = error.entry if isinstance(error, ModelConfigError) else None
    line = None if entry is None else _line_of(text, entry)
    hint = (
        "; load the version first, or start with --allow_version_labels_for_unavailable_models"
        if error.code == Code.FAILED_PRECONDITION and "assign label" in error.message
        else ""
    )
    return ConfigError(error.message + hint, file=path if line is None else f"{path}:{line}")


def _line_of(text: str, entry: int) -> int | None:
    """The line, from 1, at which an entry of the list begins."""
    bare = re.sub(r"#[^\n]*", "", text)
    starts = [match.start() for match in _ENTRY.finditer(bare)]
    return bare.count("\n", 0, starts[entry]) + 1 if entry < len(starts) else None


def settings_of(config: Any) -> dict[str, ModelSettings]:
    """Returns what is configured of each model, in order; the configuration was checked."""
    return {model.name: _settings(model) for model in config.model_config_list.config}


def _settings(model: Any) -> ModelSettings:
    return ModelSettings(
        name=model.name,
        base_path=model.base_path.removeprefix("file://"),
        policy=_policy(model.model_version_policy),
        labels=dict(model.version_labels),
        is_explicit=bool(
            model.version_labels or model.model_version_policy.WhichOneof("policy_choice")
        ),
    )


def _policy(policy: Any) -> VersionPolicy:
    kind = policy.WhichOneof("policy_choice") or "latest"
    return VersionPolicy(
        kind=kind,
        num_versions=policy.latest.num_versions,
        versions=tuple(policy.specific.versions),
    )


# --- checking ------------------------------------------------------------------------------------


def check_config(new: Any, served: Served) -> None:
    """Checks that a configuration can take the place of what is served.

    Args:
        new: the configuration.
        served: what is served now.

    Raises:
        ModelConfigError: INVALID_ARGUMENT or FAILED_PRECONDITION, it cannot.
    """
    _check_kind(new, served.config)
    _check_names(new)
    _check_paths(new)
    if served.config is not None:
        _check_platform_changes(new, served.config)
    _check_labels(new, served)
    for entry, model in _entries(new):
        platform = _platform(model, entry)
        if platform != TENSORFLOW:
            raise _invalid(f"Model {model.name} requests unsupported platform {platform}", entry)


def _check_kind(new: Any, now: Any) -> None:
    if new.WhichOneof("config") == "model_config_list":
        return
    if now is not None:
        raise ModelConfigError(
            Code.FAILED_PRECONDITION,
            "Cannot transition to requested config. It is only legal to transition from one "
            "ModelConfigList to another.",
        )
    # model_servers/server.cc, LoadCustomModelConfig.
    raise _invalid("ModelServer does not yet support custom model config.", None)


def _check_names(new: Any) -> None:
    seen = set()
    for entry, model in _entries(new):
        if model.name in seen:
            raise _invalid(
                f"Illegal to list model {model.name} multiple times in config list", entry
            )
        seen.add(model.name)


def _check_paths(new: Any) -> None:
    for entry, model in _entries(new):
        if not model.base_path.startswith("/") and not _URI.fullmatch(model.base_path):
            raise _invalid(
                f"Expected model {model.name} to have an absolute path or URI; got "
                f"base_path()={model.base_path}",
                entry,
            )


def _check_platform_changes(new: Any, now: Any) -> None:
    before = {model.name: _platform(model, None) for _, model in _entries(now)}
    for entry, model in _entries(new):
        if model.name in before and (platform := _platform(model, entry)) != before[model.name]:
            raise _invalid(
                f"Illegal to change a model's platform. For model {model.name} platform was "
                f"{before[model.name]} and new platform requested is {platform}",
                entry,
            )


def _check_labels(new: Any, served: Served) -> None:
    for entry, model in _entries(new):
        assigned = served.labels.get(model.name, {})
        for label, version in sorted(model.version_labels.items()):
            is_free = assigned.get(label, version) == version
            if served.allow_any or (served.allow_unavailable and is_free):
                continue
            if not served.is_available(model.name, version):
                raise ModelConfigError(
                    Code.FAILED_PRECONDITION,
                    f"Request to assign label to version {version} of model {model.name}, which "
                    "is not currently available for inference",
                    entry,
                )


def _platform(model: Any, entry: int | None) -> str:
    """Returns a model's platform (server_core.cc, GetPlatform)."""
    if model.model_type == model_server_config_pb2.MODEL_TYPE_UNSPECIFIED:
        platform = str(model.model_platform)
    elif model.model_platform:
        raise _invalid(
            "Illegal setting both ModelServerConfig::model_type (deprecated) and "
            f"ModelServerConfig::model_platform, model name is {model.name}",
            entry,
        )
    elif model.model_type == model_server_config_pb2.TENSORFLOW:
        platform = TENSORFLOW
    else:
        raise _invalid(
            f"ModelServerConfig::model_type choice {model.model_type} not supported.", entry
        )
    if not platform:
        raise _invalid(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            f"ModelServerConfig::model_platform, model name is {model.name}",
            entry,
        )
    return platform


def _entries(config: Any) -> Iterator[tuple[int, Any]]:
    return enumerate(config.model_config_list.config)


def _invalid(message: str, entry: int | None) -> ModelConfigError:
    return ModelConfigError(Code.INVALID_ARGUMENT, message, entry)
