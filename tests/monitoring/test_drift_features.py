import numpy as np
import pytest

from tfx_encore.monitoring import drift_categories, drift_numeric
from tfx_encore.monitoring.drift_categories import OTHER, align
from tfx_encore.monitoring.drift_statistics import Bucket, CategoricalValues, NumericValues


def numeric(*buckets, zeros=0.0):
    return drift_numeric.distribution(NumericValues(tuple(Bucket(*b) for b in buckets), zeros))


def listed(total=None, **counts):
    return CategoricalValues(
        {k: float(v) for k, v in counts.items()}, total or sum(counts.values())
    )


# Numeric


def test_the_distribution_function_is_known_at_bounds_and_linear_between():
    found = numeric((0, 10, 50), (10, 30, 50))
    assert found.cdf([-1, 5, 10, 20, 30, 31]) == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1])


def test_repeated_bounds_are_a_value_that_many_share():
    found = numeric((0, 0, 20), (0, 0, 20), (0, 4, 60))
    assert found.cdf(0) == pytest.approx(0.4)
    assert found.cdf_below(0) == 0
    assert found.quantile(0.3) == 0


def test_the_number_of_zeros_sharpens_the_first_bucket():
    assert numeric((0, 4, 100), (4, 8, 100), zeros=30).cdf(0) == pytest.approx(0.15)


def test_no_values_make_no_distribution():
    assert numeric() is None
    assert numeric((0, 0, 0)) is None


def test_bins_hold_equal_shares_of_both_samples_together():
    one, two = numeric((0, 10, 100)), numeric((5, 15, 100))
    edges = drift_numeric.common_edges(one, two)
    both = sum(drift_numeric.bin_counts(side, edges) for side in (one, two))
    assert both == pytest.approx(np.full(10, 20))


def test_an_outlier_moves_no_edge_but_its_own_share():
    usual = numeric((0, 10, 90), (10, 12, 10))
    outlier = numeric((0, 10, 90), (10, 1e9, 10))
    plain = drift_numeric.common_edges(usual, usual)
    stretched = drift_numeric.common_edges(usual, outlier)
    assert stretched == pytest.approx(plain, abs=0.01)


def test_infinite_values_are_counted_in_the_outer_bins():
    found = numeric((float("-inf"), 0, 10), (0, 1, 80), (1, float("inf"), 10))
    counts = drift_numeric.bin_counts(found, np.array([0.0, 1.0]))
    assert counts == pytest.approx([10, 80, 10])


def test_a_constant_compared_with_another_constant_falls_into_two_bins():
    one, two = numeric((5, 5, 100)), numeric((6, 6, 100))
    edges = drift_numeric.common_edges(one, two)
    now, then = (drift_numeric.bin_counts(side, edges) for side in (one, two))
    assert not np.any((now > 0) & (then > 0))


def test_only_what_bounds_make_certain_counts_as_certain():
    one, two = numeric((0, 10, 50), (10, 20, 50)), numeric((0, 12, 50), (12, 20, 50))
    now, then = drift_numeric.nearest_shares(one, two)
    assert now == pytest.approx(then)
    moved = numeric((30, 40, 50), (40, 50, 50))
    now, then = drift_numeric.nearest_shares(one, moved)
    assert np.abs(now - then).max() == 1


# Categorical


def test_tables_put_equal_categories_into_equal_cells_most_frequent_first():
    table = align(listed(cash=10, card=90), listed(cash=70, card=20, free=10))
    assert table.labels == ("card", "cash", "free")
    assert table.current.tolist() == [90, 10, 0]
    assert table.baseline.tolist() == [20, 70, 10]


def test_what_a_list_leaves_out_is_one_cell():
    table = align(listed(total=100, a=60, b=39), listed(total=200, a=120, b=78))
    assert table.labels == ("a", "b", OTHER)
    assert table.current.tolist() == [60, 39, 1]
    assert table.baseline.tolist() == [120, 78, 2]


def test_a_category_that_the_other_list_may_hide_is_not_called_new():
    now = listed(total=1000, a=800, rare=2)
    then = listed(total=1000, a=800, other_rare=2)
    table = align(now, then)
    assert "rare" not in table.labels
    assert drift_categories.unseen(table) == ()
    assert table.current.tolist() == table.baseline.tolist()


def test_a_category_too_frequent_to_have_been_hidden_keeps_its_cell():
    now = listed(total=1000, a=500, renamed=300, x=2)
    then = listed(total=1000, a=500, named=300, x=2)
    table = align(now, then)
    assert {"named", "renamed"} <= set(table.labels)
    cell = table.labels.index("renamed")
    assert table.current[cell] == 300
    assert table.baseline[cell] <= 2


def test_totals_survive_whatever_is_hidden():
    now = listed(total=1000, a=500, b=300, c=5)
    then = listed(total=400, a=100, d=250, e=3)
    table = align(now, then)
    assert table.n == pytest.approx(1000)
    assert table.m == pytest.approx(400)


def test_unseen_categories_come_largest_first():
    table = align(listed(a=90, x=3, y=7), listed(a=100))
    assert drift_categories.unseen(table) == (("y", 0.07), ("x", 0.03))


def test_nothing_on_one_side_leaves_the_other_as_it_is():
    table = align(listed(a=3), CategoricalValues({}, 0.0))
    assert table.labels == ("a",)
    assert table.m == 0
