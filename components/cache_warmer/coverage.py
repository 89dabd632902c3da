"""What the snapshot would have answered of the held-out window. No IO here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tfx_encore.components.cache_warmer.head import HeadRow
from tfx_encore.schemas.charts import Coverage, CoveragePoint

_POINTS = 60


@dataclass(frozen=True)
class Counts:
    """What was counted.

    Attributes:
        source: `request log` or `examples`.
        window: the held-out window in words.
        totals: `counted`, `held_out` (rows) and `distinct` (row keys before the cut).
        distinct_transformed: distinct transformed keys before the cut; None if not computed.
        transformed: for each transformed key of a head row that was seen in the held-out window,
            how often, and the places of its rows in the head.
        transformed_only: whether a transformed key may answer (see `Certificate`).
    """

    source: str
    window: str
    totals: Mapping[str, int]
    distinct_transformed: int | None = None
    transformed: Sequence[tuple[int, Sequence[int]]] = ()
    transformed_only: bool = False


def make_coverage(
    counts: Counts, head: Sequence[HeadRow], answered: Sequence[bytes], sizes: Sequence[int]
) -> Coverage:
    """Measures the snapshot.

    Args:
        counts: what was counted.
        head: the rows that were chosen.
        answered: keys in the snapshot, in its order.
        sizes: bytes of each entry, in the same order.
    """
    held_of = {row.key: row.held for row in head}
    held = np.cumsum([0, *(held_of[key] for key in answered)])
    size = np.cumsum([0, *sizes])
    held_out = counts.totals.get("held_out", 0)
    rates = held / max(held_out, 1)
    return Coverage(
        source=counts.source,
        window=counts.window,
        rows_counted=counts.totals.get("counted", 0),
        rows_held_out=held_out,
        distinct_raw=counts.totals.get("distinct", 0),
        distinct_transformed=counts.distinct_transformed,
        entries=len(answered),
        bytes=int(size[-1]),
        hit_rate=float(rates[-1]),
        hit_rate_transformed=_transformed_rate(counts, head, answered, held_out),
        curve=tuple(
            CoveragePoint(int(at), int(size[at]), float(rates[at])) for at in _places(len(answered))
        ),
    )


def _transformed_rate(
    counts: Counts, head: Sequence[HeadRow], answered: Sequence[bytes], held_out: int
) -> float | None:
    """Hit rate with both lookups; rows of other signatures than the first are hit by raw key."""
    if counts.distinct_transformed is None or not counts.transformed_only:
        return None
    kept = set(answered)
    hits = sum(
        held
        for held, places in counts.transformed
        if any(head[place].key in kept for place in places)
    )
    hits += sum(row.held for row in head if row.signature and row.key in kept)
    return hits / max(held_out, 1)


def _places(entries: int) -> list[int]:
    """Sizes at which the curve is drawn: 0, 1, ... evenly on a logarithmic scale, and the last."""
    if not entries:
        return [0]
    spread = np.geomspace(1, entries, num=min(_POINTS, entries))
    return sorted({0, entries, *(round(place) for place in spread)})
