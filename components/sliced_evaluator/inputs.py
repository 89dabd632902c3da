"""Looks at models and examples before anything is run, so that a mistake is named at once."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Optional

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx import types
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.utils import io_utils, path_utils

from tfx_encore.schemas.errors import ConfigError, DataError, ModelError
from tfx_encore.schemas.evaluation_policy import EvaluationPolicy

_ROWS_LOOKED_AT = 1000


@dataclass(frozen=True)
class LiveModel:
    """The model that is live, and what it is called."""

    artifact: types.Artifact
    name: str


def live_model(artifacts: Optional[list[types.Artifact]]) -> Optional[LiveModel]:
    """The baseline, or None where nothing is live: no artifact, or one without a SavedModel."""
    if not artifacts:
        return None
    artifact = artifacts[0]
    if artifact.get_custom_property("present") == 0 or not _saved_model(artifact):
        return None
    name = artifact.get_string_custom_property("release") or "the baseline model"
    return LiveModel(artifact, name)


def check_model(artifact: types.Artifact, name: str, policy: EvaluationPolicy) -> None:
    """Refuses a model that cannot be evaluated as the policy says.

    Raises:
        ModelError: there is no SavedModel, it is unreadable, or it lacks a signature.
    """
    path = _saved_model(artifact)
    if not path:
        raise ModelError(f"{name} has no SavedModel in {artifact.uri}/Format-Serving")
    try:
        with fileio.open(path, "rb") as file:
            graph = saved_model_pb2.SavedModel.FromString(file.read()).meta_graphs[0]
    except Exception as error:
        raise ModelError(f"{name}: {path} is not a SavedModel: {error}") from error
    signatures = sorted(key for key in graph.signature_def if not key.startswith("__"))
    functions = {
        child.local_name for node in graph.object_graph_def.nodes[:1] for child in node.children
    }
    if policy.signature_name not in signatures:
        raise ModelError(
            f"{name} has no signature {policy.signature_name!r}; it has {', '.join(signatures)}"
        )
    for wanted in policy.preprocessing_functions:
        if wanted not in functions.union(signatures):
            raise ModelError(
                f"{name} has no preprocessing function {wanted!r}; it has {', '.join(signatures)}"
            )


def check_features(
    inputs: dict[str, list[types.Artifact]], policy: EvaluationPolicy, splits: str
) -> None:
    """Refuses slices by features, and a raw label, that do not exist.

    Where there is a schema TFMA reads what it names and nothing else, so it decides; else the
    first rows do.

    Raises:
        ConfigError: a slice or the label names a feature that is not there, or a split is not.
        DataError: the splits hold no rows, or cannot be read.
    """
    seen = _features_seen(inputs["examples"], json.loads(splits))
    schema = inputs.get("schema")
    known = _features_of_schema(schema) if schema else seen
    place = "the schema" if schema else "the data"
    for position, names in enumerate(policy.slices):
        for feature in names:
            _require(feature, known, place, f"evaluation.slices.{position}")
    if not policy.preprocessing_functions:
        _require(policy.label_key, known, place, "evaluation.label_key")


def _require(feature: str, known: set[str], place: str, key: str) -> None:
    if feature not in known:
        raise ConfigError(
            f"no feature {feature!r} in {place}; it has {', '.join(sorted(known))}", key=key
        )


def _saved_model(artifact: types.Artifact) -> Optional[str]:
    old = path_utils.is_old_model_artifact(artifact)
    path = f"{path_utils.serving_model_path(artifact.uri, old)}/saved_model.pb"
    return path if fileio.exists(path) else None


def _features_of_schema(schemas: list[types.Artifact]) -> set[str]:
    path = io_utils.get_only_uri_in_dir(schemas[0].uri)
    schema = io_utils.parse_pbtxt_file(path, schema_pb2.Schema())
    return {feature.name for feature in schema.feature}


def _features_seen(examples: list[types.Artifact], splits: Iterable[str]) -> set[str]:
    names: set[str] = set()
    empty = True
    for record in itertools.islice(_records(examples, splits), _ROWS_LOOKED_AT):
        names.update(tf.train.Example.FromString(record).features.feature)
        empty = False
    if empty:
        raise DataError(
            f"no rows to evaluate on in the splits {', '.join(splits)} of {examples[0].uri}"
        )
    return names


def _records(examples: list[types.Artifact], splits: Iterable[str]) -> Iterator[Any]:
    for uri in _split_uris(examples, splits):
        for file in sorted(fileio.glob(io_utils.all_files_pattern(uri))):
            yield from _records_of(file)


def _split_uris(examples: list[types.Artifact], splits: Iterable[str]) -> Iterator[str]:
    known = artifact_utils.decode_split_names(examples[0].split_names)
    for split in splits:
        if split not in known:
            raise ConfigError(
                f"the examples have no split {split!r}; they have {', '.join(known)}",
                key="example_splits",
            )
        yield from artifact_utils.get_split_uris(examples, split)


def _records_of(file: str) -> Iterator[Any]:
    compression = "GZIP" if file.endswith(".gz") else ""
    try:
        yield from tf.data.TFRecordDataset(file, compression).as_numpy_iterator()
    except tf.errors.OpError as error:
        raise DataError(f"{file} cannot be read: {error.message}") from error
