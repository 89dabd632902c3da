"""What `encore monitor` shows: gathered from all sources, a part that cannot be read left out."""

from __future__ import annotations

import logging
import pathlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, Protocol

from tfx_encore.metadata.journal_ledger import JournalLedger
from tfx_encore.metadata.ledger import Ledger
from tfx_encore.metadata.night_store import NightStore
from tfx_encore.metadata.releases import ReleaseDirectory, list_models
from tfx_encore.monitoring import metric_families as families
from tfx_encore.monitoring.metric_families import Sample
from tfx_encore.monitoring.night_metrics import Limits
from tfx_encore.pipeline.metrics_export import metrics_policy
from tfx_encore.pipeline.mlmd import open_ledger
from tfx_encore.pipeline.monitor_sources import (
    Clocked,
    DiskSource,
    NightsSource,
    RecordsSource,
    ReleasesSource,
    RunsSource,
)
from tfx_encore.pipeline.run import Project
from tfx_encore.schemas.errors import ConfigError, EncoreError

_LOG = logging.getLogger("tfx_encore.monitor")


class Source(Protocol):
    """Something that is shown."""

    def samples(self) -> Iterator[Sample]:
        """What it says now.

        Raises:
            EncoreError, OSError: it cannot be read.
        """


class Manner(NamedTuple):
    """How nights are shown.

    Attributes:
        limits: how many slices and features.
        due_hours: hours after the end of a day (UTC) until its night is due.
        clock: the time.
    """

    limits: Limits = Limits()
    due_hours: float = 12.0
    clock: Clocked = Clocked()


class Part(NamedTuple):
    """A source with the name under which its trouble is shown."""

    model: str
    name: str
    source: Source


class Monitor:
    """Gathers all parts; used by one thread at a time.

    Args:
        parts: what is shown.
    """

    def __init__(self, parts: Iterable[Part]) -> None:
        self.parts = tuple(parts)
        self.problems: dict[tuple[str, str], str] = {}
        self._lock = threading.Lock()

    def samples(self) -> tuple[Sample, ...]:
        """Everything, and which parts could not be read."""
        with self._lock:
            start = time.perf_counter()
            found: list[Sample] = []
            for part in self.parts:
                trouble = _gather(part.source, found)
                self._note(part, trouble)
                place = (part.model, part.name)
                found.append(Sample(families.PROBLEMS, place, float(bool(trouble))))
            took = time.perf_counter() - start
            return (*found, Sample(families.COLLECT_SECONDS, (), took))

    def _note(self, part: Part, trouble: str) -> None:
        """Says once what is wrong, and once that it is mended."""
        place = (part.model, part.name)
        if trouble and self.problems.get(place) != trouble:
            _LOG.warning("%s %s: %s", part.model, part.name, trouble)
        if trouble:
            self.problems[place] = trouble
        elif self.problems.pop(place, None):
            _LOG.warning("%s %s: readable again", part.model, part.name)


def _gather(source: Source, found: list[Sample]) -> str:
    """Adds a source's samples, all or none; returns what is wrong with it."""
    try:
        found += list(source.samples())
    except (EncoreError, OSError) as error:
        return str(error) or type(error).__name__
    return ""


def monitor_of_project(project: Project, *, due_hours: float = 12.0) -> Monitor:
    """A monitor of a project's model.

    Args:
        project: the project.
        due_hours: hours after the end of a day (UTC) until its night is due.
    """
    workspace, policy = project.workspace, metrics_policy(project.config)
    requests = workspace.project / project.config.nightly.request_log
    places = {"workspace": workspace.root, "releases": workspace.releases, "requests": requests}

    def ledger() -> AbstractContextManager[Ledger]:
        return open_ledger(project)

    manner = Manner(Limits(policy.max_slices, policy.max_features), due_hours)
    model = project.config.model
    parts = _parts(workspace.releases, model, ledger, manner)
    parts.append(Part(model, "runs", RunsSource(workspace.runs)))
    return Monitor([*parts, Part("", "disk", DiskSource(places, manner.clock))])


def monitor_of_releases(
    root: pathlib.Path, model: str | None, *, due_hours: float = 12.0
) -> Monitor:
    """A monitor of a release directory without a project; of all its models unless one is named.

    Raises:
        ConfigError: there is no such model.
    """
    known = list_models(root)
    if not known or model not in (None, *known):
        raise ConfigError(
            f"{root} holds {', '.join(known) or 'no model'}; name one of them, or another folder",
            key="--releases" if not known else "--model",
        )
    manner = Manner(due_hours=due_hours)

    def ledger() -> AbstractContextManager[Ledger]:
        return nullcontext(JournalLedger(root))

    names = [model] if model else known
    parts = [part for name in names for part in _parts(root, name, ledger, manner)]
    return Monitor([*parts, Part("", "disk", DiskSource({"releases": root}, manner.clock))])


def _parts(
    root: pathlib.Path,
    model: str,
    ledger: Callable[[], AbstractContextManager[Ledger]],
    manner: Manner,
) -> list[Part]:
    releases, store = ReleaseDirectory(root, model), NightStore(root, model)
    nights = NightsSource(store, manner.limits, manner.clock, manner.due_hours)
    return [
        Part(model, "nights", nights),
        Part(model, "releases", ReleasesSource(releases)),
        Part(model, "records", RecordsSource(releases, ledger, manner.clock)),
    ]
