"""Thirty days of traffic made of real taxi trips of 2016, and what is wrong with them. No IO here.

Real: every trip, its features and its tip. Simulated: which trip is asked for when (popular trips
are asked for again, by a Zipf law that stays the same from day to day), and two faults:

- on day 12 the payment type `Credit Card` is written `CreditCard`;
- from day 10 on, more and more riders of one company who pay by card tip in cash, which no record
  shows: a growing share of its tips is gone from the labels, a little more each day.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

Trip = Mapping[str, str]

FIRST_DAY = date(2016, 3, 1)
DAYS = 30
RENAMED_ON = 12  # day, counted from 1
RENAMED = ("payment_type", "Credit Card", "CreditCard")
DECAY_FROM = 10
DECAY_SLICE = ("company", "Taxi Affiliation Services")
DECAY_PER_DAY = 0.05  # of the tips by card that are there


@dataclass(frozen=True)
class Plan:
    """How much traffic there is.

    Attributes:
        days: number of days.
        requests: requests a day.
        zipf: exponent of popularity; 0 asks for all trips alike.
        offset: added to the rank, so that no single trip dominates.
        several: share of requests with three rows instead of one.
        seed: of everything that is drawn.
    """

    days: int = DAYS
    requests: int = 3000
    zipf: float = 0.7
    offset: float = 10.0
    several: float = 0.1
    seed: int = 1


@dataclass(frozen=True)
class Ask:
    """One request.

    Attributes:
        request_id: its id.
        trips: a trip's features for each row, as text by column.
        labels: what will turn out, 0 or 1 for each row.
    """

    request_id: str
    trips: tuple[Trip, ...]
    labels: tuple[int, ...]


def day_of(number: int) -> str:
    """The date of a day, counted from 1, as `2016-03-12`."""
    return (FIRST_DAY + timedelta(days=number - 1)).isoformat()


def popularity(trips: int, plan: Plan) -> npt.NDArray[np.float64]:
    """Probability of each trip, shape [trips], summing to 1; the same on every day."""
    ranks = np.random.default_rng(plan.seed).permutation(trips)
    weights: npt.NDArray[np.float64] = (ranks + 1.0 + plan.offset) ** -plan.zipf
    return np.asarray(weights / weights.sum())


def traffic(trips: Sequence[Trip], number: int, plan: Plan) -> tuple[Ask, ...]:
    """The requests of a day, in order.

    Args:
        trips: the trips that may be asked for.
        number: the day, counted from 1.
        plan: how much.
    """
    draw = np.random.default_rng((plan.seed, number))
    sizes = np.where(draw.random(plan.requests) < plan.several, 3, 1)
    chosen = draw.choice(len(trips), size=int(sizes.sum()), p=popularity(len(trips), plan))
    lost = draw.random(len(chosen)) < decay(number)
    asks, at = [], 0
    for count, size in enumerate(sizes):
        rows = range(at, at + int(size))
        at += int(size)
        asks.append(
            Ask(
                f"{day_of(number)}-{count:05d}",
                tuple(as_asked(trips[chosen[i]], number) for i in rows),
                tuple(label(trips[chosen[i]], lost=bool(lost[i])) for i in rows),
            )
        )
    return tuple(asks)


def as_asked(trip: Trip, number: int) -> Trip:
    """A trip as it is asked for on a day: on one day a payment type has another name."""
    column, before, after = RENAMED
    if number == RENAMED_ON and trip[column] == before:
        return {**trip, column: after}
    return trip


def decay(number: int) -> float:
    """Share of the tips by card at the one company that no record shows on a day, in [0, 1]."""
    return min(max(number - DECAY_FROM + 1, 0) * DECAY_PER_DAY, 1.0)


def label(trip: Trip, *, lost: bool) -> int:
    """1 if the tip is more than a fifth of the fare, as far as records show it."""
    column, value = DECAY_SLICE
    if lost and trip[column] == value:
        return 0
    return int(_number(trip["tips"]) > 0.2 * _number(trip["fare"]))


def _number(text: str) -> float:
    return float(text) if text else 0.0
