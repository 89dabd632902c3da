"""What the report draws: distributions of a feature, and the coverage curve. No IO here."""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass


@dataclass(frozen=True)
class FeatureChart:
    """A feature's distribution now and at the baseline, binned alike.

    Attributes:
        feature: its name.
        kind: numeric features have `edges`, categorical ones `labels`.
        current: share of the present values in each bin, summing to at most 1.
        baseline: the same of the baseline; empty if there is none.
        edges: bin edges in the feature's unit, ascending, one more than there are bins.
        labels: category names, most frequent first; the last may be `(other)`.
        n: number of current examples, missing values included.
        n_baseline: number of baseline examples.
        missing: share of current examples without a value, in [0, 1].
        missing_baseline: the same of the baseline.
    """

    feature: str
    kind: Literal["numeric", "categorical"]
    current: tuple[float, ...]
    baseline: tuple[float, ...] = ()
    edges: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()
    n: int = 0
    n_baseline: int = 0
    missing: float = 0.0
    missing_baseline: float = 0.0


@dataclass(frozen=True)
class CoveragePoint:
    """Hit rate that a snapshot of the `entries` most frequent rows would give."""

    entries: int
    bytes: int
    hit_rate: float


@dataclass(frozen=True)
class Coverage:
    """What a cache snapshot will be worth, measured on a window it was not made from.

    Attributes:
        source: what was counted: `request log` or `examples`.
        window: the held-out later window, as a person would say it.
        rows_counted: rows behind the counts.
        rows_held_out: rows in the held-out window.
        distinct_raw: distinct raw row keys among the rows counted.
        distinct_transformed: distinct transformed row keys among them; None if not computed.
        entries: answers in the snapshot.
        bytes: size of the snapshot's keys and answers.
        hit_rate: share of held-out rows the snapshot answers by raw key, in [0, 1].
        hit_rate_transformed: the same when transformed keys are looked up too; None if not
            computed.
        curve: hit rate by raw key for growing snapshots, in order of entries.
    """

    source: str
    window: str
    rows_counted: int
    rows_held_out: int
    distinct_raw: int
    entries: int
    bytes: int
    hit_rate: float
    curve: tuple[CoveragePoint, ...] = ()
    distinct_transformed: int | None = None
    hit_rate_transformed: float | None = None
