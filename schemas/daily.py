"""What the cache saved on a day. No IO here."""

from __future__ import annotations

from pydantic.dataclasses import dataclass


@dataclass(frozen=True)
class DailySummary:
    """A day's requests and what answering from the cache has saved.

    Where the request log holds a sample, the counts are those of all traffic, estimated by the
    sampling rates.

    Attributes:
        model: the model's name.
        date: the day (UTC), or None for everything since the gateway started.
        source: what it was taken from, for a person.
        requests: answered requests.
        failed: requests that failed, as far as they are known.
        rows: rows of the answered requests.
        hits: rows that came from the cache.
        hit_rate: their share, in [0, 1]; None if no row's way is known.
        mean_hit_seconds: mean time of a request whose rows all came from the cache; None if
            unknown.
        mean_miss_seconds: the same of one whose rows all came from the model.
        model_rows_saved: rows that the model did not have to compute.
        cpu_seconds_saved: time of the model that this saved, an estimate; None if unknown.
        cpu_estimate: how it was estimated.
        tokens_saved: None: tokens are not counted.
    """

    model: str
    date: str | None
    source: str
    requests: int
    failed: int
    rows: int
    hits: int
    hit_rate: float | None
    mean_hit_seconds: float | None
    mean_miss_seconds: float | None
    model_rows_saved: int
    cpu_seconds_saved: float | None
    cpu_estimate: str
    tokens_saved: int | None = None
