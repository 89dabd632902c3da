"""A release of the taxi model as it looks in practice: drift, 25 slices, a snapshot, records."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tfx_encore.pipeline.report.data import ReleaseReport, StepTime
from tfx_encore.schemas.charts import Coverage, CoveragePoint, FeatureChart
from tfx_encore.schemas.decisions import Decision, Evidence, Outcome, worst_first
from tfx_encore.schemas.records import Cause, InvalidationRecord, SelectFingerprint
from tfx_encore.schemas.release import Certificate, Manifest, SpanDigest

HOSTILE = '<script>window.injected = 1</script><img src=x onerror="window.injected=1">'
FINGERPRINT = "sha256:9f2c41d07be85a6e13c2a8f4d05b97e6412cd83fa6b07e59d1c3480ab2f6e91d"
OLD_FINGERPRINT = "sha256:17ab0c9d2e4f6688b1c3d5e7f90a2b4c6d8e0f1a3b5c7d9eff10213243546576"
NUMERIC = {
    "fare": (9.0, 6.0, 45),
    "trip_miles": (2.6, 2.4, 20),
    "trip_seconds": (760.0, 520.0, 3600),
    "trip_start_hour": (13.5, 5.5, 23),
    "trip_start_day": (4.1, 1.9, 7),
    "trip_start_month": (6.4, 3.2, 12),
    "pickup_latitude": (41.9, 0.04, 42.02),
    "pickup_longitude": (-87.65, 0.05, -87.54),
    "dropoff_latitude": (41.9, 0.04, 42.02),
    "dropoff_longitude": (-87.65, 0.05, -87.54),
}


def _numeric(name: str, rng: np.random.Generator, shift: float = 0.0) -> FeatureChart:
    mean, spread, top = NUMERIC[name]
    low = mean - 3 * spread if mean < 0 or mean > 40 else 0.0
    edges = np.linspace(low, top, 21)

    def shares(move: float, n: int) -> tuple[float, ...]:
        drawn = rng.gamma(2.0, spread / 1.4, n) if low == 0 else rng.normal(mean, spread, n)
        kept = np.clip(drawn * (1 + move), low, top)
        return tuple(float(v) for v in np.histogram(kept, edges)[0] / n)

    return FeatureChart(
        feature=name,
        kind="numeric",
        current=shares(shift, 5512),
        baseline=shares(0.0, 9481),
        edges=tuple(float(e) for e in edges),
        n=5512,
        n_baseline=9481,
        missing=0.231 if name == "trip_miles" else 0.0,
        missing_baseline=0.012 if name == "trip_miles" else 0.0,
    )


def _categories() -> tuple[FeatureChart, ...]:
    companies = (
        "Flash Cab",
        "Taxi Affiliation Services",
        "Chicago Independents",
        "City Service",
        "Sun Taxi",
        "Medallion Leasin",
        "Blue Ribbon Taxi Association Inc.",
        "Dispatch Taxi",
        "Choice Taxi Association",
        "Northwest Management LLC",
        "KOAM Taxi Association",
        "Top Cab Affiliation",
        "Nova Taxi",
        "3 Brothers $5 & up",
        "出租车公司",
        "(other)",
    )
    weights = 1 / np.arange(1, len(companies) + 1) ** 0.8
    before = weights / weights.sum()
    now = np.roll(before, 0) * np.linspace(1.04, 0.94, len(before))
    return (
        FeatureChart(
            feature="payment_type",
            kind="categorical",
            labels=("Cash", "Credit Card", "Mobile", "No Charge", "Prcard", HOSTILE),
            current=(0.412, 0.398, 0.121, 0.004, 0.021, 0.044),
            baseline=(0.583, 0.391, 0.006, 0.005, 0.015, 0.0),
            n=5512,
            n_baseline=9481,
        ),
        FeatureChart(
            feature="company",
            kind="categorical",
            labels=companies,
            current=tuple(float(v) for v in now / now.sum()),
            baseline=tuple(float(v) for v in before),
            n=5512,
            n_baseline=9481,
            missing=0.342,
            missing_baseline=0.338,
        ),
    )


def _drift() -> Decision:
    n = {"n": 5512, "n_baseline": 9481}
    notable = [
        Evidence(
            "feature:payment_type",
            "l_infinity",
            Outcome.WARN,
            "share of Cash fell from 58.3% to 41.2%: large, and the policy lets it warn",
            effect=0.171,
            threshold=0.1,
            null_floor=0.0291,
            p_value=0.0001,
            severity=Outcome.WARN,
            **n,
        ),
        Evidence(
            "feature:trip_miles",
            "missing",
            Outcome.WARN,
            "23.1% of values are missing, 1.2% before",
            effect=0.219,
            threshold=0.2,
            null_floor=0.011,
            p_value=0.0001,
            value=0.231,
            baseline=0.012,
            severity=Outcome.WARN,
            **n,
        ),
        Evidence(
            "feature:company",
            "psi",
            Outcome.INSUFFICIENT_DATA,
            "too few examples for 1,204 categories",
            null_floor=0.41,
            threshold=0.2,
            **n,
        ),
    ]
    rng = np.random.default_rng(7)
    passed = [
        Evidence(
            f"feature:{name}",
            "jensen_shannon",
            Outcome.OK,
            "within what chance gives",
            effect=float(rng.uniform(0.0004, 0.004)),
            threshold=0.05,
            null_floor=float(rng.uniform(0.004, 0.007)),
            p_value=float(rng.uniform(0.2, 0.99)),
            **n,
        )
        for name in NUMERIC
        if name != "trip_miles"
    ]
    return Decision(
        gate="drift",
        outcome=Outcome.WARN,
        reason="2 of 12 features drifted beyond their thresholds; both may only warn.",
        baseline="release 1 (span 1)",
        evidence=worst_first([*notable, *passed]),
    )


SLICES = (
    "overall",
    "payment_type=Cash",
    "payment_type=Credit Card",
    "payment_type=Mobile",
    "payment_type=No Charge",
    "company=Flash Cab",
    "company=Taxi Affiliation Services",
    "company=Chicago Independents",
    "company=City Service",
    "company=Sun Taxi",
    "company=Blue Ribbon Taxi Association Inc.",
    "company=3 Brothers $5 & up",
    *(f"trip_start_hour={hour}" for hour in range(6, 18)),
    "payment_type=Cash, trip_start_hour=8",
)


def _slice_evidence(measure: str, seed: int, *, worst: Outcome) -> list[Evidence]:
    rng = np.random.default_rng(seed)
    found = []
    for index, name in enumerate(SLICES):
        n = 2600 if name == "overall" else int(rng.integers(90, 900))
        tiny = name in {"payment_type=No Charge", "payment_type=Cash, trip_start_hour=8"}
        n = 11 if tiny else n
        baseline = float(np.clip(rng.normal(0.82, 0.03), 0, 1))
        bad = index == 3 and worst is not Outcome.OK
        effect = -0.071 if bad else float(rng.normal(0.004, 0.008))
        half = 1.1 / np.sqrt(n) * 0.5
        outcome = Outcome.INSUFFICIENT_DATA if tiny else worst if bad else Outcome.OK
        message = {
            Outcome.INSUFFICIENT_DATA: f"{n} examples, 50 needed: not judged",
            Outcome.OK: "no worse than the live model beyond what is allowed",
        }.get(outcome, "worse than the live model by 0.071, certainly by more than 0.02")
        if bad:
            half = 0.031
        found.append(
            Evidence(
                f"slice:{name}",
                measure,
                outcome,
                message,
                effect=None if tiny else effect,
                threshold=None if tiny else -0.02,
                interval=None if tiny else (effect - half, effect + half),
                value=baseline + effect,
                baseline=baseline,
                n=n,
                n_baseline=n,
            )
        )
    return found


def _slices(worst: Outcome) -> Decision:
    absolute = Evidence(
        "slice:overall",
        "accuracy",
        Outcome.OK,
        "0.832, at least 0.7 is asked for",
        value=0.832,
        threshold=0.7,
        interval=(0.817, 0.846),
        n=2600,
    )
    found = [
        *_slice_evidence("accuracy", 1, worst=worst),
        *_slice_evidence("auc", 2, worst=Outcome.OK),
    ]
    reason = {
        Outcome.BLOCK: (
            "payment_type=Mobile is worse than the live model: accuracy -0.071 "
            "(-0.102 to -0.04), allowed -0.02."
        ),
        Outcome.WARN: "One slice is worse than the live model, as far as a warning.",
    }.get(worst, "No slice is worse than the live model beyond what is allowed.")
    return Decision(
        "sliced_evaluation", worst, reason, "release 1", worst_first([absolute, *found])
    )


def _coverage() -> Coverage:
    sizes = (1, 3, 10, 30, 100, 300, 1000, 2000, 3500)
    curve = tuple(
        CoveragePoint(n, n * 168, float(0.61 * (1 - np.exp(-((n / 700) ** 0.55))))) for n in sizes
    )
    return Coverage(
        source="request log",
        window="the last 20% by time",
        rows_counted=9481,
        rows_held_out=2370,
        distinct_raw=4120,
        distinct_transformed=2871,
        entries=2000,
        bytes=336_000,
        hit_rate=curve[-2].hit_rate,
        hit_rate_transformed=0.574,
        curve=curve,
    )


CERTIFICATE = Certificate(
    signature="serving_raw",
    row_independent=True,
    deterministic=True,
    rows_checked=512,
    message="512 rows gave the same bytes in batches of 1, 7 and 64.",
    features_read=("company", "fare", "payment_type", "trip_miles", "trip_seconds"),
    transformed_only=True,
)
STEPS = (
    StepTime("CsvExampleGen", 2.1),
    StepTime("StatisticsGen", 2.4),
    StepTime("ImportSchemaGen", 0.1, "cached"),
    StepTime("LiveRelease", 0.2),
    StepTime("DriftValidator", 0.3),
    StepTime("Transform", 11.4),
    StepTime("Trainer", 8.2),
    StepTime("SlicedEvaluator", 10.3),
    StepTime("CacheWarmer", 1.9),
    StepTime("VersionedPusher", 0.4),
)


def _manifest(decisions: tuple[Decision, ...]) -> Manifest:
    return Manifest(
        model="taxi",
        version=2,
        fingerprint=FINGERPRINT,
        created_at="2026-11-20T18:50:46.123456Z",
        created_by="ada@laptop",
        baseline_version=1,
        run_id="2026-11-20T18:49:58",
        inputs_digest="sha256:" + "4be1" * 16,
        spans=(
            SpanDigest(
                2, "sha256:" + "c07d" * 16, "data/span-2/*.csv", {"train": 3674, "eval": 1838}
            ),
        ),
        schema_digest="sha256:" + "55aa" * 16,
        hyperparameters={"learning_rate": "0.001", "train_steps": "200", "batch_size": "64"},
        decisions=decisions,
        certificate=CERTIFICATE,
        evidence={
            "drift_report/decision.json": "sha256:" + "0f" * 32,
            "slice_report/decision.json": "sha256:" + "1e" * 32,
        },
        lineage={"examples": 12, "statistics": 14, "schema": 3, "transform_graph": 19, "model": 23},
        versions_of={"tfx": "1.16.0", "tensorflow": "2.16.2", "tfx_encore": "0.1.0"},
    )


def _charts() -> tuple[FeatureChart, ...]:
    rng = np.random.default_rng(3)
    return (
        *_categories(),
        *(_numeric(name, rng, 0.35 if name == "trip_miles" else 0.0) for name in NUMERIC),
    )


@pytest.fixture(scope="session")
def released() -> ReleaseReport:
    """Version 2, pushed with warnings, withdrawing the answers of version 1."""
    decisions = (_drift(), _slices(Outcome.OK))
    record = InvalidationRecord(
        model="taxi",
        sequence=1,
        cause=Cause.MODEL_PUSHED,
        selector=SelectFingerprint(OLD_FINGERPRINT),
        reason="stable moved from version 1 to version 2",
        created_at="2026-11-20T18:50:47.000001Z",
        created_by="VersionedPusher",
        label="stable",
        version_before=1,
        version_after=2,
        fingerprint_before=OLD_FINGERPRINT,
        fingerprint_after=FINGERPRINT,
    )
    return ReleaseReport(
        model="taxi",
        version=2,
        labels=("stable",),
        outcome_line="Version 2 was pushed; stable moved from 1 to 2.",
        decisions=decisions,
        charts=_charts(),
        coverage=_coverage(),
        certificate=CERTIFICATE,
        manifest=_manifest(decisions),
        records=(record,),
        steps=STEPS,
        lineage=_manifest(()).lineage,
        written_at="2026-11-20T18:50:49.000000Z",
    )


@pytest.fixture(scope="session")
def refused(released: ReleaseReport) -> ReleaseReport:
    """A run whose candidate is worse on a slice, and whose fares arrived in cents."""
    cents = Evidence(
        "feature:fare",
        "jensen_shannon",
        Outcome.BLOCK,
        "the distribution moved: 0.873 where chance gives at most 0.005 and 0.05 is allowed",
        effect=0.873,
        threshold=0.05,
        null_floor=0.005,
        p_value=0.00001,
        n=5512,
        n_baseline=9481,
    )
    drift = _drift()
    blocked = dataclasses.replace(
        drift,
        outcome=Outcome.BLOCK,
        reason="fare drifted: the effect is large and chance does not explain it.",
        evidence=worst_first([cents, *(e for e in drift.evidence if e.subject != "feature:fare")]),
    )
    in_cents = _numeric("fare", np.random.default_rng(5), 99.0)
    charts = tuple(in_cents if chart.feature == "fare" else chart for chart in released.charts)
    return ReleaseReport(
        model="taxi",
        decisions=(_slices(Outcome.BLOCK), blocked),
        charts=charts,
        steps=(
            *STEPS[:8],
            StepTime("CacheWarmer", 0.0, "skipped"),
            StepTime("VersionedPusher", 0.1, "failed"),
        ),
        written_at="2026-11-20T18:50:49.000000Z",
    )


@pytest.fixture(scope="session")
def first_release() -> ReleaseReport:
    """Version 1: nothing to compare with, no cache component in the pipeline."""
    drift = Decision(
        "drift", Outcome.INSUFFICIENT_DATA, "No live release to compare with: this is the first."
    )
    return ReleaseReport(model="taxi", version=1, decisions=(drift,))


@pytest.fixture(scope="session")
def hostile() -> str:
    """A category name that tries to run a script."""
    return HOSTILE
