"""How releases are pushed and kept. No IO here."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

LABEL_PATTERN = r"^[a-z][a-z0-9_-]{0,62}$"
MODEL_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,126}$"


class ReleasePolicy(BaseModel):
    """Which label a push moves, and how much of the past stays."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: str = Field(
        default="stable",
        pattern=LABEL_PATTERN,
        description="The label that a push makes point at the new version.",
    )
    keep_versions: int = Field(
        default=5,
        ge=1,
        le=1000,
        description="How many of the newest versions stay on disk. A version that a label points "
        "at stays too, however old. Manifests are kept for ever.",
    )
    lock_timeout_seconds: float = Field(
        default=60.0,
        ge=0.0,
        le=3600.0,
        description="How long a push waits for another push to finish, in seconds.",
    )
