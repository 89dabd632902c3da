"""The threshold that gives a wanted average run length. No IO here.

For a Shiryaev-Roberts statistic the average run length to the threshold A is at least A, because
R_t - t is a martingale; the excess is the overshoot, which tends to a constant factor (Pollak 1987,
Annals of Statistics 15:749). The factor was simulated for the shapes of `trend_detector.SHAPES`:
below 2,000 nights directly, above by importance sampling from the very mixture of changes that the
statistic sums up, whose likelihood ratio is (R_T + N - T) / N (Siegmund 1985, chapter 2).
`benchmarks/bench_trend.py` does so again.
"""

from __future__ import annotations

import math

import numpy as np

from tfx_encore.schemas.nightly_policy import TrendPolicy

# (A, ln(average run length / A)); simulation errors are about 0.03.
_TABLE = (
    (30, 0.35),
    (60, 0.40),
    (120, 0.46),
    (250, 0.50),
    (500, 0.53),
    (1_000, 0.55),
    (3_000, 0.61),
    (10_000, 0.66),
    (100_000, 0.71),
    (1_000_000, 0.75),
    (10_000_000, 0.81),
)
SHORTEST_RUN = 50.0  # nights; a wish for more frequent false alarms is not granted
NIGHTS_A_YEAR = 365.0


def log_threshold(run_length: float) -> float:
    """Ln A such that without any change an alarm comes after `run_length` nights on average.

    Exact to a few percent of the run length from 50 to 10^7 nights; beyond, the run length is
    longer than wanted.

    Raises:
        ValueError: the run length is below `SHORTEST_RUN`.
    """
    if run_length < SHORTEST_RUN:
        raise ValueError(f"run length {run_length}: at least {SHORTEST_RUN} nights are needed")
    logs = np.log([a for a, _ in _TABLE])
    gain = np.array([gain for _, gain in _TABLE])
    beyond = max(0.0, math.log(run_length) - float(logs[-1] + gain[-1]))
    return float(np.interp(math.log(run_length), logs + gain, logs)) + beyond


def run_length(policy: TrendPolicy, series: int) -> float:
    """The average run length that each of so many series gets, in nights.

    The expected number of false alarms adds up over series however they depend on each other, so
    `policy.false_alarms_per_year` holds over all of them together.
    """
    wanted = NIGHTS_A_YEAR * max(series, 1) / policy.false_alarms_per_year
    return max(wanted, SHORTEST_RUN)
