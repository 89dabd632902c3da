"""Slow decay: how soon TrendMonitor alarms, how often falsely, and what judging costs.

Run lengths as long as 50 years are measured in two ways: directly, and by importance sampling. For
the latter nights are drawn from the mixture of changes that the Shiryaev-Roberts statistic R sums
up, the onset uniform over N nights; the likelihood ratio of that against no change is
(R_T + N - T) / N at an alarm on night T, whichever detector raised it (Siegmund 1985, chapter 2).
"""

from __future__ import annotations

import datetime as dt
import json
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tfx_encore.monitoring.night_slices import NightSlices, PathCounts, ServedSlice
from tfx_encore.monitoring.slice_counts import SliceCounts, row_code, slice_key
from tfx_encore.monitoring.slice_report import slice_table
from tfx_encore.monitoring.trend import judge_trends
from tfx_encore.monitoring.trend_detector import SHAPES, Nights, Shape, Shapes, follow
from tfx_encore.monitoring.trend_dispersion import dispersion
from tfx_encore.monitoring.trend_series import normal_scores
from tfx_encore.monitoring.trend_threshold import log_threshold
from tfx_encore.schemas.evaluation_policy import EvaluationPolicy
from tfx_encore.schemas.nightly_policy import TrendPolicy
from tfx_encore.schemas.serial import from_json, to_json

RUN_LENGTH = 18_250
YEAR = 365
SLOPES, STEPS = (0.02, 0.05, 0.1, 0.2), (0.5, 1.0)
ORACLE = Shapes((Shape(0.05, 1.0),), ())
Detector = Callable[[np.ndarray], np.ndarray]  # [S, T] losses -> [S, T] statistic


# Detectors


def plain(loss: np.ndarray) -> Nights:
    return Nights(loss, np.ones(loss.shape), np.arange(loss.shape[1]), np.zeros(len(loss)))


def ours(loss: np.ndarray) -> np.ndarray:
    return follow(plain(loss)).log_r


def oracle(loss: np.ndarray) -> np.ndarray:
    return follow(plain(loss), ORACLE).log_r


def glr(loss: np.ndarray, window: int = 100) -> np.ndarray:
    """Generalised likelihood ratio of a linear drift of any slope, onset in the last nights."""
    found = np.zeros(loss.shape)
    score, mass = np.zeros((window, len(loss))), np.zeros((window, 1))
    for night in range(loss.shape[1]):
        start = np.arange(max(0, night - window + 1), night + 1)
        score[night % window], mass[night % window] = 0, 0
        lag = (night - start + 1.0)[:, None]
        score[start % window] += lag * loss[:, night]
        mass[start % window] += lag**2
        gain = np.maximum(score[start % window], 0) ** 2 / (2 * mass[start % window])
        found[:, night] = gain.max(axis=0)
    return found


def recursion(weight: float, reference: float) -> Detector:
    """CUSUM (weight 1) or reflected one-sided EWMA: max(0, weight * last + ... )."""
    gain = 1.0 if weight == 1.0 else 1 - weight

    def statistic(loss: np.ndarray) -> np.ndarray:
        found, now = np.zeros(loss.shape), np.zeros(len(loss))
        for night in range(loss.shape[1]):
            now = np.maximum(0, weight * now + gain * (loss[:, night] - reference))
            found[:, night] = now
        return found

    return statistic


def markov_threshold(weight: float, reference: float, run_length: float) -> float:
    """Limit of such a recursion for a run length, by a Markov chain (Brook and Evans 1972)."""
    from scipy import stats

    gain, cells = (1.0 if weight == 1.0 else 1 - weight), 300

    def length(limit: float) -> float:
        width = 2 * limit / (2 * cells - 1)
        centre = np.arange(cells) * width
        shift = weight * centre[:, None] - gain * reference
        upper = stats.norm.cdf((centre + width / 2 - shift) / gain)
        lower = stats.norm.cdf((centre - width / 2 - shift) / gain)
        lower[:, 0] = 0.0
        return float(np.linalg.solve(np.eye(cells) - (upper - lower), np.ones(cells))[0])

    low, high = 0.01, 30.0 if weight == 1.0 else 8 * (gain / (1 + weight)) ** 0.5
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if length(middle) < run_length else (low, middle)
    return low


# Run lengths


class Rate(NamedTuple):
    """Nights between false alarms, and the relative standard error."""

    run_length: float
    error: float


class Sampled(NamedTuple):
    """Losses [S, N] with a change in each, and ln R of each night."""

    loss: np.ndarray
    log_r: np.ndarray


def sample(series: int, seed: int, nights: int = 300, chunk: int = 500) -> Sampled:
    """Losses drawn from the mixture of changes, with the statistic that weighs them."""
    rng = np.random.default_rng(seed)
    shapes = [(1, s) for s in SHAPES.slopes] + [(0, s) for s in SHAPES.steps]
    kind = rng.choice(len(shapes), series, p=[s.weight for _, s in shapes])
    onset = rng.integers(0, nights, series)
    lag = np.maximum(np.arange(nights) - onset[:, None] + 1, 0)
    power = np.array([power for power, _ in shapes])[kind][:, None]
    size = np.array([s.size for _, s in shapes])[kind][:, None]
    loss = rng.standard_normal((series, nights)) + size * np.where(power, lag, lag > 0)
    parts = [ours(loss[i : i + chunk]) for i in range(0, series, chunk)]
    return Sampled(loss, np.concatenate(parts))


def rate_of(statistic: np.ndarray, limit: float, log_r: np.ndarray) -> Rate:
    """False alarms in the later half of the nights, by importance sampling."""
    series, nights = statistic.shape
    alarm = statistic >= limit
    first = np.where(alarm.any(axis=1), alarm.argmax(axis=1), nights)
    there = first < nights
    weight = np.zeros(series)
    reached = log_r[np.flatnonzero(there), first[there]]
    left = np.log(np.maximum(nights - first[there] - 1, 1e-9))
    weight[there] = nights * np.exp(-np.logaddexp(reached, left))
    early, late = weight * (first < nights // 2), weight * (first >= nights // 2)
    hazard = late.mean() / (nights - nights // 2) / (1 - early.mean() - late.mean() / 2)
    return Rate(1 / hazard, late.std() / series**0.5 / late.mean())


def limit_for(statistic: np.ndarray, log_r: np.ndarray) -> float:
    """The limit of a logarithmic statistic that gives `RUN_LENGTH`."""
    low, high = 4.0, 16.0
    for _ in range(30):
        middle = (low + high) / 2
        short = rate_of(statistic, middle, log_r).run_length < RUN_LENGTH
        low, high = (middle, high) if short else (low, middle)
    return low


def direct_run_length(wanted: float, series: int, nights: int) -> Rate:
    """Simulated nights until an alarm or the end, divided by alarms."""
    loss = np.random.default_rng(11).standard_normal((series, nights)).astype(np.float32)
    alarm = ours(loss) >= log_threshold(wanted)
    first = np.where(alarm.any(axis=1), alarm.argmax(axis=1) + 1, nights)
    alarms = int(alarm.any(axis=1).sum())
    return Rate(float(first.sum()) / alarms, alarms**-0.5)


# Delays


def delays(
    detector: Detector, limit: float, slope: float, step: float, onset: int, series: int
) -> np.ndarray:
    """Nights from the onset to the alarm, both counted."""
    after = 150 if slope == 0.02 or step == 0.5 else 90
    loss = np.random.default_rng(5).standard_normal((series, onset + after))
    loss[:, onset:] += slope * np.arange(1, after + 1) + step
    alarm = np.concatenate([detector(part) >= limit for part in np.array_split(loss, 8)])
    alarm = alarm[~alarm[:, :onset].any(axis=1), onset:]
    return np.where(alarm.any(axis=1), alarm.argmax(axis=1) + 1, 999)


def median(values: np.ndarray) -> float | str:
    found = float(np.median(values))
    return found if found < 999 else "over 150"


def median_with_bounds(values: np.ndarray) -> str:
    """The median with its 95% interval, by order statistics."""
    ordered, n = np.sort(values), values.size
    half = int(1.96 * n**0.5 / 2)
    low, high = ordered[n // 2 - half], ordered[min(n // 2 + half, n - 1)]
    return f"{np.median(values):g} ({low:g} to {high:g})"


def comparison(quick: bool) -> list[dict]:
    series = 200 if quick else 1_000
    drawn = sample(400 if quick else 3_000, seed=2)
    detectors: list[tuple[str, Detector, float]] = [
        ("mixture of slopes and steps (used)", ours, log_threshold(RUN_LENGTH)),
        ("one that knows the slope is 0.05", oracle, limit_for(oracle(drawn.loss), drawn.log_r)),
        ("GLR of a linear drift, 100 nights", glr, limit_for(glr(drawn.loss), drawn.log_r)),
    ]
    for weight, reference in ((1.0, 0.25), (1.0, 0.5), (1.0, 1.0), (0.95, 0.0), (0.9, 0.0)):
        name = f"CUSUM, k {reference}" if weight == 1 else f"EWMA, weight {1 - weight:.2g}"
        limit = markov_threshold(weight, reference, RUN_LENGTH)
        detectors.append((name, recursion(weight, reference), limit))
    rows = []
    for name, detector, limit in detectors:
        rate = rate_of(detector(drawn.loss), limit, drawn.log_r)
        row = {"what": name, "run length": f"{rate.run_length:,.0f} +- {100 * rate.error:.0f}%"}
        for slope in SLOPES:
            found = delays(detector, limit, slope, 0.0, 30, series)
            row[f"slope {slope}"] = median_with_bounds(found) if slope == 0.05 else median(found)
        for step in STEPS:
            row[f"step {step}"] = median(delays(detector, limit, 0.0, step, 30, series))
        rows.append(row)
    first = delays(ours, log_threshold(RUN_LENGTH), 0.05, 0.0, 0, series)
    rows.append(
        {"what": "used; decay from the first night", "slope 0.05": median_with_bounds(first)}
    )
    return rows


def run_lengths(quick: bool) -> list[dict]:
    rows = []
    sizes = ((200, 300, 800),) if quick else ((200, 600, 1_000), (2_000, 300, 6_000))
    for wanted, series, nights in (*sizes, *(() if quick else ((RUN_LENGTH, 300, RUN_LENGTH),))):
        rate = direct_run_length(wanted, series, nights)
        rows.append(_length_row(f"run length of {wanted:,}: simulated night by night", rate))
    drawn = sample(400 if quick else 4_000, seed=3)
    for wanted in (RUN_LENGTH, 200_000, 1_000_000):
        rate = rate_of(drawn.log_r, log_threshold(wanted), drawn.log_r)
        rows.append(_length_row(f"run length of {wanted:,}: importance sampling", rate))
    return rows


def _length_row(what: str, rate: Rate) -> dict:
    return {"what": what, "run length": f"{rate.run_length:,.0f} +- {100 * rate.error:.0f}%"}


# Counted nights


class Case(NamedTuple):
    """A slice, its nights and its release.

    Attributes:
        what: name.
        rate: the metric's true value.
        cases: a night.
        n_release: cases behind the release's value; 0: it is known exactly.
        factor: variance of nights relative to chance alone.
        weekend: loss on Saturdays and Sundays in standard deviations, made up for on weekdays.
        memory: correlation of successive nights' true values (variance: half of `factor` - 1).
        naive: textbook z, without dispersion and without the release's error.
    """

    what: str
    rate: float = 0.9
    cases: int = 300
    n_release: int = 20_000
    factor: float = 1.0
    weekend: float = 0.0
    memory: float = 0.0
    naive: bool = False


CASES = (
    Case("release known exactly", n_release=0),
    *(Case(f"release measured on {n:,} cases", n_release=n) for n in (500, 2_000, 5_000, 20_000)),
    Case("release on 5,000 cases, taken for exact", n_release=5_000, naive=True),
    Case("dispersion 1.5", factor=1.5),
    Case("dispersion 1.5, taken for chance", factor=1.5, naive=True, n_release=0),
    Case("dispersion 3", factor=3.0),
    Case("weekends worse by 1.4 sd", weekend=1.4),
    Case("dispersion 1.5 that lasts (correlated 0.3)", factor=1.5, memory=0.3),
    Case("dispersion 1.5 that lasts (correlated 0.5)", factor=1.5, memory=0.5),
    Case("that, taken for chance", factor=1.5, memory=0.5, naive=True, n_release=0),
    Case("rate 0.99, 30 cases", rate=0.99, cases=30),
    Case("rate 0.99, 30 cases, textbook z", rate=0.99, cases=30, naive=True, n_release=0),
    Case("rate 0.5, 30 cases", rate=0.5, cases=30),
    Case("rate 0.02, 30 cases", rate=0.02, cases=30),
)


def counted(case: Case, series: int, nights: int, onset: int, rng: np.random.Generator) -> Nights:
    """Nights of counts as TrendMonitor sees them; from `onset` they lose 0.05 sd a night."""
    sd = (case.rate * (1 - case.rate) / case.cases) ** 0.5
    day = np.arange(nights)
    truth = np.full((series, nights), case.rate)
    truth -= 0.05 * sd * np.maximum(day - onset + 1, 0)
    truth -= case.weekend * sd * np.where(day % 7 >= 5, 5 / 7, -2 / 7)
    if case.factor > 1:
        truth += sd * (case.factor - 1) ** 0.5 * _wander(rng, truth.shape, case.memory)
    found = rng.binomial(case.cases, np.clip(truth, 0, 1)).astype(float)
    n = case.n_release
    measured = rng.binomial(n, case.rate, (series, 1)) if n else case.rate
    centre = (measured + 0.5) / (n + 1) if n else np.full((series, 1), case.rate)
    unit = np.sqrt(centre * (1 - centre))
    cases = np.full(found.shape, float(case.cases))
    if case.naive:
        loss, factor = (centre * cases - found) / (unit * cases**0.5), np.ones(found.shape)
    else:
        loss = -normal_scores(found, cases, centre)  # type: ignore[arg-type]
        factor = np.array([dispersion(row)[:-1] for row in loss])
    variance = unit[:, 0] ** 2 / n if n and not case.naive else np.zeros(series)
    return Nights(loss / factor**0.5, unit * (factor / cases) ** 0.5, day, variance)


def _wander(rng: np.random.Generator, shape: tuple[int, ...], memory: float) -> np.ndarray:
    """Gaussian noise of variance 1 with that correlation from night to night."""
    noise = rng.standard_normal(shape)
    for night in range(1, shape[1]):
        noise[:, night] *= (1 - memory**2) ** 0.5
        noise[:, night] += memory * noise[:, night - 1]
    return noise


def on_counts(case: Case, quick: bool) -> dict:
    years, runs = (60, 60) if quick else (1_000, 300)
    limit = log_threshold(RUN_LENGTH)
    calm = counted(case, years, YEAR, YEAR, np.random.default_rng(8))
    share = float((follow(calm).log_r >= limit).any(axis=1).mean())
    row = {"what": case.what, "alarmed in a quiet year": f"{100 * share:.1f}%"}
    if case.naive:
        return row
    for onset, name in ((0, "slope 0.05, from the first night"), (60, "slope 0.05")):
        alarm = follow(counted(case, runs, onset + 120, onset, np.random.default_rng(9))).log_r
        alarm = alarm >= limit
        alarm = alarm[~alarm[:, :onset].any(axis=1), onset:]
        delay = np.where(alarm.any(axis=1), alarm.argmax(axis=1) + 1, 999)
        row[name] = median_with_bounds(delay)
    return row


# Cost


def cost(quick: bool) -> list[dict]:
    """Judging a year of 50 slices and two metrics, from counts with 160 kinds of rows each."""
    nights, slices = (60 if quick else YEAR), 50
    rng = np.random.default_rng(1)
    start = dt.date(2016, 1, 1)
    made = {(start + dt.timedelta(i)).isoformat(): _night(rng, slices) for i in range(nights)}
    counts = {
        slice_key({"device": f"d{i}"}): SliceCounts(0.5, _rows(rng, 10_000)) for i in range(slices)
    }
    table = slice_table(counts, threshold=0.5, confidence=0.95, baseline=None)
    texts = [to_json(night) for night in made.values()]
    begin = time.perf_counter()
    for text in texts:
        from_json(NightSlices, text)
    parsed = time.perf_counter()
    judgement = judge_trends(made, "f", table, TrendPolicy(), EvaluationPolicy(label_key="label"))
    judged = time.perf_counter()
    to_json(judgement)
    written = time.perf_counter()
    thirty = list(made.values())[:30]
    total = thirty[0]
    for night in thirty[1:]:
        total += night
    merged = time.perf_counter()
    size = f"{nights} nights, 50 slices"
    return [
        {"what": f"reading {size}", "s": round(parsed - begin, 2)},
        {"what": f"judging {size}, 2 metrics", "s": round(judged - parsed, 2)},
        {"what": "writing that", "s": round(written - judged, 2)},
        {"what": "merging 30 nights of 50 slices", "s": round(merged - written, 2)},
    ]


def _night(rng: np.random.Generator, slices: int) -> NightSlices:
    items = [ServedSlice("f", 1, {"device": f"d{i}"}, _paths(rng)) for i in range(slices)]
    return NightSlices(0.5, tuple(items))


def _paths(rng: np.random.Generator) -> dict[str, PathCounts]:
    return {path: PathCounts(_rows(rng, 300)) for path in ("hit", "miss")}


def _rows(rng: np.random.Generator, n: int) -> dict[int, int]:
    score = np.clip(rng.normal(0, 20, (2, n)).astype(int) + np.array([[130], [190]]), 0, 321)
    found: dict[int, int] = {}
    for label in (0, 1):
        places, counts = np.unique(score[label], return_counts=True)
        codes = (row_code(label, int(place)) for place in places)
        found.update(zip(codes, map(int, counts), strict=True))
    return found


def run(quick: bool) -> dict:
    """The figures for docs/benchmarks.md; quick ones show the form, not the rate."""
    rows = [*comparison(quick), *run_lengths(quick)]
    rows += [on_counts(case, quick) for case in CASES]
    rows += cost(quick)
    return {
        "title": "Slow decay: delay, false alarms and cost of TrendMonitor",
        "rows": rows,
        "notes": [
            f"Thresholds for one false alarm in {RUN_LENGTH:,} nights: once a year over 50 series. "
            f"A quiet year should then alarm in {100 * (1 - np.exp(-YEAR / RUN_LENGTH)):.1f}% of "
            "the series.",
            "Slopes are standard deviations of a night lost each night, steps such lost at once. "
            "Delays are medians in nights, the night of the onset counted, with a 95% interval in "
            "brackets; the decay begins after 30 quiet nights (60 below the run lengths).",
            "Limits of CUSUM and EWMA come from Brook and Evans's Markov chain, of the GLR and of "
            "the one that knows the slope from importance sampling. Run lengths of the first table "
            "rows are by importance sampling: it is precise for alarms like those of the mixture, "
            "less so for other detectors.",
            "Below the run lengths: counts of nights through all that TrendMonitor does to them. "
            "300 cases a night at a rate of 0.9 and a release of 20,000 cases unless said. The "
            "slope there is in standard deviations by chance alone, dispersion apart.",
        ],
    }


if __name__ == "__main__":
    began = time.perf_counter()
    print(json.dumps(run("--quick" in sys.argv), indent=1, default=float))
    print(round(time.perf_counter() - began), "s", file=sys.stderr)
