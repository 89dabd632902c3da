"""Nights of traffic made by hand: a weekly season, day effects, and incidents on request."""

import datetime as dt
import itertools
from collections.abc import Callable

import numpy as np
import pytest

from tfx_encore.monitoring.drift_statistics import (
    Bucket,
    CategoricalValues,
    DatasetStatistics,
    FeatureStatistics,
    NumericValues,
)

PAYMENTS = ("Cash", "Card", "Mobile", "Other")
WORKDAY, WEEKEND = np.array([0.4, 0.35, 0.2, 0.05]), np.array([0.25, 0.35, 0.3, 0.1])


def _payment(rng, mean, n, varies, rename):
    shares = rng.dirichlet(mean * varies) if varies else mean
    counts = rng.multinomial(n, shares)
    labels = [rename if name == "Cash" and rename else name for name in PAYMENTS]
    found = sorted(zip(labels, counts.tolist(), strict=True), key=lambda item: -item[1])
    values = CategoricalValues({k: float(v) for k, v in found if v}, float(n))
    return FeatureStatistics("payment", "categorical", "STRING", n, 0.0, categorical=values)


def _numeric(name, values):
    edges, n = np.quantile(values, np.linspace(0, 1, 11)), len(values)
    buckets = tuple(Bucket(float(a), float(b), n / 10) for a, b in itertools.pairwise(edges))
    return FeatureStatistics(name, "numeric", "FLOAT", n, 0.0, numeric=NumericValues(buckets))


@pytest.fixture
def make_night() -> Callable[..., DatasetStatistics]:
    """A night: the day decides about the weekend; `seed` about all else.

    `varies`: a Dirichlet's total, small for nights that vary much; 0 for sampling alone.
    `level`: standard deviation of the night's own shift of numbers.
    """

    def make(
        date, seed, *, n=2000, varies=300.0, level=0.08, rename="", shift=0.0, score=0.0, lost=()
    ):
        rng = np.random.default_rng([seed, dt.date.fromisoformat(date).toordinal()])
        weekend = dt.date.fromisoformat(date).weekday() > 4
        mean = WEEKEND if weekend else WORKDAY
        fare = rng.normal((0.8 if weekend else 0.0) + rng.normal(0, level) + shift, 1, n)
        logit = rng.normal(rng.normal(0, level) + score, 1, n)
        features = [
            _payment(rng, mean, n, varies, rename),
            _numeric("fare", fare),
            _numeric("encore_score", 1 / (1 + np.exp(-logit))),
        ]
        return DatasetStatistics(n, {f.name: f for f in features if f.name not in lost})

    return make
