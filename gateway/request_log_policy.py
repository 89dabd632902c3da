"""What of the traffic is logged, where, and for how long. No IO here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

MIB = 2**20

Rate = Annotated[float, Field(ge=0.0, le=1.0)]


class RequestLogPolicy(BaseModel):
    """The request log of one process."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    directory: Path = Field(
        description="Folder of the log; several processes and hosts may share it."
    )
    rate: Rate = Field(
        default=0.01, description="Share of the answered requests of a model that is logged."
    )
    rates: Mapping[str, Rate] = Field(default={}, description="The same by model.")
    max_per_minute: int = Field(
        default=600,
        ge=0,
        le=10_000_000,
        description="Answered requests of a model that one process logs in any 60 seconds at most; "
        "as many failed ones besides. 0 for no limit.",
    )
    always_errors: bool = Field(
        default=True,
        description="Log every failed request, whatever the rate (but see max_per_minute).",
    )
    rotate_bytes: int = Field(
        default=128 * MIB, ge=1, description="A file is closed when it has grown to this."
    )
    rotate_seconds: float = Field(
        default=600.0, gt=0.0, le=86_400.0, description="A file is closed when it is this old."
    )
    keep_days: float = Field(
        default=7.0,
        ge=0.0,
        le=36_500.0,
        description="Days that files are kept after the (UTC) day that they are of; 0 for good.",
    )
    queue_records: int = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="Records that wait to be written at most; beyond it they are dropped.",
    )
    queue_bytes: int = Field(
        default=64 * MIB,
        ge=1,
        description="Bytes of bodies that wait to be written at most; beyond it records are "
        "dropped. A larger record is never logged.",
    )

    def rate_of(self, model: str) -> float:
        """Returns the share of a model's answered requests that is logged."""
        return self.rates.get(model, self.rate)
