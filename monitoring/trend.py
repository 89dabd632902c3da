"""Slow decay: every slice and metric of a release followed over its nights. No IO here.

A night is judged by itself elsewhere (`slices`); this adds up what no single night shows. The
statistic is ln R of `trend_detector`; a series alarms when it reaches its threshold
(`trend_threshold`), until it has fallen back (`trend_alarm`). A new release starts anew: only its
own nights count.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tfx_encore.monitoring.night_slices import NightSlices
from tfx_encore.monitoring.slice_counts import slice_name
from tfx_encore.monitoring.slice_report import SliceTable
from tfx_encore.monitoring.trend_alarm import alarms
from tfx_encore.monitoring.trend_detector import Nights
from tfx_encore.monitoring.trend_dispersion import dispersion
from tfx_encore.monitoring.trend_judgement import TrendJudgement, TrendPoint, TrendSeries
from tfx_encore.monitoring.trend_series import (
    Observation,
    Reference,
    SeriesKey,
    losses,
    nights_reference,
    release_reference,
    series_of,
)
from tfx_encore.monitoring.trend_threshold import log_threshold, run_length
from tfx_encore.monitoring.trend_verdicts import GATE, RECENT, Verdict, adjusted_p_values, decide
from tfx_encore.schemas.evaluation_policy import EvaluationPolicy
from tfx_encore.schemas.nightly_policy import TrendPolicy

__all__ = [
    "GATE", "Observation", "Reference", "SeriesKey", "TrendJudgement", "TrendPoint",
    "TrendSeries", "judge_trends", "series_of",
]  # fmt: skip

KEPT_NIGHTS = 90  # of each series in a TrendJudgement

Array = npt.NDArray[np.float64]


class _Followed(NamedTuple):
    """A series that has a reference, before it meets the detector."""

    reference: Reference
    judged: npt.NDArray[np.bool_]  # [nights of the series]
    loss: Array  # [nights of the series], in standard deviations that allow for the dispersion
    sd: Array  # [nights of the series], in the metric's unit
    reference_variance: float
    dispersion: float  # after the last night


class _Course(NamedTuple):
    """What the detector made of a series: by night of the series, then tonight."""

    statistics: tuple[float | None, ...]
    alarms: tuple[bool, ...]
    onset: int  # index into the series: from when the loss would date tonight
    sudden: bool


def judge_trends(
    nights: Mapping[str, NightSlices],
    fingerprint: str,
    release: SliceTable | None,
    policy: TrendPolicy,
    evaluation: EvaluationPolicy,
    *,
    release_name: str | None = None,
) -> TrendJudgement:
    """Judges all series up to the last of `nights`.

    Args:
        nights: date -> counts, up to and with tonight; rows of other models are passed over.
        fingerprint: of the release that is judged.
        release: its own evaluation. A series that is not in it, and every series where the policy
            says `first_nights`, is held against its own first nights instead.
        policy: what is followed and how often a false alarm may come.
        evaluation: the decision threshold of the metrics.
        release_name: what the decision calls its baseline, as `release 3`.
    """
    series = series_of(nights, fingerprint, policy, evaluation)
    length = run_length(policy, len(series))
    threshold = log_threshold(length)
    followed = {
        key: _followed(key, seen, _reference(key, seen, release, policy, evaluation))
        for key, seen in series.items()
    }
    courses = _courses(series, followed, threshold)
    p_values = _p_values(courses)
    made = [
        _verdict(
            Verdict(key, seen[-RECENT:], None, 0, None, threshold, p_values.get(key)),
            seen,
            followed[key],
            courses.get(key),
        )
        for key, seen in series.items()
    ]
    name = release_name or ("the release" if release else "its first nights")
    decision = decide(made, policy, name if series else None)
    described = (
        _series(verdict, series[verdict.series], followed[verdict.series], courses, length)
        for verdict in made
    )
    return TrendJudgement(decision, tuple(described))


def _reference(
    key: SeriesKey,
    seen: tuple[Observation, ...],
    release: SliceTable | None,
    policy: TrendPolicy,
    evaluation: EvaluationPolicy,
) -> Reference | None:
    if policy.reference == "release" and release is not None:
        found = release_reference(release, key, evaluation.decision_threshold)
        if found is not None:
            return found
    return nights_reference(seen, policy.reference_nights)


def _followed(
    key: SeriesKey, seen: tuple[Observation, ...], reference: Reference | None
) -> _Followed | None:
    """Losses in standard deviations that allow for the dispersion seen so far."""
    if reference is None:
        return None
    raw = losses(key[1], seen, reference)
    factor = dispersion(raw)
    judged = np.array([night.date > reference.until for night in seen])
    effective = np.array([night.effective for night in seen])
    sd = reference.unit * np.sqrt(factor[:-1] / effective)
    variance = reference.sd**2
    if reference.until:  # the reference's nights vary as the others do
        variance *= float(factor[int((~judged).sum())])
    return _Followed(reference, judged, raw / np.sqrt(factor[:-1]), sd, variance, float(factor[-1]))


def _courses(
    series: Mapping[SeriesKey, tuple[Observation, ...]],
    followed: Mapping[SeriesKey, _Followed | None],
    threshold: float,
) -> dict[SeriesKey, _Course]:
    """Runs the detector over all series at once, on the dates that any of them has."""
    known = {key: item for key, item in followed.items() if item is not None}
    dates = sorted({night.date for key in known for night in series[key]})
    column = {date: number for number, date in enumerate(dates)}
    loss = np.full((len(known), len(dates)), np.nan)
    sd = np.ones_like(loss)
    places = []
    for row, (key, item) in enumerate(known.items()):
        places.append(np.array([column[night.date] for night in series[key]], np.int64))
        loss[row, places[row]] = np.where(item.judged, item.loss, np.nan)
        sd[row, places[row]] = item.sd
    variance = np.array([item.reference_variance for item in known.values()])
    days = np.array([dt.date.fromisoformat(date).toordinal() for date in dates], np.int64)
    found = alarms(Nights(loss, sd, days, variance), threshold)
    courses = {}
    for row, (key, item) in enumerate(known.items()):
        place = places[row]
        judged = zip(found.log_r[row, place], item.judged, strict=True)
        courses[key] = _Course(
            tuple(_shown(value) if is_judged else None for value, is_judged in judged),
            tuple(map(bool, found.alarm[row, place])),
            int(np.searchsorted(place, found.onset[row])),
            bool(found.sudden[row]),
        )
    return courses


def _shown(log_r: float) -> float:
    return round(max(float(log_r), 0.0), 4)


def _p_values(courses: Mapping[SeriesKey, _Course]) -> dict[SeriesKey, float]:
    """Tonight's p-values of "this series has not changed", adjusted over all."""
    judged = {
        key: [value for value in course.statistics if value is not None]
        for key, course in courses.items()
    }
    there = [key for key, values in judged.items() if values]
    log_e = np.array([judged[key][-1] - np.log(len(judged[key])) for key in there])
    return dict(zip(there, map(float, adjusted_p_values(log_e)), strict=True))


def _verdict(
    blank: Verdict,
    seen: tuple[Observation, ...],
    followed: _Followed | None,
    course: _Course | None,
) -> Verdict:
    if followed is None or course is None:
        return blank
    verdict = replace(
        blank,
        reference=followed.reference,
        followed=int(followed.judged.sum()),
        statistic=course.statistics[-1],
    )
    if not course.alarms[-1]:
        return verdict
    onset = course.onset
    quiet = [number for number, alarm in enumerate(course.alarms) if not alarm]
    return replace(
        verdict,
        alarm=True,
        since=seen[quiet[-1] + 1 if quiet else 0].date,
        onset=seen[onset].date,
        slope=None if course.sudden else _slope(seen[onset:], followed.reference),
    )


def _slope(seen: tuple[Observation, ...], reference: Reference) -> float:
    """Loss a night by least squares, from no loss on the night before the first of `seen`."""
    days = np.array([dt.date.fromisoformat(night.date).toordinal() for night in seen], np.float64)
    lag = days - days[0] + 1
    weight = np.array([night.effective for night in seen])
    loss = reference.value - np.array([night.value for night in seen])
    return float((weight * lag * loss).sum() / (weight * lag**2).sum())


def _series(
    verdict: Verdict,
    seen: tuple[Observation, ...],
    followed: _Followed | None,
    courses: Mapping[SeriesKey, _Course],
    length: float,
) -> TrendSeries:
    key, metric = verdict.series
    course = courses.get(verdict.series)
    nothing: tuple[None, ...] = (None,) * len(seen)
    kept = slice(-KEPT_NIGHTS, None)
    reference = verdict.reference
    return TrendSeries(
        slice=slice_name(key),
        features=dict(key),
        metric=metric,
        reference=reference.value if reference else None,
        reference_sd=reference.sd if reference else None,
        reference_kind=reference.kind if reference else "",
        threshold=verdict.threshold,
        run_length=length,
        dispersion=followed.dispersion if followed else 1.0,
        followed=verdict.followed,
        alarm=verdict.alarm,
        since=verdict.since,
        onset=verdict.onset,
        slope=verdict.slope,
        dates=tuple(night.date for night in seen)[kept],
        values=tuple(round(night.value, 6) for night in seen)[kept],
        cases=tuple(night.cases for night in seen)[kept],
        statistics=(course.statistics if course else nothing)[kept],
        alarms=(course.alarms if course else (False,) * len(seen))[kept],
    )
