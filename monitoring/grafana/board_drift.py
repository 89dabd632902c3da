"""Traffic against earlier nights and against the training data: a dashboard. No IO here."""

from __future__ import annotations

from tfx_encore.monitoring.grafana.expressions import (
    DRIFT_LEGEND,
    EVENTS,
    MODEL,
    OUTCOMES,
    of_drift,
    worst_of,
)
from tfx_encore.monitoring.grafana.panels import Board, Panel, Query, Variable

DRIFT = Board(
    uid="encore-drift",
    title="Encore: data drift",
    description="Traffic against earlier nights (drift) and against the training data (skew).",
    since="now-30d",
    variables=(
        MODEL,
        Variable("gate", 'label_values(encore_night_drift_level{model=~"$model"}, gate)'),
        Variable("feature", 'label_values(encore_night_drift_level{model=~"$model"}, feature)'),
        Variable("measure", 'label_values(encore_night_drift_level{model=~"$model"}, measure)'),
    ),
    annotations=EVENTS,
    parts=(
        Panel(
            "Outcome",
            (
                Query(
                    worst_of("encore_night_gate_outcome", "model, gate", ',gate=~"drift|skew"'),
                    "{{model}} {{gate}}",
                ),
            ),
            kind="state-timeline",
            mappings=OUTCOMES,
            height=6,
        ),
        Panel(
            "Outcome by feature",
            (Query(of_drift("encore_night_drift_level"), DRIFT_LEGEND),),
            kind="state-timeline",
            mappings=OUTCOMES,
            height=6,
        ),
        Panel(
            "Effect, floor and threshold",
            (
                Query(of_drift("encore_night_drift_effect"), DRIFT_LEGEND),
                Query(of_drift("encore_night_drift_floor"), f"{DRIFT_LEGEND} floor"),
                Query(of_drift("encore_night_drift_threshold"), f"{DRIFT_LEGEND} threshold"),
            ),
            "The floor is what so many rows give when nothing has changed.",
            width=24,
            height=10,
            dashed="/ (floor|threshold)$/",
        ),
        Panel(
            "Effect as a multiple of its floor, the ten largest",
            (
                Query(
                    f"topk(10, {of_drift('encore_night_drift_effect')} "
                    f"/ ({of_drift('encore_night_drift_floor')} > 0))",
                    DRIFT_LEGEND,
                ),
            ),
            "Above 1: more than chance gives.",
        ),
        Panel(
            "Effects now",
            (Query(of_drift("encore_night_drift_effect")),),
            kind="table",
        ),
    ),
)
