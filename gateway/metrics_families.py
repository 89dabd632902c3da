"""The metrics of the gateway: names, types, labels, meaning. No IO here.

Names and units as Prometheus has them (https://prometheus.io/docs/practices/naming/).
docs/metrics.md is a table of this.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

# tensorflow/core/lib/monitoring/sampler.h, Buckets::Exponential(10, 1.8, 33) of request_latency.
TF_LATENCY_BOUNDS_US = tuple(10.0 * 1.8**power for power in range(33))
# Buckets::Exponential(1, 2, 14) of tensorflow_serving/batching/batching_util.h.
TF_SIZE_BOUNDS = tuple(2.0**power for power in range(14))

SECONDS = (
    *(0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 60.0),
)
SIZES = TF_SIZE_BOUNDS

# One list of counts serves both histograms of a request's latency.
LATENCY_BOUNDS = tuple(sorted({*SECONDS, *(bound / 1e6 for bound in TF_LATENCY_BOUNDS_US)}))

Merge = Literal["sum", "max", "min", "last"]


class Family(NamedTuple):
    """One metric.

    Attributes:
        name: as it is exposed; a counter's ends in `_total`.
        kind: counter, gauge or histogram.
        labels: their names.
        meaning: one sentence.
        bounds: of a histogram, without the last, which is infinite.
        merge: how the values of several workers become one, for a gauge; `last` is the one that
            changed last. Counters and histograms are added up.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    meaning: str
    bounds: tuple[float, ...] = ()
    merge: Merge = "sum"


REQUESTS = Family(
    "encore_requests_total",
    "counter",
    ("protocol", "method", "model", "version", "signature", "code"),
    "Requests answered, by the code that they ended with.",
)
REQUEST_SECONDS = Family(
    "encore_request_seconds",
    "histogram",
    ("protocol", "model", "cache"),
    "Time from the last byte of a request to the first of its answer, by where its rows came from: "
    "hit, partial, miss, off or error.",
    SECONDS,
)
ROWS = Family(
    "encore_rows_total",
    "counter",
    ("model", "source"),
    "Rows of answered requests, by whether the cache or the model answered them.",
)
BATCH_ROWS = Family(
    "encore_batch_rows",
    "histogram",
    ("model", "signature"),
    "Rows of one call of the model, without padding.",
    SIZES,
)
MODEL_SECONDS = Family(
    "encore_model_seconds",
    "histogram",
    ("model", "signature"),
    "Time of one call of the model.",
    SECONDS,
)
MODEL_ROWS = Family(
    "encore_model_rows_total", "counter", ("model", "signature"), "Rows that the model computed."
)
PADDING_ROWS = Family(
    "encore_model_padding_rows_total",
    "counter",
    ("model", "signature"),
    "Rows that the model computed only to fill a batch up to an allowed size.",
)
QUEUE_ROWS = Family("encore_batch_queue_rows", "gauge", ("model",), "Rows that wait for a batch.")
LOG_RECORDS = Family(
    "encore_request_log_records_total",
    "counter",
    ("model",),
    "Requests that went into the queue of the request log.",
)
LOG_DROPPED = Family(
    "encore_request_log_dropped_total",
    "counter",
    ("model",),
    "Requests that were to be logged and were not: queue or disk full, or not convertible.",
)
VERSION_STATE = Family(
    "encore_model_version_state",
    "gauge",
    ("model", "version", "state"),
    "Workers in which a version is in this state.",
)
LOAD_SECONDS = Family(
    "encore_model_load_seconds",
    "gauge",
    ("model", "version"),
    "Time that it took to load a version and make it ready.",
    merge="max",
)
VERSION_PROBLEMS = Family(
    "encore_model_version_problems_total",
    "counter",
    ("model",),
    "Changes of a version's state that came with an error.",
)
WARMUP_SECONDS = Family(
    "encore_model_warmup_seconds",
    "gauge",
    ("model", "version"),
    "Time that it took to replay a version's warm-up file.",
    merge="max",
)
WARMUP_RECORDS = Family(
    "encore_model_warmup_records",
    "gauge",
    ("model", "version"),
    "Records of a version's warm-up file that were replayed.",
    merge="max",
)
LABEL_VERSION = Family(
    "encore_label_version",
    "gauge",
    ("model", "label"),
    "Version that a label points at; label `(default)` for requests that name none.",
    merge="last",
)
LABEL_SWITCHES = Family(
    "encore_label_switches_total",
    "counter",
    ("model", "label"),
    "How often a label was pointed at another version.",
)
CACHE_HITS = Family(
    "encore_cache_hits_total",
    "counter",
    ("model", "tier", "kind"),
    "Rows that a tier answered; kind is raw, transformed or negative.",
)
CACHE_MISSES = Family(
    "encore_cache_misses_total",
    "counter",
    ("model",),
    "Rows that no tier of this process had.",
)
CACHE_COALESCED = Family(
    "encore_cache_coalesced_rows_total",
    "counter",
    ("model",),
    "Of the misses, rows that were already under way.",
)
CACHE_COMPUTED = Family(
    "encore_cache_computed_rows_total",
    "counter",
    ("model",),
    "Rows that the cache had the model compute.",
)
CACHE_COMPUTE_SECONDS = Family(
    "encore_cache_compute_seconds_total",
    "counter",
    ("model",),
    "Time that the cache waited for the model, batches counted once.",
)
CACHE_WITHHELD = Family(
    "encore_cache_withheld_rows_total",
    "counter",
    ("model",),
    "Rows that were not looked up because the ledger was not read for too long.",
)
CACHE_WITHDRAWN = Family(
    "encore_cache_withdrawn_total",
    "counter",
    ("model", "tier"),
    "Entries found that an invalidation record withdraws.",
)
CACHE_NOT_STORED = Family(
    "encore_cache_not_stored_total",
    "counter",
    ("model",),
    "Answers withdrawn while they were computed.",
)
CACHE_REFRESHED = Family(
    "encore_cache_refreshed_rows_total",
    "counter",
    ("model",),
    "Rows computed anew before they expired.",
)
CACHE_FAILURES = Family(
    "encore_cache_tier_failures_total",
    "counter",
    ("model", "tier"),
    "Calls of a tier that failed or took too long; each cost misses.",
)
CACHE_DROPPED_WRITES = Family(
    "encore_cache_dropped_writes_total",
    "counter",
    ("model", "tier"),
    "Entries not written to a tier that cannot keep up.",
)
BREAKER_STATE = Family(
    "encore_cache_breaker_state",
    "gauge",
    ("model", "tier", "state"),
    "Workers in which a tier's circuit breaker is in this state: closed, open or half-open.",
)
BREAKER_MOVES = Family(
    "encore_cache_breaker_moves_total",
    "counter",
    ("model", "tier", "state"),
    "How often a tier's circuit breaker went into this state.",
)
CACHE_BYTES = Family(
    "encore_cache_bytes",
    "gauge",
    ("model", "tier"),
    "Bytes that a tier takes, all overhead included.",
)
CACHE_ENTRIES = Family(
    "encore_cache_entries",
    "gauge",
    ("model", "tier", "fingerprint"),
    "Entries of a tier; fingerprint is empty where the tier does not tell them apart.",
)
CACHE_EVICTIONS = Family(
    "encore_cache_evictions_total",
    "counter",
    ("model", "tier"),
    "Entries that a tier gave up for others.",
)
GENERATION = Family(
    "encore_cache_generation",
    "gauge",
    ("model",),
    "Newest invalidation record that every worker has applied.",
    merge="min",
)
LEDGER_AGE = Family(
    "encore_ledger_age_seconds",
    "gauge",
    ("model",),
    "Time since the ledger was last read to its end; infinite before the first time.",
    merge="max",
)
WORKERS = Family("encore_workers", "gauge", (), "Workers whose numbers are on this page.")
WORKER_CPU = Family(
    "encore_worker_cpu_seconds_total",
    "counter",
    (),
    "Processor time of the workers, all their threads together; its rate divided by encore_workers "
    "is how busy they are, and 1 is one core each.",
)

ENCORE: tuple[Family, ...] = (
    *(REQUESTS, REQUEST_SECONDS, ROWS),
    *(BATCH_ROWS, MODEL_SECONDS, MODEL_ROWS, PADDING_ROWS, QUEUE_ROWS),
    *(CACHE_HITS, CACHE_MISSES, CACHE_COALESCED, CACHE_COMPUTED, CACHE_COMPUTE_SECONDS),
    *(CACHE_WITHHELD, CACHE_WITHDRAWN, CACHE_NOT_STORED, CACHE_REFRESHED, CACHE_FAILURES),
    *(CACHE_DROPPED_WRITES, BREAKER_STATE, BREAKER_MOVES),
    *(CACHE_BYTES, CACHE_ENTRIES, CACHE_EVICTIONS, GENERATION, LEDGER_AGE),
    *(VERSION_STATE, LOAD_SECONDS, VERSION_PROBLEMS, WARMUP_SECONDS, WARMUP_RECORDS),
    *(LABEL_VERSION, LABEL_SWITCHES, LOG_RECORDS, LOG_DROPPED, WORKERS, WORKER_CPU),
)

TF_REQUEST_COUNT = Family(
    ":tensorflow:serving:request_count",
    "counter",
    ("model_name", "status"),
    "The total number of requests.",
)
TF_REQUEST_LATENCY = Family(
    ":tensorflow:serving:request_latency",
    "histogram",
    ("model_name", "API", "entrypoint"),
    "Distribution of wall time (in microseconds) of answered requests.",
    TF_LATENCY_BOUNDS_US,
)
TF_BATCH_SIZE = Family(
    ":tensorflow:serving:batching_session:processed_batch_size",
    "histogram",
    (),
    "Distribution of the sizes of processed batches, padding included.",
    TF_SIZE_BOUNDS,
)
TF_RUNS = Family(
    ":tensorflow:serving:batching_session:wrapped_run_count",
    "counter",
    (),
    "Total count of calls of models.",
)
TENSORFLOW_SERVING: tuple[Family, ...] = (
    *(TF_BATCH_SIZE, TF_RUNS, TF_REQUEST_COUNT, TF_REQUEST_LATENCY),
)
