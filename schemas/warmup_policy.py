"""How CacheWarmer chooses rows, what it may spend, and what it certifies. No IO here."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class WarmupPolicy(BaseModel):
    """The `warmup` section of the configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_name: str = Field(
        default="model", description="Name written into the TF Serving warm-up requests."
    )
    signature: str = Field(
        default="serving_default",
        description="Signature whose answers are computed ahead of traffic.",
    )
    raw_signature: str | None = Field(
        default=None,
        description="A second signature to warm, the one that takes raw features as tensors; from "
        "examples alone it cannot be known by which of the two traffic will come.",
    )
    transform_signature: str | None = Field(
        default="transform_features",
        description="Signature that gives the transformed features, for transformed keys; a model "
        "without it simply has none.",
    )
    output_filter: tuple[str, ...] = Field(
        default=(), description="Outputs to keep; empty keeps all. Part of every row key."
    )
    max_entries: int = Field(
        default=100_000, ge=1, le=10_000_000, description="Answers in the snapshot at most."
    )
    max_bytes: int = Field(
        default=64 * 2**20, ge=1, description="Bytes of keys, rows and answers at most."
    )
    batch_size: int = Field(
        default=256,
        ge=1,
        le=65_536,
        description="Rows in each call of the model; the last batch is padded to it.",
    )
    splits: tuple[str, ...] = Field(
        default=("train", "eval"), min_length=1, description="Splits of the examples to read."
    )
    held_out_split: str = Field(
        default="eval",
        description="Split that stands for later traffic where there is neither a request log nor "
        "a timestamp feature.",
    )
    held_out_fraction: float = Field(
        default=0.2,
        gt=0.0,
        lt=1.0,
        description="Share of the rows, the latest ones, on which the hit rate is measured.",
    )
    timestamp_feature: str | None = Field(
        default=None, description="Feature that orders the rows in time, such as seconds."
    )
    exclude_features: tuple[str, ...] = Field(
        default=(),
        description="Features never in a row key, such as the label. One that the signature reads "
        "is refused.",
    )
    certify_rows: int = Field(
        default=256, ge=2, le=65_536, description="Rows behind the certificate."
    )
    rounding_ulps: float = Field(
        default=64.0,
        ge=0.0,
        le=4096.0,
        description="How far an answer may move with the batch's size or the row's place in it, in "
        "units in the last place of the output's largest magnitude; see docs/adr/0003.",
    )
    warmup_requests: int = Field(
        default=100,
        ge=0,
        le=1000,
        description="Requests in the TF Serving warm-up file (TF Serving reads at most 1,000).",
    )
    measure_transformed: bool = Field(
        default=True,
        description="Compute transformed keys of all distinct rows, for the coverage report.",
    )
    tolerate_damaged_share: float = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        description="Share of the request log's bytes that may be unreadable.",
    )
    tolerate_unanswered_share: float = Field(
        default=0.5,
        ge=0.0,
        le=1.0,
        description="Share of the chosen rows that the model may refuse or answer with NaN; above "
        "it the model is taken to be broken.",
    )

    @property
    def signatures(self) -> tuple[str, ...]:
        """The signatures to warm, in the order of their index in a snapshot."""
        return (self.signature, *([self.raw_signature] if self.raw_signature else []))
