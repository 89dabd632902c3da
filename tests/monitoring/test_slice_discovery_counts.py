"""Counts by pairs of features: exact, whatever the batches and their order."""

from __future__ import annotations

import itertools
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfx_encore.monitoring.drift_statistics import (
    Bucket,
    CategoricalValues,
    DatasetStatistics,
    FeatureStatistics,
    NumericValues,
)
from tfx_encore.monitoring.slice_discovery import (
    FeatureCut,
    PairCounts,
    count,
    cuts_from_statistics,
)
from tfx_encore.monitoring.slice_discovery_cuts import cell_numbers, range_of, range_text
from tfx_encore.schemas.errors import DataError
from tfx_encore.schemas.serial import from_json, to_json

CUTS = {
    "pay": FeatureCut(False, (), ("Cash", "Card")),
    "fare": FeatureCut(True, (1.0, 5.0)),
    "hour": FeatureCut(False, (), ("7", "8")),
}
VALUES = {
    "pay": st.sampled_from([b"Cash", "Cash", b"Card", b"Other", None, math.nan]),
    "fare": st.sampled_from([0.0, 1.0, 4.9, 5.0, 100.0, None, math.nan]),
    "hour": st.sampled_from([7, 8, 9, None]),
}
ROWS = st.lists(
    st.tuples(*(VALUES[name] for name in CUTS), st.integers(1, 4), st.integers(0, 4)), max_size=30
)


def counted(rows) -> PairCounts:
    columns = {name: [row[i] for row in rows] for i, name in enumerate(CUTS)}
    times = [row[3] for row in rows]
    right = [min(row[3], row[4]) for row in rows]
    return count(columns, right, CUTS, weights=times)


@given(ROWS, st.integers(0, 30), st.randoms(use_true_random=False))
def test_counting_in_parts_and_in_another_order_gives_the_same(rows, cut, random):
    whole = counted(rows)
    shuffled = random.sample(rows, len(rows))
    parts = counted(shuffled[:cut]) + counted(shuffled[cut:]) + PairCounts.zero(CUTS)
    assert parts == whole
    assert to_json(parts) == to_json(whole)


@given(ROWS)
def test_every_table_is_what_counting_by_hand_gives(rows):
    found = counted(rows)
    cells = {name: cell_numbers([r[i] for r in rows], CUTS[name]) for i, name in enumerate(CUTS)}
    for table in found.tables:
        expected = np.zeros_like(found.table(*table))
        for number, row in enumerate(rows):
            place = tuple(cells[name][number] for name in table)
            expected[place] += (row[3], min(row[3], row[4]), row[3] ** 2)
        assert (found.table(*table) == expected).all()


@given(ROWS)
def test_they_survive_being_written_and_sent(rows):
    found = counted(rows)
    assert from_json(PairCounts, to_json(found)) == found
    assert pickle.loads(pickle.dumps(found)) == found


def test_without_weights_a_row_is_one():
    columns = {"pay": ["Cash", "Cash", "Card"], "fare": [0.5, 2, 7]}
    right = np.array([True, False, True])
    assert count(columns, right, CUTS) == count(columns, right, CUTS, weights=[1, 1, 1])
    assert count(columns, right, CUTS).table("pay").tolist() == [
        [0, 0, 0],
        [2, 1, 2],
        [1, 1, 1],
        [0, 0, 0],
    ]


def test_a_feature_that_is_not_in_the_batch_is_missing_in_every_row():
    found = count({"pay": ["Cash", "Card"]}, [True, True], CUTS)
    assert found.table("fare")[0].tolist() == [2, 2, 2]
    assert found.table("fare", "pay")[0, :, 0].tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("values", "cut", "expected"),
    [
        ([0, 1, 4, 5], "fare", [1, 2, 2, 3]),
        (np.array([0.0, np.nan, 1.0], np.float32), "fare", [1, 0, 2]),
        (np.array([b"Cash", b"x"]), "pay", [1, 3]),
        (np.array(["Card", ""]), "pay", [2, 3]),
        (np.array(["Card", None, b"Cash"], object), "pay", [2, 0, 1]),
        (np.array([7, 8, 9]), "hour", [1, 2, 3]),
        (np.array([b"\xff"], object), "pay", [3]),
        (np.array([], object), "pay", []),
        (np.array([], np.int64), "hour", []),
    ],
)
def test_values_of_any_type_find_their_cell(values, cut, expected):
    assert cell_numbers(values, CUTS[cut]).tolist() == expected


@pytest.mark.parametrize(
    ("cell", "text"), [(0, "(missing)"), (1, "Cash"), (2, "Card"), (3, "(other)")]
)
def test_categories_are_named(cell, text):
    assert CUTS["pay"].text(cell) == text


@pytest.mark.parametrize(
    ("first", "last", "text"),
    [
        (0, None, "(missing)"),
        (1, None, "< 1"),
        (2, None, "[1, 5)"),
        (3, None, ">= 5"),
        (1, 2, "< 5"),
        (2, 3, ">= 1"),
        (1, 3, "(any)"),
    ],
)
def test_ranges_are_named(first, last, text):
    assert CUTS["fare"].text(first, last) == text


@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))
def test_a_range_is_read_as_it_was_written(low, high):
    low, high = (float(f"{x:.12g}") for x in (low, high))
    for ends in ((low, high), (-math.inf, high), (low, math.inf), (-math.inf, math.inf)):
        assert range_of(range_text(*ends)) == ends


@pytest.mark.parametrize("text", ["Cash", "(other)", "[a, b)", "< dear", "[1, 2]"])
def test_a_category_is_no_range(text):
    assert range_of(text) is None


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: count({"pay": ["Cash"]}, [True, True], CUTS), "'pay'"),
        (lambda: count({}, [True], CUTS, weights=[1, 2]), "2 weights for 1 rows"),
        (lambda: count({}, [3], CUTS, weights=[2]), "more right answers than rows"),
        (lambda: count({}, [2], CUTS), "more right answers than rows"),
        (lambda: PairCounts.zero(CUTS) + PairCounts.zero({"pay": CUTS["pay"]}), "fare, hour"),
        (lambda: PairCounts(CUTS), "do not fit"),
    ],
)
def test_what_does_not_fit_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()


@pytest.mark.parametrize("cells", ["5", '{"size":-3,"cells":[]}', '{"size":1,"cells":[[5,1,1,1]]}'])
def test_a_damaged_file_is_named(cells):
    with pytest.raises(DataError, match=r"pairs\.json"):
        from_json(PairCounts, f'{{"cuts":{{}},"cells":{cells}}}', source="pairs.json")


# --- cuts -----------------------------------------------------------------------------------------


def numeric(name: str, *ends: float, missing: float = 0.0) -> FeatureStatistics:
    buckets = tuple(Bucket(low, high, 100.0) for low, high in itertools.pairwise(ends))
    return FeatureStatistics(name, "numeric", "FLOAT", 1000, missing, NumericValues(buckets))


def categorical(name: str, counts: dict[str, float], total: float = 1000.0) -> FeatureStatistics:
    values = CategoricalValues(counts, total)
    return FeatureStatistics(name, "categorical", "STRING", total, 0, categorical=values)


def cuts_of(*features: FeatureStatistics, **more) -> dict[str, FeatureCut]:
    return cuts_from_statistics(DatasetStatistics(1000, {f.name: f for f in features}), **more)


def test_numeric_features_are_cut_at_the_quantiles_with_readable_edges():
    found = cuts_of(numeric("fare", 0.0, 3.14159, 5.25, 7.0, 12345.0, 99999.0))
    assert found["fare"].edges == (3.1, 5.2, 7.0, 12345.0)


def test_edges_that_lie_close_keep_their_digits():
    latitudes = cuts_of(numeric("lat", 41.7, 41.8791, 41.88499, 41.8925, 42.0))["lat"].edges
    assert latitudes == (41.8791, 41.885, 41.8925)


def test_repeated_quantiles_make_one_edge():
    assert cuts_of(numeric("n", 0.0, 0.0, 0.0, 1.0, 2.0, 2.0))["n"].edges == (1.0, 2.0)


def test_infinite_values_are_no_edges():
    assert cuts_of(numeric("n", -math.inf, 2.5, math.inf))["n"].edges == (2.5,)


def test_many_quantiles_are_thinned_out():
    edges = cuts_of(numeric("n", *range(101)), max_ranges=4)["n"].edges
    assert edges == (25.0, 50.0, 75.0)


def test_frequent_categories_have_a_cell_and_rare_ones_share_one():
    counts = {"a": 500.0, "b": 400.0, "c": 90.0, "d": 0.5}
    assert cuts_of(categorical("s", counts))["s"].categories == ("a", "b", "c")
    assert cuts_of(categorical("s", counts), max_categories=2)["s"].categories == ("a", "b")


def test_identifiers_constants_and_what_is_ignored_are_not_cut():
    found = cuts_of(
        categorical("ident", {str(i): 0.9 for i in range(1000)}),
        numeric("constant", 3.0, 3.0),
        numeric("label", 0.0, 1.0, 2.0),
        FeatureStatistics("bytes", "other", "BYTES", 1000, 0),
        FeatureStatistics("empty", "numeric", "FLOAT", 0, 1000, NumericValues(())),
        ignore=["label"],
    )
    assert found == {}


def test_a_constant_that_is_sometimes_missing_is_cut():
    assert cuts_of(numeric("n", 3.0, 3.0, missing=100))["n"].cells == 2
