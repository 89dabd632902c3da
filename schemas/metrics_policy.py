"""Where the metrics of runs and nights go: the `metrics` section. No IO here."""

from __future__ import annotations

from typing import Optional
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator


class MetricsPolicy(BaseModel):
    """The `metrics` section of the configuration. Nothing is written unless a place is named."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    textfile_dir: Optional[str] = Field(
        default=None,
        description="Folder that node_exporter's textfile collector reads "
        "(--collector.textfile.directory). Relative to the project file.",
    )
    pushgateway: Optional[str] = Field(
        default=None, description="Address of a Pushgateway, as http://localhost:9091."
    )
    job: str = Field(
        default="encore",
        pattern=r"^[A-Za-z0-9_-]+$",
        description="The `job` under which metrics are pushed, and the files' prefix.",
    )
    timeout_seconds: float = Field(
        default=5.0, gt=0.0, le=60.0, description="How long a push may take."
    )
    max_slices: int = Field(
        default=50,
        ge=1,
        le=1000,
        description="Slices whose metrics are shown at most: overall, those with an alarm, then "
        "those with most cases.",
    )
    max_features: int = Field(
        default=50,
        ge=1,
        le=1000,
        description="Features whose drift is shown at most, those that drift most first.",
    )

    @field_validator("pushgateway")
    @classmethod
    def _is_an_address(cls, value: Optional[str]) -> Optional[str]:
        if value is None:
            return None
        url = urlsplit(value)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError(f"{value!r} is no address; write it as http://localhost:9091")
        if url.password:
            raise ValueError("the address holds a password; put a proxy that adds it in between")
        return value
