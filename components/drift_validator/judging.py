"""The three judgements of DriftValidator: new data, a night against training, against nights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from tfx_encore.components.drift_validator.nights import EarlierNights, read_history
from tfx_encore.monitoring import drift, drift_charts, drift_seasonal, drift_skew
from tfx_encore.monitoring.drift_statistics import DatasetStatistics
from tfx_encore.monitoring.slice_report import SliceTable
from tfx_encore.schemas.charts import FeatureChart
from tfx_encore.schemas.decisions import Decision
from tfx_encore.schemas.drift_policy import DriftPolicy

Judged = tuple[Decision, tuple[FeatureChart, ...]]


@dataclass(frozen=True)
class Baseline:
    """What there is to compare with.

    Attributes:
        statistics: None if there are none.
        why: why there are none.
        name: what a person calls it.
    """

    statistics: Optional[DatasetStatistics]
    why: str = ""
    name: str = "the baseline"


@dataclass(frozen=True)
class Served:
    """What else is known of a night.

    Attributes:
        effective: share of its rows that are independent, in (0, 1].
        reads: features that the served signatures read; None if nobody knows.
        release: the release's own evaluation.
    """

    effective: float = 1.0
    reads: Optional[tuple[str, ...]] = None
    release: Optional[SliceTable] = field(default=None, repr=False)


def judge_data(
    current: DatasetStatistics, baseline: Baseline, policy: DriftPolicy, features: tuple[str, ...]
) -> Judged:
    """New data against the baseline of a release."""
    drift.check_policy(policy, features)
    if baseline.statistics is None:
        decision = drift.without_baseline(policy, baseline.why)
    else:
        decision = drift.decide(current, baseline.statistics, policy, features, baseline.name)
    return decision, drift_charts.charts(current, baseline.statistics, features)


def judge_served(
    current: DatasetStatistics,
    baseline: Baseline,
    policy: DriftPolicy,
    features: tuple[str, ...],
    served: Served,
) -> Judged:
    """A night's traffic against the training data of the release that served it."""
    decision = drift_skew.judge_skew(
        current,
        baseline.statistics,
        policy,
        features,
        reads=served.reads,
        effective_share=served.effective,
        release=served.release,
        baseline_name=baseline.name,
    )
    then = baseline.statistics and drift_skew.with_scores(baseline.statistics, served.release)
    drawn = drift_seasonal.judged_features(drift_skew.carried(current, features, served.reads))
    return decision, drift_charts.charts(current, then, drawn)


def judge_night(
    current: DatasetStatistics,
    nights: EarlierNights,
    policy: DriftPolicy,
    features: tuple[str, ...],
    effective: float,
) -> Judged:
    """A night's traffic against earlier nights."""
    past = read_history(nights.releases, nights.model, nights.date, nights.season)
    shares = {**past.effective, nights.date: effective}
    decision = drift_seasonal.judge_seasonal(
        current,
        past.statistics,
        nights.date,
        policy,
        nights.season,
        features=features,
        effective=shares,
        excluded=past.excluded,
    )
    then = drift_seasonal.compared_with(
        past.statistics,
        nights.date,
        policy,
        nights.season,
        effective=shares,
        excluded=past.excluded,
    )
    drawn = drift_seasonal.judged_features(features)
    return decision, drift_charts.charts(current, then, drawn)
