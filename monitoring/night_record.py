"""What a night found, as its decision record: outcome, reason, alarms, actions. No IO here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from tfx_encore.schemas.decisions import Decision, Evidence, Outcome, overall
from tfx_encore.schemas.nightly_policy import LogPolicy, RewarmPolicy
from tfx_encore.schemas.nights import (
    LogReport,
    MetricPoint,
    NightAction,
    NightAlarm,
    NightCoverage,
    NightRecord,
    PerformanceEstimate,
    SliceFinding,
)

LOG_GATE, SKEW_GATE, DRIFT_GATE, SLICES_GATE = "log", "skew", "drift", "slices"
PATHS_GATE, TREND_GATE, ESTIMATE_GATE = "cached_path", "trend", "estimate"
GATES = (
    LOG_GATE, PATHS_GATE, SLICES_GATE, TREND_GATE, SKEW_GATE, DRIFT_GATE, ESTIMATE_GATE,
)  # fmt: skip

_RANK = {Outcome.BLOCK: 0, Outcome.WARN: 1, Outcome.OK: 2, Outcome.INSUFFICIENT_DATA: 3}
_LOUD = (Outcome.BLOCK, Outcome.WARN)
_REASON_CHARACTERS = 300

AlarmKey = tuple[str, str, str]
"""(gate, subject, measure): what makes an alarm the same one from night to night."""


@dataclass(frozen=True)
class Found:
    """Everything that a night's record is made of.

    Attributes:
        model: the model's name.
        date: the day, as `2016-01-12`.
        log: what was read.
        decisions: of the gates, in any order.
        version: the version that answered most rows, if known.
        fingerprint: of that version, if known.
        wrong: slices whose cached answers are wrong, feature -> value; `{}` is everything.
        metrics: metrics by slice.
        estimates: performance without labels.
        findings: slices that nobody configured.
        coverage: worth of the snapshot, if there is one.
        before: the alarms of the night before.
        onsets: (subject, measure) of a trend alarm -> the day from which it dates.
        roll_back_to: an older version that could answer instead, if there is one.
        evaluation_digest: see `NightRecord`.
        history_digest: see `NightRecord`.
        policy_digest: see `NightRecord`.
    """

    model: str
    date: str
    log: LogReport
    decisions: tuple[Decision, ...] = ()
    version: int | None = None
    fingerprint: str | None = None
    wrong: tuple[Mapping[str, str], ...] = ()
    metrics: tuple[MetricPoint, ...] = ()
    estimates: tuple[PerformanceEstimate, ...] = ()
    findings: tuple[SliceFinding, ...] = ()
    coverage: NightCoverage | None = None
    before: tuple[NightAlarm, ...] = ()
    onsets: Mapping[tuple[str, str], str | None] = field(default_factory=dict)
    roll_back_to: int | None = None
    evaluation_digest: str = ""
    history_digest: str = ""
    policy_digest: str = ""


def compose(found: Found, rewarm: RewarmPolicy) -> NightRecord:
    """The decision record; its revision, run and time of writing are given to it later."""
    decisions = tuple(sorted(found.decisions, key=_order))
    alarms = _alarms(found, decisions)
    return NightRecord(
        model=found.model,
        date=found.date,
        outcome=outcome_of(decisions),
        reason=_reason(found, decisions),
        version=found.version,
        fingerprint=found.fingerprint,
        decisions=decisions,
        actions=_actions(found, decisions, rewarm),
        alarms=alarms,
        log=found.log,
        metrics=found.metrics,
        estimates=found.estimates,
        findings=found.findings,
        coverage=found.coverage,
        evaluation_digest=found.evaluation_digest,
        history_digest=found.history_digest,
        policy_digest=found.policy_digest,
    )


def judge_log(log: LogReport, policy: LogPolicy) -> Decision:
    """Whether the day's log could be read, and held anything."""
    checks = (_unreadable(log, policy.tolerate_unreadable_share), _rows(log))
    loud = [check for check in checks if check.outcome is not Outcome.OK]
    reason = (loud or checks[1:])[0].message
    outcome = checks[0].outcome if checks[0].outcome is Outcome.BLOCK else checks[1].outcome
    return Decision(LOG_GATE, outcome, reason, evidence=tuple(sorted(checks, key=_evidence_order)))


def outcome_of(decisions: Iterable[Decision]) -> Outcome:
    """The worst of the gates; that a log could be read does not make a night OK by itself."""
    decisions = tuple(decisions)
    judged = [Evidence("", "", d.outcome, "") for d in decisions if d.gate != LOG_GATE]
    outcomes = {d.outcome for d in decisions if d.gate == LOG_GATE}
    judged += [Evidence("", "", loud, "") for loud in _LOUD if loud in outcomes]
    return overall(judged)


def alarm_key(alarm: NightAlarm) -> AlarmKey:
    """What makes an alarm the same one from night to night."""
    return alarm.gate, alarm.subject, alarm.measure


def _unreadable(log: LogReport, tolerated: float) -> Evidence:
    share = log.unreadable / log.records if log.records else 0.0
    bad = share > tolerated
    said = f"{log.unreadable:,} of {log.records:,} records are unreadable ({share:.2%})"
    limit = f", {tolerated:.2%} is tolerated" if log.unreadable else ""
    return Evidence(
        subject="log",
        measure="unreadable",
        outcome=Outcome.BLOCK if bad else Outcome.OK,
        message=said + limit,
        effect=share,
        threshold=tolerated,
        value=share,
        n=log.records,
    )


def _rows(log: LogReport) -> Evidence:
    if log.rows:
        said = f"{log.rows:,} rows of {log.requests:,} requests, {log.labelled:,} with a label"
        return Evidence("log", "rows", Outcome.OK, said, value=float(log.rows), n=log.rows)
    said = "no requests logged"
    if log.records:
        why = ", ".join(f"{reason} {n:,}" for reason, n in sorted(log.unusable.items()))
        said = f"none of {log.records:,} records could be evaluated ({why or 'all unreadable'})"
    return Evidence("log", "rows", Outcome.INSUFFICIENT_DATA, said, value=0.0, n=0)


def _order(decision: Decision) -> tuple[int, int, str]:
    place = GATES.index(decision.gate) if decision.gate in GATES else len(GATES)
    return _RANK[decision.outcome], place, decision.gate


def _evidence_order(evidence: Evidence) -> int:
    return _RANK[evidence.outcome]


def _reason(found: Found, decisions: tuple[Decision, ...]) -> str:
    """One line: the worst gate's reason, and how many other gates are as bad."""
    if not found.log.rows:
        return next(d.reason for d in decisions if d.gate == LOG_GATE)
    worst = [d for d in decisions if d.outcome in _LOUD and d.outcome is outcome_of(decisions)]
    if worst:
        more = ", ".join(d.gate for d in worst[1:])
        also = f" (also {more})" if more else ""
        return _short(f"{worst[0].gate}: {worst[0].reason}") + also
    read = f"{found.log.rows:,} rows, {found.log.labelled:,} with a label"
    if any(d.outcome is Outcome.OK for d in decisions if d.gate != LOG_GATE):
        return f"nothing found on {read}"
    return f"too little to judge: {read}"


def _short(text: str) -> str:
    return text if len(text) <= _REASON_CHARACTERS else f"{text[:_REASON_CHARACTERS]}..."


def _alarms(found: Found, decisions: tuple[Decision, ...]) -> tuple[NightAlarm, ...]:
    since = {alarm_key(alarm): alarm.since for alarm in found.before}
    alarms: dict[AlarmKey, NightAlarm] = {}
    for decision in decisions:
        for evidence in _loud(decision):
            key = (decision.gate, evidence.subject, evidence.measure)
            trend = decision.gate == TREND_GATE
            onset = found.onsets.get((evidence.subject, evidence.measure)) if trend else None
            alarm = NightAlarm(
                *key, evidence.outcome, _named(evidence), since.get(key, found.date), onset
            )
            alarms.setdefault(key, alarm)
    return tuple(alarms.values())


def _named(evidence: Evidence) -> str:
    """The check's message, with what was checked before it where the message does not say."""
    name = evidence.subject.partition(":")[2] or evidence.subject
    return evidence.message if name in evidence.message else f"{name}: {evidence.message}"


def _loud(decision: Decision) -> Iterator[Evidence]:
    """The checks that a person should know, worst first; the gate itself if it names none."""
    checks = [check for check in decision.evidence if check.outcome in _LOUD]
    yield from sorted(checks, key=_evidence_order)
    if not checks and decision.outcome in _LOUD:
        yield Evidence(decision.gate, "decision", decision.outcome, decision.reason)


def _actions(
    found: Found, decisions: tuple[Decision, ...], rewarm: RewarmPolicy
) -> tuple[NightAction, ...]:
    """Most urgent first: wrong answers, then a bad model, then an old one, then a cold cache."""
    blocked = {d.gate: d for d in decisions if d.outcome is Outcome.BLOCK}
    actions = [
        *_invalidate(found, blocked.get(PATHS_GATE)),
        *_replace(found, blocked),
        *_rewarm(found.coverage, rewarm),
    ]
    return tuple(actions) or (NightAction("nothing", "nothing to do"),)


def _invalidate(found: Found, paths: Decision | None) -> Iterator[NightAction]:
    """Withdraws the cached answers of the slices that answer wrongly; all, where none is known."""
    if paths is None:
        return
    for features in found.wrong or ({},):
        name = ", ".join(f"{key}={value}" for key, value in sorted(features.items()))
        what = f"cached answers of {name}" if features else "every cached answer"
        yield NightAction("invalidate_slice", _short(f"{what}: {paths.reason}"), dict(features))


def _replace(found: Found, blocked: Mapping[str, Decision]) -> Iterator[NightAction]:
    slices = blocked.get(SLICES_GATE)
    if slices is not None and found.roll_back_to is not None:
        reason = f"version {found.version} does worse than released: {slices.reason}"
        yield NightAction("roll_back", _short(reason), version=found.roll_back_to)
    for gate in (SLICES_GATE, TREND_GATE, SKEW_GATE, DRIFT_GATE):
        if gate in blocked and not (gate == SLICES_GATE and found.roll_back_to is not None):
            yield NightAction("retrain", _short(f"{gate}: {blocked[gate].reason}"))
            return


def _rewarm(coverage: NightCoverage | None, policy: RewarmPolicy) -> Iterator[NightAction]:
    if coverage is None or coverage.expected is None or not policy.enabled:
        return
    if coverage.expected - coverage.covered > policy.fall:
        reason = (
            f"the snapshot covers {coverage.covered:.1%} of the rows, {coverage.expected:.1%} "
            "when it was made"
        )
        yield NightAction("rewarm", reason)
