"""From the statistics of two data sets to a drift decision. No IO here.

Measured first, feature by feature; then all p-values are adjusted together; then each check is
judged by its own effect, and the gate by the worst check.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tfx_encore.monitoring.drift_measures import NAMES, Effect, Measurement, measure, sizes
from tfx_encore.monitoring.drift_statistics import DatasetStatistics
from tfx_encore.monitoring.multiple_testing import benjamini_hochberg
from tfx_encore.schemas.decisions import Decision, Evidence, Outcome, overall, worst_first
from tfx_encore.schemas.drift_policy import DriftPolicy
from tfx_encore.schemas.errors import ConfigError
from tfx_encore.schemas.nights import SCORE

GATE = "drift"
Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def real_change(effect: Effect, adjusted: npt.ArrayLike, significance: float) -> Flags:
    """Where a change is no noise: significant after adjustment and above its null floor."""
    p_values = np.asarray(adjusted)
    return np.asarray((p_values <= significance) & (effect.effect > effect.floor))


def exceeds(effect: Effect, threshold: npt.ArrayLike) -> Flags:
    """Where an effect exceeds `threshold` by more than noise is expected to give."""
    return np.asarray(effect.effect > effect.noise + np.asarray(threshold))


def subject_of(feature: str) -> str:
    """What evidence about a feature says that it is about."""
    return "predictions" if feature == SCORE else f"feature:{feature}"


def check_policy(policy: DriftPolicy, features: Sequence[str], section: str = "drift") -> None:
    """Refuses a policy that names features which the schema lacks.

    Args:
        policy: the policy.
        features: names of the features that the schema has.
        section: where in the configuration the policy stands.

    Raises:
        ConfigError: names the key, the feature and the valid choices.
    """
    named = {
        f"{section}.ignore_features": policy.ignore_features,
        f"{section}.labels": policy.labels,
        f"{section}.features": tuple(policy.features),
    }
    for key, names in named.items():
        unknown = [name for name in names if name not in features]
        if unknown:
            choices = ", ".join(sorted(features))
            raise ConfigError(
                f"the schema has no feature {unknown[0]!r}; it has {choices}", key=key
            )


def without_baseline(policy: DriftPolicy, why: str, gate: str = GATE) -> Decision:
    """The decision when there is nothing to compare with; its reason says so."""
    reason = f"nothing to compare with, so {gate} was not checked: {why}"
    return Decision(gate, Outcome(policy.without_baseline), reason)


def _too_few(
    current: int, baseline: int, policy: DriftPolicy, name: str, gate: str
) -> Decision | None:
    if min(current, baseline) >= policy.minimum_examples:
        return None
    reason = (
        f"{current} examples now and {baseline} in {name}; the policy asks for at least "
        f"{policy.minimum_examples} on both sides"
    )
    outcome = Outcome.INSUFFICIENT_DATA
    evidence = Evidence(
        "examples", "count", outcome, reason, value=current, n=current, n_baseline=baseline
    )
    return Decision(gate, outcome, reason, name, (evidence,))


def _measurable(
    current: DatasetStatistics,
    baseline: DatasetStatistics,
    policy: DriftPolicy,
    features: Sequence[str],
) -> list[str]:
    return [
        name
        for name in features
        if name not in policy.ignore_features
        and (name in current.features or name in baseline.features)
    ]


def measure_sizes(
    current: DatasetStatistics,
    baseline: DatasetStatistics,
    policy: DriftPolicy,
    features: Sequence[str],
) -> dict[tuple[str, str], float]:
    """(feature, measure) -> effect, as `measure_all` finds them, without their nulls: quick."""
    return {
        (name, which): effect
        for name in _measurable(current, baseline, policy, features)
        for which, effect in sizes(
            current.feature(name),
            baseline.feature(name),
            label=name in policy.labels,
            minimum=policy.minimum_examples,
        ).items()
    }


def measure_all(
    current: DatasetStatistics,
    baseline: DatasetStatistics,
    policy: DriftPolicy,
    features: Sequence[str],
) -> list[Measurement]:
    """Measures every feature of the schema that is not ignored and that either data set has."""
    return [
        found
        for name in _measurable(current, baseline, policy, features)
        for found in measure(
            current.feature(name),
            baseline.feature(name),
            label=name in policy.labels,
            minimum=policy.minimum_examples,
        )
    ]


def _adjusted(measurements: Sequence[Measurement]) -> list[float | None]:
    raw = [m.effect.p_value for m in measurements if m.effect is not None]
    found = iter(benjamini_hochberg(np.array(raw, dtype=np.float64)))
    return [None if m.effect is None else float(next(found)) for m in measurements]


def _outcome(
    effect: Effect, adjusted: float, threshold: float, severity: Outcome, policy: DriftPolicy
) -> Outcome:
    if not real_change(effect, adjusted, policy.significance):
        blind = effect.floor > effect.noise + threshold
        return Outcome.INSUFFICIENT_DATA if blind else Outcome.OK
    if exceeds(effect, threshold):
        return severity
    return Outcome.WARN if exceeds(effect, policy.warn_fraction * threshold) else Outcome.OK


def _title(found: Measurement) -> str:
    return subject_of(found.feature).removeprefix("feature:")


def _message(found: Measurement, effect: Effect, threshold: float, noise: float) -> str:
    raised = f" ({threshold - noise:.3g} + {noise:.3f} expected of noise)" if noise > 0.005 else ""
    return (
        f"{_title(found)}: {NAMES[found.measure]} {float(effect.effect):.3f} ({found.detail}), "
        f"floor {float(effect.floor):.3f}, threshold {threshold:.3g}{raised}"
    )


def _unmeasured(found: Measurement) -> Evidence:
    return Evidence(
        subject_of(found.feature),
        found.measure,
        Outcome.INSUFFICIENT_DATA,
        f"{_title(found)}: distributions not compared ({found.detail})",
        n=found.n,
        n_baseline=found.n_baseline,
    )


def _evidence(found: Measurement, adjusted: float | None, policy: DriftPolicy) -> Evidence:
    effect = found.effect
    if effect is None or adjusted is None:
        return _unmeasured(found)
    severity = Outcome(policy.severity_of(found.feature))
    own = 0.0 if found.measure == "type" else policy.threshold(found.feature, found.measure)
    noise = float(effect.noise)
    outcome = _outcome(effect, adjusted, own, severity, policy)
    blind = "; too few values to tell" if outcome is Outcome.INSUFFICIENT_DATA else ""
    return Evidence(
        subject_of(found.feature),
        found.measure,
        outcome,
        _message(found, effect, own + noise, noise) + blind,
        effect=float(effect.effect),
        threshold=own + noise,
        null_floor=float(effect.floor),
        p_value=adjusted,
        value=found.value,
        baseline=found.baseline,
        n=found.n,
        n_baseline=found.n_baseline,
        severity=severity,
    )


def judge(measurements: Sequence[Measurement], policy: DriftPolicy) -> list[Evidence]:
    """Evidence of each measurement, in their order; p-values are adjusted over all of them."""
    adjusted = _adjusted(measurements)
    return [_evidence(m, p, policy) for m, p in zip(measurements, adjusted, strict=True)]


def and_more(others: int) -> str:
    """How a reason says that other checks found the same."""
    return f" (and {others} more {'check' if others == 1 else 'checks'})" if others else ""


def reason_of(evidence: Sequence[Evidence], outcome: Outcome, name: str, gate: str) -> str:
    """One line that says what decided."""
    features = {item.subject for item in evidence}
    if outcome is Outcome.OK:
        return f"no {gate} in {len(features)} features ({len(evidence)} checks) against {name}"
    if outcome is Outcome.INSUFFICIENT_DATA:
        return f"no feature has enough values to be compared with {name}"
    worst = [item for item in evidence if item.outcome is outcome]
    return f"{worst[0].message}{and_more(len(worst) - 1)}, against {name}"


def _strength(item: Evidence) -> float:
    return -(item.effect or 0.0) / item.threshold if item.threshold else 0.0


def strongest_first(evidence: Sequence[Evidence]) -> tuple[Evidence, ...]:
    """Worst first; those of equal outcome by effect over threshold."""
    return worst_first(sorted(evidence, key=_strength))


def decide(
    current: DatasetStatistics,
    baseline: DatasetStatistics,
    policy: DriftPolicy,
    features: Sequence[str],
    baseline_name: str = "the baseline",
    *,
    gate: str = GATE,
    section: str = "drift",
) -> Decision:
    """The drift decision on `current` against `baseline`.

    Args:
        current: statistics of the data to be judged.
        baseline: statistics of the data it is compared with.
        policy: thresholds and significance.
        features: names of the features that the schema has.
        baseline_name: what a person calls the baseline, such as `release 3`.
        gate: name of the decision's gate.
        section: where in the configuration the policy stands.

    Raises:
        ConfigError: the policy names a feature that `features` lacks.
    """
    check_policy(policy, features, section)
    too_few = _too_few(current.examples, baseline.examples, policy, baseline_name, gate)
    if too_few is not None:
        return too_few
    found = judge(measure_all(current, baseline, policy, features), policy)
    evidence = strongest_first(found)
    outcome = overall(evidence)
    reason = reason_of(evidence, outcome, baseline_name, gate)
    return Decision(gate, outcome, reason, baseline_name, evidence)
