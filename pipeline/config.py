"""The project file `encore.yaml`: its shape, how it is read, and what is said when it is wrong."""

from __future__ import annotations

import difflib
import pathlib
import typing
from typing import Any, Optional

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tfx_encore.schemas.drift_policy import DriftPolicy
from tfx_encore.schemas.errors import ConfigError
from tfx_encore.schemas.evaluation_policy import EvaluationPolicy
from tfx_encore.schemas.release_policy import ReleasePolicy
from tfx_encore.schemas.warmup_policy import WarmupPolicy

FILE_NAME = "encore.yaml"
MODEL_NAME = r"^[a-zA-Z][a-zA-Z0-9_-]{0,62}$"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataConfig(_Section):
    """Where the data of each span lies, and its schema."""

    spans: str = Field(
        description="Pattern of the CSV files of a span; {SPAN} stands for its number, as "
        "data/span-{SPAN}/*.csv. Relative to this file."
    )
    schema_file: str = Field(
        alias="schema", description="The curated schema (.pbtxt). Relative to this file."
    )
    eval_share: float = Field(
        default=1 / 3, gt=0, lt=1, description="Share of rows held out for evaluation, in (0, 1)."
    )


class TrainingConfig(_Section):
    """The user's Transform and training code."""

    module: str = Field(
        description="Python file (relative to this file) or importable module with "
        "preprocessing_fn and run_fn."
    )
    train_steps: int = Field(default=200, ge=1, description="Training steps.")
    eval_steps: int = Field(default=20, ge=1, description="Evaluation steps during training.")
    hyperparameters: dict[str, Any] = Field(
        default_factory=dict, description="Given to run_fn as fn_args.custom_config."
    )


class BeamConfig(_Section):
    """How Beam runs. The defaults run in this process."""

    runner: str = Field(default="FnApiRunner", description="Name of a Beam runner.")
    options: tuple[str, ...] = Field(
        default=(), description="Further Beam options, as --parallelism=4."
    )


class MetadataConfig(_Section):
    """The ML Metadata store. SQLite in the workspace unless `mysql` or `grpc` is given."""

    sqlite: Optional[str] = Field(
        default=None, description="SQLite file. Default: metadata.sqlite in the workspace."
    )
    mysql: Optional[str] = Field(
        default=None, description="mysql://USER@HOST:PORT/DATABASE; the password from password_env."
    )
    grpc: Optional[str] = Field(
        default=None, description="HOST:PORT of an ML Metadata gRPC server, as Kubeflow runs one."
    )
    password_env: str = Field(
        default="ENCORE_METADATA_PASSWORD",
        description="Environment variable that holds the password of the MySQL user.",
    )


class ProjectConfig(_Section):
    """A TFX Encore project."""

    model: str = Field(pattern=MODEL_NAME, description="The model's name in TF Serving and MLMD.")
    workspace: str = Field(
        default=".encore",
        description="Folder for ML Metadata, artifacts, releases, logs and reports.",
    )
    releases: Optional[str] = Field(
        default=None, description="Release directory. Default: releases in the workspace."
    )
    data: DataConfig
    training: TrainingConfig
    drift: DriftPolicy = Field(default_factory=DriftPolicy)
    evaluation: EvaluationPolicy
    warmup: WarmupPolicy = Field(default_factory=WarmupPolicy)
    release: ReleasePolicy = Field(default_factory=ReleasePolicy)
    beam: BeamConfig = Field(default_factory=BeamConfig)
    metadata: MetadataConfig = Field(default_factory=MetadataConfig)


def load_config(path: str | pathlib.Path) -> ProjectConfig:
    """Reads and validates a project file.

    Raises:
        ConfigError: the file is missing, is not YAML, or has a wrong key, type or value.
    """
    file = pathlib.Path(path)
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        message = (
            f"no such file; `encore init DIR` writes one, `--config FILE` names another: {file}"
        )
        raise ConfigError(message) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"not readable as YAML: {_one_line(error)}", file=str(file)) from error
    if not isinstance(document, dict):
        raise ConfigError(
            f"expected a mapping with the keys {', '.join(_keys(ProjectConfig))}", file=str(file)
        )
    return parse_config(document, source=str(file))


def parse_config(document: dict[str, Any], *, source: str) -> ProjectConfig:
    """Validates a document that was read from `source`.

    Raises:
        ConfigError: names the source, the key, the value and the valid choices.
    """
    try:
        return ProjectConfig.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise _config_error(first, source) from error


def check_features(
    used: dict[str, typing.Iterable[str]], features: typing.Iterable[str], source: str
) -> None:
    """Checks that each feature that the configuration names is in the schema.

    Args:
        used: dotted key of the configuration -> the feature names it holds.
        features: the features of the schema.
        source: the project file's path.

    Raises:
        ConfigError: a name is not in the schema; suggests the nearest.
    """
    known = sorted(features)
    for key, names in used.items():
        for name in names:
            if name not in known:
                raise ConfigError(
                    f"no feature {name!r} in the schema{_suggest(name, known)}",
                    file=source,
                    key=key,
                )


def _config_error(first: Any, source: str) -> ConfigError:
    path = [part for part in first["loc"] if not _is_tag(part)]
    key = ".".join(str(part) for part in path)
    value = first.get("input")
    if first["type"] == "extra_forbidden":
        valid = _keys(_model_at(ProjectConfig, path[:-1]))
        return ConfigError(
            f"unknown key{_suggest(str(path[-1]), valid)}",
            file=source,
            key=key,
        )
    if first["type"] == "missing":
        return ConfigError("this key is required", file=source, key=key)
    return ConfigError(f"{first['msg']}, found {value!r}", file=source, key=key)


def _is_tag(part: Any) -> bool:
    return isinstance(part, str) and part.startswith("function-")


def _model_at(model: type[BaseModel], path: list[Any]) -> type[BaseModel]:
    """The model that holds the key at the end of `path`."""
    for part in path:
        if isinstance(part, int):
            continue
        for name, field in model.model_fields.items():
            if part in (name, field.alias):
                nested = _nested_model(field.annotation)
                model = nested or model
    return model


def _nested_model(annotation: Any) -> type[BaseModel] | None:
    """The first pydantic model inside an annotation such as Optional[X] or tuple[X, ...]."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in typing.get_args(annotation):
        found = _nested_model(argument)
        if found is not None:
            return found
    return None


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _suggest(name: str, valid: list[str]) -> str:
    near = difflib.get_close_matches(name, valid, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{hint} Valid: {', '.join(valid)}" if hint else f"; valid: {', '.join(valid)}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
