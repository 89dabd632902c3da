"""How much drift is too much: the policy of DriftValidator. No IO here.

Why the defaults are what they are is told in docs/components/drift_validator.md.
"""

from __future__ import annotations

from typing import Literal, Optional

from pydantic import BaseModel, ConfigDict, Field

Severity = Literal["WARN", "BLOCK"]


class DriftThresholds(BaseModel):
    """The effect at which each measure may block, over what noise alone is expected to give."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    jensen_shannon: float = Field(
        0.1,
        gt=0,
        le=1,
        description="Numeric features: Jensen-Shannon divergence in bits, over ten bins that hold "
        "equal shares of both data sets together.",
    )
    l_infinity: float = Field(
        0.2,
        gt=0,
        le=1,
        description="Categorical features: largest change of the share of any one category.",
    )
    psi: float = Field(
        0.25,
        gt=0,
        description="Categorical features: population stability index, in nats.",
    )
    missing: float = Field(
        0.1,
        gt=0,
        le=1,
        description="All features: change of the share of examples without a value.",
    )
    unseen: float = Field(
        0.05,
        gt=0,
        le=1,
        description="Categorical features: share of values whose category the baseline lacks.",
    )
    label_drift: float = Field(
        0.2,
        gt=0,
        le=1,
        description="Labels: total variation distance, the share of examples whose label would "
        "have to change to undo the drift.",
    )


class FeatureDriftPolicy(BaseModel):
    """What differs for one feature; what is left out stays as the policy has it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    jensen_shannon: Optional[float] = Field(
        None, gt=0, le=1, description="Replaces thresholds.jensen_shannon for this feature."
    )
    l_infinity: Optional[float] = Field(
        None, gt=0, le=1, description="Replaces thresholds.l_infinity for this feature."
    )
    psi: Optional[float] = Field(
        None, gt=0, description="Replaces thresholds.psi for this feature."
    )
    missing: Optional[float] = Field(
        None, gt=0, le=1, description="Replaces thresholds.missing for this feature."
    )
    unseen: Optional[float] = Field(
        None, gt=0, le=1, description="Replaces thresholds.unseen for this feature."
    )
    label_drift: Optional[float] = Field(
        None, gt=0, le=1, description="Replaces thresholds.label_drift for this feature."
    )
    severity: Optional[Severity] = Field(
        None, description="What drift of this feature may cause at most: WARN or BLOCK."
    )


class DriftPolicy(BaseModel):
    """When drift warns and when it blocks a release.

    A check blocks if its effect exceeds the threshold by more than noise is expected to give, lies
    above the null floor of this sample, and is significant after adjustment over all checks.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: str = Field(
        "train", min_length=1, description="The split of both statistics that is compared."
    )
    thresholds: DriftThresholds = Field(
        default_factory=DriftThresholds, description="The effect at which each measure may block."
    )
    warn_fraction: float = Field(
        0.4,
        gt=0,
        le=1,
        description="A significant effect beyond this fraction of its threshold warns.",
    )
    significance: float = Field(
        0.0005,
        gt=0,
        le=0.2,
        description="Greatest p-value, adjusted by Benjamini-Hochberg over all features and "
        "measures, that counts as a real change. It bounds how often a run over data without "
        "drift warns or blocks.",
    )
    minimum_examples: int = Field(
        100,
        ge=20,
        description="Fewer values than this, now or at the baseline, are not judged.",
    )
    ignore_features: tuple[str, ...] = Field(
        (),
        description="Features that are not judged, such as the timestamp by which spans are cut.",
    )
    labels: tuple[str, ...] = Field(
        (), description="Features that are labels; they are judged by label_drift."
    )
    features: dict[str, FeatureDriftPolicy] = Field(
        default_factory=dict, description="What differs for single features, by name."
    )
    severity: Severity = Field(
        "BLOCK", description="What drift may cause at most where a feature says nothing."
    )
    without_baseline: Literal["OK", "INSUFFICIENT_DATA"] = Field(
        "INSUFFICIENT_DATA",
        description="The outcome when there is nothing to compare with, as on a first release.",
    )

    def threshold(self, feature: str, measure: str) -> float:
        """The threshold of `measure` (a field of `DriftThresholds`) for `feature`."""
        own = getattr(self.features.get(feature), measure, None)
        return float(own if own is not None else getattr(self.thresholds, measure))

    def severity_of(self, feature: str) -> Severity:
        """What drift of `feature` may cause at most."""
        override = self.features.get(feature)
        return (override.severity if override else None) or self.severity
