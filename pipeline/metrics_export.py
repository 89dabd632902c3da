"""Metrics of what just ran, for a node_exporter or a Pushgateway: the `metrics` section."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Optional, Union

from tfx_encore.metadata.night_store import SLICES, NightStore
from tfx_encore.monitoring.night_metrics import Limits, night_samples
from tfx_encore.monitoring.night_slices import NightSlices
from tfx_encore.monitoring.run_metrics import RunFacts, run_samples
from tfx_encore.pipeline.config import ProjectConfig
from tfx_encore.pipeline.plan import RunResult
from tfx_encore.schemas.errors import EncoreError
from tfx_encore.schemas.metrics_policy import MetricsPolicy
from tfx_encore.schemas.nights import NightRecord
from tfx_encore.schemas.serial import from_json

if TYPE_CHECKING:
    from tfx_encore.pipeline.run import Project


def metrics_policy(config: ProjectConfig) -> MetricsPolicy:
    """The `metrics` section, or what holds without one."""
    policy = getattr(config, "metrics", None)
    return policy if isinstance(policy, MetricsPolicy) else MetricsPolicy()


def export(
    project: Project,
    results: Iterable[Union[RunResult, NightRecord]],
    policy: Optional[MetricsPolicy] = None,
) -> tuple[str, ...]:
    """Delivers the metrics of the newest run and of the newest night among `results`.

    Of nights the store's newest is taken where it is newer: nights that were made up for do not
    hide it.

    Args:
        project: the project.
        results: what `encore run` or `encore nightly` made.
        policy: where to; by default the project's `metrics` section.

    Returns:
        What could not be delivered, one line each; no reason to fail.
    """
    wanted = policy or metrics_policy(project.config)
    if not (wanted.textfile_dir or wanted.pushgateway):
        return ()
    from tfx_encore.monitoring.exporters import deliver

    found = list(results)
    runs = [result for result in found if isinstance(result, RunResult)]
    nights = [result for result in found if isinstance(result, NightRecord)]
    problems: tuple[str, ...] = ()
    base, model = project.workspace.project, project.config.model
    if runs:
        samples = run_samples(facts_of(runs[-1], time.time()))
        problems += deliver(wanted, base, "run", model, samples)
    if nights:
        newest = max(nights, key=lambda night: night.date)
        store = NightStore(project.workspace.releases, model)
        newest = store.record(store.dates()[-1]) if store.dates() else newest
        limits = Limits(wanted.max_slices, wanted.max_features)
        samples = night_samples(newest, read_slices(store, newest.date), limits)
        problems += deliver(wanted, base, "night", model, samples)
    return problems


def failed_run(project: Project, span: int, error: EncoreError) -> RunResult:
    """A run that ended with an error, so that `export` can tell of it."""
    return RunResult(
        model=project.config.model,
        span=span,
        run_id=f"{datetime.now(timezone.utc):%Y%m%dT%H%M%S%f}-span{span}",
        state="failed",
        reason=str(error),
    )


def facts_of(result: RunResult, ended: float) -> RunFacts:
    """What a run came to, for its metrics."""
    return RunFacts(
        model=result.model,
        state=result.state,
        ended=ended,
        span=result.span,
        version=result.version,
        seconds=result.seconds,
        steps={step.name: step.seconds for step in result.steps},
        peak_memory_mb=result.peak_memory_mb,
        decisions=result.decisions,
        coverage=result.coverage.hit_rate if result.coverage else None,
    )


def read_slices(store: NightStore, date: str) -> Optional[NightSlices]:
    """The counts by slice of a night; None if it has none."""
    data = store.read(date, SLICES) if store.has(date) else None
    return None if data is None else from_json(NightSlices, data, source=f"slices of {date}")
