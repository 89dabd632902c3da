import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from tfx_encore.monitoring import divergence
from tfx_encore.monitoring.multiple_testing import benjamini_hochberg

A, B = np.array([5.0, 20, 0, 75]), np.array([50.0, 100, 30, 20])


def test_jensen_shannon_is_the_square_of_scipys_distance_in_bits():
    expected = jensenshannon(A / A.sum(), B / B.sum(), base=2) ** 2
    assert divergence.jensen_shannon(A, B, 100, 200) == pytest.approx(expected)


def test_jensen_shannon_is_0_for_equal_shares_and_1_for_disjoint_ones():
    assert divergence.jensen_shannon(A, A * 3, 100, 300) == pytest.approx(0, abs=1e-12)
    assert divergence.jensen_shannon(np.array([9.0, 0]), np.array([0, 7.0]), 9, 7) == 1


def test_psi_is_the_textbook_sum_where_cells_are_full():
    now, then = np.array([400_000.0, 600_000]), np.array([500_000.0, 500_000])
    expected = (0.4 - 0.5) * np.log(0.4 / 0.5) + (0.6 - 0.5) * np.log(0.6 / 0.5)
    assert divergence.psi(now, then, 1e6, 1e6) == pytest.approx(expected, rel=1e-5)


def test_psi_of_an_emptied_cell_is_finite_and_large():
    value = divergence.psi(np.array([0.0, 300]), np.array([150.0, 150]), 300, 300)
    assert 2 < value < 10


def test_total_variation_and_l_infinity_agree_on_two_cells():
    now, then = np.array([30.0, 70]), np.array([10.0, 90])
    assert divergence.total_variation(now, then, 100, 100) == pytest.approx(0.2)
    assert divergence.l_infinity(now, then, 100, 100) == pytest.approx(0.2)


def test_unseen_share_counts_only_cells_empty_at_the_baseline():
    share = divergence.unseen_share(np.array([3.0, 1, 96]), np.array([0.0, 0, 50]), 100)
    assert share == pytest.approx(0.04)


def test_divergences_take_many_tables_at_once():
    now, then = np.stack([A, A]), np.stack([B, B])
    several = divergence.jensen_shannon(now, then, 100, 200)
    assert several.shape == (2,)
    assert several[0] == several[1] == divergence.jensen_shannon(A, B, 100, 200)


def test_benjamini_hochberg_agrees_with_hand_computation_whatever_the_order():
    adjusted = benjamini_hochberg([0.04, 0.001, 0.03, 0.5])
    assert adjusted == pytest.approx([0.04 * 4 / 3, 0.004, 0.04 * 4 / 3, 0.5])


def test_benjamini_hochberg_adjusts_each_row_by_itself():
    rows = np.array([[0.01, 0.02], [0.2, 0.9]])
    assert benjamini_hochberg(rows)[1] == pytest.approx(benjamini_hochberg(rows[1]))


def test_benjamini_hochberg_refuses_what_is_no_probability():
    with pytest.raises(ValueError, match="p-values"):
        benjamini_hochberg([0.1, 1.5])
    with pytest.raises(ValueError, match="p-values"):
        benjamini_hochberg([0.1, float("nan")])


def test_benjamini_hochberg_of_nothing_is_nothing():
    assert benjamini_hochberg([]).size == 0
