"""Slow decay is found on the slice where it is, and nowhere else, and is not invented."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

import numpy as np
import pytest
from scipy import stats

from tfx_encore.monitoring.night_slices import NightSlices, PathCounts, ServedSlice
from tfx_encore.monitoring.slice_counts import SliceCounts, row_code, slice_key
from tfx_encore.monitoring.slice_report import SliceTable, slice_table
from tfx_encore.monitoring.trend import judge_trends
from tfx_encore.monitoring.trend_judgement import TrendJudgement, TrendSeries
from tfx_encore.schemas.decisions import Outcome
from tfx_encore.schemas.evaluation_policy import EvaluationPolicy
from tfx_encore.schemas.nightly_policy import TrendPolicy
from tfx_encore.schemas.serial import from_json, to_json

EVALUATION = EvaluationPolicy(label_key="label", slices=((), ("device",)))
RECALL = TrendPolicy(metrics=("recall",))
START = dt.date(2016, 1, 4)
LOW, HIGH = 100, 220

Recalls = Mapping[str, float]


def date(number: int) -> str:
    return (START + dt.timedelta(number)).isoformat()


class World:
    """Devices whose positives are found with a recall that the test sets, night by night."""

    def __init__(self, seed: int, positives: int = 400, fingerprint: str = "new") -> None:
        self.rng = np.random.default_rng(seed)
        self.positives = positives
        self.fingerprint = fingerprint

    def _rows(self, positives: int, recall: float) -> dict[int, int]:
        found = int(self.rng.binomial(positives, recall))
        cells = {(1, HIGH): found, (1, LOW): positives - found, (0, LOW): positives}
        return {row_code(label, place): n for (label, place), n in cells.items() if n}

    def night(self, recalls: Recalls) -> NightSlices:
        devices = [
            ServedSlice(
                self.fingerprint, 1, {"device": name},
                {"miss": PathCounts(self._rows(self.positives, recall))},
            )
            for name, recall in recalls.items()
        ]  # fmt: skip
        everything = PathCounts()
        for item in devices:
            everything += item.paths["miss"]
        overall = ServedSlice(self.fingerprint, 1, {}, {"miss": everything})
        return NightSlices(0.5, (overall, *devices))

    def nights(self, count: int, recalls: Recalls, first: int = 0) -> dict[str, NightSlices]:
        return {date(first + number): self.night(recalls) for number in range(count)}

    def release(self, recalls: Recalls, positives: int = 20_000) -> SliceTable:
        table, total = {}, SliceCounts.zero(0.5)
        for name, recall in recalls.items():
            table[slice_key({"device": name})] = SliceCounts(0.5, self._rows(positives, recall))
            total += table[slice_key({"device": name})]
        table[()] = total
        return slice_table(table, threshold=0.5, confidence=0.95, baseline=None)


def judge(
    nights: Mapping[str, NightSlices],
    release: SliceTable | None,
    policy: TrendPolicy = RECALL,
    fingerprint: str = "new",
) -> TrendJudgement:
    return judge_trends(nights, fingerprint, release, policy, EVALUATION, release_name="release 1")


def series(judgement: TrendJudgement, name: str) -> TrendSeries:
    return next(item for item in judgement.series if item.slice == name)


DEVICES = {"phone": 0.9, "tablet": 0.9, "desktop": 0.9, "watch": 0.9}


def test_a_device_that_loses_three_tenths_of_a_percent_a_week_is_found_though_the_total_is_flat():
    world = World(seed=11)
    release = world.release(DEVICES)
    nights = {}
    for number in range(140):
        lost = 0.003 / 7 * max(0, number - 19)
        changed = {"tablet": 0.9 - lost, "watch": min(0.9 + lost, 0.97)}
        nights[date(number)] = world.night({**DEVICES, **changed})
    judgement = judge(nights, release)
    tablet = series(judgement, "device=tablet")
    assert [item.slice for item in judgement.series if item.alarm] == ["device=tablet"]
    assert judgement.decision.outcome is Outcome.BLOCK
    assert judgement.decision.evidence[0].subject == "slice:device=tablet"
    assert "device=tablet: recall 0.8" in judgement.decision.reason
    assert tablet.since is not None
    assert date(20) < tablet.since <= date(20 + 70)  # ten weeks, a loss of 3%
    assert tablet.onset is not None
    assert date(0) <= tablet.onset <= date(45)
    assert not _shown_by_a_single_night(nights, tablet.since, tablet.run_length)


def _shown_by_a_single_night(
    nights: Mapping[str, NightSlices], before: str, run_length: float
) -> bool:
    """Whether a night by itself would have been an alarm, were false ones as rare as here."""
    for when, night in nights.items():
        rates = [item.counts(0.5).candidate().confusion for item in night.slices]
        p = [stats.binom.cdf(c.true_positives, c.positives, 0.9) for c in rates]
        if when < before and min(p) <= 1 / run_length:
            return True
    return False


def test_fifty_slices_that_lose_a_twentieth_of_a_standard_deviation_a_night_take_27_nights():
    world = World(seed=16, positives=300)
    devices = {f"d{number}": 0.9 for number in range(49)}
    release = world.release(devices, positives=100_000)
    slope = 0.05 * (0.9 * 0.1 / 300) ** 0.5
    quiet = 30
    nights = {}
    for number in range(quiet + 60):
        lost = slope * max(0, number - quiet + 1)
        nights[date(number)] = world.night(dict.fromkeys(devices, 0.9 - lost))
    found = [item for item in judge(nights, release).series if item.slice != "overall"]
    assert {item.run_length for item in found} == {18_250}
    taken = [item.alarms.index(True) - quiet + 1 for item in found]
    assert np.median([delay for delay in taken if delay > 0]) <= 27
    assert sum(delay <= 0 for delay in taken) <= 1  # false alarms before


def test_a_year_without_change_gives_no_alarm():
    world = World(seed=5)
    judgement = judge(world.nights(365, DEVICES), world.release(DEVICES))
    assert judgement.decision.outcome is Outcome.OK
    assert judgement.decision.reason == "no decay in 5 series over 365 nights"
    assert judgement.decision.baseline == "release 1"
    assert not any(any(item.alarms) for item in judgement.series)


def test_every_series_gets_the_run_length_that_the_whole_is_allowed():
    world = World(seed=1)
    policy = TrendPolicy(metrics=("recall", "accuracy"), false_alarms_per_year=2.0)
    judgement = judge(world.nights(10, DEVICES), world.release(DEVICES), policy)
    assert {item.run_length for item in judgement.series} == {365 / 2 * 10}
    assert len(judgement.series) == len(judgement.decision.evidence) == 10


def test_a_new_release_starts_anew_and_is_judged_by_its_own_nights():
    before, after = World(seed=2, fingerprint="old"), World(seed=3)
    bad = {**DEVICES, "phone": 0.8}
    nights = {**before.nights(30, bad), **after.nights(10, DEVICES, first=30)}
    judgement = judge(nights, after.release(DEVICES))
    assert judgement.decision.outcome is Outcome.OK
    assert series(judgement, "device=phone").followed == 10
    assert series(judgement, "device=phone").dates[0] == date(30)
    old = judge(nights, before.release(DEVICES), fingerprint="old")
    assert series(old, "device=phone").alarm


def test_missed_nights_are_skipped_and_the_alarm_stands_meanwhile():
    world = World(seed=4)
    nights = world.nights(40, {**DEVICES, "phone": 0.85})
    for number in (3, 4, 5, 17, 30):
        del nights[date(number)]
    nights[date(40)] = NightSlices(
        0.5, tuple(item for item in world.night(DEVICES).slices if item.name != "device=phone")
    )
    judgement = judge(nights, world.release(DEVICES))
    phone = series(judgement, "device=phone")
    assert phone.alarm
    assert phone.followed == 35
    assert date(17) not in phone.dates
    assert phone.dates[-1] == date(39)


def test_a_small_night_is_skipped_and_is_not_taken_for_zero():
    world, small = World(seed=4), World(seed=4, positives=5)
    nights = {**world.nights(20, DEVICES), **small.nights(3, {**DEVICES, "phone": 0.0}, first=20)}
    phone = series(judge(nights, world.release(DEVICES)), "device=phone")
    assert phone.followed == 20
    assert not phone.alarm


def test_the_alarm_ends_when_the_metric_comes_back():
    world = World(seed=6)
    nights = {
        **world.nights(20, DEVICES),
        **world.nights(25, {**DEVICES, "phone": 0.87}, first=20),
        **world.nights(60, DEVICES, first=45),
    }
    release = world.release(DEVICES)
    during = judge({d: n for d, n in nights.items() if d < date(45)}, release)
    assert series(during, "device=phone").alarm
    judgement = judge(nights, release)
    phone = series(judgement, "device=phone")
    assert any(phone.alarms)
    assert not phone.alarm
    assert phone.since is phone.onset is phone.slope is None
    assert judgement.decision.outcome is Outcome.OK


def test_what_earlier_nights_were_thought_of_does_not_change_with_later_ones():
    world = World(seed=7)
    release = world.release(DEVICES)
    nights = world.nights(30, DEVICES)
    whole = series(judge(nights, release), "device=phone").statistics
    part = series(judge(dict(list(nights.items())[:20]), release), "device=phone").statistics
    assert whole[:20] == pytest.approx(part, abs=2e-3)


def test_without_an_evaluation_of_the_release_the_first_nights_are_the_reference():
    world = World(seed=8)
    nights = {
        **world.nights(40, DEVICES),
        **world.nights(25, {**DEVICES, "phone": 0.84}, first=40),
    }
    judgement = judge(nights, None)
    phone = series(judgement, "device=phone")
    assert phone.reference_kind == "first nights"
    assert phone.reference == pytest.approx(0.9, abs=0.02)
    assert phone.statistics[:7] == (None,) * 7
    assert phone.followed == 65 - 7
    assert phone.alarm
    assert not series(judgement, "device=watch").alarm
    assert "of its first nights" in judgement.decision.reason


def test_traffic_that_differs_from_the_evaluation_is_held_against_itself_where_asked():
    world = World(seed=9)
    harder = dict.fromkeys(DEVICES, 0.85)
    nights, release = world.nights(60, harder), world.release(DEVICES)
    assert judge(nights, release).decision.outcome is Outcome.BLOCK
    own = RECALL.model_copy(update={"reference": "first_nights", "reference_nights": 10})
    assert judge(nights, release, own).decision.outcome is Outcome.OK


def test_a_release_measured_on_few_rows_is_no_cause_of_alarm():
    alarms = 0
    for seed in range(12):
        world = World(seed=seed)
        judgement = judge(world.nights(90, DEVICES), world.release(DEVICES, positives=500))
        alarms += sum(item.alarm for item in judgement.series)
    assert alarms <= 1  # of 60 series


def test_a_few_nights_are_too_few():
    world = World(seed=10)
    judgement = judge(world.nights(2, DEVICES), world.release(DEVICES))
    assert judgement.decision.outcome is Outcome.INSUFFICIENT_DATA
    assert "2 of 3 nights needed" in judgement.decision.evidence[0].message
    few = judge(world.nights(2, DEVICES), None)
    assert few.decision.outcome is Outcome.INSUFFICIENT_DATA
    assert few.decision.evidence[0].baseline is None


@pytest.mark.parametrize("nights", [{}, {"2016-01-01": NightSlices(0.5)}])
def test_nothing_to_follow_is_insufficient_data(nights):
    judgement = judge(nights, None)
    assert judgement.decision.outcome is Outcome.INSUFFICIENT_DATA
    assert judgement.decision.evidence == ()
    assert "no labelled night" in judgement.decision.reason


def test_the_policy_says_how_bad_an_alarm_is():
    world = World(seed=12)
    nights, release = world.nights(20, {**DEVICES, "phone": 0.8}), world.release(DEVICES)
    warn = RECALL.model_copy(update={"severity": "WARN"})
    found = judge(nights, release, warn).decision
    assert found.outcome is Outcome.WARN
    assert found.evidence[0].severity is Outcome.WARN


def test_evidence_carries_effect_interval_and_a_p_value_adjusted_for_all_series():
    world = World(seed=13)
    nights, release = world.nights(30, {**DEVICES, "phone": 0.8}), world.release(DEVICES)
    first, *_, last = judge(nights, release).decision.evidence
    assert first.subject == "slice:device=phone"
    assert first.effect == pytest.approx(-0.1, abs=0.03)
    assert first.interval is not None
    assert first.interval[0] < first.effect < first.interval[1] < 0
    assert (first.n, first.n_baseline) == (7 * 400, 20_000)
    assert first.p_value is not None
    assert first.p_value < 1e-6
    assert last.p_value is not None
    assert last.p_value > 0.1


def test_a_judgement_survives_json_and_gives_points_and_onsets_by_name():
    world = World(seed=14)
    nights = world.nights(30, {**DEVICES, "phone": 0.8})
    judgement = judge(nights, world.release(DEVICES))
    assert from_json(TrendJudgement, to_json(judgement)) == judgement
    point = judgement.points["device=phone", "recall", date(29)]
    assert point.alarm
    assert point.statistic is not None
    assert point.statistic > point.threshold
    assert judgement.onsets["slice:device=phone", "recall"] == point.onset
    assert ("slice:device=watch", "recall") not in judgement.onsets


def test_merging_nights_keeps_the_counts_that_are_judged():
    world = World(seed=15)
    one, two = world.night(DEVICES), world.night(DEVICES)
    merged = judge({date(0): one + two}, None).series[0]
    apart = judge({date(0): one, date(1): two}, None).series[0]
    assert merged.cases == (sum(apart.cases),)
    assert merged.values[0] == pytest.approx(sum(apart.values) / 2, abs=1e-5)
