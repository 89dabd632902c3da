"""A night's traffic against what its model was trained on: training-serving skew. No IO here."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from tfx_encore.monitoring import drift
from tfx_encore.monitoring.drift_seasonal import judged_features
from tfx_encore.monitoring.drift_statistics import (
    Bucket,
    DatasetStatistics,
    FeatureStatistics,
    NumericValues,
)
from tfx_encore.monitoring.slice_counts import BINS, ScoreCounts, bin_edges
from tfx_encore.monitoring.slice_report import SliceTable
from tfx_encore.monitoring.statistics_merge import scaled
from tfx_encore.schemas.decisions import Decision
from tfx_encore.schemas.drift_policy import DriftPolicy
from tfx_encore.schemas.nights import OURS, SCORE

GATE = "skew"
SECTION = "nightly.skew"


def carried(
    tonight: DatasetStatistics, features: Sequence[str], reads: Collection[str] | None = None
) -> tuple[str, ...]:
    """The features of the schema that traffic has to carry.

    Those that the model reads, if that is known, seen tonight or not: one that has vanished is
    skew. Else those that some request of the night had.

    Args:
        tonight: statistics of the night.
        features: names of the features that the schema has.
        reads: features that the served signature reads; None if nobody knows.
    """
    expected = {name for name in tonight.features if tonight.feature(name).present > 0}
    if reads is not None:
        expected = set(reads)
    return tuple(name for name in features if name in expected and name not in OURS)


def judge_skew(
    tonight: DatasetStatistics,
    training: DatasetStatistics | None,
    policy: DriftPolicy,
    features: Sequence[str],
    *,
    reads: Collection[str] | None = None,
    effective_share: float = 1.0,
    release: SliceTable | None = None,
    baseline_name: str = "the training data",
) -> Decision:
    """Tonight's traffic and predictions against the release's training data and evaluation.

    Args:
        tonight: statistics of the night.
        training: statistics of the training data; None if the release has none.
        policy: thresholds and significance, as for releases.
        features: names of the features that the schema has.
        reads: features that the served signature reads; see `carried`.
        effective_share: share of tonight's rows that are independent, in (0, 1].
        release: the release's own evaluation, whose scores served ones are compared with.
        baseline_name: what a person calls the baseline, such as `release 3`.

    Raises:
        ConfigError: the policy names a feature that `features` lacks.
    """
    drift.check_policy(policy, judged_features(features), SECTION)
    if training is None:
        why = f"{baseline_name} keeps no training statistics"
        return drift.without_baseline(policy, why, GATE)
    chosen = [name for name in carried(tonight, features, reads) if name not in policy.labels]
    now, then = scaled(tonight, effective_share), with_scores(training, release)
    if SCORE in then.features and SCORE in now.features:
        chosen.append(SCORE)
    named = replaced_names(policy, chosen)
    return drift.decide(now, then, named, chosen, baseline_name, gate=GATE, section=SECTION)


def replaced_names(policy: DriftPolicy, features: Sequence[str]) -> DriftPolicy:
    """The policy without what it says of features that are not judged tonight."""
    return policy.model_copy(
        update={
            "ignore_features": tuple(n for n in policy.ignore_features if n in features),
            "labels": tuple(n for n in policy.labels if n in features),
            "features": {n: own for n, own in policy.features.items() if n in features},
        }
    )


def with_scores(training: DatasetStatistics, release: SliceTable | None) -> DatasetStatistics:
    """The training statistics, and the scores of the release's evaluation as one more feature."""
    overall = (
        next((item for item in release.slices if not item.features), None) if release else None
    )
    scores = score_statistics(overall.candidate.counts) if overall else None
    features = {name: item for name, item in training.features.items() if name not in OURS}
    if scores is not None:
        features[SCORE] = scores
    return replace(training, features=features)


def score_statistics(counts: ScoreCounts) -> FeatureStatistics | None:
    """A histogram of scores as the statistics of a numeric feature; None if it is empty.

    Every score of a bin is known to lie within its edges, and nothing more is used.
    """
    bounds = (0.0, *bin_edges(counts.threshold), 1.0)
    total = [0.0] * BINS
    for histogram in (counts.positives, counts.negatives):
        for which, count in histogram:
            if which < BINS:
                total[which] += count
    buckets = tuple(
        Bucket(bounds[which], bounds[which + 1], count)
        for which, count in enumerate(total)
        if count
    )
    if not buckets:
        return None
    n = sum(total)
    return FeatureStatistics(SCORE, "numeric", "FLOAT", n, 0.0, numeric=NumericValues(buckets))
