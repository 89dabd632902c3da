"""Slice discovery: false discoveries, what is found, and what it costs.

Simulated nights: categorical features with 12 values of uneven frequency and numeric ones cut into
10 ranges, independent of each other, and a model that is right on 85% of all rows. With repeats,
rows are drawn from so many different ones with Zipf's frequencies and equal rows share their
outcome.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from tfx_encore.monitoring.slice_discovery import FeatureCut, PairCounts, count, find
from tfx_encore.schemas.nightly_policy import DiscoveryPolicy
from tfx_encore.schemas.nights import SliceFinding
from tfx_encore.schemas.serial import from_json, to_json

RIGHT = 0.85
VALUES, RANGES = 12, 10
POLICY = DiscoveryPolicy(propose=50)
ANY_EFFECT = POLICY.model_copy(update={"min_effect": 1e-9})
Columns = dict[str, npt.NDArray[Any]]


def run(quick: bool) -> dict[str, Any]:
    """Returns the rows for docs/benchmarks.md."""
    return {
        "title": "Slice discovery: false discoveries, power and cost",
        "rows": [*null(quick), *repeats(quick), *planted(quick), *cost(quick)],
        "notes": [
            "False discoveries: share of nights without any bad slice in which one is found; 5% is "
            "promised of the test alone, the smallest effect of 0.05 on top makes it rarer. With "
            "repeats ignored, the same rows are counted as if each were independent evidence.",
            "Planted: a pair of a category and a range whose accuracy is lower by the loss named; "
            "found: the pair itself is among the findings; false: findings that share no row with "
            "it by definition of their features, as a share of all findings.",
            "Cost: one process; a batch is counted at once and findings include all tests.",
        ],
    }


def columns(rng: np.random.Generator, rows: int, features: int) -> Columns:
    """So many features, the first half of them categorical."""
    share = 1 / np.arange(1, VALUES + 1)
    names = np.array([f"v{i}".encode() for i in range(VALUES)], object)
    found: Columns = {}
    for number in range(features):
        if number < (features + 1) // 2:
            found[f"c{number}"] = names[rng.choice(VALUES, rows, p=share / share.sum())]
        else:
            found[f"n{number}"] = rng.random(rows)
    return found


def cuts(given: Columns) -> dict[str, FeatureCut]:
    """Every value and ten ranges of equal support."""
    edges = tuple(np.round(np.arange(1, RANGES) / RANGES, 1).tolist())
    values = tuple(f"v{i}" for i in range(VALUES))
    return {
        name: FeatureCut(True, edges) if name[0] == "n" else FeatureCut(False, (), values)
        for name in given
    }


# --- false discoveries ----------------------------------------------------------------------------


def null(quick: bool) -> list[dict[str, Any]]:
    """Nights without a bad slice."""
    rng = np.random.default_rng(20_261_121)
    runs = 20 if quick else 300
    rows = []
    for size, features in ((5_000, 8), (50_000, 8)):
        nights = []
        for _ in range(runs):
            given = columns(rng, size, features)
            nights.append(count(given, rng.random(size) < RIGHT, cuts(given)))
        for what, policy in (("any effect", ANY_EFFECT), ("defaults", POLICY)):
            hits = sum(bool(find(night, policy)) for night in nights)
            rows.append(_row(f"no bad slice, {size:,} rows x {features}, {what}", hits, runs))
    return rows


def repeats(quick: bool) -> list[dict[str, Any]]:
    """The same where rows repeat, told and not told."""
    rng = np.random.default_rng(20_261_122)
    runs = 20 if quick else 300
    told = ignored = shipped = 0
    effective = []
    for _ in range(runs):
        times = _zipf(rng, distinct=8_000, rows=50_000)
        given = columns(rng, len(times), 8)
        right = rng.random(len(times)) < RIGHT
        night = count(given, right * times, cuts(given), weights=times)
        blind = night.cells.copy()
        blind[:, 2] = blind[:, 0]
        told += bool(find(night, ANY_EFFECT))
        shipped += bool(find(night, POLICY))
        ignored += bool(find(PairCounts(night.cuts, blind), ANY_EFFECT))
        effective.append(times.sum() ** 2 / (times**2).sum())
    what = f"no bad slice, 50,000 rows of 8,000, n_eff {np.mean(effective):,.0f}"
    return [
        _row(f"{what}, any effect", told, runs),
        _row(f"{what}, defaults", shipped, runs),
        _row(f"{what}, repeats ignored, any effect", ignored, runs),
    ]


def _zipf(rng: np.random.Generator, distinct: int, rows: int) -> npt.NDArray[np.int64]:
    """How often each of the rows was asked; those never asked are left out."""
    share = np.arange(1, distinct + 1) ** -0.6
    times = rng.multinomial(rows, share / share.sum())
    return times[times > 0].astype(np.int64)


def _row(what: str, hits: int, runs: int) -> dict[str, Any]:
    return {"what": what, "runs": runs, "with a finding": hits, "share": round(hits / runs, 4)}


# --- power ----------------------------------------------------------------------------------------


def planted(quick: bool) -> list[dict[str, Any]]:
    """Nights with one bad pair, by its loss and support."""
    rng = np.random.default_rng(20_261_123)
    runs = 5 if quick else 60
    rows = []
    for size in (20_000, 100_000):
        for loss in (0.1, 0.2, 0.3):
            nights = [_planted(rng, size, loss) for _ in range(runs)]
            support = round(float(np.mean([n for n, _ in nights])))
            found = sum(any(_is_planted(f) for f in night) for _, night in nights)
            every = [f for _, night in nights for f in night]
            wrong = sum(not _touches(f) for f in every)
            rows.append(
                {
                    "what": f"bad pair, {size:,} rows x 8, loss {loss}",
                    "runs": runs,
                    "support": support,
                    "found": round(found / runs, 3),
                    "false": round(wrong / max(len(every), 1), 3),
                }
            )
    return rows


def _planted(
    rng: np.random.Generator, size: int, loss: float
) -> tuple[int, tuple[SliceFinding, ...]]:
    given = columns(rng, size, 8)
    bad = (given["c0"] == b"v2") & (given["n4"] >= 0.3) & (given["n4"] < 0.5)
    right = rng.random(size) < RIGHT - loss * bad
    return int(bad.sum()), find(count(given, right, cuts(given)), POLICY)


def _is_planted(found: SliceFinding) -> bool:
    """The pair, or at least one of its two ranges."""
    ranges = {"[0.3, 0.5)", "[0.3, 0.4)", "[0.4, 0.5)"}
    return found.features.get("c0") == "v2" and found.features.get("n4") in ranges


def _touches(found: SliceFinding) -> bool:
    return _is_planted(found) or found.features in ({"c0": "v2"}, {"n4": "[0.3, 0.5)"})


# --- cost -----------------------------------------------------------------------------------------


def cost(quick: bool) -> list[dict[str, Any]]:
    """Seconds to count, merge and judge."""
    rng = np.random.default_rng(1)
    rows = []
    sizes = ((50_000, 15),) if quick else ((250_000, 15), (1_000_000, 8), (1_000_000, 15))
    for size, features in sizes:
        given = columns(rng, size, features)
        right = rng.random(size) < RIGHT
        counting, night = _timed(lambda g=given, r=right: count(g, r, cuts(g)))
        merging, _ = _timed(lambda n=night: n + n)
        judging, _ = _timed(lambda n=night: find(n, POLICY))
        text = to_json(night)
        assert from_json(PairCounts, text) == night
        rows.append(
            {
                "what": f"{size:,} rows x {features} features, {len(night.cells):,} cells",
                "count s": round(counting, 2),
                "merge ms": round(1000 * merging, 2),
                "find s": round(judging, 2),
                "pairs.json KB": round(len(text) / 1000),
            }
        )
    return rows


def _timed(work: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found


if __name__ == "__main__":
    print(json.dumps(run(quick="--quick" in sys.argv), indent=2))
