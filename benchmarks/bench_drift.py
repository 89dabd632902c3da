"""Drift without drift, and drift that breaks: how often DriftValidator is wrong, by simulation.

A simulated run has 10 numeric features and 10 categorical ones, one of them a binary label; both
data sets are drawn from the same distributions. Numeric samples become quantile buckets as TFDV
makes them (ten, exact), so the code judged is the one that reads real statistics.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import special, stats

from tfx_encore.monitoring import divergence, drift, null_floors
from tfx_encore.monitoring.drift_measures import (
    Effect,
    additive_effect,
    certain_effect,
    certain_p_value,
    numeric_floor,
    unseen_effect,
)
from tfx_encore.monitoring.drift_numeric import BINS, bin_counts, common_edges, distribution
from tfx_encore.monitoring.drift_statistics import (
    Bucket,
    CategoricalValues,
    DatasetStatistics,
    FeatureStatistics,
    NumericValues,
)
from tfx_encore.monitoring.multiple_testing import benjamini_hochberg
from tfx_encore.schemas.decisions import Outcome
from tfx_encore.schemas.drift_policy import DriftPolicy

POLICY = DriftPolicy()
CHUNK = 250
SIZES = (300, 3_000, 30_000)
MISSING_RATES = (0.0, 0.001, 0.05, 0.5)


# Numeric samples as TFDV's quantile buckets


def tfdv_buckets(bounds: np.ndarray, upto: np.ndarray) -> tuple[Bucket, ...]:
    """Buckets from quantile bounds [11] and the number of values up to each [11].

    As TFDV: bounds that repeat share their weight evenly, and the weight of the least value goes to
    the first bucket.
    """
    low, high, counts = bounds[:-1], bounds[1:], np.diff(upto).astype(float)
    for bound in np.unique(high):
        same = high == bound
        counts[same] = counts[same].sum() / same.sum()
    first = (low == low[0]) & (high == high[0])
    counts[first] += upto[0] / first.sum()
    rows = zip(low.tolist(), high.tolist(), counts.tolist(), strict=True)
    return tuple(Bucket(*row) for row in rows)


def _ranks(n: int) -> np.ndarray:
    return np.minimum(np.arange(BINS + 1) * n // BINS + 1, n)


def numeric_values(values: np.ndarray) -> NumericValues:
    """A sample [n] as statistics keep it."""
    ordered = np.sort(values)
    bounds = ordered[_ranks(ordered.size) - 1]
    upto = np.searchsorted(ordered, bounds, side="right")
    return NumericValues(tfdv_buckets(bounds, upto), float((ordered == 0).sum()))


def continuous(quantile: Callable[[np.ndarray], np.ndarray]) -> Callable[..., NumericValues]:
    """Draws from a continuous distribution: order statistics alone, by gamma spacings."""

    def draw(rng: np.random.Generator, n: int) -> NumericValues:
        ranks = _ranks(n)
        gaps = rng.gamma(np.diff(ranks, prepend=0, append=n + 1))
        bounds = quantile(np.cumsum(gaps)[:-1] / gaps.sum())
        return NumericValues(tfdv_buckets(bounds, ranks))

    return draw


def atoms(values: np.ndarray, weights: np.ndarray) -> Callable[..., NumericValues]:
    """Draws from a distribution over `values` (ascending)."""
    weights = weights / weights.sum()

    def draw(rng: np.random.Generator, n: int) -> NumericValues:
        upto = np.cumsum(rng.multinomial(n, weights))
        where = np.searchsorted(upto, _ranks(n))
        zeros = float(np.diff(upto, prepend=0)[values == 0].sum())
        return NumericValues(tfdv_buckets(values[where], upto[where]), zeros)

    return draw


def _seconds() -> Callable[..., NumericValues]:
    minutes = np.arange(0, 200.0)
    return atoms(minutes * 60, stats.lognorm.pdf(minutes + 0.5, 0.9, scale=8))


def _zero_inflated() -> Callable[..., NumericValues]:
    miles = np.arange(0, 60, 0.1)
    weights = stats.lognorm.pdf(miles + 0.05, 1.2, scale=1.5)
    weights[0] = weights.sum() * 0.45
    return atoms(miles, weights)


def numeric_features() -> list[Callable[..., NumericValues]]:
    """Ten shapes: smooth, heavy-tailed, two-humped, in lumps, mostly zero, constant but for 1%."""
    two_humps = np.linspace(-6, 6, 2001)
    density = stats.norm.pdf(two_humps, -3) + stats.norm.pdf(two_humps, 3)
    heights = np.cumsum(density) / density.sum()
    return [
        continuous(special.ndtri),
        continuous(lambda u: np.exp(1.5 * special.ndtri(u))),
        continuous(lambda u: (1 - u) ** -1.25),  # Pareto without a variance
        continuous(lambda u: np.interp(u, heights, two_humps)),
        continuous(lambda u: u),
        _seconds(),
        _zero_inflated(),
        atoms(np.arange(15.0), stats.poisson.pmf(np.arange(15), 3)),
        atoms(np.array([0.0, 1.0]), np.array([0.95, 0.05])),
        atoms(np.array([7.0, 8.0]), np.array([0.99, 0.01])),
    ]


def category_shapes(categories: int) -> list[np.ndarray]:
    """Nine distributions over that many categories."""
    rank = np.arange(1, categories + 1)
    shapes = [rank**-s for s in (0.5, 0.8, 1.0, 1.0, 1.2, 1.5)] + [np.ones(categories)] * 2
    shapes.append(np.where(rank == 1, categories * 4.0, 1.0))  # one category holds 80%
    return [shape / shape.sum() for shape in shapes]


# Runs without drift


class _Check(NamedTuple):
    effect: Effect  # arrays of shape [runs]
    threshold: float


def _missing_checks(rng: np.random.Generator, n: int, runs: int) -> Iterator[_Check]:
    for feature in range(20):
        rate = MISSING_RATES[feature % len(MISSING_RATES)]
        now, then = rng.binomial(n, rate, (2, runs, 1)).astype(float)
        yield _Check(_largest_change(now, then, n), POLICY.thresholds.missing)


def _largest_change(now: np.ndarray, then: np.ndarray, n: int) -> Effect:
    """As `drift_measures.largest_change_effect`, without the floor.

    An effect whose adjusted p-value is at most 0.0005 lies above its 99.9% floor anyway.
    """
    effect = divergence.l_infinity(now, then, n, n)
    p_value = null_floors.largest_change_p_value(effect, now + then, n, n)
    return Effect(effect, np.zeros(effect.shape), np.zeros(effect.shape), p_value)


def _numeric_counts(
    draw: Callable[..., NumericValues], rng: np.random.Generator, n: int, runs: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    counts, p_values, certain = np.zeros((2, runs, BINS)), np.ones(runs), np.zeros(runs)
    for run in range(runs):
        now, then = distribution(draw(rng, n)), distribution(draw(rng, n))
        assert now is not None
        assert then is not None
        p_values[run] = certain_p_value(now, then)
        edges = common_edges(now, then)
        certain[run] = certain_effect("jensen_shannon", now, then)
        counts[0, run, : edges.size + 1] = bin_counts(now, edges)
        counts[1, run, : edges.size + 1] = bin_counts(then, edges)
    return counts, p_values, certain


def _numeric_checks(rng: np.random.Generator, n: int, runs: int) -> Iterator[_Check]:
    for draw in numeric_features():
        (now, then), p_values, certain = _numeric_counts(draw, rng, n, runs)
        effect = additive_effect("jensen_shannon", now, then, n, n)
        floor = numeric_floor(effect.floor, effect.effect, certain)
        effect = replace(effect, floor=floor, p_value=p_values)
        yield _Check(effect, POLICY.thresholds.jensen_shannon)


def _categorical_checks(
    rng: np.random.Generator, n: int, categories: int, runs: int
) -> Iterator[_Check]:
    limits = POLICY.thresholds
    for shape in category_shapes(categories):
        now, then = rng.multinomial(n, shape, (2, runs)).astype(float)
        yield _Check(_largest_change(now, then, n), limits.l_infinity)
        yield _Check(additive_effect("psi", now, then, n, n), limits.psi)
        yield _Check(unseen_effect(now, then, n, n), limits.unseen)
    now, then = rng.multinomial(n, (0.8, 0.2), (2, runs)).astype(float)
    yield _Check(additive_effect("label_drift", now, then, n, n), limits.label_drift)


def null_outcomes(n: int, categories: int, runs: int, seed: int) -> tuple[int, int]:
    """How many of `runs` runs without drift block, and how many block or warn."""
    rng = np.random.default_rng((seed, n, categories))
    checks = [
        *_numeric_checks(rng, n, runs),
        *_categorical_checks(rng, n, categories, runs),
        *_missing_checks(rng, n, runs),
    ]
    raw = np.stack([check.effect.p_value for check in checks], axis=-1)
    adjusted = benjamini_hochberg(raw)
    blocks, warns = np.zeros(runs, bool), np.zeros(runs, bool)
    for i, check in enumerate(checks):
        real = drift.real_change(check.effect, adjusted[:, i], POLICY.significance)
        blocks |= real & drift.exceeds(check.effect, check.threshold)
        warns |= real & drift.exceeds(check.effect, POLICY.warn_fraction * check.threshold)
    return int(blocks.sum()), int((blocks | warns).sum())


def upper_bound(events: int, runs: int) -> float:
    """95% upper bound of a rate (Clopper and Pearson, one-sided)."""
    return float(special.betaincinv(events + 1, runs - events, 0.95)) if events < runs else 1.0


def false_alarms(n: int, categories: int, runs: int, seed: int = 1) -> dict[str, object]:
    """One row of the table: false blocks and warnings of whole runs."""
    started, blocks, warns, done = time.process_time(), 0, 0, 0
    while done < runs:
        size = min(CHUNK, runs - done)
        found = null_outcomes(n, categories, size, seed * 1_000_000 + done)
        blocks, warns, done = blocks + found[0], warns + found[1], done + size
    return {
        "what": "no drift",
        "n": n,
        "categories": categories,
        "runs": runs,
        "blocked": blocks,
        "blocked, 95% upper bound": round(upper_bound(blocks, runs), 6),
        "warned or blocked": warns,
        "CPU s": round(time.process_time() - started, 1),
    }


# Drift that breaks things


def dataset(n: int, features: dict[str, NumericValues | CategoricalValues], missing: float = 0.0):
    """A data set of `n` examples whose features all miss the same share of values."""
    found = {}
    for name, values in features.items():
        present = n * (1 - missing)
        numeric = isinstance(values, NumericValues)
        found[name] = FeatureStatistics(
            name,
            "numeric" if numeric else "categorical",
            "FLOAT" if numeric else "STRING",
            present,
            n - present,
            numeric=values if numeric else None,
            categorical=None if numeric else values,
        )
    return DatasetStatistics(n, found)


def _fares(rng: np.random.Generator, n: int, unit: float) -> NumericValues:
    return numeric_values(np.round(3.25 + rng.gamma(1.2, 7, n), 2) * unit)


def _names(rng: np.random.Generator, n: int, categories: int, renamed: int) -> CategoricalValues:
    shape = np.arange(1, categories + 1) ** -1.0
    counts = rng.multinomial(n, shape / shape.sum())
    named = {f"c{i}": float(c) for i, c in enumerate(counts) if c}
    if renamed >= 0:
        named["new name"] = named.pop(f"c{renamed}", 0.0)
    return CategoricalValues(named, float(n))


BREAKAGES: dict[str, Callable[[np.random.Generator, int, bool], DatasetStatistics]] = {
    "a fare in cents": lambda rng, n, broken: dataset(
        n, {"fare": _fares(rng, n, 100 if broken else 1)}
    ),
    "first of 10 categories renamed": lambda rng, n, broken: dataset(
        n, {"company": _names(rng, n, 10, 0 if broken else -1)}
    ),
    "a category of 7% renamed, of 10": lambda rng, n, broken: dataset(
        n, {"company": _names(rng, n, 10, 4 if broken else -1)}
    ),
    "first of 1,000 categories renamed": lambda rng, n, broken: dataset(
        n, {"company": _names(rng, n, 1000, 0 if broken else -1)}
    ),
    "20% of a column gone missing": lambda rng, n, broken: dataset(
        n,
        {"fare": _fares(rng, round(n * (0.8 if broken else 1)), 1)},
        missing=0.2 if broken else 0.0,
    ),
}


def breakage(what: str, n: int, runs: int, seed: int = 1) -> dict[str, object]:
    """One row: how many of `runs` runs with this breakage are blocked."""
    rng = np.random.default_rng((seed, n))
    make = BREAKAGES[what]
    blocked = 0
    for _ in range(runs):
        then, now = make(rng, n, False), make(rng, n, True)
        decision = drift.decide(now, then, POLICY, tuple(then.features))
        blocked += decision.outcome is Outcome.BLOCK
    return {"what": what, "n": n, "runs": runs, "blocked": blocked}


# Real trips


def trip_seconds() -> np.ndarray:
    """The column of the data that comes with TFX, without missing values."""
    spec = importlib.util.find_spec("tfx")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    root = Path(spec.submodule_search_locations[0])
    path = root / "examples/chicago_taxi_pipeline/data/simple/data.csv"
    with path.open(encoding="utf-8") as file:
        return np.array(
            [float(r["trip_seconds"]) for r in csv.DictReader(file) if r["trip_seconds"]]
        )


def random_halves(splits: int, seed: int = 1) -> dict[str, object]:
    """One row: Jensen-Shannon between random halves of trip_seconds."""
    rng, seconds = np.random.default_rng(seed), trip_seconds()
    effects, floors = [], []
    for _ in range(splits):
        mixed = rng.permutation(seconds)
        half = mixed.size // 2
        sides = [distribution(numeric_values(part)) for part in (mixed[:half], mixed[half:])]
        assert sides[0] is not None
        assert sides[1] is not None
        edges = common_edges(sides[0], sides[1])
        now, then = (bin_counts(side, edges) for side in sides)  # type: ignore[arg-type]
        found = additive_effect("jensen_shannon", now, then, sides[0].total, sides[1].total)
        effects.append(float(found.effect))
        certain = certain_effect("jensen_shannon", sides[0], sides[1])
        floors.append(float(numeric_floor(found.floor, found.effect, certain)))
    return {
        "what": "random halves of trip_seconds: Jensen-Shannon in bits",
        "n": seconds.size // 2,
        "runs": splits,
        "median": round(float(np.median(effects)), 5),
        "greatest": round(max(effects), 5),
        "above floor": int((np.array(effects) > np.array(floors)).sum()),
        "floor, median": round(float(np.median(floors)), 5),
    }


def run(quick: bool) -> dict:
    """The figures for docs/benchmarks.md; quick ones show the form, not the rate."""
    runs, broken = (500, 20) if quick else (5_000, 500)
    rows = [false_alarms(n, c, runs) for n in SIZES for c in (10, 1_000)]
    rows += [breakage(what, 3_000, broken) for what in BREAKAGES]
    rows.append(random_halves(50 if quick else 1_000))
    return {
        "title": "Drift: false blocks without drift, and breakage caught",
        "rows": rows,
        "notes": [
            "A run: 10 numeric features (ten shapes), 9 categorical ones and a binary label, each "
            "also checked for missing values (none, 0.1%, 5%, 50%); 58 checks adjusted together.",
            "Both samples have n examples; the default policy judges them.",
            "Distributions are compared over n values, whatever the share missing.",
        ],
    }


if __name__ == "__main__":
    print(json.dumps(run("--quick" in sys.argv), indent=2))
