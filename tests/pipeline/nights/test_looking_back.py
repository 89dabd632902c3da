"""Which earlier nights a night is judged by, and when that has changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tfx_encore.components.night_recorder.lineage_event import run_id_of
from tfx_encore.components.night_recorder.looking_back import look_back
from tfx_encore.monitoring.night_judge import name_models
from tfx_encore.monitoring.night_slices import NightSlices, PathCounts, ServedSlice
from tfx_encore.schemas.decisions import Decision, Outcome
from tfx_encore.schemas.nightly_policy import DiscoveryPolicy, NightlyPolicy, SeasonPolicy
from tfx_encore.schemas.nights import (
    LogReport,
    NightAlarm,
    NightRecord,
    SliceFinding,
    day_before,
    days_between,
)

TONIGHT = "2016-02-01"
POLICY = NightlyPolicy(season=SeasonPolicy(weeks=1, window_days=3))


def night(date: str, fingerprint: str = "one", rows: int = 10, **more: Any) -> NightRecord:
    log = LogReport(rows=rows, fingerprints={"1": fingerprint}, rows_by_version={"1": rows})
    digest = f"evaluation of {date}"
    return NightRecord(
        "taxi", date, Outcome.OK, "", 1, fingerprint, log=log, evaluation_digest=digest, **more
    )


def nights(first: str, last: str, **more: Any) -> dict[str, NightRecord]:
    return {date: night(date, **more) for date in days_between(first, last)}


def test_the_season_is_a_window_and_the_trend_the_whole_life_of_the_release() -> None:
    records = {**nights("2015-11-01", "2015-11-30", fingerprint="old"), **nights(
        "2015-12-01", "2016-02-05"
    )}  # fmt: skip
    looked = look_back(records, TONIGHT, "one", POLICY)
    assert looked.season == days_between(day_before(TONIGHT, 7), day_before(TONIGHT))
    assert looked.release == days_between("2015-12-01", day_before(TONIGHT))


def test_a_night_with_drift_of_its_own_is_no_baseline() -> None:
    records = nights("2016-01-25", "2016-01-31")
    drifted = (Decision("drift", Outcome.BLOCK, ""),)
    records["2016-01-29"] = replace(records["2016-01-29"], decisions=drifted)
    assert look_back(records, TONIGHT, "one", POLICY).excluded == {"2016-01-29"}


def test_nights_without_rows_say_nothing_and_break_no_row_of_alarms() -> None:
    alarm = NightAlarm("skew", "feature:a", "psi", Outcome.WARN, "", "2016-01-20")
    records = {
        "2016-01-30": night("2016-01-30", alarms=(alarm,)),
        "2016-01-31": night("2016-01-31", rows=0),
    }
    looked = look_back(records, TONIGHT, "one", POLICY)
    assert looked.alarms == (alarm,)
    assert looked.season == ("2016-01-30",)
    assert look_back({k: v for k, v in records.items() if v.log.rows}, TONIGHT, "one", POLICY) == (
        looked
    )


def change(records: dict[str, NightRecord], date: str, **changes: Any) -> dict[str, NightRecord]:
    return {**records, date: replace(records[date], **changes)}


FINDING = SliceFinding({"a": "1"}, 100, 0.5, 0.9, (-0.5, -0.3), 0.01)
ALARM = NightAlarm("trend", "slice:overall", "accuracy", Outcome.BLOCK, "", "2016-01-20")


@pytest.mark.parametrize(
    ("date", "changes", "matters"),
    [
        ("2016-01-26", {"evaluation_digest": "labels came"}, True),
        ("2016-01-26", {"reason": "said otherwise", "revision": 7, "created_at": "now"}, False),
        ("2016-01-26", {"decisions": (Decision("drift", Outcome.BLOCK, ""),)}, True),
        ("2016-01-26", {"decisions": (Decision("slices", Outcome.BLOCK, ""),)}, False),
        ("2016-01-31", {"alarms": (ALARM,)}, True),
        ("2016-01-30", {"alarms": (ALARM,)}, False),
        ("2016-01-31", {"findings": (FINDING,)}, True),
        ("2016-02-01", {"evaluation_digest": "tonight itself"}, False),
        ("2016-02-02", {"evaluation_digest": "later"}, False),
    ],
)
def test_the_digest_changes_with_what_judging_reads_and_with_nothing_else(
    date: str, changes: dict[str, Any], matters: bool
) -> None:
    records = nights("2016-01-25", "2016-02-02")
    policy = POLICY.model_copy(update={"discovery": DiscoveryPolicy(promote_within=3)})
    before = look_back(records, TONIGHT, "one", policy).digest
    after = look_back(change(records, date, **changes), TONIGHT, "one", policy).digest
    assert (before != after) is matters


def test_rows_whose_log_names_a_version_only_belong_to_its_model() -> None:
    counts = {"miss": PathCounts(rows={1: 5})}
    slices = NightSlices(
        0.5,
        (
            ServedSlice("", 1, {}, counts, 5.0),
            ServedSlice("", 9, {}, counts, 5.0),
            ServedSlice("one", 1, {}, counts, 5.0),
        ),
    )
    named = name_models(slices, {1: "one"})
    assert {s.fingerprint: s.counts(0.5).n for s in named.slices} == {"": 5, "one": 10}


def test_equal_revisions_have_equal_run_ids_in_open_lineage() -> None:
    assert run_id_of("taxi", TONIGHT, 1) == run_id_of("taxi", TONIGHT, 1)
    ids = {run_id_of("taxi", TONIGHT, 2), run_id_of("bus", TONIGHT, 1)}
    assert run_id_of("taxi", TONIGHT, 1) not in ids
