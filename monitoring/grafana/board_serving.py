"""What the gateway answers, from where, how fast: a dashboard. No IO here."""

from __future__ import annotations

from tfx_encore.monitoring.grafana.expressions import (
    EVENTS,
    FAULTS,
    HIT_SHARE,
    newest,
    quantile,
    rate,
)
from tfx_encore.monitoring.grafana.panels import Board, Heading, Panel, Query, Variable

SERVING = Board(
    uid="encore-serving",
    title="Encore: serving and cache",
    description="What the gateway answers, from where, how fast, and how its caches do.",
    variables=(Variable("model", "label_values(encore_rows_total, model)"),),
    annotations=EVENTS,
    parts=(
        Heading("Requests"),
        Panel(
            "Requests",
            (Query(rate("encore_requests_total", "model, code"), "{{model}} {{code}}"),),
            unit="reqps",
        ),
        Panel(
            "Share of requests that fail by the gateway's fault",
            (
                Query(
                    f"({rate('encore_requests_total', 'model', FAULTS)} "
                    f"or 0 * {rate('encore_requests_total', 'model')}) "
                    f"/ {rate('encore_requests_total', 'model')}",
                    "{{model}}",
                ),
            ),
            "UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, INTERNAL, UNAVAILABLE, DATA_LOSS.",
            unit="percentunit",
        ),
        Panel(
            "Time of requests, median",
            (Query(quantile(0.5, "model, cache"), "{{model}} {{cache}}"),),
            "By where their rows came from.",
            unit="s",
        ),
        Panel(
            "Time of requests, 99%",
            (Query(quantile(0.99, "model, cache"), "{{model}} {{cache}}"),),
            unit="s",
        ),
        Heading("Cache"),
        Panel(
            "Hit rate by row", (Query(HIT_SHARE, "{{model}}"),), "", "percentunit", bounds=(0, 1)
        ),
        Panel(
            "Rows by where they came from",
            (Query(rate("encore_rows_total", "model, source"), "{{model}} {{source}}"),),
            unit="ops",
        ),
        Panel(
            "Hits by tier",
            (Query(rate("encore_cache_hits_total", "tier, kind"), "{{tier}} {{kind}}"),),
            unit="ops",
            width=8,
        ),
        Panel(
            "Bytes by tier",
            (Query(newest("encore_cache_bytes", "model, tier"), "{{model}} {{tier}}"),),
            unit="bytes",
            width=8,
        ),
        Panel(
            "Entries given up",
            (Query(rate("encore_cache_evictions_total", "model, tier"), "{{model}} {{tier}}"),),
            unit="ops",
            width=8,
        ),
        Panel(
            "Age of the ledger",
            (Query(newest("encore_ledger_age_seconds"), "{{model}}"),),
            "Time since invalidation records were last read to the end.",
            unit="s",
            width=8,
        ),
        Panel(
            "Breakers that are not closed",
            (
                Query(
                    "sum by (model, tier, state) "
                    '(encore_cache_breaker_state{model=~"$model",state!="closed"})',
                    "{{model}} {{tier}} {{state}}",
                ),
            ),
            "Workers that go on without a tier.",
            width=8,
        ),
        Panel(
            "Calls of a tier that failed",
            (Query(rate("encore_cache_tier_failures_total", "tier"), "{{tier}}"),),
            unit="ops",
            width=8,
        ),
        Heading("Model"),
        Panel(
            "Rows computed",
            (
                Query(rate("encore_model_rows_total", "model"), "{{model}}"),
                Query(rate("encore_model_padding_rows_total", "model"), "{{model}} padding"),
            ),
            unit="ops",
            width=8,
        ),
        Panel(
            "Time of the model by row",
            (
                Query(
                    f"{rate('encore_model_seconds_sum', 'model')} "
                    f"/ {rate('encore_model_rows_total', 'model')}",
                    "{{model}}",
                ),
            ),
            unit="s",
            width=8,
        ),
        Panel(
            "Rows that wait for a batch",
            (Query(newest("encore_batch_queue_rows"), "{{model}}"),),
            width=8,
        ),
        Panel(
            "Version by label",
            (Query(newest("encore_label_version", "model, label"), "{{model}} {{label}}"),),
        ),
        Panel(
            "Request log",
            (
                Query(rate("encore_request_log_records_total", "model"), "{{model}} logged"),
                Query(rate("encore_request_log_dropped_total", "model"), "{{model}} dropped"),
            ),
            unit="reqps",
        ),
    ),
)
