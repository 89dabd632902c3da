"""What a night is compared with: the earlier nights that the NightStore holds."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Optional

from pydantic import BaseModel, ConfigDict, Field

from tfx_encore.metadata import night_store
from tfx_encore.metadata.night_store import NightStore
from tfx_encore.monitoring import drift_seasonal, tfdv_reader
from tfx_encore.monitoring.drift_statistics import DatasetStatistics
from tfx_encore.schemas.decisions import Outcome
from tfx_encore.schemas.nightly_policy import SeasonPolicy
from tfx_encore.schemas.nights import LogReport


class EarlierNights(BaseModel):
    """Where the earlier nights are and which of them are looked at: DriftValidator's `nights`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    releases: str = Field(min_length=1, description="Root of the release directory.")
    model: str = Field(min_length=1, description="The model's name.")
    date: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$", description="The night, as 2016-01-12.")
    season: SeasonPolicy = Field(
        default_factory=SeasonPolicy, description="With which nights it is compared."
    )


@dataclass(frozen=True)
class History:
    """The earlier nights of a night.

    Attributes:
        statistics: date -> statistics of the day's rows.
        effective: date -> share of those rows that are independent.
        excluded: dates that are no baseline, as drift was BLOCK there.
    """

    statistics: dict[str, DatasetStatistics]
    effective: dict[str, float]
    excluded: frozenset[str]


def read_history(
    releases: str | os.PathLike[str], model: str, date: str, season: SeasonPolicy
) -> History:
    """Reads the nights that the judgement of `date` looks at.

    Raises:
        ReleaseCorruptError: a night's record was edited.
        DataError: a night's statistics are unreadable.
    """
    store = NightStore(releases, model)
    statistics: dict[str, DatasetStatistics] = {}
    effective: dict[str, float] = {}
    excluded = set()
    for day in drift_seasonal.history_dates(date, season):
        content = store.read(day, night_store.STATISTICS) if store.has(day) else None
        if content is None:
            continue
        record = store.record(day)
        source = str(store.path(day, night_store.STATISTICS))
        statistics[day] = tfdv_reader.parse_statistics(content, source=source)
        effective[day] = effective_share(record.log)
        if any(
            decision.gate == drift_seasonal.GATE and decision.outcome is Outcome.BLOCK
            for decision in record.decisions
        ):
            excluded.add(day)
    return History(statistics, effective, frozenset(excluded))


def effective_share(log: Optional[LogReport]) -> float:
    """Share of the night's rows that are independent evidence, in (0, 1]; 1 if nobody counted."""
    if log is None or log.rows <= 0 or log.effective_rows <= 0:
        return 1.0
    return min(1.0, log.effective_rows / log.rows)
