"""A metric of a slice over the nights of one release: counts in, values and losses out. No IO here.

A night's loss is measured in standard deviations that follow from the reference and the night's
number of cases, never from its own result, so that luck does not change its weight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from tfx_encore.monitoring import auc as auc_
from tfx_encore.monitoring.night_slices import NightSlices, ServedSlice
from tfx_encore.monitoring.slice_counts import (
    BINS,
    Confusion,
    ScoreCounts,
    SliceKey,
    bin_edges,
    row_code,
)
from tfx_encore.monitoring.slice_report import SliceTable
from tfx_encore.schemas.evaluation_policy import EvaluationPolicy, Metric
from tfx_encore.schemas.nightly_policy import TrendPolicy

Array = npt.NDArray[np.float64]
SeriesKey = tuple[SliceKey, Metric]

_OF_LABEL, _OF_BIN = row_code(1, 0, 0), row_code(0, 1, 0)
_FARTHEST = 37.0  # normal quantile beyond which a tail is no number any more
_LEAST_UNIT = 0.05  # AUC: a model that ranks without error still has nights that differ


@dataclass(frozen=True)
class Observation:
    """A metric on a slice in a night.

    Attributes:
        date: the night, as `2016-01-12`.
        value: the metric, in [0, 1].
        sd: standard deviation of `value`, by its own cases.
        cases: its denominator; of AUC the smaller class.
        effective: independent cases among them, at most `cases`: repeated rows count once or so.
    """

    date: str
    value: float
    sd: float
    cases: int
    effective: float


@dataclass(frozen=True)
class Reference:
    """What a series is held against.

    Attributes:
        value: the metric as measured, in [0, 1].
        sd: standard deviation of the error of `value`.
        unit: standard deviation of a single case: of a night with n cases it is unit / sqrt(n).
        cases: behind `value`.
        kind: `release`, or `first nights` with the last of them as `until`.
        until: nights up to this one belong to the reference and are not judged; "" for a release.
    """

    value: float
    sd: float
    unit: float
    cases: int
    kind: str = "release"
    until: str = ""

    @property
    def centre(self) -> float:
        """The value drawn away from 0 and 1 by half a case, so that every night has a chance."""
        return (self.value * self.cases + 0.5) / (self.cases + 1)


def series_of(
    nights: Mapping[str, NightSlices],
    fingerprint: str,
    policy: TrendPolicy,
    evaluation: EvaluationPolicy,
) -> dict[SeriesKey, tuple[Observation, ...]]:
    """The series of every slice and followed metric, nights in order of date.

    Nights on which the model did not answer, or was decided at another threshold, or with fewer
    than `policy.min_cases` cases are left out.
    """
    found: dict[SeriesKey, list[Observation]] = {}
    for date in sorted(nights):
        if nights[date].threshold != evaluation.decision_threshold:
            continue
        for key, item in nights[date].of(fingerprint).items():
            for metric, seen in _observe(date, item, evaluation.decision_threshold, policy):
                found.setdefault((key, metric), []).append(seen)
    ordered = sorted(found, key=lambda series: (len(series[0]), series))
    return {series: tuple(found[series]) for series in ordered}


def _observe(
    date: str, item: ServedSlice, threshold: float, policy: TrendPolicy
) -> list[tuple[Metric, Observation]]:
    confusion = _confusion(item, threshold)
    if confusion.n < policy.min_cases:
        return []
    share = min(1.0, confusion.n / item.labelled_squares) if item.labelled_squares else 1.0
    rows = []
    for metric in policy.metrics:
        if metric == "auc":
            value, unit, cases = _auc(item.counts(threshold).candidate())
        else:
            value, unit, cases = _rate(metric, confusion)
        if cases >= policy.min_cases:
            effective = max(1.0, cases * share)
            sd = unit / effective**0.5
            rows.append((metric, Observation(date, value, sd, cases, effective)))
    return rows


def _confusion(item: ServedSlice, threshold: float) -> Confusion:
    """As `ServedSlice.counts(threshold).candidate().confusion`, many times quicker."""
    cut = bin_edges(threshold).index(threshold)
    cells = [0, 0, 0, 0]  # negatives, positives decided negative; then those decided positive
    for counts in item.paths.values():
        for code, rows in counts.rows.items():
            label, place = code // _OF_LABEL, code // _OF_BIN % _WIDTH
            if label <= 1 and place < BINS:
                cells[label + 2 * (place > cut)] += rows
    return Confusion(cells[3], cells[2], cells[0], cells[1])


_WIDTH = _OF_LABEL // _OF_BIN


def _rate(metric: Metric, confusion: Confusion) -> tuple[float, float, int]:
    """(value, standard deviation of a case, cases)."""
    right, cases = confusion.true_positives, confusion.positives
    if metric == "accuracy":
        right, cases = confusion.correct, confusion.n
    elif metric == "precision":
        cases = confusion.positive_decisions
    share = (right + 0.5) / (cases + 1)
    return right / max(cases, 1), (share * (1 - share)) ** 0.5, cases


def _auc(scores: ScoreCounts) -> tuple[float, float, int]:
    cases = min(scores.confusion.positives, scores.confusion.negatives)
    if cases < 2:
        return 0.0, 1.0, 0
    found = auc_.auc(*scores.dense())
    unit = (float(found.variance) * cases) ** 0.5
    return float(found.value), max(unit, _LEAST_UNIT), cases


def release_reference(table: SliceTable, series: SeriesKey, threshold: float) -> Reference | None:
    """The release's own evaluation of a series; None if it has too little of it (10 cases).

    A rate at another decision threshold is another metric: then None as well.
    """
    key, metric = series
    model = next((item.candidate for item in table.slices if item.key == key), None)
    if model is None or (table.threshold != threshold and metric != "auc"):
        return None
    found = _auc(model.counts) if metric == "auc" else _rate(metric, model.counts.confusion)
    value, unit, cases = found
    return Reference(value, unit / cases**0.5, unit, cases) if cases >= 10 else None


def nights_reference(nights: Sequence[Observation], count: int) -> Reference | None:
    """The first `count` nights together; None while there are fewer."""
    if len(nights) < count:
        return None
    first = nights[:count]
    cases = sum(night.cases for night in first)
    effective = sum(night.effective for night in first)
    value = sum(night.value * night.effective for night in first) / effective
    variance = sum(night.sd**2 * night.effective**2 for night in first) / effective
    unit = variance**0.5
    return Reference(value, unit / effective**0.5, unit, cases, "first nights", first[-1].date)


def losses(metric: Metric, nights: Sequence[Observation], reference: Reference) -> Array:
    """Each night's loss against the reference in standard deviations, shape [nights].

    Of a rate it is the mean normal score of the night's successes under the reference's rate:
    E[Z | successes] where Z is normal and ordered as the binomial is. By Jensen's inequality
    E exp(t * loss) <= exp(t^2 / 2) for every t, whatever the rate and however few the cases, so
    that skewness and ties do not raise false alarms.
    """
    value = np.array([night.value for night in nights])
    effective = np.array([night.effective for night in nights])
    if metric == "auc":
        short = (reference.value - value) * np.sqrt(effective) / reference.unit
        return np.asarray(short, np.float64)
    return -normal_scores(value * effective, effective, reference.centre)


def normal_scores(successes: Array, cases: Array, rate: float) -> Array:
    """Mean normal score of a binomial count among the counts possible; shape as `successes`.

    With (a, b] the part of the distribution that the count takes up, the mean of a standard normal
    between its a and b quantiles: (pdf(z_a) - pdf(z_b)) / (b - a). Cases need not be whole: the
    distribution function is then the incomplete beta function.
    """
    upto, below = _binomial(successes, cases, rate), _binomial(successes - 1, cases, rate)
    beyond, from_here = _tail(successes, cases, rate), _tail(successes - 1, cases, rate)
    mass = np.maximum(np.where(upto < 0.5, upto - below, from_here - beyond), 1e-300)
    # The quantile from whichever tail is small, else a night far out would have no score.
    low = np.where(below < 0.5, special.ndtri(below), -special.ndtri(from_here))
    high = np.where(upto < 0.5, special.ndtri(upto), -special.ndtri(beyond))
    low, high = np.clip(low, -_FARTHEST, _FARTHEST), np.clip(high, -_FARTHEST, _FARTHEST)
    return np.asarray(np.clip((_density(low) - _density(high)) / mass, low, high), np.float64)


def _binomial(count: Array, cases: Array, rate: float) -> Array:
    """P(X <= count)."""
    inside = (count >= 0) & (count < cases)
    k = np.where(inside, count, 0.0)
    found = special.betainc(np.maximum(cases - k, 1e-9), k + 1, 1 - rate)
    return np.asarray(np.where(count < 0, 0.0, np.where(inside, found, 1.0)), np.float64)


def _tail(count: Array, cases: Array, rate: float) -> Array:
    """P(X > count)."""
    inside = (count >= 0) & (count < cases)
    k = np.where(inside, count, 0.0)
    found = special.betainc(k + 1, np.maximum(cases - k, 1e-9), rate)
    return np.asarray(np.where(count < 0, 1.0, np.where(inside, found, 0.0)), np.float64)


def _density(z: Array) -> Array:
    return np.asarray(np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi), np.float64)
