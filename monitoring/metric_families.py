"""The metrics of nights, releases and records: names, labels, meaning. No IO here.

Names and units as Prometheus has them (https://prometheus.io/docs/practices/naming/). All are
gauges, for they say what was found last; only the count of records is a counter. docs/metrics.md is
a table of this.
"""

from __future__ import annotations

from typing import Literal, NamedTuple


class MetricFamily(NamedTuple):
    """One metric.

    Attributes:
        name: as it is exposed; a counter's ends in `_total`.
        labels: their names.
        meaning: one sentence.
        kind: gauge or counter.
    """

    name: str
    labels: tuple[str, ...]
    meaning: str
    kind: Literal["gauge", "counter"] = "gauge"


class Sample(NamedTuple):
    """One value.

    Attributes:
        family: of which metric.
        labels: values of its labels, in their order.
        value: the value.
    """

    family: MetricFamily
    labels: tuple[str, ...]
    value: float

    @property
    def named(self) -> dict[str, str]:
        """Label -> value."""
        return dict(zip(self.family.labels, self.labels, strict=True))


def _night(name: str, meaning: str, *labels: str) -> MetricFamily:
    return MetricFamily(f"encore_night_{name}", ("model", *labels), meaning)


# --- the newest night ----------------------------------------------------------------------------

NIGHT_END = _night("newest_end_timestamp_seconds", "End of the newest day that was evaluated.")
NIGHT_WRITTEN = _night(
    "written_timestamp_seconds", "When the newest day's decision was written last."
)
NIGHT_REVISION = _night("revision", "How often the newest day's decision has been written.")
NIGHT_VERSION = _night("version", "The version that answered most rows of the newest day.")
NIGHT_OUTCOME = _night(
    "outcome", "1 for the outcome of the newest night: OK, WARN, BLOCK or INSUFFICIENT_DATA.",
    "outcome",
)  # fmt: skip
GATE_OUTCOME = _night("gate_outcome", "1 for the outcome of each of its checks.", "gate", "outcome")
ALARM_NIGHTS = _night(
    "alarm_nights",
    "Nights in a row that an alarm has lasted, the newest included; absent without an alarm.",
    *("gate", "subject", "measure", "outcome"),
)
ACTIONS = _night(
    "actions", "Actions that the newest night proposes, has done or has failed to do.",
    "kind", "state",
)  # fmt: skip
FINDINGS = _night(
    "findings", "Bad slices that nobody configured, proposed or (having recurred) promoted.",
    "state",
)  # fmt: skip

# --- its log -------------------------------------------------------------------------------------

REQUESTS = _night("requests", "Answered requests of the newest day that were evaluated.")
FAILED_REQUESTS = _night("failed_requests", "Failed requests of the newest day, by code.", "code")
ROWS = _night("rows", "Rows of the newest day, by where they came from.", "path")
EFFECTIVE_ROWS = _night("effective_rows", "Independent rows of the newest day, repeats discounted.")
LABELLED_ROWS = _night("labelled_rows", "Rows of the newest day whose label is known.")
LOG_RECORDS = _night("log_records", "Records in the newest day's log.")
UNREADABLE = _night("log_unreadable_records", "Records of it that are unreadable.")
HIT_RATIO = _night("hit_ratio", "Share of the newest day's rows that came from the cache.")
RECOMPUTED = _night(
    "recomputed_rows", "Rows of the newest day that the model answered again.", "path"
)
DISAGREEING = _night(
    "disagreeing_rows", "Rows of that sample whose two answers differ by more than rounding.",
    "path",
)  # fmt: skip

# --- slices, estimates ---------------------------------------------------------------------------

_SLICE = ("slice", "metric")
SLICE_VALUE = _night("slice_metric_ratio", "A metric of a slice on the newest day.", *_SLICE)
SLICE_LOW = _night("slice_metric_low_ratio", "Lower end of its 95% interval.", *_SLICE)
SLICE_HIGH = _night("slice_metric_high_ratio", "Upper end of its 95% interval.", *_SLICE)
SLICE_REFERENCE = _night(
    "slice_reference_ratio", "The same metric when the version was released.", *_SLICE
)
SLICE_CASES = _night("slice_cases", "Cases behind the metric: its denominator.", *_SLICE)
TREND_STATISTIC = _night("trend_statistic", "How much slow decay has added up.", *_SLICE)
TREND_THRESHOLD = _night("trend_threshold", "Where that is an alarm.", *_SLICE)
TREND_ALARM = _night("trend_alarm", "1 if it is, else 0.", *_SLICE)
ESTIMATE = _night("estimate_ratio", "A metric estimated without labels.", *_SLICE)
ESTIMATE_LOW = _night("estimate_low_ratio", "Lower end of its 95% interval.", *_SLICE)
ESTIMATE_HIGH = _night("estimate_high_ratio", "Upper end of its 95% interval.", *_SLICE)
ESTIMATE_ACTUAL = _night(
    "estimate_actual_ratio", "The same metric from labels, as far as they have come.", *_SLICE
)

# --- drift ---------------------------------------------------------------------------------------

_DRIFT = ("gate", "feature", "measure")
DRIFT_EFFECT = _night("drift_effect", "Size of a feature's drift, in the measure's unit.", *_DRIFT)
DRIFT_FLOOR = _night(
    "drift_floor", "What this many rows give when nothing has changed.", *_DRIFT
)  # fmt: skip
DRIFT_THRESHOLD = _night("drift_threshold", "Drift from which on it is an alarm.", *_DRIFT)
DRIFT_LEVEL = _night(
    "drift_level", "What was concluded: 0 OK, 1 WARN, 2 BLOCK, -1 too little data.", *_DRIFT
)

# --- coverage ------------------------------------------------------------------------------------

COVERAGE = _night("coverage_ratio", "Share of the newest day's rows that the snapshot covers.")
COVERAGE_EXPECTED = _night("coverage_expected_ratio", "The same when the snapshot was made.")
COVERAGE_ENTRIES = _night("coverage_entries", "Answers in the snapshot.")
OMITTED = _night(
    "omitted", "Slices, features and alarms left out to bound the number of series.", "what"
)

NIGHT_FAMILIES: tuple[MetricFamily, ...] = (
    *(NIGHT_END, NIGHT_WRITTEN, NIGHT_REVISION, NIGHT_VERSION, NIGHT_OUTCOME, GATE_OUTCOME),
    *(ALARM_NIGHTS, ACTIONS, FINDINGS),
    *(REQUESTS, FAILED_REQUESTS, ROWS, EFFECTIVE_ROWS, LABELLED_ROWS, LOG_RECORDS, UNREADABLE),
    *(HIT_RATIO, RECOMPUTED, DISAGREEING),
    *(SLICE_VALUE, SLICE_LOW, SLICE_HIGH, SLICE_REFERENCE, SLICE_CASES),
    *(TREND_STATISTIC, TREND_THRESHOLD, TREND_ALARM),
    *(ESTIMATE, ESTIMATE_LOW, ESTIMATE_HIGH, ESTIMATE_ACTUAL),
    *(DRIFT_EFFECT, DRIFT_FLOOR, DRIFT_THRESHOLD, DRIFT_LEVEL),
    *(COVERAGE, COVERAGE_EXPECTED, COVERAGE_ENTRIES, OMITTED),
)

# --- runs of the release pipeline ----------------------------------------------------------------

RUN_END = MetricFamily(
    "encore_run_end_timestamp_seconds", ("model",), "End of the newest run of `encore run`."
)
RUN_STATE = MetricFamily(
    "encore_run_state",
    ("model", "state"),
    "1 for how it ended: pushed, already_pushed, unchanged, refused or failed.",
)
RUN_SPAN = MetricFamily("encore_run_span", ("model",), "The span of data that it was made from.")
RUN_VERSION = MetricFamily(
    "encore_run_version", ("model",), "The version that it pushed, or that holds its content."
)
RUN_SECONDS = MetricFamily("encore_run_seconds", ("model",), "Time that it took.")
RUN_STEP_SECONDS = MetricFamily(
    "encore_run_step_seconds", ("model", "step"), "Time that each of its steps took."
)
RUN_PEAK = MetricFamily("encore_run_peak_memory_bytes", ("model",), "Most memory that it took.")
RUN_GATE = MetricFamily(
    "encore_run_gate_outcome", ("model", "gate", "outcome"), "1 for the outcome of each check."
)
RUN_COVERAGE = MetricFamily(
    "encore_run_coverage_ratio", ("model",), "Hit rate that its snapshot gives on held-out rows."
)
RUN_FAMILIES: tuple[MetricFamily, ...] = (
    *(RUN_END, RUN_STATE, RUN_SPAN, RUN_VERSION, RUN_SECONDS, RUN_STEP_SECONDS, RUN_PEAK),
    *(RUN_GATE, RUN_COVERAGE),
)

# --- what `encore monitor` sees besides ----------------------------------------------------------

RELEASE_VERSION = MetricFamily(
    "encore_release_version", ("model", "label"), "The version that a label points at."
)
RELEASE_INFO = MetricFamily(
    "encore_release_info",
    ("model", "version", "fingerprint"),
    "1 for each version on disk; the first 12 digits of its fingerprint.",
)
RELEASE_CREATED = MetricFamily(
    "encore_release_created_timestamp_seconds",
    ("model", "version"),
    "When each version on disk was pushed.",
)
RECORDS = MetricFamily(
    "encore_invalidation_records_total",
    ("model", "cause"),
    "Invalidation records written, by cause.",
    "counter",
)
RECORD_NEWEST = MetricFamily(
    "encore_invalidation_newest_timestamp_seconds",
    ("model", "cause"),
    "When the newest record of a cause was written.",
)
RECORD_SEQUENCE = MetricFamily(
    "encore_invalidation_sequence", ("model",), "Sequence of the newest record."
)
ACKNOWLEDGED = MetricFamily(
    "encore_invalidation_acknowledged_sequence",
    ("model", "consumer"),
    "Newest record that a gateway has acknowledged.",
)
ACKNOWLEDGE_SECONDS = MetricFamily(
    "encore_invalidation_acknowledge_seconds",
    ("model", "consumer"),
    "Time from the writing of that record to its acknowledgement.",
)
PENDING_SECONDS = MetricFamily(
    "encore_invalidation_pending_seconds",
    ("model",),
    "Age of the oldest record that no gateway has acknowledged; 0 if there is none, or if no "
    "gateway ever acknowledged any.",
)
NIGHT_AGE = _night("age_seconds", "Time since the end of the newest day that was evaluated.")
NIGHTS_MISSING = MetricFamily(
    "encore_nights_missing",
    ("model",),
    "Days between the first night and yesterday that were not evaluated; yesterday counts after "
    "`--due-hours`.",
)
NIGHTS = MetricFamily("encore_nights", ("model",), "Nights that are kept.")
DISK_USED = MetricFamily(
    "encore_disk_used_bytes",
    ("place",),
    "Bytes of the files in a place: workspace (all that is not another place), releases or "
    "requests.",
)
DISK_FREE = MetricFamily(
    "encore_disk_free_bytes", ("place",), "Bytes free in the file system of a place."
)
DISK_SIZE = MetricFamily(
    "encore_disk_size_bytes",
    ("place",),
    "Size of that file system, without what is kept for the administrator.",
)
PROBLEMS = MetricFamily(
    "encore_monitor_problems",
    ("model", "part"),
    "1 for each part (nights, releases, records, runs, disk) that could not be read.",
)
COLLECT_SECONDS = MetricFamily(
    "encore_monitor_collect_seconds", (), "Time that it took to gather this page."
)
MONITOR_FAMILIES: tuple[MetricFamily, ...] = (
    *(NIGHT_AGE, NIGHTS_MISSING, NIGHTS, RELEASE_VERSION, RELEASE_INFO, RELEASE_CREATED),
    *(RECORDS, RECORD_NEWEST, RECORD_SEQUENCE, ACKNOWLEDGED, ACKNOWLEDGE_SECONDS),
    *(PENDING_SECONDS, DISK_USED, DISK_FREE, DISK_SIZE, PROBLEMS, COLLECT_SECONDS),
)
EVERYTHING = (*NIGHT_FAMILIES, *RUN_FAMILIES, *MONITOR_FAMILIES)
