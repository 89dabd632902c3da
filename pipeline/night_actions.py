"""Which proposals of a night are carried out by the command, and which by a person. No IO here."""

from __future__ import annotations

from tfx_encore.schemas.nights import NightAction

SAFE = ("invalidate_slice", "rewarm")
"""Kinds that `encore nightly --act` carries out: they cost misses or time, never an answer."""

UNASKED = ("rewarm",)
"""Kinds that it carries out without `--act` too, for the newest night."""


def command_for(action: NightAction, date: str) -> str:
    """The command that carries out a proposal; "" for nothing."""
    if action.kind in SAFE:
        return f"encore nightly --date {date} --act"
    if action.kind == "roll_back":
        return f"encore label set stable {action.version}"
    return "encore run" if action.kind == "retrain" else ""
