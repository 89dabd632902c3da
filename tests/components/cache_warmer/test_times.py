"""The cut in time is the same whoever samples, and in whatever order samples meet."""

from __future__ import annotations

import numpy as np
import pytest

from tfx_encore.components.cache_warmer import times
from tfx_encore.components.cache_warmer.times import Sample, drawn, time_at

FEW = [float(second) for second in range(1000)]


def _combined(parts):
    sample = Sample()
    halves = []
    for some in (parts[: len(parts) // 2], parts[len(parts) // 2 :]):
        accumulator = sample.create_accumulator()
        for part in some:
            accumulator = sample.add_input(accumulator, part)
        halves.append(accumulator)
    return sample.extract_output(sample.merge_accumulators(halves))


def test_of_few_rows_all_are_in_the_sample():
    found = _combined([drawn(0, FEW[:700]), drawn(1, FEW[700:])])
    assert found.tolist() == FEW
    assert time_at(found, 0.8) == 799.0


def test_nothing_has_no_cut():
    assert time_at(_combined([]), 0.8) is None
    assert time_at(_combined([drawn(0, [])]), 0.8) is None


@pytest.mark.parametrize("seed", range(3))
def test_neither_order_nor_grouping_shows(monkeypatch, seed):
    monkeypatch.setattr(times, "SAMPLED", 100)
    rng = np.random.default_rng(seed)
    parts = [drawn(number, rng.random(400)) for number in range(5)]
    first = _combined(parts)
    assert len(first) == 100
    for _ in range(5):
        order = rng.permutation(5)
        assert (_combined([parts[at] for at in order]) == first).all()


def test_a_share_is_met_as_closely_as_promised():
    rng = np.random.default_rng(1)
    values = [rng.random(100_000) for _ in range(4)]
    found = _combined([drawn(number, some) for number, some in enumerate(values)])
    assert len(found) == times.SAMPLED
    cut = time_at(found, 0.8)
    assert abs(float((np.concatenate(values) <= cut).mean()) - 0.8) < 5 * 0.0016


def test_no_two_rows_draw_alike():
    numbers = np.concatenate([drawn(file, [0.0] * 5000)[0] for file in range(4)])
    assert len(np.unique(numbers)) == len(numbers)
