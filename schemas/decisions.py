"""Decisions: OK, WARN, BLOCK or INSUFFICIENT_DATA, each with its evidence. No IO here."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from pydantic.dataclasses import dataclass


class Outcome(str, Enum):
    """What a check concluded. Only BLOCK stops a release."""

    OK = "OK"
    WARN = "WARN"
    BLOCK = "BLOCK"
    INSUFFICIENT_DATA = "INSUFFICIENT_DATA"


@dataclass(frozen=True)
class Evidence:
    """One check of one subject, with all that is needed to dispute it.

    Attributes:
        subject: what was checked, as `feature:fare`, `slice:payment_type=Cash`, `slice:overall`.
        measure: how, as `jensen_shannon`, `l_infinity`, `psi`, `missing`, `accuracy`.
        outcome: the verdict on this check alone.
        message: one line for a person.
        effect: size of the effect, in the measure's own unit; for a slice metric with a baseline,
            candidate minus baseline. None if it could not be computed.
        threshold: the effect at which BLOCK becomes possible, same unit; None if none is set.
        interval: 95% confidence interval (low, high) of `effect`, or of `value` where the check is
            absolute.
        null_floor: the effect that this sample size and cardinality give when nothing has changed
            (its 99.9% quantile unless the measure says otherwise).
        p_value: adjusted across everything that was tested together, in [0, 1].
        value: the measured value of the candidate or of the current data.
        baseline: the same of the baseline.
        n: number of examples behind `value`.
        n_baseline: number of examples behind `baseline`.
        severity: what the policy allows at most for this check: WARN or BLOCK.
    """

    subject: str
    measure: str
    outcome: Outcome
    message: str
    effect: float | None = None
    threshold: float | None = None
    interval: tuple[float, float] | None = None
    null_floor: float | None = None
    p_value: float | None = None
    value: float | None = None
    baseline: float | None = None
    n: int | None = None
    n_baseline: int | None = None
    severity: Outcome = Outcome.BLOCK


@dataclass(frozen=True)
class Decision:
    """The outcome of a gate, with its evidence.

    Attributes:
        gate: `drift`, `sliced_evaluation` or the name a user's own gate has.
        outcome: the verdict.
        reason: one line for a person: what decided it.
        baseline: what it was compared with (`release 3`, `span 12`), or None if there was nothing
            to compare with; the reason then says so.
        evidence: all checks, worst first.
    """

    gate: str
    outcome: Outcome
    reason: str
    baseline: str | None = None
    evidence: tuple[Evidence, ...] = ()


_WORST_FIRST = {
    Outcome.BLOCK: 0,
    Outcome.WARN: 1,
    Outcome.INSUFFICIENT_DATA: 2,
    Outcome.OK: 3,
}


def worst_first(evidence: Iterable[Evidence]) -> tuple[Evidence, ...]:
    """Orders evidence BLOCK, WARN, INSUFFICIENT_DATA, OK; the order within each is kept."""
    return tuple(sorted(evidence, key=lambda item: _WORST_FIRST[item.outcome]))


def overall(evidence: Iterable[Evidence]) -> Outcome:
    """The outcome of a gate from its checks.

    BLOCK if any check blocks, else WARN if any warns, else OK if any check could be made, else
    INSUFFICIENT_DATA. A check with too little data beside others that are OK blocks nothing.
    """
    outcomes = {item.outcome for item in evidence}
    for outcome in (Outcome.BLOCK, Outcome.WARN, Outcome.OK):
        if outcome in outcomes:
            return outcome
    return Outcome.INSUFFICIENT_DATA
