"""The checks of drift of several nights, feature by feature. No IO here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tfx_encore.pipeline.report import words
from tfx_encore.pipeline.ui.address import link
from tfx_encore.schemas.decisions import Decision, Evidence, Outcome
from tfx_encore.schemas.nights import NightRecord

GATES = ("skew", "drift")
# A feature has too little data only if no check of it could be made.
RANK = {Outcome.BLOCK: 0, Outcome.WARN: 1, Outcome.OK: 2, Outcome.INSUFFICIENT_DATA: 3}
_WEEKDAY = re.compile(r"\bagainst \w+days of the last \d+ weeks\b")
_WINDOW = re.compile(r"\bagainst the (last \d+ days)\b")
_NO_FEATURE = "examples"  # a night too small to be judged says so of these


@dataclass(frozen=True)
class Check:
    """One check of one feature in one night.

    Attributes:
        date: the night.
        gate: `skew` or `drift`.
        against: what it compared with, in words.
        evidence: the check.
    """

    date: str
    gate: str
    against: str
    evidence: Evidence


def checks_of(nights: Iterable[NightRecord]) -> list[Check]:
    """The checks of drift of all nights, in order of nights."""
    return [
        Check(night.date, decision.gate, against(decision, item), item)
        for night in nights
        for decision in night.decisions
        if decision.gate in GATES
        for item in decision.evidence
        if item.subject != _NO_FEATURE
    ]


def against(decision: Decision, item: Evidence) -> str:
    """What a check of these gates compared with: its message names the baseline that decided."""
    if decision.gate == "skew":
        return "training data"
    if _WEEKDAY.search(item.message):
        return "same weekday"
    window = _WINDOW.search(item.message)
    return window[1] if window else "earlier nights"


def by_feature(checks: Iterable[Check]) -> dict[str, list[Check]]:
    """Feature -> its checks, the features with the worst last night first."""
    found: dict[str, list[Check]] = {}
    for check in checks:
        found.setdefault(words.subject(check.evidence.subject), []).append(check)

    def order(name: str) -> tuple[int, int, float, str]:
        rank, share = badness(last_checks(found[name])[0])
        return rank, -len(bad_days(found[name])), share, name

    return {name: found[name] for name in sorted(found, key=order)}


def bad_days(checks: Iterable[Check]) -> set[str]:
    """The nights in which a check warned or blocked."""
    return {check.date for check in checks if sign(check.evidence)}


def last_checks(checks: Sequence[Check]) -> list[Check]:
    """The checks of the last night, the worst first."""
    date = max(check.date for check in checks)
    return sorted((c for c in checks if c.date == date), key=badness)


def badness(check: Check) -> tuple[int, float]:
    """By what checks are ordered, the worst first."""
    return RANK[check.evidence.outcome], -_share(check.evidence)


def _share(item: Evidence) -> float:
    """The effect as a multiple of its threshold; 0 if either is unknown."""
    if item.effect is None or not item.threshold:
        return 0.0
    return abs(item.effect / item.threshold)


def worst_by_day(checks: Iterable[Check]) -> dict[str, Evidence]:
    """Night -> its worst check."""
    found: dict[str, Check] = {}
    for check in checks:
        known = found.get(check.date)
        if known is None or badness(check) < badness(known):
            found[check.date] = check
    return {date: check.evidence for date, check in found.items()}


def sign(item: Evidence | None) -> str:
    """The mark of a check that warned or blocked; "" of any other."""
    if item is None or item.outcome not in {Outcome.WARN, Outcome.BLOCK}:
        return ""
    return words.MARKS[item.outcome]


def drift_address(query: Mapping[str, str], **changed: str) -> str:
    """The address of the page of drift for the choice in `query`, changed as told."""
    names = ("feature", "night", "from", "to")
    merged = {**{name: query[name] for name in names if query.get(name)}, **changed}
    return link("/drift", **{f"{name}_": value for name, value in merged.items()})
