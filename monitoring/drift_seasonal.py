"""A night against earlier nights: the same weekday of past weeks, and the days before. No IO here.

The rule, told for people in docs/components/drift_validator.md:

- Where there are enough nights of the same weekday, these decide; the days before can only warn.
- Before, the days before decide, but only if a night of tonight's weekday has been seen at all:
  else nobody can tell a first weekend from drift. What no weekend brings (categories never seen,
  missing values, another type) is judged from the first nights on.
- A change counts only beyond what earlier nights show among themselves (`drift_nights`), on top of
  all that `drift` asks of it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from tfx_encore.monitoring import drift
from tfx_encore.monitoring.drift_nights import beyond_variation, variation
from tfx_encore.monitoring.drift_statistics import DatasetStatistics
from tfx_encore.monitoring.statistics_merge import merge, scaled
from tfx_encore.schemas.decisions import Decision, Evidence, Outcome, overall
from tfx_encore.schemas.drift_policy import DriftPolicy
from tfx_encore.schemas.nightly_policy import SeasonPolicy
from tfx_encore.schemas.nights import OURS, SCORE, day_before

GATE = drift.GATE
SECTION = "nightly.drift"
_WEEK = 7
_NO_SEASON = ("unseen", "missing", "type")  # no weekend is known to bring these
_RANK = {Outcome.BLOCK: 0, Outcome.WARN: 1, Outcome.OK: 2, Outcome.INSUFFICIENT_DATA: 3}

Nights = Mapping[str, DatasetStatistics]


@dataclass(frozen=True)
class Baseline:
    """Earlier nights that a night is compared with.

    Attributes:
        name: what a person calls it.
        nights: statistics of those nights, of independent rows.
        groups: nights that are alike, by which the variation of nights is estimated.
    """

    name: str
    nights: tuple[DatasetStatistics, ...]
    groups: tuple[tuple[DatasetStatistics, ...], ...]


def history_dates(date: str, season: SeasonPolicy) -> tuple[str, ...]:
    """All days before `date` that its judgement looks at, ascending."""
    reach = max(_WEEK * season.weeks, season.window_days)
    return tuple(day_before(date, days) for days in range(reach, 0, -1))


def judged_features(features: Sequence[str]) -> tuple[str, ...]:
    """Features that are judged: those given and the predictions, but none of our bookkeeping."""
    return (*(name for name in features if name not in OURS), SCORE)


def judge_seasonal(  # noqa: PLR0917 - a night, its past, and by what it is judged
    tonight: DatasetStatistics,
    earlier: Nights,
    date: str,
    policy: DriftPolicy,
    season: SeasonPolicy,
    features: Sequence[str],
    effective: Mapping[str, float] | None = None,
    *,
    excluded: Collection[str] = (),
) -> Decision:
    """Tonight against the same weekday of past weeks and against a rolling window.

    Args:
        tonight: statistics of the night.
        earlier: statistics of earlier nights by date; later ones and ones too old are ignored.
        date: the night's date.
        policy: thresholds and significance, as for releases.
        season: which nights are compared.
        features: names of the features that the schema has; predictions are judged too.
        effective: date -> share of rows that are independent, in (0, 1], tonight's included;
            1 where nothing is said. See `schemas.nights.LogReport.effective_rows`.
        excluded: earlier nights that are no baseline, as they had an incident of their own.

    Raises:
        ConfigError: the policy names a feature that `features` lacks.
    """
    names = judged_features(features)
    drift.check_policy(policy, names, SECTION)
    shares = effective or {}
    now = scaled(tonight, _share(shares, date))
    days = [day for day in history_dates(date, season) if day not in excluded]
    usable = _usable(earlier, days, shares, policy)
    if not _is_enough(now, policy):
        return _too_few(now, policy)
    weekday, window = _same_weekday(usable, date, season), _window(usable, date, season)
    bases = [base for base in (weekday, window) if len(base.nights) >= season.min_nights]
    found = _evidence(now, bases, policy, names)
    if not found:
        return _no_baseline(usable, policy, season)
    seen = season.weeks == 0 or any(_weekday(day) == _weekday(date) for day in usable)
    by_week = found.get(weekday.name, {})
    by_window = {
        key: _window_verdict(
            item, by_week.get(key), seen=seen, date=date, warn_fraction=policy.warn_fraction
        )
        for key, item in found.get(window.name, {}).items()
    }
    together = [
        _together(weekday.name, by_week.get(key), window.name, by_window.get(key))
        for key in dict.fromkeys((*by_week, *by_window))
    ]
    evidence = drift.strongest_first(together)
    outcome = overall(evidence)
    name = " and ".join(base.name for base in bases)
    return Decision(GATE, outcome, _reason(evidence, outcome, name), name, evidence)


def _reason(evidence: Sequence[Evidence], outcome: Outcome, name: str) -> str:
    worst = [item for item in evidence if item.outcome is outcome]
    if outcome in (Outcome.OK, Outcome.INSUFFICIENT_DATA):
        return drift.reason_of(evidence, outcome, name, GATE)
    return worst[0].message + drift.and_more(len(worst) - 1)


def compared_with(
    earlier: Nights,
    date: str,
    policy: DriftPolicy,
    season: SeasonPolicy,
    *,
    effective: Mapping[str, float] | None = None,
    excluded: Collection[str] = (),
) -> DatasetStatistics | None:
    """The merged nights that decide: the same weekday's, else the window's; None before those.

    Arguments as in `judge_seasonal`; for charts.
    """
    days = [day for day in history_dates(date, season) if day not in excluded]
    usable = _usable(earlier, days, effective or {}, policy)
    for base in (_same_weekday(usable, date, season), _window(usable, date, season)):
        if len(base.nights) >= season.min_nights:
            return merge(base.nights)
    return None


def _usable(
    earlier: Nights, days: Sequence[str], shares: Mapping[str, float], policy: DriftPolicy
) -> dict[str, DatasetStatistics]:
    nights = {day: scaled(earlier[day], _share(shares, day)) for day in days if day in earlier}
    return {day: night for day, night in nights.items() if _is_enough(night, policy)}


def _share(shares: Mapping[str, float], date: str) -> float:
    return min(1.0, shares.get(date, 1.0)) or 1.0


def _is_enough(night: DatasetStatistics, policy: DriftPolicy) -> bool:
    return night.examples >= policy.minimum_examples


def _weekday(date: str) -> int:
    return dt.date.fromisoformat(date).weekday()


def _same_weekday(usable: Nights, date: str, season: SeasonPolicy) -> Baseline:
    groups: dict[int, list[DatasetStatistics]] = {}
    oldest = day_before(date, _WEEK * season.weeks)
    for day, night in usable.items():
        if day >= oldest:
            groups.setdefault(_weekday(day), []).append(night)
    nights = tuple(groups.get(_weekday(date), ()))
    alike = tuple(tuple(group) for group in groups.values() if len(group) > 1)
    name = f"{dt.date.fromisoformat(date):%A}s of the last {season.weeks} weeks"
    return Baseline(f"{name} ({_count(nights)})", nights, alike)


def _window(usable: Nights, date: str, season: SeasonPolicy) -> Baseline:
    oldest = day_before(date, season.window_days)
    nights = tuple(night for day, night in usable.items() if day >= oldest)
    groups = (nights,) if len(nights) > 1 else ()
    return Baseline(f"the last {season.window_days} days ({_count(nights)})", nights, groups)


def _count(nights: Sequence[DatasetStatistics]) -> str:
    return f"{len(nights)} {'night' if len(nights) == 1 else 'nights'}"


def _evidence(
    now: DatasetStatistics,
    baselines: Sequence[Baseline],
    policy: DriftPolicy,
    features: Sequence[str],
) -> dict[str, dict[tuple[str, str], Evidence]]:
    """Baseline -> (subject, measure) -> evidence; p-values adjusted over all of it together."""
    measurements, whose = [], []
    for baseline in baselines:
        varied = variation(baseline.groups, policy, features)
        for item in drift.measure_all(now, merge(baseline.nights), policy, features):
            measurements.append(beyond_variation(item, varied))
            whose.append(baseline.name)
    found: dict[str, dict[tuple[str, str], Evidence]] = {}
    for name, evidence in zip(whose, drift.judge(measurements, policy), strict=True):
        found.setdefault(name, {})[(evidence.subject, evidence.measure)] = evidence
    return found


def _window_verdict(
    item: Evidence, by_week: Evidence | None, *, seen: bool, date: str, warn_fraction: float
) -> Evidence:
    """What the days before may say beside the same weekday, or before it was ever seen."""
    if item.outcome not in (Outcome.BLOCK, Outcome.WARN):
        return item
    if not seen and item.measure not in _NO_SEASON:
        note = f"; the first {dt.date.fromisoformat(date):%A} seen, so this may be its season"
        return replace(item, outcome=Outcome.INSUFFICIENT_DATA, message=item.message + note)
    return replace(item, outcome=Outcome.WARN) if _decides(by_week, warn_fraction) else item


def _decides(by_week: Evidence | None, warn_fraction: float) -> bool:
    """Whether the same weekday has a verdict; looking the same is one, however nights vary."""
    if by_week is None or by_week.effect is None or by_week.threshold is None:
        return False
    looks_the_same = by_week.effect <= warn_fraction * by_week.threshold
    return looks_the_same or by_week.outcome is not Outcome.INSUFFICIENT_DATA


def _together(
    weekday: str, by_week: Evidence | None, window: str, by_window: Evidence | None
) -> Evidence:
    """One check's evidence: that of the baseline with the worse verdict; a word of the other."""
    if by_week is None or by_window is None:
        only, name = (by_window, window) if by_week is None else (by_week, weekday)
        assert only is not None
        return replace(only, message=f"{only.message}, against {name}")
    sides = [(by_week, weekday), (by_window, window)]
    (first, name), (second, other) = sorted(sides, key=lambda side: _RANK[side[0].outcome])
    told = f"{second.outcome.value}"
    if second.effect is not None:
        told = f"{second.effect:.3f}, floor {second.null_floor or 0.0:.3f}, {told}"
    return replace(first, message=f"{first.message}, against {name}; {other}: {told}")


def _too_few(now: DatasetStatistics, policy: DriftPolicy) -> Decision:
    reason = (
        f"{now.examples} independent rows tonight; the policy asks for at least "
        f"{policy.minimum_examples}"
    )
    outcome = Outcome.INSUFFICIENT_DATA
    evidence = Evidence("examples", "count", outcome, reason, value=now.examples, n=now.examples)
    return Decision(GATE, outcome, reason, None, (evidence,))


def _no_baseline(usable: Nights, policy: DriftPolicy, season: SeasonPolicy) -> Decision:
    why = (
        f"{len(usable)} earlier {'night' if len(usable) == 1 else 'nights'} can be compared with; "
        f"it takes {season.min_nights} of the same weekday in {season.weeks} weeks, or "
        f"{season.min_nights} in {season.window_days} days"
    )
    return drift.without_baseline(policy, why, GATE)
