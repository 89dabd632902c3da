"""Counts of a slice: they merge, and everything follows from them."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfx_encore.monitoring.slice_counts import (
    BINS,
    NOT_A_NUMBER,
    OUT_OF_RANGE,
    Confusion,
    JointDecisions,
    ScoreCounts,
    SliceCounts,
    bin_edges,
    score_bin,
    slice_name,
)
from tfx_encore.schemas.serial import from_json, to_json

SCORES = st.floats(0, 1)
ROWS = st.lists(st.tuples(st.sampled_from([0, 1]), SCORES, SCORES), max_size=40)
THRESHOLDS = st.floats(0.001, 0.999)


def counted(rows: list[tuple[int, float, float]], threshold: float = 0.5) -> SliceCounts:
    labels, first, second = zip(*rows, strict=True) if rows else ((), (), ())
    return SliceCounts.of(threshold, labels, first, second)


@given(THRESHOLDS)
def test_every_threshold_is_an_edge_of_rising_bins(threshold):
    edges = bin_edges(threshold)
    assert len(edges) == BINS - 1
    assert threshold in edges
    assert all(low < high for low, high in itertools.pairwise(edges))


@pytest.mark.parametrize(
    ("score", "expected"),
    [(math.nan, NOT_A_NUMBER), (-0.1, OUT_OF_RANGE), (1.1, OUT_OF_RANGE), (math.inf, OUT_OF_RANGE)],
)
def test_what_is_no_probability_has_a_bin_of_its_own(score, expected):
    assert score_bin(score, bin_edges(0.5)) == expected


@given(ROWS, THRESHOLDS)
def test_confusion_counts_are_those_of_the_rows(rows, threshold):
    found = Counter((label, first > threshold) for label, first, _ in rows)
    confusion = counted(rows, threshold).candidate().confusion
    assert confusion == Confusion(found[1, True], found[0, True], found[0, False], found[1, False])
    assert confusion.n == len(rows)


@given(ROWS)
def test_joint_decisions_are_those_of_the_rows(rows):
    counts = counted(rows)
    for label in (0, 1):
        found = Counter((a > 0.5, b > 0.5) for y, a, b in rows if y == label)
        assert counts.decisions(label) == JointDecisions(
            found[True, True], found[True, False], found[False, True], found[False, False]
        )


@given(ROWS, st.integers(0, 40))
def test_counting_parts_and_merging_is_counting_all(rows, cut):
    whole, parts = counted(rows), counted(rows[:cut]) + counted(rows[cut:])
    assert whole == parts
    assert whole.candidate() == counted(rows[:cut]).candidate() + counted(rows[cut:]).candidate()
    assert whole + SliceCounts.zero(0.5) == whole
    assert whole.candidate() + ScoreCounts.zero(0.5) == whole.candidate()


def test_the_order_of_merging_does_not_matter():
    random.seed(1)
    parts = [counted([(i % 2, i / 40, (40 - i) / 40)]) for i in range(40)]
    shuffled = random.sample(parts, len(parts))
    assert sum(parts, SliceCounts.zero(0.5)) == sum(shuffled, SliceCounts.zero(0.5))


def test_counts_at_different_thresholds_do_not_merge():
    with pytest.raises(ValueError, match=r"thresholds 0\.5 and 0\.4 do not merge"):
        counted([], 0.5) + counted([], 0.4)
    with pytest.raises(ValueError, match="do not merge"):
        ScoreCounts(0.5) + ScoreCounts(0.4)


def test_rows_without_label_or_score_are_counted_apart():
    counts = SliceCounts.of(0.5, [1, math.nan, 0, 1], [0.9, 0.9, math.nan, 7], [0.1] * 4)
    scores = counts.candidate()
    assert (counts.n, counts.unlabelled) == (4, 1)
    assert (scores.not_a_number, scores.out_of_range, scores.confusion.n) == (1, 1, 1)
    assert counts.decisions(1) == JointDecisions(only_candidate=1)


def test_one_model_alone_has_no_baseline():
    assert SliceCounts.of(0.5, [1], [0.9]).baseline() is None


def test_score_counts_survive_json():
    scores = counted([(1, 0.2, 0.3), (0, 0.9, 0.1)]).candidate()
    assert from_json(ScoreCounts, to_json(scores)) == scores


def test_slices_are_named_as_people_write_them():
    assert slice_name(()) == "overall"
    assert slice_name((("hour", "8"), ("type", "Cash"))) == "hour=8, type=Cash"
