"""Releases: all of them, and the evidence of one. No IO here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tfx_encore.pipeline.report import views
from tfx_encore.pipeline.report.data import ReleaseReport
from tfx_encore.pipeline.ui.charts import Chart
from tfx_encore.pipeline.ui.coverage import coverage_chart
from tfx_encore.pipeline.ui.distribution import distribution
from tfx_encore.pipeline.ui.found import Release, Releases
from tfx_encore.pipeline.ui.release_slices import metric_chart
from tfx_encore.schemas.decisions import Evidence, Outcome

_RANK = {Outcome.BLOCK: 0, Outcome.WARN: 1, Outcome.INSUFFICIENT_DATA: 2, Outcome.OK: 3}


@dataclass(frozen=True)
class ReleaseRow:
    """A version in the list.

    Attributes:
        release: what was found of it.
        outcome: the worst of its decisions; None if it cannot be read.
        data: its spans, as `span 2 (5,512 examples)`.
    """

    release: Release
    outcome: Outcome | None
    data: str


@dataclass(frozen=True)
class ReleasesView:
    """All versions, newest first, and why they cannot be read, if so."""

    rows: tuple[ReleaseRow, ...]
    problem: str
    label: str
    live: int | None


@dataclass(frozen=True)
class FeatureDrawing:
    """A feature with the worst verdict on it."""

    name: str
    outcome: Outcome
    checks: tuple[Evidence, ...]
    drifted: bool
    chart: Chart | None


@dataclass(frozen=True)
class MetricDrawing:
    """A metric over all slices, worst first."""

    measure: str
    outcome: Outcome
    rows: tuple[Evidence, ...]
    places: int
    chart: Chart | None


@dataclass(frozen=True)
class ReleaseView:
    """The page of one version.

    Attributes:
        release: what was found of it.
        report: its evidence; None if it cannot be read.
        problem: why it cannot; "" if it can.
        verdict: what became of it.
        gates: the decisions, worst first.
        features: the most drifted first.
        metrics: a metric with a worse verdict first.
        coverage: the snapshot's curve; None if CacheWarmer did not run.
        has_report: the static HTML report is there.
        nights: first and last night that this version answered most rows of; None without any.
    """

    release: Release
    report: ReleaseReport | None
    problem: str
    verdict: views.Verdict | None
    gates: tuple[views.GateView, ...] = ()
    features: tuple[FeatureDrawing, ...] = ()
    metrics: tuple[MetricDrawing, ...] = ()
    coverage: Chart | None = None
    has_report: bool = False
    nights: tuple[str, str] | None = None


def releases_view(found: Releases, label: str) -> ReleasesView:
    """The list of all versions; `label` is what a push makes live."""
    live = found.live(label)
    return ReleasesView(
        tuple(map(_row, found.found)), found.problem, label, live.version if live else None
    )


def _row(release: Release) -> ReleaseRow:
    manifest = release.manifest
    if manifest is None:
        return ReleaseRow(release, None, "")
    outcomes = [decision.outcome for decision in manifest.decisions]
    worst = min(outcomes, key=_RANK.__getitem__, default=None)
    spans = [
        f"span {span.span}"
        + (f" ({sum(span.examples.values()):,} examples)" if span.examples else "")
        for span in manifest.spans
    ]
    return ReleaseRow(release, worst, ", ".join(spans))


def release_view(
    release: Release,
    evidence: ReleaseReport | str,
    *,
    has_report: bool = False,
    nights: Sequence[str] = (),
) -> ReleaseView:
    """The page of a version.

    Args:
        release: what was found of it.
        evidence: its evidence, or why that cannot be read.
        has_report: the static HTML report is there.
        nights: dates whose rows it answered, ascending.
    """
    span = (nights[0], nights[-1]) if nights else None
    if isinstance(evidence, str):
        return ReleaseView(release, None, evidence, None, has_report=has_report, nights=span)
    drawn = coverage_chart(evidence.coverage) if evidence.coverage else None
    return ReleaseView(
        release=release,
        report=evidence,
        problem=release.problem,
        verdict=views.verdict(evidence),
        gates=views.gates(evidence),
        features=_features(views.features(evidence)),
        metrics=tuple(_metric(view, i) for i, view in enumerate(views.metrics(evidence))),
        coverage=drawn,
        has_report=has_report,
        nights=span,
    )


def _features(found: Iterable[views.FeatureView]) -> tuple[FeatureDrawing, ...]:
    drawn = []
    for index, view in enumerate(found):
        has_values = bool(view.chart.current or view.chart.baseline)
        chart = distribution(view.chart, f"feature-{index}") if has_values else None
        drawn.append(
            FeatureDrawing(view.chart.feature, view.outcome, view.checks, view.drifted, chart)
        )
    return tuple(drawn)


def _metric(view: views.MetricView, index: int) -> MetricDrawing:
    chart = metric_chart(view, f"metric-{index}") if view.values else None
    return MetricDrawing(view.measure, view.rows[0].outcome, view.rows, view.places, chart)
