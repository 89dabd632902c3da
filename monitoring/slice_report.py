"""What `slices.json` holds: counts, metrics and intervals of each slice. No IO here.

The counts are mergeable sufficient statistics, so that a later evaluation can be compared with a
release, or nights added up, without the data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from pydantic.dataclasses import dataclass

from tfx_encore.monitoring.slice_counts import (
    JointDecisions,
    ScoreCounts,
    SliceCounts,
    SliceKey,
    slice_key,
    slice_name,
)
from tfx_encore.monitoring.slice_metrics import (
    METRICS,
    Difference,
    Estimate,
    estimate,
    paired_difference,
)

FORMAT = 1


@dataclass(frozen=True)
class ModelOnSlice:
    """One model on one slice.

    Attributes:
        counts: its scores by class; everything else follows from them.
        metrics: metric -> estimate; those without a value are left out.
    """

    counts: ScoreCounts
    metrics: dict[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True)
class SliceSummary:
    """One slice.

    Attributes:
        name: as the decision's evidence has it after `slice:`.
        features: feature -> value; empty for everything.
        n: number of rows.
        candidate: the candidate's counts and metrics.
        baseline: the baseline's, if there was one.
        differences: metric -> candidate minus baseline, on the same rows.
        joint_positives: joint decisions on the positives, if there was a baseline.
        joint_negatives: joint decisions on the negatives, if there was a baseline.
    """

    name: str
    features: dict[str, str]
    n: int
    candidate: ModelOnSlice
    baseline: ModelOnSlice | None = None
    differences: dict[str, Difference] = field(default_factory=dict)
    joint_positives: JointDecisions | None = None
    joint_negatives: JointDecisions | None = None

    @property
    def key(self) -> SliceKey:
        """The slice's key."""
        return slice_key(self.features)


@dataclass(frozen=True)
class SliceTable:
    """All slices of one evaluation, overall first.

    Attributes:
        threshold: decision threshold, in (0, 1).
        confidence_level: of every interval in it.
        baseline: what the baseline is called, None if nothing was live.
        slices: the slices.
    """

    threshold: float
    confidence_level: float
    baseline: str | None = None
    slices: tuple[SliceSummary, ...] = ()
    format: int = FORMAT


def slice_table(
    counts: Mapping[SliceKey, SliceCounts],
    *,
    threshold: float,
    confidence: float,
    baseline: str | None,
) -> SliceTable:
    """Summarises the counts of an evaluation."""
    ordered = sorted(counts.items(), key=lambda item: (len(item[0]), item[0]))
    slices = tuple(_summary(key, rows, confidence) for key, rows in ordered)
    return SliceTable(threshold, confidence, baseline, slices)


def _summary(key: SliceKey, rows: SliceCounts, confidence: float) -> SliceSummary:
    live = rows.baseline()
    candidate = _model(rows.candidate(), confidence)
    name, features = slice_name(key), dict(key)
    if live is None:
        return SliceSummary(name, features, rows.n, candidate)
    differences = {metric: paired_difference(metric, rows, confidence) for metric in METRICS}
    return SliceSummary(
        name=name,
        features=features,
        n=rows.n,
        candidate=candidate,
        baseline=_model(live, confidence),
        differences={metric: found for metric, found in differences.items() if found},
        joint_positives=rows.decisions(1),
        joint_negatives=rows.decisions(0),
    )


def _model(counts: ScoreCounts, confidence: float) -> ModelOnSlice:
    found = {metric: estimate(metric, counts, confidence) for metric in METRICS}
    known = {str(metric): item for metric, item in found.items() if item.value is not None}
    return ModelOnSlice(counts, known)
