"""Withdrawing answers by hand: of what, and waiting until the gateways have applied it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, Optional

import click

from tfx_encore.gateway.admin import NotRunningError
from tfx_encore.gateway.admin_messages import WorkerStats
from tfx_encore.metadata.journal_ledger import JournalLedger
from tfx_encore.metadata.ledger import Ledger
from tfx_encore.metadata.release_layout import SCHEMA
from tfx_encore.metadata.releases import ReleaseDirectory, list_models
from tfx_encore.pipeline.commands.options import open_project
from tfx_encore.pipeline.config import FILE_NAME
from tfx_encore.pipeline.data_schema import read_columns
from tfx_encore.pipeline.gateway_place import Place, place_of
from tfx_encore.pipeline.mlmd import open_ledger
from tfx_encore.pipeline.publish import reconcile_project
from tfx_encore.schemas.errors import ConfigError, EncoreError
from tfx_encore.schemas.records import InvalidationRecord

_POLL_SECONDS = 0.2


class Subject(NamedTuple):
    """Of what answers are withdrawn.

    Attributes:
        releases: of the model.
        features: gives the features that a slice may name.
        publish: copies the record to where the gateway follows it.
        ledger: opens the ledger in which the gateway acknowledges.
    """

    releases: ReleaseDirectory
    features: Callable[[], Sequence[str]]
    publish: Callable[[], object]
    ledger: Callable[[], AbstractContextManager[Ledger]]


def subject_of(config: Optional[str], releases: Optional[str], model: Optional[str]) -> Subject:
    """Finds whose answers are meant.

    Raises:
        ConfigError: that cannot be told, or there is no such model.
    """
    if releases is None:
        project = open_project(config or FILE_NAME)
        if model not in (None, project.config.model):
            raise ConfigError(f"--model {model}: this project's model is {project.config.model}")
        return Subject(
            project.releases,
            project.feature_names,
            lambda: reconcile_project(project),
            lambda: open_ledger(project),
        )
    if config:
        raise ConfigError("--config and --releases both name the model; give one of them")
    known = list_models(releases)
    if model not in known:
        raise ConfigError(f"there are the models {', '.join(known) or 'none'}", key="--model")
    directory = ReleaseDirectory(releases, model)
    return Subject(
        directory,
        lambda: _features(directory),
        lambda: None,
        lambda: nullcontext(JournalLedger(releases)),
    )


def _features(releases: ReleaseDirectory) -> Sequence[str]:
    """Those of the newest version's schema."""
    versions = releases.versions()
    file = releases.evidence_path(versions[-1]) / SCHEMA if versions else None
    return tuple(read_columns(file)) if file is not None and file.is_file() else ()


def place_if_any(config: Optional[str], cache_dir: Optional[str]) -> Optional[Place]:
    """The gateway that is meant; None if nothing names one and none runs here."""
    try:
        return place_of(config, cache_dir)
    except NotRunningError:
        return None


def consumers(place: Optional[Place]) -> list[str]:
    """Who is to acknowledge: the workers that run here."""
    try:
        replies = place.ask({"command": "stats"}, 30.0) if place else []
    except NotRunningError:
        return []
    workers = [WorkerStats.model_validate(reply) for reply in replies]
    return sorted({worker.consumer for worker in workers if worker.consumer})


def acknowledged(
    subject: Subject,
    place: Optional[Place],
    record: InvalidationRecord,
    expected: Sequence[str],
    seconds: float,
) -> tuple[list[str], list[str]]:
    """Waits; returns who has acknowledged, and who has not that was to."""
    end = time.monotonic() + seconds
    if expected and place is not None:
        try:  # it would look by itself soon
            place.ask({"command": "reload"}, min(max(seconds, 1.0), 10.0))
        except EncoreError as error:
            click.echo(f"the gateway was not told to look now: {error}", err=True)
    with subject.ledger() as ledger:
        while True:
            acks = ledger.acknowledgements(record.model, sequence=record.sequence)
            done = sorted(ack.consumer for ack in acks)
            missing = [name for name in expected if name not in done]
            if not missing or time.monotonic() >= end:
                return done, missing
            time.sleep(_POLL_SECONDS)
