"""Artifact types that TFX Encore adds to ML Metadata.

They carry no typed PROPERTIES, only custom properties: the Kubeflow v2 compiler refuses typed
properties of custom artifacts, and finds each class as `tfx_encore.<Class>` from its TYPE_NAME.
"""

from __future__ import annotations

from tfx.types.artifact import Artifact


class CacheInvalidation(Artifact):
    """Invalidation records of one push, as `records.jsonl`.

    Custom properties: `model`, `records` (how many), `first_sequence`, `last_sequence`, `cause`,
    `payload` (the records as JSON Lines when they are short enough for the store).
    """

    TYPE_NAME = "tfx_encore.CacheInvalidation"


class DriftReport(Artifact):
    """A drift decision (`decision.json`) with the distributions behind it (`charts.json`).

    Custom properties: `outcome` (an `Outcome`), `reason`.
    """

    TYPE_NAME = "tfx_encore.DriftReport"


class SliceReport(Artifact):
    """A sliced evaluation's decision (`decision.json`).

    Custom properties: `outcome` (an `Outcome`), `reason`.
    """

    TYPE_NAME = "tfx_encore.SliceReport"


class CacheSnapshot(Artifact):
    """Answers computed before traffic arrives, under one fingerprint.

    Custom properties: `fingerprint`, `entries`, `bytes`.
    """

    TYPE_NAME = "tfx_encore.CacheSnapshot"


class CoverageReport(Artifact):
    """What hit rate a snapshot will give on a later window (`coverage.json`).

    Custom properties: `hit_rate`, `window`.
    """

    TYPE_NAME = "tfx_encore.CoverageReport"


class NightFiles(Artifact):
    """The request log and label files of a day (`inputs.json`, a `NightInputs`).

    Custom properties: `date`, `log` and `labels` (how many files).
    """

    TYPE_NAME = "tfx_encore.NightFiles"


class RequestLogReport(Artifact):
    """What a day's request log held (`log.json`, a `schemas.nights.LogReport`).

    Custom properties: `model`, `date`, `rows`, `unreadable`.
    """

    TYPE_NAME = "tfx_encore.RequestLogReport"


class NightStatistics(Artifact):
    """Sufficient statistics of a night by slice (`slices.json`) and of its pairs of features.

    Custom properties: `model`, `date`, `rows`, `payload` (the counts by slice as JSON when they are
    short enough for the store).
    """

    TYPE_NAME = "tfx_encore.NightStatistics"


class TrendReport(Artifact):
    """The trend decision of a night (`decision.json`) and its series (`trends.json`).

    Custom properties: `outcome`, `reason`.
    """

    TYPE_NAME = "tfx_encore.TrendReport"


class NightDecision(Artifact):
    """The decision record of a night (`night.json`, a `schemas.nights.NightRecord`).

    Custom properties: `model`, `date`, `outcome`, `reason`, `revision`, `actions` (their kinds,
    comma-separated), `payload` (the record as JSON when it is short enough for the store).
    """

    TYPE_NAME = "tfx_encore.NightDecision"
