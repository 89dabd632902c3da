"""The project file `encore.yaml`: its shape, how it is read, and what is said when it is wrong."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, Optional

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tfx_encore.pipeline.beam_options import beam_args
from tfx_encore.pipeline.config_errors import first_error, keys_of, suggestion
from tfx_encore.pipeline.yaml_reader import Document, Path, YamlError, read_yaml
from tfx_encore.schemas.drift_policy import DriftPolicy
from tfx_encore.schemas.errors import ConfigError
from tfx_encore.schemas.evaluation_policy import EvaluationPolicy
from tfx_encore.schemas.metrics_policy import MetricsPolicy
from tfx_encore.schemas.nightly_policy import NightlyPolicy
from tfx_encore.schemas.release_policy import ReleasePolicy
from tfx_encore.schemas.warmup_policy import WarmupPolicy

FILE_NAME = "encore.yaml"
MODEL_NAME = r"^[a-zA-Z][a-zA-Z0-9_-]{0,62}$"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataConfig(_Section):
    """Where the data of each span lies, and its schema."""

    spans: str = Field(
        description="Pattern of the CSV files of a span; {SPAN} stands for its number, written "
        "without leading zeros, as data/span-{SPAN}/*.csv. Relative to this file."
    )
    schema_file: str = Field(
        alias="schema", description="The curated schema (.pbtxt). Relative to this file."
    )
    request_log: Optional[str] = Field(
        default=None,
        description="Pattern of PredictionLog TFRecord files, relative to this file; the "
        "cache is warmed with the rows that they hold most often, instead of the examples'.",
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
    """How Beam runs. The defaults run in this process; docs/scale.md has the rest."""

    runner: str = Field(
        default="FnApiRunner",
        description="FnApiRunner (in this process, or on worker pools), FlinkRunner, SparkRunner, "
        "DataflowRunner, PortableRunner or PrismRunner. DirectRunner means FnApiRunner.",
    )
    options: tuple[str, ...] = Field(
        default=(), description="Further Beam options, as --parallelism=4."
    )

    @model_validator(mode="after")
    def _usable(self) -> BeamConfig:
        try:
            beam_args(self.runner, self.options)
        except ConfigError as error:
            raise ValueError(str(error).removeprefix(f"{error.key}: ")) from error
        return self


class MetadataConfig(_Section):
    """The ML Metadata store. SQLite in the workspace unless `mysql` or `grpc` is given.

    It holds the ledger of invalidation records, unless the release journal does.
    """

    sqlite: Optional[str] = Field(
        default=None, description="SQLite file. Default: metadata.sqlite in the workspace."
    )
    mysql: Optional[str] = Field(
        default=None, description="mysql://USER@HOST:PORT/DATABASE; the password from password_env."
    )
    grpc: Optional[str] = Field(
        default=None, description="HOST:PORT of an ML Metadata gRPC server, as Kubeflow runs one."
    )
    journal: bool = Field(
        default=False,
        description="The release journal is the ledger, and no ML Metadata is asked for records: "
        "for a Kubeflow without it. The records are the same.",
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
    nightly: NightlyPolicy = Field(default_factory=NightlyPolicy)
    beam: BeamConfig = Field(default_factory=BeamConfig)
    metadata: MetadataConfig = Field(default_factory=MetadataConfig)
    metrics: MetricsPolicy = Field(default_factory=MetricsPolicy)


def load_config(path: str | pathlib.Path) -> ProjectConfig:
    """Reads and validates a project file.

    Raises:
        ConfigError: the file is missing, is not YAML, or has a wrong key, type or value.
    """
    document = load_document(path)
    return parse_config(document.content, source=str(path), lines=document.lines)


def load_document(path: str | pathlib.Path) -> Document:
    """Reads a project file without validating what it says.

    Raises:
        ConfigError: the file is missing or is not YAML.
    """
    file = pathlib.Path(path)
    try:
        return read_yaml(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            "no such file; `encore init DIR` writes one, `--config FILE` names another",
            file=str(file),
        ) from error
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=str(file)) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"not UTF-8: {error.reason} at byte {error.start}", file=str(file)
        ) from error
    except YamlError as error:
        raise ConfigError(f"not readable as YAML: {error}", file=str(file)) from error


def parse_config(
    document: Any, *, source: str, lines: Mapping[Path, int] | None = None
) -> ProjectConfig:
    """Validates a document that was read from `source`.

    Types are taken strictly: "5" is no number, and true is no 1.

    Args:
        document: what the file holds.
        source: its name, for messages.
        lines: path of keys and indices -> line in the file, for messages.

    Raises:
        ConfigError: names the source, the key, the value and the valid choices.
    """
    if not isinstance(document, dict):
        found = "nothing" if document is None else f"a {_NAMES.get(type(document), 'value')}"
        keys = ", ".join(keys_of(ProjectConfig))
        raise ConfigError(f"expected a mapping with the keys {keys}; found {found}", file=source)
    try:
        return ProjectConfig.model_validate_json(json.dumps(document), strict=True)
    except ValidationError as error:
        raise first_error(
            error, ProjectConfig, document, source=source, lines=lines or {}
        ) from error
    except ValueError as error:
        raise ConfigError(f"cannot be validated: {error}", file=source) from error


def config_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a project file, for editors."""
    schema = ProjectConfig.model_json_schema(by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "TFX Encore project",
    }


def features_used(config: ProjectConfig) -> dict[str, tuple[str, ...]]:
    """Dotted key -> raw feature names, for every place of the configuration that names some."""
    drift, evaluation, warmup = config.drift, config.evaluation, config.warmup
    timestamp = (warmup.timestamp_feature,) if warmup.timestamp_feature else ()
    label = () if evaluation.preprocessing_functions else (evaluation.label_key,)
    return {
        "drift.ignore_features": drift.ignore_features,
        "drift.labels": drift.labels,
        "drift.features": tuple(drift.features),
        "evaluation.label_key": label,
        "evaluation.slices": tuple(name for names in evaluation.slices for name in names),
        "evaluation.watched_slices": tuple(
            name for values in evaluation.watched_slices for name in values
        ),
        "warmup.exclude_features": warmup.exclude_features,
        "warmup.timestamp_feature": timestamp,
    }


def check_features(used: Mapping[str, Iterable[str]], features: Iterable[str], source: str) -> None:
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
                    f"no feature {name!r} in the schema{suggestion(name, known)}",
                    file=source,
                    key=key,
                )


_NAMES = {list: "list", str: "text", int: "number", float: "number", bool: "truth value"}
