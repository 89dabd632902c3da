"""Slices nobody configured: the planted ones are found, others are not, recurring ones promoted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import hypergeom

from tfx_encore.monitoring.slice_discovery import (
    FeatureCut,
    PairCounts,
    count,
    find,
    measure,
    same_slice,
    with_recurrence,
)
from tfx_encore.monitoring.slice_discovery_pvalues import (
    difference_interval,
    hypergeometric_tail,
    p_worse,
)
from tfx_encore.schemas.nightly_policy import DiscoveryPolicy
from tfx_encore.schemas.nights import SliceFinding
from tfx_encore.schemas.serial import to_json

POLICY = DiscoveryPolicy()
EDGES = tuple(i / 10 for i in range(1, 10))
VALUES = ("a", "b", "c", "d", "e")
CUTS = {
    "pay": FeatureCut(False, (), VALUES),
    "zone": FeatureCut(False, (), VALUES),
    "fare": FeatureCut(True, EDGES),
    "miles": FeatureCut(True, EDGES),
}


def columns(rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    names = np.array(VALUES, object)
    return {
        "pay": names[rng.integers(0, 5, n)],
        "zone": names[rng.integers(0, 5, n)],
        "fare": rng.random(n),
        "miles": rng.random(n),
    }


def night(seed: int, n: int = 20_000, bad=None, loss: float = 0.25, weights=None) -> PairCounts:
    """A model right on 85% of all rows, but for the `loss` where `bad(columns)` says so."""
    rng = np.random.default_rng(seed)
    given = columns(rng, n)
    chance = np.full(n, 0.85)
    if bad is not None:
        chance[bad(given)] -= loss
    right = rng.random(n) < chance
    if weights is None:
        return count(given, right, CUTS)
    return count(given, right * weights, CUTS, weights=weights)


def features(findings) -> list[dict[str, str]]:
    return [item.features for item in findings]


# --- what is found --------------------------------------------------------------------------------


def test_nothing_is_found_where_nothing_is_bad():
    """5% is promised of 40 nights; 6 would have a chance of 1.4%."""
    assert sum(bool(find(night(seed), POLICY)) for seed in range(40)) < 6


def test_without_a_smallest_effect_false_discoveries_stay_at_their_rate():
    """5% is promised of 100 nights; 12 would have a chance of 0.4%."""
    policy = DiscoveryPolicy(min_effect=1e-9)
    assert sum(bool(find(night(seed, 4000), policy)) for seed in range(100)) < 12


def test_repeats_told_make_no_false_discoveries():
    rng = np.random.default_rng(3)
    hits = blind = 0
    for seed in range(40):
        times = 1 + rng.geometric(0.02, 3000)
        counts = night(seed, 3000, weights=times)
        as_if = counts.cells.copy()
        as_if[:, 2] = as_if[:, 0]
        hits += bool(find(counts, POLICY))
        blind += bool(find(PairCounts(counts.cuts, as_if), POLICY))
    assert hits < 6
    assert blind > 30


def test_a_bad_value_of_one_feature_is_found_and_no_pair_with_it():
    found = find(night(1, bad=lambda c: c["pay"] == "b"), POLICY)
    assert features(found) == [{"pay": "b"}]
    (item,) = found
    assert item.rows == pytest.approx(4000, rel=0.1)
    assert item.value == pytest.approx(0.60, abs=0.03)
    assert item.rest == pytest.approx(0.85, abs=0.02)
    assert item.interval[0] < -0.25 < item.interval[1] < -0.2
    assert item.p_value < 1e-9


def test_a_bad_pair_is_found_and_neither_of_its_features():
    bad = night(2, bad=lambda c: (c["pay"] == "b") & (c["zone"] == "d"), loss=0.35)
    assert features(find(bad, POLICY)) == [{"pay": "b", "zone": "d"}]


def test_adjacent_ranges_are_joined():
    bad = night(3, bad=lambda c: (c["fare"] >= 0.3) & (c["fare"] < 0.6))
    assert features(find(bad, POLICY)) == [{"fare": "[0.3, 0.6)"}]
    high = night(4, bad=lambda c: c["fare"] >= 0.8)
    assert features(find(high, POLICY)) == [{"fare": ">= 0.8"}]


def test_ranges_of_a_pair_are_joined_along_each_feature():
    def bad(c):
        return (c["fare"] >= 0.4) & (c["fare"] < 0.6) & (c["miles"] < 0.2)

    counts = night(5, 60_000, bad=bad, loss=0.4)
    assert features(find(counts, POLICY)) == [{"fare": "[0.4, 0.6)", "miles": "< 0.2"}]


def test_a_bad_feature_and_a_worse_pair_inside_it_are_both_found():
    def chance(c):
        return c["pay"] == "a"

    rng = np.random.default_rng(6)
    given = columns(rng, 60_000)
    lost = 0.15 * chance(given) + 0.3 * (chance(given) & (given["zone"] == "e"))
    found = find(count(given, rng.random(60_000) < 0.9 - lost, CUTS), POLICY)
    assert features(found) == [{"pay": "a"}, {"pay": "a", "zone": "e"}]


def test_a_feature_that_only_follows_a_bad_one_is_left_out():
    rng = np.random.default_rng(7)
    given = columns(rng, 20_000)
    follows = (given["pay"] == "b") & (rng.random(20_000) < 0.9)
    given["zone"] = np.where(follows, "c", np.where(given["zone"] == "c", "a", given["zone"]))
    right = rng.random(20_000) < np.where(given["pay"] == "b", 0.6, 0.85)
    found = find(count(given, right, CUTS), POLICY)
    assert features(found) == [{"pay": "b"}]


def test_pairs_of_mostly_the_same_rows_are_told_once():
    rng = np.random.default_rng(15)
    given = columns(rng, 40_000)
    given["miles"] = np.clip(given["fare"] + rng.normal(0, 0.01, 40_000), 0, 0.999)
    bad = (given["pay"] == "b") & (given["fare"] >= 0.3) & (given["fare"] < 0.5)
    found = find(count(given, rng.random(40_000) < 0.85 - 0.4 * bad, CUTS), POLICY)
    assert features(found) == [{"fare": "[0.3, 0.5)", "pay": "b"}]


def test_two_bad_pairs_that_share_a_feature_are_both_told():
    def bad(c):
        return (c["pay"] == "b") & ((c["fare"] < 0.2) | (c["zone"] == "e"))

    found = features(find(night(16, 60_000, bad=bad, loss=0.4), POLICY))
    assert {"fare": "< 0.2", "pay": "b"} in found
    assert {"pay": "b", "zone": "e"} in found


def test_missing_values_can_be_the_bad_slice():
    rng = np.random.default_rng(8)
    given = columns(rng, 10_000)
    gone = rng.random(10_000) < 0.1
    given["miles"] = np.where(gone, np.nan, given["miles"])
    found = find(count(given, rng.random(10_000) < np.where(gone, 0.6, 0.9), CUTS), POLICY)
    assert features(found) == [{"miles": "(missing)"}]


# --- what the policy says -------------------------------------------------------------------------


def test_configured_slices_are_not_new_nor_is_what_they_explain():
    rng = np.random.default_rng(7)
    given = columns(rng, 20_000)
    given["zone"] = np.where(given["pay"] == "b", "c", np.where(given["zone"] == "c", "a", "d"))
    right = rng.random(20_000) < np.where(given["pay"] == "b", 0.6, 0.85)
    counts = count(given, right, CUTS)
    assert len(find(counts, POLICY)) == 1
    assert find(counts, POLICY, [{"pay"}]) == ()


def test_a_pair_is_new_where_only_its_features_are_configured():
    bad = night(2, bad=lambda c: (c["pay"] == "b") & (c["zone"] == "d"), loss=0.35)
    assert find(bad, POLICY, [{"pay"}, {"zone"}]) == find(bad, POLICY)
    assert find(bad, POLICY, [frozenset({"zone", "pay"})]) == ()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"enabled": False}, 0),
        ({"propose": 0}, 0),
        ({"propose": 1}, 1),
        ({"ignore_features": ("pay",)}, 1),
        ({"min_rows": 6000}, 0),
        ({"min_effect": 0.4}, 0),
        ({}, 2),
    ],
)
def test_the_policy_says_what_is_looked_for(change, expected):
    bad = night(9, bad=lambda c: (c["pay"] == "b") | (c["miles"] < 0.1))
    assert len(find(bad, POLICY.model_copy(update=change))) == expected


def test_single_features_only_if_so_wished():
    bad = night(2, bad=lambda c: (c["pay"] == "b") & (c["zone"] == "d"), loss=0.8)
    alone = find(bad, POLICY.model_copy(update={"max_features": 1}))
    assert features(alone) == [{"zone": "d"}]  # which explains `pay: b`, and the other way round


def test_a_small_slice_is_not_blamed():
    bad = night(10, 2000, bad=lambda c: (c["pay"] == "b") & (c["zone"] == "d"), loss=0.8)
    assert {"pay": "b", "zone": "d"} not in features(find(bad, POLICY))


def test_the_greatest_harm_comes_first():
    bad = night(11, bad=lambda c: (c["pay"] == "b") | (c["miles"] < 0.1), loss=0.3)
    found = find(bad, POLICY)
    assert features(found) == [{"pay": "b"}, {"miles": "< 0.1"}]
    harms = [item.rows * (item.rest - item.value) for item in found]
    assert harms == sorted(harms, reverse=True)


def test_no_rows_give_no_findings():
    assert find(PairCounts.zero(CUTS), POLICY) == ()
    assert find(PairCounts.zero({}), POLICY) == ()


def test_findings_can_be_written():
    assert '"features":{"pay":"b"}' in to_json(
        find(night(1, bad=lambda c: c["pay"] == "b"), POLICY)
    )


# --- the test behind it ---------------------------------------------------------------------------


@given(st.integers(1, 400), st.integers(1, 400), st.data())
def test_the_tail_is_that_of_the_hypergeometric_distribution(first, second, data):
    total = 10 * (first + second)
    marked = data.draw(st.integers(1, total))
    least = data.draw(st.integers(0, first))
    exact = float(hypergeom.sf(least - 1, total, marked, first))
    assert float(hypergeometric_tail(least, first, marked, total)) == pytest.approx(
        exact, rel=0.15, abs=1e-12
    )


@given(st.integers(1, 500), st.floats(0, 1), st.integers(1, 500), st.floats(0, 1))
def test_p_values_lie_between_0_and_1_and_add_up(n1, right1, n2, right2):
    one = np.array([n1, round(n1 * right1), n1])
    other = np.array([n2, round(n2 * right2), n2])
    p, q = float(p_worse(one, other)), float(p_worse(other, one))
    assert 0 <= p <= 1
    assert p + q == pytest.approx(1, abs=0.1)


def test_repeats_weaken_the_evidence():
    once, rest = np.array([200, 140, 200]), np.array([10_000, 8500, 10_000])
    often = np.array([200, 140, 2000])
    assert p_worse(once, rest) < 1e-6 < 0.01 < p_worse(often, rest)
    narrow, wide = (np.ptp(difference_interval(part, rest)) for part in (once, often))
    assert wide > 2 * narrow


# --- recurrence -----------------------------------------------------------------------------------


def finding(promoted: bool = False, **values: str) -> SliceFinding:
    return SliceFinding(values, 500, 0.6, 0.85, (-0.3, -0.2), 1e-6, promoted=promoted)


def test_a_slice_that_recurs_is_promoted():
    once = finding(pay="b")
    first = with_recurrence([once], [], POLICY)
    second = with_recurrence([once], [first, ()], POLICY)
    third = with_recurrence([once], [first, (), second], POLICY)
    assert [(n[0].nights, n[0].promoted) for n in (first, second, third)] == [
        (1, False),
        (2, False),
        (3, True),
    ]


def test_nights_long_ago_do_not_count():
    old = (finding(pay="b"),)
    (item,) = with_recurrence([finding(pay="b")], [old, old, *[()] * 6], POLICY)
    assert (item.nights, item.promoted) == (1, False)


def test_once_promoted_it_stays_so():
    old = (finding(pay="b", promoted=True),)
    (item,) = with_recurrence([finding(pay="b")], [old, *[()] * 20], POLICY)
    assert (item.nights, item.promoted) == (1, True)


def test_only_tonight_counts_where_the_policy_says_so():
    policy = DiscoveryPolicy(promote_after=1, promote_within=1)
    (item,) = with_recurrence([finding(pay="b")], [(finding(pay="b"),)], policy)
    assert (item.nights, item.promoted) == (1, True)


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ({"fare": "[1, 5)"}, {"fare": "[3, 8)"}, True),
        ({"fare": "[1, 5)"}, {"fare": "[5, 8)"}, False),
        ({"fare": "< 2"}, {"fare": "[1, 5)"}, True),
        ({"fare": ">= 5"}, {"fare": "[1, 5)"}, False),
        ({"fare": "(missing)"}, {"fare": "< 2"}, False),
        ({"pay": "a"}, {"pay": "b"}, False),
        ({"pay": "a"}, {"zone": "a"}, False),
        ({"pay": "a", "fare": "< 2"}, {"pay": "a", "fare": "< 1"}, True),
        ({"pay": "a", "fare": "< 2"}, {"pay": "b", "fare": "< 2"}, False),
    ],
)
def test_slices_are_the_same_if_ranges_overlap_and_values_agree(first, second, same):
    assert same_slice(finding(**first), finding(**second)) is same
    assert same_slice(finding(**second), finding(**first)) is same


def test_a_promoted_slice_is_followed_when_it_is_not_found():
    counts = night(12)
    earlier = [(finding(pay="b", promoted=True), finding(zone="a"))]
    (item,) = with_recurrence([], earlier, POLICY, counts)
    assert (item.features, item.nights, item.promoted) == ({"pay": "b"}, 0, True)
    assert item.value == pytest.approx(0.85, abs=0.03)
    again = with_recurrence([], [*earlier, (item,)], POLICY, counts)
    assert again == (item,)
    (found,) = with_recurrence([finding(pay="b")], [*earlier, (item,)], POLICY, counts)
    assert (found.nights, found.promoted) == (2, True)


def test_a_slice_is_measured_as_it_was_found():
    counts = night(13, bad=lambda c: (c["fare"] >= 0.3) & (c["fare"] < 0.6))
    (found,) = find(counts, POLICY)
    again = measure(counts, found.features)
    assert again is not None
    assert replace(again, p_value=found.p_value) == found


@pytest.mark.parametrize(
    "values", [{"gone": "a"}, {"pay": "new"}, {"fare": "[0.33, 0.5)"}, {"zone": "(missing)"}, {}]
)
def test_a_slice_that_cannot_be_measured_is_none(values):
    assert measure(night(14, 500), values) is None
