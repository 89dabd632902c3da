"""What each night found, slice by slice: a dashboard. No IO here."""

from __future__ import annotations

from tfx_encore.monitoring.grafana.expressions import (
    EVENTS,
    MODEL,
    OUTCOMES,
    SLICE_LEGEND,
    by_slice,
    newest,
    worst_of,
)
from tfx_encore.monitoring.grafana.panels import Board, Heading, Panel, Query, Variable

QUALITY = Board(
    uid="encore-quality",
    title="Encore: model quality by slice",
    description="What each night found, slice by slice; a line steps when a night is evaluated.",
    since="now-30d",
    variables=(
        MODEL,
        Variable("slice", 'label_values(encore_night_slice_metric_ratio{model=~"$model"}, slice)'),
        Variable(
            "metric", 'label_values(encore_night_slice_metric_ratio{model=~"$model"}, metric)'
        ),
    ),
    annotations=EVENTS,
    parts=(
        Heading("Nights"),
        Panel(
            "Outcome of the newest night",
            (Query(worst_of("encore_night_outcome", "model"), "{{model}}"),),
            kind="state-timeline",
            mappings=OUTCOMES,
        ),
        Panel(
            "Outcome of each check",
            (Query(worst_of("encore_night_gate_outcome", "model, gate"), "{{model}} {{gate}}"),),
            kind="state-timeline",
            mappings=OUTCOMES,
        ),
        Panel(
            "Time since the newest day that was evaluated",
            (Query(newest("encore_night_age_seconds"), "{{model}}"),),
            unit="s",
            kind="stat",
            width=6,
            height=6,
        ),
        Panel(
            "Nights that are missing",
            (Query(newest("encore_nights_missing"), "{{model}}"),),
            kind="stat",
            width=6,
            height=6,
        ),
        Panel(
            "Alarms, and for how many nights",
            (
                Query(
                    "max by (gate, subject, measure, outcome) "
                    '(encore_night_alarm_nights{model=~"$model"})'
                ),
            ),
            kind="table",
            height=6,
        ),
        Heading("Slices"),
        Panel(
            "Metric with its interval, and as released",
            (
                Query(by_slice("encore_night_slice_metric_ratio"), SLICE_LEGEND),
                Query(by_slice("encore_night_slice_metric_low_ratio"), f"{SLICE_LEGEND} low"),
                Query(by_slice("encore_night_slice_metric_high_ratio"), f"{SLICE_LEGEND} high"),
                Query(by_slice("encore_night_slice_reference_ratio"), f"{SLICE_LEGEND} released"),
            ),
            "Choose one slice and one metric. The interval is 95%, repeats allowed for.",
            unit="percentunit",
            bounds=(None, 1),
            dashed="/ (low|high|released)$/",
        ),
        Panel(
            "Slow decay: statistic and threshold",
            (
                Query(by_slice("encore_night_trend_statistic"), SLICE_LEGEND),
                Query("max(" + by_slice("encore_night_trend_threshold") + ")", "threshold"),
            ),
            dashed="threshold",
        ),
        Panel(
            "Loss against the release",
            (
                Query(
                    f"{by_slice('encore_night_slice_reference_ratio')} "
                    f"- {by_slice('encore_night_slice_metric_ratio')}",
                    SLICE_LEGEND,
                ),
            ),
            unit="percentunit",
            bounds=(None, None),
        ),
        Panel(
            "Estimated without labels, and actual",
            (
                Query(by_slice("encore_night_estimate_ratio"), f"{SLICE_LEGEND} estimated"),
                Query(by_slice("encore_night_estimate_actual_ratio"), f"{SLICE_LEGEND} actual"),
            ),
            unit="percentunit",
            bounds=(None, 1),
            dashed="/ estimated$/",
        ),
        Panel(
            "Slices now",
            (Query(by_slice("encore_night_slice_metric_ratio")),),
            kind="table",
            unit="percentunit",
        ),
        Panel(
            "Bad slices that nobody configured",
            (Query(newest("encore_night_findings", "model, state"), "{{model}} {{state}}"),),
        ),
        Heading("Rows"),
        Panel(
            "Rows of the day",
            (
                Query(newest("encore_night_rows", "model, path"), "{{model}} {{path}}"),
                Query(newest("encore_night_labelled_rows"), "{{model}} with label"),
                Query(newest("encore_night_effective_rows"), "{{model}} independent"),
            ),
            width=8,
        ),
        Panel(
            "Computed again, and different",
            (
                Query(newest("encore_night_recomputed_rows", "path"), "{{path}} again"),
                Query(newest("encore_night_disagreeing_rows", "path"), "{{path}} different"),
            ),
            "Anything above zero different is an incident.",
            width=8,
        ),
        Panel(
            "Coverage of the snapshot",
            (
                Query(newest("encore_night_coverage_ratio"), "{{model}}"),
                Query(newest("encore_night_coverage_expected_ratio"), "{{model}} expected"),
            ),
            unit="percentunit",
            bounds=(0, 1),
            width=8,
            dashed="/ expected$/",
        ),
    ),
)
