"""Performance of a night without labels, from calibrated scores (CBPE). No IO here.

The release's own evaluation says how often a score of each bin was right. If a score still means
what it meant then, the night's scores alone tell how many decisions are right: Confidence-Based
Performance Estimation, as in NannyML.

**Assumption:** within a score bin the rate of positives is that of the release's evaluation of the
slice. Traffic may move between scores (covariate shift) as it likes. Where the truth behind equal
scores has changed (concept drift), or rows come whose equal scores mean something else, the
estimate does not see it, and nothing but labels can: so it is called an estimate everywhere, and
held against the truth as soon as labels arrive (`estimate_verdicts`).

The interval is of the metric that the night's rows will turn out to have: the chance of their
labels given their scores (a Poisson-binomial, its rows counted by Kish's effective number), and the
uncertainty of the calibration (delta method); Wilson's, of a rate with the variance of both.

Sources: NannyML's documentation, "How it works: performance estimation"; Bialek et al. (2024),
Estimating Model Performance Under Covariate Shift Without Labels (arXiv:2401.08348).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from tfx_encore.monitoring import intervals
from tfx_encore.monitoring.estimate_calibration import Calibration, calibrate
from tfx_encore.monitoring.estimate_metrics import Expected, expected
from tfx_encore.monitoring.estimate_verdicts import judge_estimates
from tfx_encore.monitoring.night_slices import NightSlices, ServedSlice
from tfx_encore.monitoring.served_metrics import effective_share, served_estimate
from tfx_encore.monitoring.slice_counts import BINS, ScoreCounts, SliceKey, bin_edges
from tfx_encore.monitoring.slice_metrics import METRICS
from tfx_encore.monitoring.slice_report import SliceTable
from tfx_encore.schemas.evaluation_policy import EvaluationPolicy, Metric
from tfx_encore.schemas.nightly_policy import EstimatePolicy
from tfx_encore.schemas.nights import PerformanceEstimate

__all__ = ["estimate", "judge_estimates"]

PRIOR_ROWS = 30.0
"""A slice's own calibration is drawn towards the overall one as if by so many rows."""

Array = npt.NDArray[np.float64]


def estimate(
    night: NightSlices,
    fingerprint: str,
    calibration: SliceTable | None,
    policy: EvaluationPolicy,
    estimate_policy: EstimatePolicy,
) -> tuple[PerformanceEstimate, ...]:
    """Estimates every metric of every slice that has enough rows, and adds the truth if known.

    A slice with at least `policy.min_slice_examples` rows in the release's evaluation has a
    calibration of its own, the others the overall one.

    Args:
        night: the night's counts; rows with and without labels count alike.
        fingerprint: the model that is looked at.
        calibration: the release's own evaluation.
        policy: threshold, and the fewest rows and cases.
        estimate_policy: `enabled`.

    Returns:
        In order of slice, overall first, and of `METRICS`; () if there is nothing to calibrate
        by: no evaluation, no labels of both classes in it, or another decision threshold.
    """
    if not estimate_policy.enabled or calibration is None:
        return ()
    if calibration.threshold != night.threshold:
        return ()
    known = {item.key: item.candidate.counts for item in calibration.slices}
    everything = calibrate(*known[()].dense()) if () in known else None
    if everything is None:
        return ()
    found: list[PerformanceEstimate] = []
    for key, served in sorted(night.of(fingerprint).items(), key=lambda i: (len(i[0]), i[0])):
        curve = _calibration(key, known, everything, policy)
        found += _estimates(served, night.threshold, curve, policy)
    return tuple(found)


def _calibration(
    key: SliceKey,
    known: dict[SliceKey, ScoreCounts],
    everything: Calibration,
    policy: EvaluationPolicy,
) -> Calibration:
    counts = known.get(key) if key else None
    if counts is None or counts.confusion.n < policy.min_slice_examples:
        return everything
    return calibrate(*counts.dense(), everything, PRIOR_ROWS) or everything


def _estimates(
    served: ServedSlice, threshold: float, curve: Calibration, policy: EvaluationPolicy
) -> list[PerformanceEstimate]:
    counts = served.counts(threshold)
    rows = _histogram(counts.table)
    n = float(rows.sum())
    effective = rows * effective_share(n, served.squares)
    if effective.sum() < policy.min_slice_examples:
        return []
    labelled = counts.candidate()
    share = effective_share(labelled.confusion.n, served.labelled_squares)
    cut = bin_edges(threshold).index(threshold)
    found = []
    for metric in METRICS:
        guess = expected(metric, effective, curve.rates, cut)
        if guess is None or guess.cases < policy.min_cases:
            continue
        value, interval = _actual(metric, labelled, share, policy)
        found.append(
            PerformanceEstimate(
                slice=served.name,
                metric=metric,
                estimated=guess.value,
                interval=_interval(guess, effective, curve, policy.confidence_level),
                n=int(n),
                actual=value,
                actual_interval=interval,
                labelled=labelled.confusion.n,
            )
        )
    return found


def _histogram(table: npt.NDArray[np.int64]) -> Array:
    """Rows by bin of the served score, whatever their label, shape [BINS]."""
    scored = table[table[:, 1] < BINS]
    return np.bincount(scored[:, 1], weights=scored[:, 3], minlength=BINS).astype(np.float64)


def _interval(
    guess: Expected, rows: Array, curve: Calibration, confidence: float
) -> tuple[float, float]:
    """Interval of the metric that the rows will have.

    Wilson's, of a rate with the variance of both parts: it stays in [0, 1]. Close to its ends,
    where the rate's own variance would fall below what is known, one standard error from the end
    stands for it. Then outwards to what so many cases can give, so that "all right" is not missed.
    """
    of_labels = float((rows * curve.rates * (1 - curve.rates) * guess.by_row**2).sum())
    of_curve = curve.variance_of(rows * guess.by_row)
    error = min(max(math.sqrt(of_labels + of_curve), 1e-6), 0.5)
    spread = max(guess.value * (1 - guess.value), error * (1 - error))
    cases = spread / error**2
    ends = intervals.wilson(guess.value * cases, cases, confidence)
    grid = max(math.floor(guess.cases), 1)
    low, high = math.floor(float(ends.low) * grid), math.ceil(float(ends.high) * grid)
    return max(low / grid, 0.0), min(high / grid, 1.0)


def _actual(
    metric: Metric, counts: ScoreCounts, share: float, policy: EvaluationPolicy
) -> tuple[float | None, tuple[float, float] | None]:
    """The metric from labels and its interval, repeats allowed for; None while too few are."""
    found = served_estimate(metric, counts, share, policy.confidence_level)
    least = policy.min_slice_examples if metric == "accuracy" else policy.min_cases
    if found.value is None or found.cases * share < least:
        return None, None
    return found.value, found.interval
