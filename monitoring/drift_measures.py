"""Measures one feature of two data sets: effects, each with its null. No IO here."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tfx_encore.monitoring import divergence, drift_categories, drift_numeric, null_floors
from tfx_encore.monitoring.drift_categories import Table
from tfx_encore.monitoring.drift_numeric import Distribution
from tfx_encore.monitoring.drift_statistics import FeatureStatistics, NumericValues

Array = npt.NDArray[np.float64]

NAMES = {
    "jensen_shannon": "Jensen-Shannon",
    "l_infinity": "L-infinity",
    "psi": "PSI",
    "missing": "missing",
    "unseen": "unseen categories",
    "label_drift": "label drift",
    "type": "type",
    "distribution": "distribution",
}


@dataclass(frozen=True)
class Effect:
    """The size of a change and what noise alone gives; arrays of one shape, or numbers.

    Attributes:
        effect: as measured.
        noise: the value expected when nothing has changed.
        floor: the 99.9% quantile of the effect when nothing has changed.
        p_value: chance of such an effect when nothing has changed, not adjusted.
    """

    effect: Array
    noise: Array
    floor: Array
    p_value: Array


@dataclass(frozen=True)
class Measurement:
    """One measure of one feature.

    Attributes:
        feature: the feature's name.
        measure: a key of `NAMES`.
        detail: what changed, for a person: `Cash 0.70 -> 0.59`; or why it could not be measured.
        effect: None if it could not be measured.
        value: share or statistic of the current data, where the measure has one.
        baseline: the same of the baseline.
        n: values behind the current side.
        n_baseline: values behind the baseline.
    """

    feature: str
    measure: str
    detail: str
    effect: Effect | None
    n: int
    n_baseline: int
    value: float | None = None
    baseline: float | None = None


_TERMS: dict[str, null_floors.Terms] = {
    "jensen_shannon": divergence.jensen_shannon_terms,
    "psi": divergence.psi_terms,
    "label_drift": divergence.total_variation_terms,
}


def additive_effect(measure: str, current: Array, baseline: Array, n: float, m: float) -> Effect:
    """Jensen-Shannon, PSI or label drift between counts of shape [..., B]."""
    terms = _TERMS[measure]
    effect = terms(current, baseline, n, m).sum(axis=-1)
    smooth = measure != "label_drift"
    null = null_floors.additive_null(terms, current + baseline, n, m, smooth=smooth)
    return Effect(effect, null.mean, null.quantile(), null.p_value(effect))


def certain_p_value(current: Distribution, baseline: Distribution) -> float:
    """Chance of what the quantile bounds make certain, when nothing has changed.

    The most surprising of the shares up to each known value, times how many were looked at.
    """
    n, m = current.total, baseline.total
    now, then = drift_numeric.nearest_shares(current, baseline)
    pooled = drift_numeric.noisiest_shares(current, baseline) * (n + m)
    tails = null_floors.share_change_p_values(np.abs(now - then), pooled, n, m)
    return float(min(1.0, tails.min() * tails.size))


def certain_effect(measure: str, current: Distribution, baseline: Distribution) -> float:
    """The part of a numeric effect that owes nothing to the guess between quantile bounds.

    The largest divergence of any cut in two at a known value: coarser bins never diverge more.
    """
    n, m = current.total, baseline.total
    now, then = drift_numeric.nearest_shares(current, baseline)
    cuts_now = n * np.stack([now, 1 - now], axis=-1)
    cuts_then = m * np.stack([then, 1 - then], axis=-1)
    return float(_TERMS[measure](cuts_now, cuts_then, n, m).sum(axis=-1).max())


def numeric_floor(floor: npt.ArrayLike, effect: npt.ArrayLike, certain: npt.ArrayLike) -> Array:
    """The floor of exact counts, raised by what of the effect may lie in the guess alone."""
    guessed = np.maximum(0.0, np.asarray(effect) - np.asarray(certain))
    return np.asarray(np.asarray(floor) + guessed)


def unseen_effect(current: Array, baseline: Array, n: float, m: float) -> Effect:
    """Share of current values in cells that the baseline lacks; counts of shape [..., B]."""
    effect = divergence.unseen_share(current, baseline, n)
    null = null_floors.unseen_null(current + baseline, n, m)
    return Effect(effect, null.mean, null.quantile(), null.p_value(effect))


def largest_change_effect(current: Array, baseline: Array, n: float, m: float) -> Effect:
    """Largest change of one cell's share; counts of shape [..., B].

    A share's change is not pushed away from 0 by noise as a divergence is, so `noise` is 0.
    """
    effect = divergence.l_infinity(current, baseline, n, m)
    pooled = current + baseline
    p_value = null_floors.largest_change_p_value(effect, pooled, n, m)
    floor = null_floors.largest_change_floor(pooled, n, m)
    return Effect(effect, np.zeros_like(effect), floor, p_value)


def _missing(now: FeatureStatistics, then: FeatureStatistics) -> Measurement:
    n, m = now.present + now.missing, then.present + then.missing
    effect = largest_change_effect(np.array([now.missing]), np.array([then.missing]), n, m)
    value, baseline = now.missing / n, then.missing / m
    detail = f"{baseline:.1%} -> {value:.1%} of examples"
    return Measurement(
        now.name, "missing", detail, effect, round(n), round(m), value=value, baseline=baseline
    )


def _unmeasured(now: FeatureStatistics, then: FeatureStatistics, why: str) -> Measurement:
    sizes = round(now.present), round(then.present)
    return Measurement(now.name, "distribution", why, None, *sizes)


def _type_change(now: FeatureStatistics, then: FeatureStatistics) -> Measurement:
    if now.type_name == then.type_name:
        why = f"{now.type_name} is {now.kind} now and {then.kind} at the baseline: give both runs "
        return _unmeasured(now, then, why + "of StatisticsGen the same schema")
    certain = Effect(np.array(1.0), np.array(0.0), np.array(0.0), np.array(0.0))
    detail = f"{then.type_name} -> {now.type_name}"
    return Measurement(now.name, "type", detail, certain, round(now.present), round(then.present))


def _shift(current: Distribution, baseline: Distribution) -> str:
    """The medians if they differ, else the share up to the value where most has surely moved."""
    now, then = (f"{float(side.quantile(0.5)):.4g}" for side in (current, baseline))
    if now != then:
        return f"median {then} -> {now}"
    known = np.union1d(current.at, baseline.at)
    sure_now, sure_then = drift_numeric.nearest_shares(current, baseline)
    edge = known[int(np.abs(sure_now - sure_then).argmax())]
    shares = [float(side.cdf(edge)) for side in (baseline, current)]
    return f"share up to {edge:.4g} {shares[0]:.2f} -> {shares[1]:.2f}"


def _numeric(now: FeatureStatistics, then: FeatureStatistics, *, label: bool) -> list[Measurement]:
    assert now.numeric is not None
    assert then.numeric is not None
    current = drift_numeric.distribution(now.numeric)
    baseline = drift_numeric.distribution(then.numeric)
    if current is None or baseline is None:
        return [_unmeasured(now, then, "the statistics hold no quantiles; leave them switched on")]
    measure = "label_drift" if label else "jensen_shannon"
    edges = drift_numeric.common_edges(current, baseline)
    certain = np.array(certain_p_value(current, baseline))
    counts = [drift_numeric.bin_counts(side, edges) for side in (current, baseline)]
    effect = additive_effect(measure, counts[0], counts[1], current.total, baseline.total)
    sure = certain_effect(measure, current, baseline)
    floor = numeric_floor(effect.floor, effect.effect, sure)
    return [
        Measurement(
            now.name,
            measure,
            _shift(current, baseline),
            replace(effect, floor=floor, p_value=certain),
            round(current.total),
            round(baseline.total),
        )
    ]


def _largest_change(table: Table) -> str:
    now, then = table.current / table.n, table.baseline / table.m
    cell = int(np.abs(now - then).argmax())
    return f"{table.labels[cell]} {then[cell]:.2f} -> {now[cell]:.2f}"


def _unseen(name: str, table: Table) -> Measurement:
    new = drift_categories.unseen(table)
    named = np.where(table.named, table.current, 0.0), np.where(table.named, table.baseline, 0.0)
    first = ", ".join(f"{label} {share:.1%}" for label, share in new[:3])
    more = f", and {len(new) - 3} more" if len(new) > 3 else ""
    effect = unseen_effect(*named, table.n, table.m)
    return Measurement(
        name, "unseen", f"{first}{more}" or "none", effect, round(table.n), round(table.m)
    )


def _categorical(
    now: FeatureStatistics, then: FeatureStatistics, *, label: bool
) -> list[Measurement]:
    assert now.categorical is not None
    assert then.categorical is not None
    table = drift_categories.align(now.categorical, then.categorical)
    sides = table.current, table.baseline, table.n, table.m
    detail, sizes = _largest_change(table), (round(table.n), round(table.m))
    if label:
        effects = {"label_drift": additive_effect("label_drift", *sides)}
    else:
        effects = {
            "l_infinity": largest_change_effect(*sides),
            "psi": additive_effect("psi", *sides),
        }
    found = [Measurement(now.name, name, detail, e, *sizes) for name, e in effects.items()]
    return [*found, _unseen(now.name, table)]


def measure(
    now: FeatureStatistics, then: FeatureStatistics, *, label: bool, minimum: int
) -> list[Measurement]:
    """All measures of one feature, the current side first.

    Args:
        now: the feature in the current data, with at least one example.
        then: the same feature in the baseline, with at least one example.
        label: whether it is a label, judged by label_drift.
        minimum: values needed on both sides to compare distributions.
    """
    missing = [_missing(now, then)]
    if min(now.present, then.present) < minimum:
        why = f"{now.present:.0f} values now, {then.present:.0f} at the baseline; needs {minimum}"
        return [*missing, _unmeasured(now, then, why)]
    if now.type_name != then.type_name or now.kind != then.kind:
        return [*missing, _type_change(now, then)]
    if now.kind == "numeric":
        return [*missing, *_numeric(now, then, label=label)]
    if now.kind == "categorical":
        return [*missing, *_categorical(now, then, label=label)]
    return missing


def sizes(
    now: FeatureStatistics, then: FeatureStatistics, *, label: bool, minimum: int
) -> dict[str, float]:
    """Measure -> effect, as `measure` finds them, without their nulls: many times quicker."""
    n, m = now.present + now.missing, then.present + then.missing
    found = {"missing": abs(now.missing / n - then.missing / m)}
    if min(now.present, then.present) < minimum:
        return found
    if now.type_name != then.type_name or now.kind != then.kind:
        return found
    if now.numeric is not None and then.numeric is not None:
        return {**found, **_numeric_sizes(now.numeric, then.numeric, label=label)}
    if now.categorical is not None and then.categorical is not None:
        table = drift_categories.align(now.categorical, then.categorical)
        return {**found, **_categorical_sizes(table, label=label)}
    return found


def _numeric_sizes(now: NumericValues, then: NumericValues, *, label: bool) -> dict[str, float]:
    current, baseline = drift_numeric.distribution(now), drift_numeric.distribution(then)
    if current is None or baseline is None:
        return {}
    measure = "label_drift" if label else "jensen_shannon"
    edges = drift_numeric.common_edges(current, baseline)
    counts = [drift_numeric.bin_counts(side, edges) for side in (current, baseline)]
    terms = _TERMS[measure](counts[0], counts[1], current.total, baseline.total)
    return {measure: float(terms.sum())}


def _categorical_sizes(table: Table, *, label: bool) -> dict[str, float]:
    sides = table.current, table.baseline, table.n, table.m
    named = np.where(table.named, table.current, 0.0), np.where(table.named, table.baseline, 0.0)
    unseen = float(divergence.unseen_share(*named, table.n))
    if label:
        return {"label_drift": float(divergence.total_variation(*sides)), "unseen": unseen}
    return {
        "l_infinity": float(divergence.l_infinity(*sides)),
        "psi": float(divergence.psi(*sides)),
        "unseen": unseen,
    }
