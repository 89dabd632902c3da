"""Statistics of several nights are those of their rows together; of repeats, those of fewer."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfx_encore.monitoring import drift_numeric, null_floors
from tfx_encore.monitoring.divergence import psi_terms
from tfx_encore.monitoring.drift_measures import measure, sizes
from tfx_encore.monitoring.drift_statistics import (
    Bucket,
    CategoricalValues,
    DatasetStatistics,
    FeatureStatistics,
    NumericValues,
)
from tfx_encore.monitoring.statistics_merge import merge, scaled


def numeric(values, name="fare", missing=0):
    edges = np.quantile(values, np.linspace(0, 1, 11))
    per = len(values) / 10
    buckets = tuple(Bucket(float(a), float(b), per) for a, b in itertools.pairwise(edges))
    zeros = float((np.asarray(values) == 0).sum())
    found = NumericValues(buckets, zeros)
    return FeatureStatistics(name, "numeric", "FLOAT", len(values), missing, numeric=found)


def categorical(counts, name="payment", total=None, missing=0.0):
    counts = {label: float(count) for label, count in counts.items() if count}
    counts = dict(sorted(counts.items(), key=lambda item: -item[1]))
    total = float(total if total is not None else sum(counts.values()))
    values = CategoricalValues(counts, total)
    return FeatureStatistics(name, "categorical", "STRING", total, missing, categorical=values)


def dataset(*features, examples=None):
    n = examples or round(max(item.present + item.missing for item in features))
    return DatasetStatistics(n, {item.name: item for item in features})


counts = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 500), min_size=1)


@given(st.lists(counts, min_size=1, max_size=4))
def test_counts_of_categories_add_up(parts):
    merged = merge([dataset(categorical(part)) for part in parts])
    found = merged.feature("payment").categorical
    for label in {name for part in parts for name in part}:
        assert found.counts[label] == sum(part.get(label, 0) for part in parts)
    assert found.complete
    assert found.total == merged.examples == sum(sum(part.values()) for part in parts)
    assert list(found.counts.values()) == sorted(found.counts.values(), reverse=True)


@given(st.lists(st.lists(st.floats(-1e6, 1e6), min_size=10, max_size=40), min_size=2, max_size=4))
def test_a_mixture_knows_what_its_parts_know_and_no_more(parts):
    features = [numeric(np.array(part)) for part in parts]
    mixed = drift_numeric.distribution(
        merge([dataset(f) for f in features]).feature("fare").numeric
    )
    alone = [drift_numeric.distribution(feature.numeric) for feature in features]
    n = sum(len(part) for part in parts)
    assert mixed.total == pytest.approx(n)
    low, high = mixed.bracket(mixed.at)
    weights = [len(part) / n for part in parts]
    exact = sum(w * side.cdf(mixed.at) for w, side in zip(weights, alone, strict=True))
    np.testing.assert_allclose(mixed.cdf(mixed.at), exact, atol=1e-9)
    assert (low <= mixed.cdf(mixed.at) + 1e-9).all()
    assert (mixed.cdf(mixed.at) <= high + 1e-9).all()
    assert (np.diff(mixed.cdf(mixed.at)) >= -1e-9).all()


def test_the_bounds_between_which_a_mixture_lies_hold_for_the_rows_themselves():
    rng = np.random.default_rng(5)
    nights = [np.round(rng.gamma(2, 300, 2000) / 60) * 60 for _ in range(3)]  # lumps, as seconds
    mixed = drift_numeric.distribution(
        merge([dataset(numeric(night)) for night in nights]).feature("fare").numeric
    )
    rows = np.sort(np.concatenate(nights))
    low, high = mixed.bracket(mixed.at)
    # A lump at a quantile bound lies on both sides of it, so that either share is right there.
    upto = np.searchsorted(rows, mixed.at, side="right") / rows.size
    below = np.searchsorted(rows, mixed.at, side="left") / rows.size
    assert (low <= upto + 0.002).all()
    assert (below <= high + 0.002).all()


def test_merging_merged_statistics_is_merging_all_at_once():
    rng = np.random.default_rng(2)
    nights = [dataset(numeric(rng.normal(size=500))) for _ in range(4)]
    at_once = merge(nights).feature("fare").numeric
    in_steps = merge([merge(nights[:2]), merge(nights[2:])]).feature("fare").numeric
    assert in_steps.parts == at_once.parts


def test_a_feature_that_a_night_lacks_is_missing_in_its_rows():
    merged = merge([dataset(categorical({"a": 300})), dataset(numeric(np.arange(200.0)))])
    assert (merged.feature("payment").present, merged.feature("payment").missing) == (300, 200)
    assert (merged.feature("fare").present, merged.feature("fare").missing) == (200, 300)


def test_where_the_type_changed_the_commonest_speaks_for_the_feature():
    other = categorical({"1": 100}, name="fare")
    merged = merge([dataset(numeric(np.arange(400.0))), dataset(other)])
    assert merged.feature("fare").kind == "numeric"
    assert merged.feature("fare").present == 400


def test_a_category_that_shortened_lists_may_hide_is_not_listed():
    cut = categorical({"a": 500, "b": 40}, total=700)  # categories of up to 40 are hidden
    merged = merge([dataset(cut), dataset(cut), dataset(categorical({"c": 70, "a": 630}))])
    found = merged.feature("payment").categorical
    assert set(found.counts) == {"a", "b"}
    assert found.remainder == 2 * 160 + 70
    assert found.hidden_at_most <= 80


@given(counts, counts, st.floats(0.05, 1.0))
def test_scaled_counts_have_the_same_effects_and_never_smaller_p_values(now, then, factor):
    now, then = {k: 20 * v for k, v in now.items()}, {k: 20 * v for k, v in then.items()}
    full = dataset(categorical(now)), dataset(categorical(then))
    less = scaled(full[0], factor), full[1]
    pairs = [
        measure(side[0].feature("payment"), side[1].feature("payment"), label=False, minimum=1)
        for side in (full, less)
    ]
    for before, after in zip(*pairs, strict=True):
        assert before.measure == after.measure
        if after.measure != "psi":  # it adds half an example to each share
            assert float(after.effect.effect) == pytest.approx(float(before.effect.effect))
        assert float(after.effect.p_value) >= 0.5 * float(before.effect.p_value) - 1e-12
        assert 0 <= float(after.effect.p_value) <= 1
        assert np.isfinite(float(after.effect.floor))


@given(counts, counts)
def test_the_quick_sizes_are_the_effects_that_are_measured(now, then):
    sides = dataset(categorical(now)), dataset(categorical(then))
    a, b = (side.feature("payment") for side in sides)
    slow = {m.measure: m.effect.effect for m in measure(a, b, label=False, minimum=1) if m.effect}
    assert sizes(a, b, label=False, minimum=1) == pytest.approx(
        {name: float(effect) for name, effect in slow.items()}
    )


def test_repeated_rows_scaled_to_their_effective_number_raise_no_more_alarms_than_single_ones():
    """500 distinct rows, each asked four times: unscaled p-values take them for 2,000."""
    rng = np.random.default_rng(11)
    shares = np.array([0.4, 0.3, 0.2, 0.1])
    raw, fair = [], []
    for _ in range(300):
        now, then = 4 * rng.multinomial(500, shares), rng.multinomial(5000, shares)
        sides = [categorical(dict(zip("abcd", c, strict=True))) for c in (now, then)]
        less = scaled(dataset(sides[0]), 0.25).feature("payment")
        for found, current in ((raw, sides[0]), (fair, less)):
            tests = {m.measure: m for m in measure(current, sides[1], label=False, minimum=1)}
            found.append(float(tests["psi"].effect.p_value))
    assert np.mean(np.array(raw) < 0.01) > 0.1
    assert np.mean(np.array(fair) < 0.01) < 0.03


def test_null_floors_of_fractions_lie_between_those_of_whole_counts():
    n, m = 1000.0, 4000.0
    floors = []
    for total in (100.0, 100.4, 101.0):
        pooled = np.array([total, 2000.0, 3000.0 - total])
        floors.append(float(null_floors.additive_null(psi_terms, pooled, n, m).quantile()))
    assert floors[0] == pytest.approx(floors[1], rel=0.02)
    assert floors[1] == pytest.approx(floors[2], rel=0.02)


@pytest.mark.parametrize("factor", [0.0, -1.0, 1.5, float("nan")])
def test_a_share_of_independent_rows_that_cannot_be_is_refused(factor):
    with pytest.raises(ValueError, match="share of independent rows"):
        scaled(dataset(categorical({"a": 10})), factor)
