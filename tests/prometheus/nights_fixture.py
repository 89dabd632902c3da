"""Sixty nights as they look in practice: twelve slices, an incident, a slow decay with its alarm.

Day 40: a payment type is renamed (drift, a slice is worse, for three nights). From day 25 on
`company=Sun Taxi` loses recall; its trend statistic passes the threshold in night 52.
"""

from __future__ import annotations

import datetime as dt
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfx_encore.metadata.night_store import LOG, RECORD, SLICES, NightStore
from tfx_encore.monitoring.intervals import wilson
from tfx_encore.monitoring.night_slices import NightSlices, PathCounts, ServedSlice
from tfx_encore.monitoring.slice_counts import row_code
from tfx_encore.schemas.decisions import Decision, Evidence, Outcome
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
from tfx_encore.schemas.serial import to_json

FINGERPRINT = "sha256:" + "9f2c41d07be8" + "0" * 52
SLICES_OF = {
    "overall": {},
    **{f"payment_type={v}": {"payment_type": v} for v in ("Cash", "Credit Card", "Mobile")},
    **{
        f"company={v}": {"company": v}
        for v in ("Flash Cab", "Sun Taxi", "City Service", "Choice", "Nova", "Top Cab")
    },
    **{f"trip_start_hour={v}": {"trip_start_hour": v} for v in ("8", "18")},
}
DECAYING = "company=Sun Taxi"
INCIDENT, DECAY_FROM, ALARM_FROM = 40, 25, 52
THRESHOLD = 8.4


class Story(NamedTuple):
    """What a night tells.

    Attributes:
        number: of the night, 0 first.
        date: its day.
        incident: a payment type was renamed.
        alarm: slow decay has become an alarm.
        disagreeing: rows whose cached answer is not the model's.
    """

    number: int
    date: str
    incident: bool = False
    alarm: bool = False
    disagreeing: int = 0


def story_of(number: int, date: str) -> Story:
    """The story as the module says it."""
    return Story(number, date, INCIDENT <= number < INCIDENT + 3, number >= ALARM_FROM)


def commit(store: NightStore, story: Story, revision: int = 1) -> NightRecord:
    """Writes one night."""
    record, slices = night(story, store.model, revision)
    files = {
        RECORD: to_json(record).encode(),
        SLICES: to_json(slices).encode(),
        LOG: to_json(record.log).encode(),
    }
    with store.writing():
        store.commit(story.date, files)
    return record


def build(root: Path, model: str, last: str, nights: int = 60) -> NightStore:
    """A store of so many nights that ends with `last`."""
    store = NightStore(root, model)
    end = dt.date.fromisoformat(last)
    for number in range(60 - nights, 60):
        date = (end - dt.timedelta(days=59 - number)).isoformat()
        commit(store, story_of(number, date))
    return store


def night(story: Story, model: str, revision: int = 1) -> tuple[NightRecord, NightSlices]:
    """A night's record and its counts by slice."""
    rng = np.random.default_rng(story.number)
    points = tuple(p for name in SLICES_OF for p in _points(name, story, rng))
    decisions = _decisions(story, points)
    worst = Outcome.BLOCK if story.incident or story.alarm or story.disagreeing else Outcome.OK
    record = NightRecord(
        model=model,
        date=story.date,
        outcome=worst,
        reason=next((d.reason for d in decisions if d.outcome == worst), "nothing to report"),
        version=3,
        fingerprint=FINGERPRINT,
        decisions=decisions,
        actions=_actions(story),
        alarms=_alarms(story),
        log=_log(story, rng),
        metrics=points,
        estimates=_estimates(points),
        findings=(SliceFinding({"fare": "[45, 60)"}, 420, 0.71, 0.86, (-0.19, -0.11), 0.001, 2),),
        coverage=NightCoverage(0.74 - story.number * 0.001, 0.75, 10_000, "3.evidence/snapshot"),
        revision=revision,
        run_id=f"night-{story.date}",
        created_at=f"{story.date}T23:59:59.000000Z",
    )
    return record, NightSlices(0.5, tuple(_served(name, story) for name in SLICES_OF))


def _cases(name: str) -> int:
    return 20_000 if name == "overall" else 300 + 137 * (len(name) % 11)


def _points(name: str, story: Story, rng: np.random.Generator) -> list[MetricPoint]:
    points = []
    for metric, reference in (("accuracy", 0.86), ("recall", 0.81)):
        cases = _cases(name) // (1 if metric == "accuracy" else 4)
        lost, statistic = 0.0, float(rng.gamma(2.0, 0.6))
        if name == DECAYING and metric == "recall":
            nights = max(0, story.number - DECAY_FROM)
            lost, statistic = 0.004 * nights, statistic * 0.3 + nights * 0.31
        if name == "payment_type=Cash" and story.incident:
            lost = 0.2
        hits = int(rng.binomial(cases, reference - lost))
        alarm = statistic > THRESHOLD and story.alarm
        low, high = wilson(hits, cases)
        points.append(
            MetricPoint(
                slice=name,
                features=SLICES_OF[name],
                metric=metric,
                value=hits / cases,
                interval=(float(low), float(high)),
                cases=cases,
                reference=reference,
                statistic=statistic,
                threshold=THRESHOLD,
                alarm=alarm,
            )
        )
    return points


def _decisions(story: Story, points: tuple[MetricPoint, ...]) -> tuple[Decision, ...]:
    bad = Outcome.BLOCK
    trend = bad if story.alarm else Outcome.OK
    worse = bad if story.incident else Outcome.OK
    path = bad if story.disagreeing else Outcome.OK
    evidence = tuple(
        Evidence(f"slice:{p.slice}", f"{p.metric}_trend", bad if p.alarm else Outcome.OK, "trend")
        for p in points
    )
    return (
        Decision("log", Outcome.OK, "all records were readable"),
        _drift("skew", "release 3", story),
        _drift("drift", "last 7 days", story),
        Decision("slices", worse, "payment_type=Cash lost accuracy" if story.incident else "fine"),
        Decision("cached_path", path, f"{story.disagreeing} of 1,000 recomputed rows differ"),
        Decision("trend", trend, f"recall of {DECAYING} decays", evidence=evidence),
        Decision("estimate", Outcome.OK, "as expected"),
    )


def _drift(gate: str, baseline: str, story: Story) -> Decision:
    found = []
    for number, feature in enumerate(("payment_type", "company", "fare", "predictions")):
        subject = feature if feature == "predictions" else f"feature:{feature}"
        effect = 0.004 + 0.003 * abs(math.sin(story.number + number))
        outcome = Outcome.OK
        if feature == "payment_type" and story.incident:
            effect, outcome = 0.31, Outcome.BLOCK
        found.append(
            Evidence(
                subject,
                "jensen_shannon",
                outcome,
                f"{feature} {effect:.3f}",
                effect=effect,
                threshold=0.1,
                null_floor=0.008,
                p_value=0.5,
                n=20_000,
            )
        )
    outcome = Outcome.BLOCK if story.incident else Outcome.OK
    reason = "payment_type has drifted" if story.incident else "no drift"
    return Decision(gate, outcome, reason, baseline, tuple(found))


def _alarms(story: Story) -> tuple[NightAlarm, ...]:
    def since(first: int) -> str:
        day = dt.date.fromisoformat(story.date) - dt.timedelta(days=max(0, story.number - first))
        return day.isoformat()

    found = []
    if story.alarm:
        found.append(
            NightAlarm(
                "trend",
                f"slice:{DECAYING}",
                "recall",
                Outcome.BLOCK,
                f"recall of {DECAYING} decays",
                since(ALARM_FROM),
                since(DECAY_FROM),
            )
        )
    if story.incident:
        args = ("jensen_shannon", Outcome.BLOCK, "payment_type has drifted", since(INCIDENT))
        found.append(NightAlarm("drift", "feature:payment_type", *args))
    return tuple(found)


def _actions(story: Story) -> tuple[NightAction, ...]:
    if story.incident or story.alarm:
        return (NightAction("retrain", "a slice decays" if story.alarm else "drift"),)
    return (NightAction("nothing", "nothing to do"),)


def _log(story: Story, rng: np.random.Generator) -> LogReport:
    hits = int(rng.binomial(20_000, 0.72))
    requests = {"hit": hits // 2, "partial": 500, "miss": (20_000 - hits) // 2}
    return LogReport(
        files=24,
        records=11_000,
        unreadable=2,
        requests=sum(requests.values()),
        rows=20_000,
        failed={"INVALID_ARGUMENT": 3},
        rows_by_version={"3": 20_000},
        fingerprints={"3": FINGERPRINT},
        rows_by_path={"hit": hits, "miss": 20_000 - hits},
        requests_by_cache=requests,
        latency_us={
            "hit": requests["hit"] * 180.0,
            "partial": requests["partial"] * 2_100.0,
            "miss": requests["miss"] * 2_400.0,
        },
        weighted_requests=float(sum(requests.values())),
        weighted_rows=20_000.0,
        weighted_hits=float(hits),
        labelled=19_400,
        labels_read=19_500,
        effective_rows=9_800.0,
    )


def _estimates(points: tuple[MetricPoint, ...]) -> tuple[PerformanceEstimate, ...]:
    return tuple(
        PerformanceEstimate(
            p.slice, p.metric, p.value, (p.value - 0.02, p.value + 0.02), p.cases, p.value,
            p.interval, p.cases,
        )
        for p in points
        if p.metric == "accuracy"
    )  # fmt: skip


def _served(name: str, story: Story) -> ServedSlice:
    cases = _cases(name)
    right, wrong = row_code(1, 200), row_code(0, 200)
    hit = PathCounts(
        rows={right: int(cases * 0.6), wrong: int(cases * 0.1)},
        recomputed={row_code(1, 200, 200): 700},
        disagreeing=story.disagreeing if name == "overall" else 0,
        max_difference=0.3 if story.disagreeing else 0.0,
    )
    miss = PathCounts(rows={right: int(cases * 0.25)}, recomputed={row_code(1, 200, 200): 300})
    return ServedSlice(
        FINGERPRINT, 3, SLICES_OF[name], {"hit": hit, "miss": miss}, squares=cases * 2.0
    )
