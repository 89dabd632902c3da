"""Drift of nights: false alarms over quiet weeks, and what is found of two incidents."""

from __future__ import annotations

import datetime as dt
import itertools
import time
from typing import Any

import numpy as np

from tfx_encore.monitoring.drift_seasonal import history_dates, judge_seasonal
from tfx_encore.monitoring.drift_statistics import (
    Bucket,
    CategoricalValues,
    DatasetStatistics,
    FeatureStatistics,
    NumericValues,
)
from tfx_encore.schemas.decisions import Outcome
from tfx_encore.schemas.drift_policy import DriftPolicy
from tfx_encore.schemas.nightly_policy import SeasonPolicy

ROWS = 3000
SEASON = SeasonPolicy()
PAYMENTS = ("Cash", "Card", "Mobile", "Other")
WORKDAY, WEEKEND = np.array([0.4, 0.35, 0.2, 0.05]), np.array([0.25, 0.35, 0.3, 0.1])
FEATURES = ("payment", "company", "fare", "miles")
_COMPANIES = 1 / np.arange(1, 41)


def run(quick: bool) -> dict[str, Any]:
    """Measures; `quick` looks at a tenth of the nights."""
    nights = 100 if quick else 1000
    begun = time.perf_counter()
    dirichlet = _quiet(nights, varies=300.0, level=0.08)
    seconds = (time.perf_counter() - begun) / nights
    sampling = _quiet(nights // 2, varies=0.0, level=0.0)
    found = [
        _detected(20 if quick else 50, **incident)
        for incident in (
            {"rename": 1},
            {"shift": 1.0},
            {"shift": 1.5},
            {"score": 1.5},
        )
    ]
    names = (
        "a category with a quarter to two fifths of the rows renamed",
        "a number shifted by 1.0 standard deviation",
        "a number shifted by 1.5 standard deviations",
        "scores shifted by 1.5 on the logit scale",
    )
    return {
        "title": "Drift from night to night",
        "rows": [
            {
                "what": f"{nights} quiet nights, days vary: nights with BLOCK",
                "nights": dirichlet[0],
            },
            {"what": f"{nights} quiet nights, days vary: nights with WARN", "nights": dirichlet[1]},
            {"what": f"{nights // 2} quiet nights, sampling alone: BLOCK", "nights": sampling[0]},
            {"what": f"{nights // 2} quiet nights, sampling alone: WARN", "nights": sampling[1]},
            *(
                {"what": f"found on its first night, after {weeks}: {name}", "share": share}
                for name, shares in zip(names, found, strict=True)
                for weeks, share in zip(("9 nights", "5 weeks"), shares, strict=True)
            ),
            {"what": "judging a night of five features", "milliseconds": round(1000 * seconds, 1)},
        ],
        "notes": [
            f"{ROWS} rows a night, two categorical and two numeric features and the predictions; "
            "weekends differ by 0.15 of a share and 0.8 standard deviations. Where days vary, a "
            "night's shares are Dirichlet distributed (total 300: a share of 0.4 has a standard "
            "deviation of 0.028) and its numbers are shifted by 0.08 standard deviations.",
            "One run of nights for the quiet ones, each judged by those before it; the season's "
            "first weeks are among them. Defaults of `nightly.drift` and `nightly.season`.",
            "The first night of an incident is judged after nine quiet nights, when only the days "
            "before can be compared with, and after five weeks.",
        ],
    }


def _numeric(name: str, values: Any) -> FeatureStatistics:
    edges, n = np.quantile(values, np.linspace(0, 1, 11)), len(values)
    buckets = tuple(Bucket(float(a), float(b), n / 10) for a, b in itertools.pairwise(edges))
    return FeatureStatistics(name, "numeric", "FLOAT", n, 0.0, numeric=NumericValues(buckets))


def _categorical(rng: Any, name: str, labels: Any, mean: Any, varies: float) -> FeatureStatistics:
    mean = mean / mean.sum()
    counts = rng.multinomial(ROWS, rng.dirichlet(mean * varies) if varies else mean)
    found = sorted(zip(labels, counts.tolist(), strict=True), key=lambda item: -item[1])
    values = CategoricalValues({k: float(v) for k, v in found if v}, float(ROWS))
    return FeatureStatistics(name, "categorical", "STRING", ROWS, 0.0, categorical=values)


def _night(
    date: dt.date, seed: int, *, varies: float, level: float, **incident: float
) -> DatasetStatistics:
    rng = np.random.default_rng([seed, date.toordinal()])
    weekend = date.weekday() > 4
    labels = ("CASH", *PAYMENTS[1:]) if incident.get("rename") else PAYMENTS
    base = 0.8 if weekend else 0.0
    fare = rng.normal(base + rng.normal(0, level) + incident.get("shift", 0.0), 1, ROWS)
    logit = rng.normal(rng.normal(0, level) + incident.get("score", 0.0), 1, ROWS)
    companies = [f"company {number}" for number in range(40)]
    features = (
        _categorical(rng, "payment", labels, WEEKEND if weekend else WORKDAY, varies),
        _categorical(rng, "company", companies, _COMPANIES, varies),
        _numeric("fare", fare),
        _numeric("miles", rng.gamma(2, np.exp(rng.normal(0, level)), ROWS)),
        _numeric("encore_score", 1 / (1 + np.exp(-logit))),
    )
    return DatasetStatistics(ROWS, {item.name: item for item in features})


def _judge(tonight: DatasetStatistics, past: dict[str, DatasetStatistics], date: str) -> Outcome:
    return judge_seasonal(tonight, past, date, DriftPolicy(), SEASON, FEATURES).outcome


def _quiet(nights: int, *, varies: float, level: float) -> tuple[int, int]:
    """How many of `nights` nights in a row block, and how many warn."""
    past: dict[str, DatasetStatistics] = {}
    outcomes = []
    for number in range(nights):
        day = dt.date(2016, 1, 4) + dt.timedelta(days=number)
        tonight = _night(day, 1, varies=varies, level=level)
        outcomes.append(_judge(tonight, past, day.isoformat()))
        past[day.isoformat()] = tonight
        past = {
            d: past[d]
            for d in (*history_dates(day.isoformat(), SEASON), day.isoformat())
            if d in past
        }
    return outcomes.count(Outcome.BLOCK), outcomes.count(Outcome.WARN)


def _detected(runs: int, **incident: float) -> tuple[float, float]:
    """Share of runs that block on the first night, after nine nights and after five weeks."""
    shares = []
    for before in (9, 35):
        blocked = 0
        for seed in range(2, runs + 2):
            first = dt.date(2016, 1, 4) + dt.timedelta(days=seed % 7)
            days = [first + dt.timedelta(days=number) for number in range(before + 1)]
            past = {d.isoformat(): _night(d, seed, varies=300.0, level=0.08) for d in days[:-1]}
            tonight = _night(days[-1], seed, varies=300.0, level=0.08, **incident)
            blocked += _judge(tonight, past, days[-1].isoformat()) is Outcome.BLOCK
        shares.append(blocked / runs)
    return shares[0], shares[1]


if __name__ == "__main__":
    import json
    import sys

    print(json.dumps(run("--quick" in sys.argv), indent=1))
