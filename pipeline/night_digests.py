"""Digests of what nights are made from: equal digests mean that nothing new would come out."""

from __future__ import annotations

from pathlib import Path

import tfx_encore
from tfx_encore.components.night_recorder.inputs import InputFile, NightInputs
from tfx_encore.components.night_recorder.looking_back import digest_of_values
from tfx_encore.components.request_log_example_gen.sources import (
    find_label_files,
    find_log_files,
    short_name,
)
from tfx_encore.metadata.files import digest_of
from tfx_encore.pipeline.config import ProjectConfig
from tfx_encore.pipeline.run import Project

# What decides how rows are read and counted. All else decides how counts are judged.
_COUNTING = {
    "slices",
    "watched_slices",
    "decision_threshold",
    "signature_name",
    "prediction_key",
    "label_key",
    "preprocessing_functions",
}
_READING = {"log", "skew", "discovery"}
_NEITHER = {"retention", "request_log"}


def has_log(project: Project, date: str) -> bool:
    """Whether anything was logged on a day; nothing is read.

    Raises:
        DataError: the folder of the request log does not exist.
    """
    nightly = project.config.nightly
    folder = project.workspace.project / nightly.request_log
    return bool(find_log_files(folder, nightly.log, project.config.model, date))


def night_files(project: Project, date: str) -> NightInputs:
    """The request log and the labels of a day, with the digests of their content.

    Raises:
        DataError: the folder of the request log or of the labels does not exist.
    """
    nightly, model, base = project.config.nightly, project.config.model, project.workspace.project
    log = find_log_files(base / nightly.request_log, nightly.log, model, date)
    labels = (
        find_label_files(nightly.labels, base, date, model)
        if nightly.labels is not None and log
        else ()
    )
    return NightInputs(tuple(map(_file, log)), tuple(map(_file, labels)))


def inputs_digest(config: ProjectConfig, files: NightInputs, schema: str) -> str:
    """Digest of a day's files and of the configuration by which they are read.

    A file counts by its content and its short name: the log may be copied elsewhere.
    """
    labels = config.nightly.labels
    return digest_of_values(
        [[short_name(file.path), file.digest] for file in files.log],
        [[short_name(file.path), file.digest] for file in files.labels],
        config.model,
        schema,
        config.nightly.model_dump(mode="json", include=_READING),
        None if labels is None else labels.model_dump(mode="json", exclude={"files", "wait_days"}),
        config.evaluation.model_dump(mode="json", include=_COUNTING),
        config.warmup.raw_signature,
        config.warmup.exclude_features,
        tfx_encore.__version__,
    )


def policy_digest(config: ProjectConfig) -> str:
    """Digest of the configuration by which nights are judged."""
    return digest_of_values(
        config.nightly.model_dump(mode="json", exclude=_NEITHER | {"labels", "skew"}),
        config.evaluation.model_dump(mode="json"),
        tfx_encore.__version__,
    )


def _file(path: Path) -> InputFile:
    return InputFile(str(path.resolve()), digest_of(path), path.stat().st_size)
