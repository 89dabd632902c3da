"""What drift checks need to know of a data set, as plain values. No IO here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["numeric", "categorical", "other"]


@dataclass(frozen=True)
class Bucket:
    """Values in (low, high], or all equal to both; `count` may be a fraction."""

    low: float
    high: float
    count: float


@dataclass(frozen=True)
class NumericValues:
    """A numeric feature's values.

    Attributes:
        buckets: quantile buckets, ascending; repeated bounds are a value that many examples share.
        zeros: number of values equal to 0, which the buckets may not show.
        parts: of several data sets merged, the values of each; `buckets` then holds the buckets
            of all, which overlap.
    """

    buckets: tuple[Bucket, ...]
    zeros: float = 0.0
    parts: tuple[NumericValues, ...] = ()


@dataclass(frozen=True)
class CategoricalValues:
    """A categorical feature's values.

    Attributes:
        counts: category -> number of values, most frequent first; perhaps only the head.
        total: number of values, those of categories not listed included.
    """

    counts: dict[str, float]
    total: float

    @property
    def remainder(self) -> float:
        """Number of values whose category is not listed."""
        return max(0.0, self.total - sum(self.counts.values()))

    @property
    def complete(self) -> bool:
        """Whether every category is listed."""
        return self.remainder < 0.5

    @property
    def hidden_at_most(self) -> float:
        """The greatest count a category that is not listed can have."""
        return 0.0 if self.complete else min(min(self.counts.values(), default=0), self.remainder)


@dataclass(frozen=True)
class FeatureStatistics:
    """One feature of a data set.

    Attributes:
        name: its path, steps joined by dots.
        kind: how it can be compared; `other` for bytes and structures.
        type_name: the type as the data has it: INT, FLOAT, STRING, BYTES, STRUCT.
        present: number of examples with a value.
        missing: number of examples without one; NaN is no value.
        numeric: the values of a numeric feature.
        categorical: the values of a categorical one.
    """

    name: str
    kind: Kind
    type_name: str
    present: float
    missing: float
    numeric: NumericValues | None = None
    categorical: CategoricalValues | None = None


@dataclass(frozen=True)
class DatasetStatistics:
    """A data set: how many examples, and its features by name."""

    examples: int
    features: dict[str, FeatureStatistics]

    def feature(self, name: str) -> FeatureStatistics:
        """The feature, or one that is missing in every example if the data lacks it."""
        absent = FeatureStatistics(name, "other", "absent", 0.0, float(self.examples))
        return self.features.get(name, absent)
