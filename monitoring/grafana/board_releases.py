"""What is live, what was withdrawn, the disks: a dashboard. No IO here."""

from __future__ import annotations

from tfx_encore.monitoring.grafana.expressions import EVENTS, newest
from tfx_encore.monitoring.grafana.panels import Board, Panel, Query, Variable

RELEASES = Board(
    uid="encore-releases",
    title="Encore: releases and invalidations",
    description="What is live, what was withdrawn and who has followed, and the disks.",
    since="now-7d",
    variables=(Variable("model", "label_values(encore_release_version, model)"),),
    annotations=EVENTS,
    parts=(
        Panel(
            "Version by label",
            (Query(newest("encore_release_version", "model, label"), "{{model}} {{label}}"),),
        ),
        Panel(
            "Versions on disk",
            (Query(newest("encore_release_info", "model, version, fingerprint")),),
            kind="table",
        ),
        Panel(
            "Invalidation records",
            (Query(newest("encore_invalidation_records_total", "cause"), "{{cause}}"),),
        ),
        Panel(
            "Newest record, and the newest that each gateway has applied",
            (
                Query(newest("encore_invalidation_sequence"), "{{model}} newest"),
                Query(
                    newest("encore_invalidation_acknowledged_sequence", "model, consumer"),
                    "{{model}} {{consumer}}",
                ),
            ),
            dashed="/ newest$/",
        ),
        Panel(
            "Time to acknowledgement",
            (
                Query(
                    newest("encore_invalidation_acknowledge_seconds", "model, consumer"),
                    "{{model}} {{consumer}}",
                ),
                Query(newest("encore_invalidation_pending_seconds"), "{{model}} waiting"),
            ),
            unit="s",
        ),
        Panel(
            "Free disk",
            (
                Query(
                    "min by (place) (encore_disk_free_bytes / encore_disk_size_bytes)", "{{place}}"
                ),
            ),
            unit="percentunit",
            bounds=(0, 1),
        ),
        Panel(
            "Used by us",
            (Query("max by (place) (encore_disk_used_bytes)", "{{place}}"),),
            unit="bytes",
        ),
        Panel(
            "What `encore monitor` cannot read",
            (Query("max by (model, part) (encore_monitor_problems)", "{{model}} {{part}}"),),
            bounds=(0, 1),
        ),
    ),
)
