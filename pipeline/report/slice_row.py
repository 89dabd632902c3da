"""One row of a drawing of slices. No IO here."""

from __future__ import annotations

from dataclasses import dataclass

from tfx_encore.schemas.decisions import Outcome


@dataclass(frozen=True)
class SliceRow:
    """One row of a slice drawing; see `Evidence` for the units."""

    name: str
    outcome: Outcome
    x: float | None
    interval: tuple[float, float] | None = None
    threshold: float | None = None
    baseline: float | None = None
