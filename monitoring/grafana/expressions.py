"""What several dashboards ask, and the events that all show. No IO here."""

from __future__ import annotations

from tfx_encore.monitoring.grafana.panels import Annotation, Variable

OUTCOMES = (
    ("0", "OK", "green"),
    ("1", "WARN", "orange"),
    ("2", "BLOCK", "red"),
    ("-1", "too little data", "gray"),
)
MODEL = Variable("model", "label_values(encore_night_revision, model)")
# Grafana draws an event at the time that is the value, wherever in the range it was seen.
EVENTS = (
    Annotation(
        "Releases",
        "max by (model, version) "
        '(encore_release_created_timestamp_seconds{model=~"$model"}) * 1000',
        "{{model}} version {{version}} pushed",
        "blue",
    ),
    Annotation(
        "Invalidations",
        "max by (model, cause) "
        '(encore_invalidation_newest_timestamp_seconds{model=~"$model"}) * 1000',
        "{{model}}: answers withdrawn, {{cause}}",
        "orange",
    ),
)


def worst_of(family: str, by: str, where: str = "") -> str:
    """Outcomes as a number: 2 BLOCK, 1 WARN, 0 OK, -1 too little data."""
    labels = f'model=~"$model"{where}'
    levels = {"BLOCK": "2", "WARN": "1", "OK": "0", "INSUFFICIENT_DATA": "-1"}
    return " or ".join(
        f'{level} * max by ({by}) ({family}{{{labels},outcome="{outcome}"}} == 1)'
        for outcome, level in levels.items()
    )


def by_slice(name: str) -> str:
    """A metric of the slices that are chosen."""
    labels = 'model=~"$model",slice=~"$slice",metric=~"$metric"'
    return f"max by (model, slice, metric) ({name}{{{labels}}})"


def of_drift(name: str) -> str:
    """A measure of drift of the features that are chosen."""
    labels = 'model=~"$model",gate=~"$gate",feature=~"$feature",measure=~"$measure"'
    return f"max by (gate, feature, measure) ({name}{{{labels}}})"


def rate(name: str, by: str, where: str = "") -> str:
    """A counter of the chosen models by second."""
    return f'sum by ({by}) (rate({name}{{model=~"$model"{where}}}[$__rate_interval]))'


def newest(name: str, by: str = "model") -> str:
    """A gauge of the chosen models, by whichever way it came."""
    return f'max by ({by}) ({name}{{model=~"$model"}})'


def quantile(share: float, by: str) -> str:
    """A quantile of the time of requests, in seconds."""
    return f"histogram_quantile({share}, {rate('encore_request_seconds_bucket', f'{by}, le')})"


HIT_SHARE = (
    rate("encore_rows_total", "model", ',source="cache"')
    + " "
    + f"/ {rate('encore_rows_total', 'model')}"
)
FAULTS = ',code=~"UNKNOWN|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED|INTERNAL|UNAVAILABLE|DATA_LOSS"'
SLICE_LEGEND = "{{slice}} {{metric}}"
DRIFT_LEGEND = "{{gate}} {{feature}} {{measure}}"
