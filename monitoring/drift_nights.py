"""How much nights vary among themselves, and what that says of tonight's change. No IO here.

Real traffic varies from night to night by more than sampling does: weather, events, holidays. So
each earlier night is compared with the others, exactly as tonight is compared with all of them, and
the spread of those effects is what a night without drift may show.

A change has an amplitude: the change of a share itself; for divergences, which grow with the square
of it, their root. Nights without drift give amplitudes around 0 whose variance is estimated from
the earlier nights' squared ones. With few nights an estimate by itself is poor: as many as
`PRIOR_NIGHTS` nights' worth of the median over all features stand beside it (Smyth, Linear models
and empirical Bayes methods, 2004, shrinks variances of many genes so). Tonight's squared amplitude
over this variance is then at most F distributed with 1 and `freedom` degrees of freedom: exactly
where a feature has one way to vary, less heavy in the tail where it has many.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from tfx_encore.monitoring.drift import measure_sizes
from tfx_encore.monitoring.drift_measures import Effect, Measurement
from tfx_encore.monitoring.drift_statistics import DatasetStatistics
from tfx_encore.monitoring.null_floors import FLOOR_QUANTILE
from tfx_encore.monitoring.statistics_merge import merge
from tfx_encore.schemas.drift_policy import DriftPolicy

PRIOR_NIGHTS = 4.0
_SQUARED = ("jensen_shannon", "psi")  # measures that grow with the square of a change
_SURE = 3.29  # standard deviations of the floor's quantile, both directions

Check = tuple[str, str]
"""A feature and a measure."""


@dataclass(frozen=True)
class Variation:
    """How nights vary.

    Attributes:
        squares: check -> squared amplitudes of the earlier nights.
        typical: measure -> median over features of the mean square.
        independent: share of those amplitudes that are independent: of w nights that are compared
            with one another, w - 1 are.
    """

    squares: Mapping[Check, Sequence[float]]
    typical: Mapping[str, float]
    independent: float

    def scale(self, check: Check) -> tuple[float, float]:
        """Variance of a night's amplitude, and the degrees of freedom behind it."""
        own = self.squares.get(check, ())
        typical = self.typical.get(check[1], 0.0)
        freedom = len(own) * self.independent
        total = float(np.sum(own)) * self.independent + typical * PRIOR_NIGHTS
        return total / (freedom + PRIOR_NIGHTS), freedom + PRIOR_NIGHTS


def variation(
    groups: Sequence[Sequence[DatasetStatistics]], policy: DriftPolicy, features: Sequence[str]
) -> Variation:
    """How the nights of each group vary around the others of the same group."""
    squares: dict[Check, list[float]] = {}
    nights = sum(len(group) for group in groups)
    for group in groups:
        for index, night in enumerate(group):
            others = [*group[:index], *group[index + 1 :]]
            found = measure_sizes(night, merge(others), policy, features)
            for check, effect in found.items():
                squares.setdefault(check, []).append(_square(check[1], effect))
    means: dict[str, list[float]] = {}
    for (_, measure), found_squares in squares.items():
        means.setdefault(measure, []).append(float(np.mean(found_squares)))
    typical = {measure: float(np.median(values)) for measure, values in means.items()}
    return Variation(squares, typical, 1 - len(groups) / nights if nights else 0.0)


def beyond_variation(found: Measurement, nights: Variation) -> Measurement:
    """The same measurement, its floor and p-value raised to what nights without drift may show."""
    if found.effect is None or found.measure == "type":
        return found
    effect = found.effect
    scale, freedom = nights.scale((found.feature, found.measure))
    scale += _sampling(found.measure, effect)
    if scale <= 0:
        return found
    ratio = _square(found.measure, float(effect.effect)) / scale
    p_value = float(special.fdtrc(1.0, freedom, ratio))
    limit = float(special.fdtri(1.0, freedom, FLOOR_QUANTILE)) * scale
    floor = limit if found.measure in _SQUARED else np.sqrt(limit)
    raised = replace(
        effect,
        floor=np.maximum(effect.floor, floor),
        p_value=np.maximum(effect.p_value, p_value),
    )
    return replace(found, effect=raised)


def _square(measure: str, effect: float) -> float:
    return effect if measure in _SQUARED else effect**2


def _sampling(measure: str, effect: Effect) -> float:
    """The part of tonight's squared amplitude that its own sampling gives."""
    if measure in _SQUARED:
        return float(effect.noise)
    return (float(effect.floor) / _SURE) ** 2
