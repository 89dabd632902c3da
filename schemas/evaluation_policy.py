"""What SlicedEvaluator measures, on which slices, and what it tolerates. No IO here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Optional, Union

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from tfx_encore.schemas.decisions import Outcome

Metric = Literal["accuracy", "precision", "recall", "auc"]


def _as_text(value: Any) -> Any:
    """Lets a configuration say `trip_start_hour: 8`; slice values are compared as text."""
    if isinstance(value, Mapping):
        return {key: item if isinstance(item, str) else str(item) for key, item in value.items()}
    return value


SliceValues = Annotated[
    dict[str, str],
    BeforeValidator(_as_text),
    Field(min_length=1, description="One slice: feature -> value, as {payment_type: Cash}."),
]
FeatureNames = Annotated[
    tuple[str, ...],
    Field(description="Features whose values make slices; several are crossed; [] is overall."),
]


class MetricRule(BaseModel):
    """What is demanded of one metric: an absolute floor, a largest loss, or both."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: Metric = Field(description="The metric.")
    minimum: Optional[float] = Field(
        default=None, ge=0.0, le=1.0, description="The metric may not be below this; absolute."
    )
    max_drop: Optional[float] = Field(
        default=None,
        ge=0.0,
        le=1.0,
        description="Largest loss tolerated against the live model, in points: 0.02 lets 0.90 "
        "become 0.88.",
    )
    slices: Optional[tuple[Union[SliceValues, FeatureNames], ...]] = Field(
        default=None,
        description="Where the rule holds: lists of feature names as in `slices`, or single slices "
        "as {payment_type: Cash}. Default: everywhere.",
    )
    severity: Literal["WARN", "BLOCK"] = Field(
        default="BLOCK", description="The worst that breaking this rule can lead to."
    )

    @model_validator(mode="after")
    def _demands_something(self) -> MetricRule:
        if self.minimum is None and self.max_drop is None:
            raise ValueError(f"the rule for {self.metric} sets neither `minimum` nor `max_drop`")
        return self

    @property
    def severity_outcome(self) -> Outcome:
        """`severity` as an outcome."""
        return Outcome(self.severity)


_DEFAULT_RULES = (
    MetricRule(metric="accuracy", max_drop=0.02),
    MetricRule(metric="auc", max_drop=0.02),
)


class EvaluationPolicy(BaseModel):
    """The `evaluation` section of the configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Literal["binary_classification"] = Field(
        default="binary_classification", description="Kind of model; one so far."
    )
    label_key: str = Field(
        min_length=1,
        description="Feature with the label, 0 or 1: raw, or made by one of "
        "`preprocessing_functions`.",
    )
    signature_name: str = Field(
        default="serving_default",
        description="Signature that takes serialized tf.Examples and gives the probability of "
        "class 1, one for each row.",
    )
    prediction_key: str = Field(
        default="",
        description="Output of the signature that holds the probability; needed only where there "
        "are several outputs.",
    )
    preprocessing_functions: tuple[str, ...] = Field(
        default=(),
        description="Signatures of the model that TFMA calls for further features, such as "
        "transform_features where only it gives the label.",
    )
    decision_threshold: float = Field(
        default=0.5,
        gt=0.0,
        lt=1.0,
        description="A row is predicted positive if its probability is above this.",
    )
    slices: tuple[FeatureNames, ...] = Field(
        default=((),),
        description="What to slice by: one list for each, of the features to cross. Overall is "
        "always evaluated.",
    )
    watched_slices: tuple[SliceValues, ...] = Field(
        default=(),
        description="Single slices whose absence from the data is reported.",
    )
    rules: tuple[MetricRule, ...] = Field(
        default=_DEFAULT_RULES,
        min_length=1,
        description="What is demanded. Default: accuracy and AUC lose at most 0.02 on any slice.",
    )
    min_slice_examples: int = Field(
        default=100,
        ge=1,
        description="Rows below which a slice is INSUFFICIENT_DATA. The 95% intervals cover 93 to "
        "97% from 100 rows on.",
    )
    min_cases: int = Field(
        default=50,
        ge=1,
        description="Smallest denominator of a metric: predicted positives for precision, "
        "positives for recall, positives and negatives each for AUC. Fewer: INSUFFICIENT_DATA.",
    )
    confidence_level: float = Field(
        default=0.95, gt=0.5, lt=1.0, description="Of the intervals, in (0.5, 1)."
    )
    false_alarm_rate: float = Field(
        default=0.01,
        gt=0.0,
        le=0.2,
        description="Level of significance after correcting for everything tested together "
        "(Benjamini-Hochberg): where nothing has changed, the chance that any slice is blamed.",
    )
    false_warning_rate: float = Field(
        default=0.05,
        gt=0.0,
        le=0.5,
        description="The same for WARN: where nothing has changed, the chance that any loss is "
        "warned of.",
    )
    without_baseline: Literal["INSUFFICIENT_DATA", "WARN", "BLOCK"] = Field(
        default="INSUFFICIENT_DATA",
        description="Outcome of the `max_drop` rules where nothing is live to compare with. "
        "INSUFFICIENT_DATA says so and lets a first release pass.",
    )
    without_any_check: Literal["INSUFFICIENT_DATA", "WARN", "BLOCK"] = Field(
        default="WARN",
        description="Outcome where a model is live but no rule could be checked on any slice.",
    )

    @model_validator(mode="after")
    def _rules_name_known_slices(self) -> EvaluationPolicy:
        known = {frozenset(names) for names in self.all_slices}
        for number, rule in enumerate(self.rules):
            for wanted in rule.slices or ():
                if frozenset(wanted) not in known:
                    raise ValueError(
                        f"rules.{number}.slices names {_written(wanted)}, which `slices` does not "
                        f"cut; it cuts {[list(names) for names in self.all_slices]}"
                    )
        return self

    @property
    def all_slices(self) -> tuple[tuple[str, ...], ...]:
        """`slices` without repetition, overall first."""
        return tuple(dict.fromkeys(((), *self.slices)))

    @property
    def slice_features(self) -> tuple[str, ...]:
        """Every feature that some slice needs, sorted."""
        return tuple(sorted({name for names in self.all_slices for name in names}))


def _written(wanted: Union[dict[str, str], tuple[str, ...]]) -> str:
    return str(wanted if isinstance(wanted, dict) else list(wanted))
