"""How a night's traffic is read, judged and kept: the `nightly` section. No IO here."""

from __future__ import annotations

from typing import Literal, Optional

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tfx_encore.schemas.drift_policy import DriftPolicy
from tfx_encore.schemas.evaluation_policy import Metric

Severity = Literal["WARN", "BLOCK"]


class _Policy(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LabelsPolicy(_Policy):
    """Where the truth comes from, and how it finds its request."""

    files: str = Field(
        min_length=1,
        description="Pattern of CSV or TFRecord (tf.Example) files with labels, relative to the "
        "project file; {DATE} stands for the day of the requests, as 2016-01-12, and may be left "
        "out.",
    )
    join: tuple[str, ...] = Field(
        default=("request_id",),
        min_length=1,
        description="Columns by which a label finds its row: `request_id` (with `row`, the "
        "number of the row in its request, 0 if left out), or features of the request.",
    )
    column: str = Field(default="label", description="Column that holds the label, 0 or 1.")
    wait_days: int = Field(
        default=14,
        ge=0,
        description="Days after which labels of a day are no longer waited for: until then each "
        "night looks whether more have come, and evaluates the day anew if so.",
    )


class LogPolicy(_Policy):
    """Which records are read, and how much damage is put up with."""

    files: str = Field(
        default="{MODEL}/{DATE}/*.tfrecord",
        description="Pattern of PredictionLog files below `request_log`; {MODEL} and {DATE} stand "
        "for the model's name and the day. Without {DATE} the records' own time decides.",
    )
    signatures: tuple[str, ...] = Field(
        default=(),
        description="Signatures whose rows are evaluated. Default: `evaluation.signature_name` "
        "and `warmup.raw_signature`.",
    )
    tolerate_unreadable_share: float = Field(
        default=0.01,
        ge=0.0,
        le=1.0,
        description="Share of the records that may be unreadable; they are counted and kept aside. "
        "Above it the night is BLOCK.",
    )
    recompute_rows: int = Field(
        default=1000,
        ge=0,
        description="Rows of the day, chosen by hash, that the model answers again, so that the "
        "answers of the cache are compared with its own.",
    )


class SeasonPolicy(_Policy):
    """With which earlier nights a night is compared."""

    weeks: int = Field(
        default=4, ge=0, le=52, description="The same weekday of so many weeks before, together."
    )
    window_days: int = Field(
        default=7, ge=0, le=90, description="The so many days before, together."
    )
    min_nights: int = Field(
        default=2, ge=1, description="Fewer earlier nights than this are no baseline."
    )


class TrendPolicy(_Policy):
    """When a slow change is an alarm."""

    metrics: tuple[Metric, ...] = Field(
        default=("accuracy", "recall"), min_length=1, description="The metrics that are followed."
    )
    false_alarms_per_year: float = Field(
        default=1.0,
        gt=0.0,
        le=365.0,
        description="False alarms a year over all slices and metrics together; each series gets "
        "the average run length that follows (50 series: 18,250 nights).",
    )
    reference: Literal["release", "first_nights"] = Field(
        default="release",
        description="What a release is held against: its own evaluation, or its first labelled "
        "nights, where traffic is known to differ from the evaluation's data.",
    )
    reference_nights: int = Field(
        default=7, ge=2, le=90, description="How many, for `reference: first_nights`."
    )
    min_cases: int = Field(
        default=20, ge=1, description="Nights with fewer cases of a metric on a slice are skipped."
    )
    severity: Severity = Field(default="BLOCK", description="The worst that an alarm can lead to.")


class EstimatePolicy(_Policy):
    """Performance without labels."""

    enabled: bool = Field(default=True, description="Estimate accuracy, recall... from scores.")
    max_drop: float = Field(
        default=0.05,
        gt=0.0,
        le=1.0,
        description="Loss of an estimated metric against the release that is warned of.",
    )


class DiscoveryPolicy(_Policy):
    """Bad slices that nobody configured."""

    enabled: bool = Field(default=True, description="Look for them.")
    max_features: int = Field(default=2, ge=1, le=2, description="Features crossed at most.")
    min_rows: int = Field(default=100, ge=10, description="Smallest support, in labelled rows.")
    min_effect: float = Field(
        default=0.05, gt=0.0, le=1.0, description="Smallest loss of accuracy against the rest."
    )
    false_discovery_rate: float = Field(
        default=0.05, gt=0.0, le=0.5, description="Over everything tested together in a night."
    )
    propose: int = Field(default=5, ge=0, le=50, description="At most so many are proposed.")
    promote_after: int = Field(
        default=3,
        ge=1,
        description="A slice found in so many of the last `promote_within` nights is watched.",
    )
    promote_within: int = Field(default=7, ge=1, description="See `promote_after`.")
    ignore_features: tuple[str, ...] = Field(
        default=(), description="Features by which no slice is cut, such as identifiers."
    )


class RewarmPolicy(_Policy):
    """When the cache is warmed anew from the night's traffic."""

    enabled: bool = Field(default=True, description="Warm anew when coverage has fallen.")
    fall: float = Field(
        default=0.1,
        gt=0.0,
        le=1.0,
        description="Fall of the share of rows that the newest snapshot covers, in points, since "
        "it was made.",
    )


class RetentionPolicy(_Policy):
    """How long things are kept."""

    log_days: int = Field(
        default=7, ge=0, description="Days of raw request log; 0 keeps them for good."
    )
    statistics_days: int = Field(
        default=0, ge=0, description="Days of nights' statistics and decisions; 0: for good."
    )
    evidence_days: int = Field(
        default=30,
        ge=1,
        description="Days of examples and artifacts of nights in the workspace; what is judged "
        "later does not need them.",
    )

    @model_validator(mode="after")
    def _statistics_outlive_logs(self) -> RetentionPolicy:
        if self.statistics_days and self.statistics_days < 90:
            raise ValueError(
                f"statistics_days is {self.statistics_days}; slow decay needs 90 at least, or 0 "
                "for good"
            )
        return self


def _skew() -> DriftPolicy:
    return DriftPolicy()


class NightlyPolicy(_Policy):
    """The `nightly` section of the configuration."""

    request_log: str = Field(
        default=".encore/requests",
        description="Folder of the request log, as `encore serve --request_log_dir` was given it. "
        "Relative to the project file.",
    )
    log: LogPolicy = Field(default_factory=LogPolicy, description="Reading the log.")
    labels: Optional[LabelsPolicy] = Field(
        default=None, description="The truth; without it performance is estimated from scores."
    )
    skew: DriftPolicy = Field(
        default_factory=_skew,
        description="Traffic against the training data of the release: keys as in `drift`.",
    )
    drift: DriftPolicy = Field(
        default_factory=_skew,
        description="Traffic against earlier nights: keys as in `drift`.",
    )
    season: SeasonPolicy = Field(
        default_factory=SeasonPolicy, description="Which earlier nights those are."
    )
    trend: TrendPolicy = Field(default_factory=TrendPolicy, description="Slow decay.")
    estimate: EstimatePolicy = Field(
        default_factory=EstimatePolicy, description="Performance without labels."
    )
    discovery: DiscoveryPolicy = Field(
        default_factory=DiscoveryPolicy, description="Slices that nobody configured."
    )
    rewarm: RewarmPolicy = Field(default_factory=RewarmPolicy, description="Warming anew.")
    retention: RetentionPolicy = Field(
        default_factory=RetentionPolicy, description="What is kept how long."
    )
