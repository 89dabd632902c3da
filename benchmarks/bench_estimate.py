"""Estimated performance without labels: do the intervals hold the truth, and when do they not.

A row has a true logit drawn from a normal distribution; the model's score is a distorted, hence
uncalibrated, function of it. Covariate shift moves or narrows the logits of the night; concept
drift changes the chance of a positive behind an equal score. Every night is estimated from scores
alone, then compared with its own labels.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any, NamedTuple

import numpy as np

from tfx_encore.monitoring.estimate import estimate, judge_estimates
from tfx_encore.monitoring.night_slices import NightSlices, PathCounts, ServedSlice
from tfx_encore.monitoring.slice_counts import SliceCounts, SliceKey, bin_edges, row_code
from tfx_encore.monitoring.slice_metrics import METRICS
from tfx_encore.monitoring.slice_report import SliceTable, slice_table
from tfx_encore.schemas.decisions import Outcome
from tfx_encore.schemas.evaluation_policy import EvaluationPolicy
from tfx_encore.schemas.nightly_policy import EstimatePolicy

POLICY = EvaluationPolicy(label_key="y", slices=[["s"]])
ESTIMATE = EstimatePolicy()
_EDGES = np.asarray(bin_edges(0.5))


class World(NamedTuple):
    """Where rows come from.

    Attributes:
        shift: mean of the true logits.
        spread: their standard deviation.
        concept: added to the logit of the truth, not of the score.
        blunt: the score's logit for one of the true logit.
    """

    shift: float = 0.0
    spread: float = 1.5
    concept: float = 0.0
    blunt: float = 0.7


def run(quick: bool) -> dict[str, Any]:
    """Returns the rows for docs/benchmarks.md."""
    return {
        "title": "Estimated performance without labels: coverage, and what it cannot see",
        "rows": [*coverage(quick), *slices(quick), *drifted(quick), *warned(quick), *cost(quick)],
        "notes": [
            "Covered: share of nights whose own metric, known from labels that the estimate has "
            "not seen, lies inside the nominal 95% interval; the lowest and the highest of "
            f"{', '.join(METRICS)}. Bias: the largest mean error of the four.",
            "Covariate shift moves or narrows the scores and keeps their meaning; the scores are "
            "uncalibrated in all worlds (overconfident or underconfident).",
            "Concept drift: the same scores, but the log-odds of a positive behind them are lower "
            "by the number named. The estimate cannot see it; the share of nights on which it is "
            "said to have been wrong is that after labels have come.",
        ],
    }


# --- coverage -------------------------------------------------------------------------------------

SHIFTS = {
    "no shift": World(),
    "shifted by +1": World(shift=1.0),
    "shifted by -1.5": World(shift=-1.5),
    "spread 0.6 of the release's": World(spread=0.9),
    "spread 1.4 of the release's": World(spread=2.1),
}


def coverage(quick: bool) -> list[dict[str, Any]]:
    """Coverage under covariate shift, by sizes of the release's evaluation and of the night."""
    rng = np.random.default_rng(20_261_124)
    sizes = ((1_000, 1_000), (5_000, 500), (5_000, 5_000), (5_000, 50_000))
    return [
        _covered(f"{name}, release {old:,}, night {new:,}", world, rng, (old, new), quick)
        for old, new in sizes
        for name, world in SHIFTS.items()
    ]


def _covered(
    what: str, world: World, rng: np.random.Generator, sizes: tuple[int, int], quick: bool
) -> dict[str, Any]:
    runs = 10 if quick else 200
    inside = dict.fromkeys(METRICS, 0)
    errors: dict[str, list[float]] = {metric: [] for metric in METRICS}
    for number in range(runs):
        blunt = (0.7, 1.6)[number % 2]
        table = _release({(): _rows(rng, World(blunt=blunt), sizes[0])})
        tonight = _night({(): _rows(rng, world._replace(blunt=blunt), sizes[1])})
        for item in estimate(tonight, "f", table, POLICY, ESTIMATE):
            if item.actual is not None:
                inside[item.metric] += item.interval[0] <= item.actual <= item.interval[1]
                errors[item.metric].append(item.estimated - item.actual)
    shares = [inside[metric] / len(errors[metric]) for metric in METRICS if errors[metric]]
    bias = max((float(np.mean(found)) for found in errors.values() if found), key=abs)
    return {
        "what": what,
        "nights": runs,
        "covered, lowest": round(min(shares), 3),
        "highest": round(max(shares), 3),
        "bias": round(bias, 4),
    }


def slices(quick: bool) -> list[dict[str, Any]]:
    """A slice whose scores mean something else than overall, by its rows at release."""
    rng = np.random.default_rng(20_261_125)
    runs = 10 if quick else 200
    rows = []
    for size in (100, 300, 1_000, 5_000):
        inside, errors = 0, []
        key: SliceKey = (("s", "a"),)
        for _ in range(runs):
            world = World(concept=-0.5)
            own, others = _rows(rng, world, size), _rows(rng, World(), 20_000)
            table = _release({(): own + others, key: own})
            tonight = _night({key: _rows(rng, world._replace(shift=0.5), 3_000)})
            found = next(
                item
                for item in estimate(tonight, "f", table, POLICY, ESTIMATE)
                if item.metric == "accuracy" and item.actual is not None
            )
            assert found.actual is not None
            inside += found.interval[0] <= found.actual <= found.interval[1]
            errors.append(found.estimated - found.actual)
        rows.append(
            {
                "what": f"accuracy of a slice with log-odds 0.5 lower, {size:,} rows at release",
                "nights": runs,
                "covered, lowest": round(inside / runs, 3),
                "bias": round(float(np.mean(errors)), 4),
            }
        )
    return rows


# --- what it sees and does not --------------------------------------------------------------------


def drifted(quick: bool) -> list[dict[str, Any]]:
    """Concept drift: coverage breaks, a warning without labels is rare, one with labels comes."""
    rng = np.random.default_rng(20_261_126)
    runs = 10 if quick else 200
    rows = []
    for concept in (0.0, -0.25, -0.5, -1.0):
        inside = dict.fromkeys(METRICS, 0)
        blind = said = 0
        for _ in range(runs):
            table = _release({(): _rows(rng, World(), 5_000)})
            found = estimate(
                _night({(): _rows(rng, World(concept=concept), 5_000)}),
                "f",
                table,
                POLICY,
                ESTIMATE,
            )
            for item in found:
                assert item.actual is not None
                inside[item.metric] += item.interval[0] <= item.actual <= item.interval[1]
            hidden = tuple(_without_truth(item) for item in found)
            blind += _warns(hidden, table)
            said += _warns(found, table)
        rows.append(
            {
                "what": f"concept drift {concept:+g} in log-odds, release 5,000, night 5,000",
                "nights": runs,
                "covered, lowest": round(min(inside.values()) / runs, 3),
                "highest": round(max(inside.values()) / runs, 3),
                "warned blind": round(blind / runs, 3),
                "said to be wrong": round(said / runs, 3),
            }
        )
    return rows


def warned(quick: bool) -> list[dict[str, Any]]:
    """Warnings without labels: harder traffic, and none."""
    rng = np.random.default_rng(20_261_127)
    runs = 10 if quick else 200
    rows = []
    for spread in (1.5, 1.2, 0.9, 0.6):
        hits, losses = 0, []
        for _ in range(runs):
            table = _release({(): _rows(rng, World(), 5_000)})
            night = _night({(): _rows(rng, World(spread=spread), 2_000)}, labelled=False)
            found = estimate(night, "f", table, POLICY, ESTIMATE)
            hits += _warns(found, table)
            released = table.slices[0].candidate.metrics["accuracy"].value
            losses.append(found[0].estimated - (released or 0.0))
        rows.append(
            {
                "what": f"traffic of spread {spread} (release 1.5), 2,000 rows, mean change of "
                f"accuracy {np.mean(losses):+.3f}",
                "nights": runs,
                "warned blind": round(hits / runs, 3),
            }
        )
    return rows


def _without_truth(item: Any) -> Any:
    return type(item)(item.slice, item.metric, item.estimated, item.interval, item.n)


def _warns(found: Any, table: SliceTable) -> bool:
    return judge_estimates(found, table, POLICY, ESTIMATE).outcome is Outcome.WARN


# --- cost -----------------------------------------------------------------------------------------


def cost(quick: bool) -> list[dict[str, Any]]:
    """Seconds to estimate and judge 50 slices of a night."""
    rng = np.random.default_rng(1)
    size = 2_000 if quick else 20_000
    keys: list[SliceKey] = [(), *((("s", str(n)),) for n in range(50))]
    table = _release({key: _rows(rng, World(), size) for key in keys})
    tonight = _night({key: _rows(rng, World(), size) for key in keys})
    start = time.perf_counter()
    found = estimate(tonight, "f", table, POLICY, ESTIMATE)
    middle = time.perf_counter()
    judge_estimates(found, table, POLICY, ESTIMATE)
    return [
        {
            "what": f"{len(found)} estimates of 51 slices, {51 * size:,} rows",
            "estimate s": round(middle - start, 3),
            "judge s": round(time.perf_counter() - middle, 3),
        }
    ]


# --- nights ---------------------------------------------------------------------------------------


def _rows(rng: np.random.Generator, world: World, n: int) -> SliceCounts:
    logits = rng.normal(world.shift, world.spread, n)
    labels = rng.random(n) < 1 / (1 + np.exp(-(logits + world.concept)))
    bins = np.searchsorted(_EDGES, 1 / (1 + np.exp(-world.blunt * logits)))
    pairs, times = np.unique(np.stack([labels, bins], axis=1), axis=0, return_counts=True)
    counted = zip(pairs.tolist(), times.tolist(), strict=True)
    return SliceCounts(0.5, {row_code(label, place): count for (label, place), count in counted})


def _release(counts: dict[SliceKey, SliceCounts]) -> SliceTable:
    return slice_table(counts, threshold=0.5, confidence=0.95, baseline=None)


def _night(counts: dict[SliceKey, SliceCounts], *, labelled: bool = True) -> NightSlices:
    slices_ = []
    for key, found in counts.items():
        rows: dict[int, int] = {}
        for label, place, _, count in found.table.tolist():
            code = row_code(label if labelled else None, place)
            rows[code] = rows.get(code, 0) + count
        squares = float(found.n)
        paths = {"miss": PathCounts(rows)}
        slices_.append(ServedSlice("f", 1, dict(key), paths, squares, squares * labelled))
    return NightSlices(0.5, tuple(slices_))


if __name__ == "__main__":
    print(json.dumps(run(quick="--quick" in sys.argv), indent=2))
